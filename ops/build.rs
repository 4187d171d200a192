//! What the `cuda` feature needs at build time; without it, nothing.

#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/lazy_cuda.rs"]
mod lazy_cuda;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels::compile();
        lazy_cuda::write();
    }
}
