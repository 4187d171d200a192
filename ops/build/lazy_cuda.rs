//! Trampolines in place of the CUDA libraries, so that one program starts with and without them.
//!
//! candle links the CUDA libraries as any other, and a program linked so does not start where one is missing. Here every
//! function that its bindings (cudarc) declare is defined once more, in assembler, as a jump through a slot. The linker
//! meets these first, finds nothing left that the libraries are needed for, and leaves them out. A slot first holds a function
//! that answers "not there"; `ops::cuda::load` opens the libraries and puts the real addresses in.
//!
//! The names are in `lazy_cuda/*.txt`, one file for each library, all versions of CUDA together: a name that the installed
//! library lacks keeps its first slot. For another version of cudarc they are written anew, from its `src/<library>/sys/mod.rs`:
//! `grep -oP 'pub unsafe fn \K\w+' mod.rs | grep -v culib | sort -u | fmt -w 119`; the runtime's has twelve names more, those
//! with two underscores, which only nvcc knows. A name that is missing breaks nothing but brings its library back as needed,
//! which `tests/cuda_lazy.rs` notices.
//!
//! The runtime (`libcudart`) is referred to by candle's own quantised kernels only, which register themselves before `main`.
//! Nothing here uses them, so its slots are never filled.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

struct Library {
    /// Its name without `.so`.
    name: &'static str,
    names: &'static str,
    /// What its functions return while it is not there.
    absent: u32,
}

/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: u32 = 100;
/// `CUBLAS_STATUS_NOT_INITIALIZED` and `CUDNN_STATUS_NOT_INITIALIZED`, which the other libraries take for an error as well.
const NOT_INITIALIZED: u32 = 1;

const LIBRARIES: [Library; 7] = [
    Library { name: "libcuda", names: include_str!("lazy_cuda/libcuda.txt"), absent: NO_DEVICE },
    Library { name: "libcublasLt", names: include_str!("lazy_cuda/libcublasLt.txt"), absent: NOT_INITIALIZED },
    Library { name: "libcublas", names: include_str!("lazy_cuda/libcublas.txt"), absent: NOT_INITIALIZED },
    Library { name: "libcurand", names: include_str!("lazy_cuda/libcurand.txt"), absent: NOT_INITIALIZED },
    Library { name: "libnvrtc", names: include_str!("lazy_cuda/libnvrtc.txt"), absent: NOT_INITIALIZED },
    Library { name: "libcudnn", names: include_str!("lazy_cuda/libcudnn.txt"), absent: NOT_INITIALIZED },
    Library { name: "libcudart", names: include_str!("lazy_cuda/libcudart.txt"), absent: NOT_INITIALIZED },
];

/// A jump through the slot of a function, and the functions that stand in for those of a library that is not loaded.
struct Machine {
    jump: fn(&str) -> String,
    answers: &'static str,
}

const X86_64: Machine = Machine {
    jump: |name| format!("jmp qword ptr [rip + .Lslot_{name}]"),
    answers: "synth_cuda_absent_100: mov eax, 100\n ret\n\
              synth_cuda_absent_1: mov eax, 1\n ret\n\
              synth_cuda_absent_text: lea rax, [rip + synth_cuda_words]\n ret\n",
};

/// x16 is what a call may destroy on its way.
const AARCH64: Machine = Machine {
    jump: |name| format!("adrp x16, .Lslot_{name}\n ldr x16, [x16, :lo12:.Lslot_{name}]\n br x16"),
    answers: "synth_cuda_absent_100: mov x0, #100\n ret\n\
              synth_cuda_absent_1: mov x0, #1\n ret\n\
              synth_cuda_absent_text: adrp x0, synth_cuda_words\n add x0, x0, :lo12:synth_cuda_words\n ret\n",
};

/// Writes `lazy_cuda.s` and `lazy_cuda.txt` (`library function`, a line for each slot) into `OUT_DIR` and sets
/// `cfg(lazy_cuda)` where the target has trampolines: Linux on x86-64 and on 64-bit Arm.
pub fn write() {
    println!("cargo::rustc-check-cfg=cfg(lazy_cuda)");
    println!("cargo::rerun-if-changed=build/lazy_cuda.rs");
    println!("cargo::rerun-if-changed=build/lazy_cuda");
    println!("cargo::rerun-if-env-changed=CUDARC_CUDA_VERSION");
    let set = |what: &str| std::env::var(what).unwrap_or_default();
    let machine = match (set("CARGO_CFG_TARGET_OS").as_str(), set("CARGO_CFG_TARGET_ARCH").as_str()) {
        ("linux", "x86_64") => X86_64,
        ("linux", "aarch64") => AARCH64,
        _ => return, // there the libraries are linked
    };
    let mut code = format!(".text\n.p2align 4\n{}", machine.answers);
    let mut slots = String::from(
        ".section .rodata\nsynth_cuda_words: .asciz \"the library is not loaded\"\n\
         .data\n.p2align 3\n.globl synth_cuda_slots\n.hidden synth_cuda_slots\nsynth_cuda_slots:\n",
    );
    let mut list = String::new();
    for library in &LIBRARIES {
        for name in library.names.split_whitespace() {
            let _ = write!(code, ".globl {name}\n.type {name}, %function\n{name}: {}\n", (machine.jump)(name));
            let _ = writeln!(slots, ".Lslot_{name}: .quad {}", absent(library, name));
            let _ = writeln!(list, "{} {name}", library.name);
        }
    }
    let out = PathBuf::from(set("OUT_DIR"));
    std::fs::write(out.join("lazy_cuda.s"), code + &slots + ".text\n").expect("cannot write into OUT_DIR");
    std::fs::write(out.join("lazy_cuda.txt"), list).expect("cannot write into OUT_DIR");
    println!("cargo::rustc-env=SYNTH_CUDA_MAJOR={}", cuda_major());
    println!("cargo::rustc-cfg=lazy_cuda");
}

/// The function that stands in for `name`: its return value is a status, but for those that put one into words.
fn absent(library: &Library, name: &str) -> String {
    let words = ["ErrorString", "ErrorName", "StatusString", "StatusName"].iter().any(|end| name.ends_with(end));
    if words && library.name != "libcuda" {
        return "synth_cuda_absent_text".into();
    }
    format!("synth_cuda_absent_{}", library.absent)
}

/// The major version whose libraries fit the bindings, found as cudarc finds it: `CUDARC_CUDA_VERSION`, else `nvcc --version`.
fn cuda_major() -> String {
    if let Ok(version) = std::env::var("CUDARC_CUDA_VERSION") {
        return version.get(..2).unwrap_or_default().into(); // 13000
    }
    let said = Command::new("nvcc").arg("--version").output().map(|o| o.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let release = said.split("release ").nth(1).and_then(|rest| rest.split('.').next());
    release.expect("`nvcc --version` names no release; put the CUDA toolkit's bin folder on the PATH").into()
}
