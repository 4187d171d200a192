//! Finds the CUDA libraries when they are first wanted. The program is built without a need for any of them: see
//! `build/lazy_cuda.rs`.

use crate::Result;

/// Opens the CUDA libraries, once. Until then every call into them answers "no device" or "not initialised": this comes first.
///
/// Each library is looked for in the folder that the variable `SYNTH_CUDA_LIBS` names (or folders, with `:` between them), then
/// where the system keeps its libraries, in `lib64` of `CUDA_HOME`, and where PyTorch has them, in `nvidia/*/lib` of a Python.
///
/// # Errors
/// If one of them is not there or cannot be opened: which, and what to do.
#[cfg(lazy_cuda)]
pub fn load() -> Result<()> {
    use std::sync::OnceLock;
    static LOADED: OnceLock<std::result::Result<(), [String; 3]>> = OnceLock::new();
    let done = LOADED.get_or_init(lazy::load_all);
    done.clone().map_err(|[what, found, hint]| crate::Error::Invalid { what, found, hint })
}

/// On this platform the CUDA libraries are linked: they are there.
#[cfg(not(lazy_cuda))]
pub fn load() -> Result<()> {
    Ok(())
}

#[cfg(lazy_cuda)]
mod lazy {
    use super::super::folders;
    use std::ffi::{CStr, CString, c_void};
    use std::path::Path;
    use std::sync::atomic::{AtomicPtr, Ordering};

    std::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/lazy_cuda.s")));

    /// One line for each slot, in their order: `library function`.
    const SLOTS: &str = include_str!(concat!(env!("OUT_DIR"), "/lazy_cuda.txt"));

    unsafe extern "C" {
        static synth_cuda_slots: [AtomicPtr<c_void>; lines(SLOTS)];
    }

    const fn lines(text: &str) -> usize {
        let (mut n, mut i) = (0, 0);
        while i < text.len() {
            n += (text.as_bytes()[i] == b'\n') as usize;
            i += 1;
        }
        n
    }

    /// A reference that every program keeps: the trampolines are linked in before the libraries are asked for their names.
    // SAFETY: defined in `lazy_cuda.s`, with one slot for each line.
    #[used]
    static KEEP: &[AtomicPtr<c_void>; lines(SLOTS)] = unsafe { &synth_cuda_slots };

    struct Library {
        /// As in `SLOTS`.
        name: &'static str,
        soname: &'static str,
        need: Need,
    }

    enum Need {
        /// Comes with NVIDIA's driver.
        Driver,
        /// Comes with the toolkit or a package of this name.
        Package(&'static str),
        /// Another library may want it: opened before that, if it is there.
        Helper,
    }

    /// In this order: cuBLAS wants cublasLt, cuDNN may want cublasLt and nvrtc, and takes those that are open already.
    const LIBRARIES: [Library; 6] = [
        Library { name: "libcuda", soname: "libcuda.so.1", need: Need::Driver },
        Library {
            name: "libcublasLt",
            soname: concat!("libcublasLt.so.", env!("SYNTH_CUDA_MAJOR")),
            need: Need::Helper,
        },
        Library {
            name: "libcublas",
            soname: concat!("libcublas.so.", env!("SYNTH_CUDA_MAJOR")),
            need: Need::Package("nvidia-cublas"),
        },
        Library { name: "libcurand", soname: "libcurand.so.10", need: Need::Package("nvidia-curand") },
        Library { name: "libnvrtc", soname: concat!("libnvrtc.so.", env!("SYNTH_CUDA_MAJOR")), need: Need::Helper },
        Library {
            name: "libcudnn",
            soname: "libcudnn.so.9",
            need: Need::Package(concat!("nvidia-cudnn-cu", env!("SYNTH_CUDA_MAJOR"))),
        },
    ];

    pub(super) fn load_all() -> std::result::Result<(), [String; 3]> {
        let folders = folders::Folders::of_this_machine();
        for library in &LIBRARIES {
            match open(library.soname, &folders) {
                Ok(handle) => fill(library.name, handle),
                Err(_) if matches!(library.need, Need::Helper) => {}
                Err(found) => return Err(["CUDA".into(), found, hint(&library.need)]),
            }
        }
        Ok(())
    }

    fn hint(need: &Need) -> String {
        match need {
            Need::Package(package) => format!(
                "install it (the CUDA toolkit, cuDNN, or `pip install {package}`), or name its folder in SYNTH_CUDA_LIBS"
            ),
            _ => "it comes with NVIDIA's driver: install that, or work on the CPU".into(),
        }
    }

    /// Opens `soname`, for good: in the user's folders, then the system's way, then where else it may lie.
    fn open(soname: &str, folders: &folders::Folders) -> std::result::Result<*mut c_void, String> {
        let mut found = None;
        for folder in folders.first.iter().filter(|folder| folder.join(soname).exists()) {
            match dlopen(&folder.join(soname)) {
                Ok(handle) => return Ok(handle),
                Err(error) => found = Some(error),
            }
        }
        match dlopen(Path::new(soname)) {
            Ok(handle) => return Ok(handle),
            Err(error) => found = found.or(Some(error)),
        }
        let there = folders.last.iter().filter(|folder| folder.join(soname).exists());
        for file in there.map(|folder| folder.join(soname)) {
            match dlopen(&file) {
                Ok(handle) => return Ok(handle),
                Err(error) => found = Some(error),
            }
        }
        Err(found.unwrap_or_default())
    }

    fn dlopen(file: &Path) -> std::result::Result<*mut c_void, String> {
        use std::os::unix::ffi::OsStrExt;
        let name = CString::new(file.as_os_str().as_bytes()).map_err(|_| "a path with a zero byte".to_string())?;
        // SAFETY: `name` ends in a zero byte; what the library does as it is loaded is what candle would have it do anyway.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if !handle.is_null() {
            return Ok(handle);
        }
        // SAFETY: after a failed `dlopen` this is a string of the loader's, valid until the next call of this thread.
        let error = unsafe { libc::dlerror() };
        if error.is_null() {
            return Err("cannot be opened".into());
        }
        Err(unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned()) // SAFETY: as above, and not null
    }

    /// Puts the addresses of the library's functions into its slots; those that it lacks keep what they have.
    fn fill(library: &str, handle: *mut c_void) {
        for (slot, line) in KEEP.iter().zip(SLOTS.lines()) {
            let Some((_, name)) = line.split_once(' ').filter(|(of, _)| *of == library) else { continue };
            let Ok(name) = CString::new(name) else { continue };
            // SAFETY: the handle is open and never closed, the name ends in a zero byte.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            if !address.is_null() {
                slot.store(address, Ordering::Release);
            }
        }
    }
}
