//! A program with the `cuda` feature starts without any CUDA library, and says what is missing when one is wanted.
#![cfg(all(feature = "cuda", target_os = "linux"))]

/// Has tests of its own, which run here: those of the library are built without CUDA.
#[path = "../ops/src/cuda/folders.rs"]
#[allow(dead_code)]
mod folders;

use std::process::Command;

const LIBRARIES: [&str; 6] = ["libcuda.", "libcublas", "libcudnn", "libcurand", "libnvrtc", "libcudart"];

fn of_cuda(text: &str) -> Vec<&str> {
    text.lines().filter(|line| LIBRARIES.iter().any(|name| line.contains(name))).collect()
}

#[test]
fn the_program_needs_no_cuda_library() {
    // The loader lists what a program needs, and does not run it.
    let listed = Command::new(env!("CARGO_BIN_EXE_synth")).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("libc.so"), "not a list of libraries: {listed}");
    assert_eq!(of_cuda(&listed), Vec::<&str>::new(), "ops/build/lazy_cuda.rs says how its lists are written anew");
}

#[test]
fn nothing_is_loaded_before_it_is_asked_for() {
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(of_cuda(&mapped()), Vec::<&str>::new());
    let before = candle_core::Device::new_cuda(0).expect_err("a device without a driver").to_string();
    assert!(before.contains("NO_DEVICE"), "{before}");
    match synth::ops::cuda::load() {
        Ok(()) => assert_ne!(of_cuda(&mapped()), Vec::<&str>::new()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("CUDA: lib") && error.contains("install") && !error.contains('\n'), "{error}");
            assert!(candle_core::Device::new_cuda(0).is_err());
        }
    }
}
