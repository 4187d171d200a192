//! The emulator of the CUDA libraries (tests/cuda_emulator) does what it says, and catches what it says it catches.
//!
//! The first test builds it and runs the others, which need it, in processes of their own.
#![cfg(all(feature = "cuda", target_os = "linux"))]

#[path = "cuda_emulator/convolutions.rs"]
mod convolutions;

use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg, sys as driver};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Builds it, once.
fn emulator() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_emulator");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda_emulator/build.sh");
    let built = Command::new("bash").arg(script).arg(&folder).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    folder
}

#[test]
fn the_emulator_emulates() {
    let folder = emulator();
    for order in ["forward", "reverse", "7"] {
        let run = Command::new(std::env::current_exe().unwrap())
            // One at a time: what waits in one test spoils what another one records.
            .args(["--ignored", "--test-threads", "1"])
            .env("SYNTH_CUDA_LIBS", &folder)
            .env("CUDA_EMULATOR_ORDER", order)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains(" passed; 0 failed"), "threads run {order}:\n{said}");
        assert!(!said.contains(" 0 passed"), "{said}");
    }
}

/// The program on the emulator: `synth run` from the shipped teacher, small, into `out`.
fn run(folder: &Path, out: &Path, more: &[&str], variable: (&str, &str)) -> Output {
    let sizes = [
        "batch=4",
        "practice=0",
        "fill=1",
        "rounds=1",
        "adversary_steps=4",
        "finish_steps=1",
        "generator.width=4",
        "generator.inner_steps=1",
        "generator.warmup_steps=1",
        "student.batch=4",
        "student.reestimate=1",
    ];
    Command::new(env!("CARGO_BIN_EXE_synth"))
        .args(["run", "--student", "resnet8", "--samples", "4", "--device", "cuda", "--precision", "f32", "-o"])
        .arg(out)
        .args(sizes.iter().flat_map(|value| ["--set", value]))
        .args(more)
        .env("SYNTH_CUDA_LIBS", folder)
        .env(variable.0, variable.1)
        .output()
        .unwrap()
}

