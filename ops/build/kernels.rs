//! Compiles `src/cuda/kernels/*.cu` to PTX, which the driver turns into code for the card that is there.

use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "src/cuda/kernels";
/// The oldest cards with bfloat16 arithmetic; PTX for them runs on all newer ones.
const ARCHITECTURE: &str = "compute_80";

/// Writes one `.ptx` file per `.cu` file into `OUT_DIR`.
pub fn compile() {
    println!("cargo::rerun-if-changed={FOLDER}");
    println!("cargo::rerun-if-changed=build/kernels.rs");
    println!("cargo::rerun-if-env-changed=NVCC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let nvcc = std::env::var("NVCC").unwrap_or_else(|_| "nvcc".into());
    let listed = std::fs::read_dir(FOLDER).unwrap_or_else(|error| panic!("cannot list {FOLDER}: {error}"));
    let mut sources: Vec<PathBuf> = listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    for source in sources {
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        to_ptx(&nvcc, &source, &out.join(format!("{name}.ptx")));
    }
}

fn to_ptx(nvcc: &str, source: &Path, ptx: &Path) {
    let options = ["-ptx", "-std=c++17", "-O3", "-arch", ARCHITECTURE, "-o"];
    let done = Command::new(nvcc).args(options).arg(ptx).arg(source).output();
    let done = done.unwrap_or_else(|error| {
        panic!("cannot run {nvcc}: {error}; install the CUDA toolkit, or name its compiler in the environment variable NVCC")
    });
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        panic!("{nvcc} cannot compile {}:\n{said}", source.display());
    }
}