/// A recording that fails costs the recording alone: what follows is queued call by call, to the same bits.
#[test]
fn a_spoilt_recording_leaves_the_card_usable() {
    let (folder, place) = (emulator(), tempfile::tempdir().unwrap());
    let [spoilt, queued] = ["spoilt", "queued"].map(|name| place.path().join(name));
    let ran = run(&folder, &spoilt, &[], ("CUDA_EMULATOR_SPOIL", "9"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("could not be recorded"), "{said}");
    let ran = run(&folder, &queued, &["--no-cuda-graphs"], ("CUDA_EMULATOR_SPOIL", "9"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && !said.contains("could not be recorded"), "{said}");
    let weights = |run: &Path| std::fs::read(run.join("student/model.safetensors")).unwrap();
    assert!(weights(&spoilt) == weights(&queued));
}

#[test]
fn a_card_that_is_full_says_so_on_one_line() {
    let (folder, place) = (emulator(), tempfile::tempdir().unwrap());
    let ran = run(&folder, &place.path().join("out"), &["-q"], ("CUDA_EMULATOR_MEMORY", "6000000"));
    let said = String::from_utf8_lossy(&ran.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(
        ran.status.code() == Some(1) && lines.len() == 1 && lines[0].contains("the card's memory is full"),
        "{said}"
    );
    assert!(!place.path().join("out").exists());
}

/// PTX that has the kernels of selftest.cu: the emulator reads names and arguments of it, no more.
const PTX: &str = "
.version 8.0
.target sm_80
.visible .entry selftest_sum(
.param .u64 a, .param .u64 b, .param .u32 c
)
{
}
";

fn ptx() -> String {
    let kernels: [(&str, &[&str]); 6] = [
        ("selftest_sum", &["u64", "u64", "u32"]),
        ("selftest_shuffles", &["u64"]),
        ("selftest_reverse", &["u64", "u64"]),
        ("selftest_round", &["u64", "u64", "u32"]),
        ("selftest_count", &["u64", "u64"]),
        ("selftest_misuse", &["u64", "u32", "u32"]),
    ];
    let mut text = String::from(".version 8.0\n.target sm_80\n");
    for (name, arguments) in kernels {
        text += &format!(".visible .entry {name}(\n");
        for (i, kind) in arguments.iter().enumerate() {
            text += &format!("\t.param .{kind} {name}_param_{i},\n");
        }
        text += ")\n{\n}\n";
    }
    text
}

fn device() -> (Device, CudaDevice) {
    synth::ops::cuda::load().unwrap();
    let device = Device::new_cuda_with_stream(0).unwrap();
    let cuda = device.as_cuda_device().unwrap().clone();
    // SAFETY: everything is done in the order of one stream.
    unsafe { cuda.disable_event_tracking() };
    (device, cuda)
}

fn shape(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

macro_rules! launch {
    ($cuda:expr, $name:literal, $shape:expr, $($argument:expr),*) => {{
        let function = $cuda.get_or_load_custom_func($name, "selftest", &ptx()).unwrap();
        let mut launch = function.builder();
        $(launch.arg($argument);)*
        // SAFETY: the arguments are those of the kernel; where a test is wrong on purpose, the emulator stops it.
        unsafe { launch.launch($shape) }
    }};
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn a_block_adds_up() {
    let (_, cuda) = device();
    let values: Vec<f32> = (0..700).map(|i| (i % 13) as f32).collect();
    let x = cuda.clone_htod(&values).unwrap();
    let mut out = cuda.alloc_zeros::<f32>(3).unwrap();
    launch!(cuda, "selftest_sum", shape(3, 256), &x, &mut out, &700i32).unwrap();
    let expected: Vec<f32> = values.chunks(256).map(|block| block.iter().sum()).collect();
    assert_eq!(cuda.clone_dtoh(&out).unwrap(), expected);
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn shuffles_take_from_the_right_lanes() {
    let (_, cuda) = device();
    let mut out = cuda.alloc_zeros::<i32>(6 * 32).unwrap();
    launch!(cuda, "selftest_shuffles", shape(1, 32), &mut out).unwrap();
    let thirds = (0..32).filter(|lane| lane % 3 == 0).fold(0u32, |bits, lane| bits | 1 << lane) as i32;
    let expected: Vec<i32> = (0..32i32)
        .flat_map(|lane| {
            let up = if lane < 3 { lane } else { lane - 3 };
            let down = if lane + 3 < 32 { lane + 3 } else { lane };
            let in_eight = if lane % 8 == 7 { lane } else { lane + 1 };
            [5, up, down, lane ^ 6, in_eight, thirds]
        })
        .collect();
    assert_eq!(cuda.clone_dtoh(&out).unwrap(), expected);
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn barriers_keep_phases_apart() {
    let (_, cuda) = device();
    let values: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let x = cuda.clone_htod(&values).unwrap();
    let mut out = cuda.alloc_zeros::<f32>(128).unwrap();
    launch!(cuda, "selftest_reverse", shape(2, 64), &x, &mut out).unwrap();
    let expected: Vec<f32> = values.chunks(64).flat_map(|row| row.iter().rev().copied()).collect();
    assert_eq!(cuda.clone_dtoh(&out).unwrap(), expected);
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn bfloat16_rounds_as_the_half_crate() {
    let (_, cuda) = device();
    // Every upper half of a float, with lower halves around the tie.
    let lower = [0u32, 0x7fff, 0x8000, 0x8001];
    let values: Vec<f32> = (0..=0xffffu32).map(|i| f32::from_bits(i << 16 | lower[i as usize % 4])).collect();
    let x = cuda.clone_htod(&values).unwrap();
    let mut out = cuda.alloc_zeros::<bf16>(values.len()).unwrap();
    let n = values.len() as i32;
    launch!(cuda, "selftest_round", shape(256, 256), &x, &mut out, &n).unwrap();
    for (got, value) in cuda.clone_dtoh(&out).unwrap().into_iter().zip(values) {
        let same = got.to_bits() == bf16::from_f32(value).to_bits() || (got.is_nan() && value.is_nan());
        assert!(same, "{value:e}: {got}");
    }
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn atomics_count() {
    let (_, cuda) = device();
    let mut count = cuda.alloc_zeros::<i32>(1).unwrap();
    let mut sum = cuda.alloc_zeros::<f32>(1).unwrap();
    launch!(cuda, "selftest_count", shape(5, 100), &mut count, &mut sum).unwrap();
    assert_eq!(cuda.clone_dtoh(&count).unwrap(), [500]);
    assert_eq!(cuda.clone_dtoh(&sum).unwrap(), [250.0]);
}

/// Runs a misuse of selftest.cu on 32 threads and 64 values.
fn misuse(cuda: &CudaDevice, which: i32) -> Result<CudaSlice<f32>, driver::CUresult> {
    let mut x = cuda.alloc_zeros::<f32>(64).unwrap();
    launch!(cuda, "selftest_misuse", shape(1, 32), &mut x, &64i32, &which).map_err(|error| error.0)?;
    Ok(x)
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn misuse_ends_a_launch() {
    let (_, cuda) = device();
    for which in 0..=5 {
        let error = misuse(&cuda, which).err();
        assert_eq!(error, Some(driver::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS), "misuse {which}");
    }
    // And the device goes on as if nothing had been.
    let unset = cuda.clone_dtoh(&misuse(&cuda, 6).unwrap()).unwrap();
    assert!(unset[..32].iter().all(|v| v.is_nan()), "shared memory that nobody wrote: {unset:?}");
    // A thread reads what another has not written yet: in whatever order they run, one of each pair comes too early.
    let early = cuda.clone_dtoh(&misuse(&cuda, 8).unwrap()).unwrap();
    assert_eq!(early[..32].iter().filter(|v| v.is_nan()).count(), 16, "no barrier: {early:?}");
    let outside = cuda.clone_dtoh(&misuse(&cuda, 7).unwrap()).unwrap();
    assert!(outside[..16].iter().all(|v| v.is_nan()) && outside[16..].iter().all(|v| *v == 0.0), "{outside:?}");
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn fresh_memory_is_not_a_number_and_ends_where_it_ends() {
    let (_, cuda) = device();
    // SAFETY: read only to see what is in it.
    let fresh = unsafe { cuda.alloc::<f32>(100) }.unwrap();
    assert!(cuda.clone_dtoh(&fresh).unwrap().iter().all(|v| v.is_nan()));
    let stream = cuda.cuda_stream();
    let address = candle_core::cuda_backend::cudarc::driver::DevicePtr::device_ptr(&fresh, &stream).0;
    let mut host = vec![0u8; 404];
    // SAFETY: the emulator has to refuse four bytes more than there are.
    let beyond = unsafe { driver::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), address, 404) };
    assert_eq!(beyond, driver::CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn unknown_kernels_are_not_found() {
    let (_, cuda) = device();
    let text = PTX.replace("selftest_sum", "selftest_of_tomorrow");
    let error = cuda.get_or_load_custom_func("selftest_of_tomorrow", "tomorrow", &text).err().unwrap();
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");
    let text = PTX.replace(", .param .u32 c", "");
    let error = cuda.get_or_load_custom_func("selftest_sum", "other arguments", &text).err().unwrap();
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn candle_tensors_go_there_and_back() {
    let (device, _) = device();
    let values: Vec<f32> = (0..24).map(|i| i as f32 * 0.37 - 3.0).collect();
    let host = Tensor::from_vec(values, (2, 3, 4), &Device::Cpu).unwrap();
    let there = host.to_device(&device).unwrap();
    let turned = there.transpose(0, 2).unwrap().contiguous().unwrap().to_dtype(DType::BF16).unwrap();
    let back = turned.to_dtype(DType::F32).unwrap().to_device(&Device::Cpu).unwrap();
    let expected = host.transpose(0, 2).unwrap().to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    let same = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(same(&back), same(&expected));
    let product = there.reshape((6, 4)).unwrap().matmul(&there.reshape((4, 6)).unwrap()).unwrap();
    let expected = host.reshape((6, 4)).unwrap().matmul(&host.reshape((4, 6)).unwrap()).unwrap();
    for (a, b) in same(&product.to_device(&Device::Cpu).unwrap()).iter().zip(same(&expected)) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} {b}");
    }
    let ones = Tensor::ones((5, 3), DType::F32, &device).unwrap();
    assert_eq!(same(&ones.to_device(&Device::Cpu).unwrap()), [1.0; 15]);
    let uniform = same(&Tensor::rand(0f32, 1f32, 1000, &device).unwrap().to_device(&Device::Cpu).unwrap());
    assert!(uniform.iter().all(|v| (0.0..=1.0).contains(v)) && uniform[0] != uniform[1]);
}

#[test]
#[ignore = "run by the_emulator_emulates"]
fn a_graph_does_the_recorded_work_again() {
    let (_, cuda) = device();
    let stream = cuda.cuda_stream();
    let mut count = cuda.alloc_zeros::<i32>(1).unwrap();
    let mut sum = cuda.alloc_zeros::<f32>(1).unwrap();
    launch!(cuda, "selftest_count", shape(1, 10), &mut count, &mut sum).unwrap();
    stream.begin_capture(driver::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    launch!(cuda, "selftest_count", shape(1, 10), &mut count, &mut sum).unwrap();
    // SAFETY: written by the graph before it is read.
    let scratch = unsafe { cuda.alloc::<f32>(10) }.unwrap();
    drop(scratch);
    let flags = driver::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    assert_eq!(cuda.clone_dtoh(&count).unwrap(), [10], "recording does nothing");
    graph.launch().unwrap();
    graph.launch().unwrap();
    assert_eq!(cuda.clone_dtoh(&count).unwrap(), [30]);
    // What waits has no place in a graph.
    stream.begin_capture(driver::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    assert!(stream.synchronize().is_err());
    assert!(stream.end_capture(flags).is_err());
    drop(graph);
}
