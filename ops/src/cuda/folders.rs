//! Where the CUDA libraries may lie besides the loader's own folders.

use std::env;
use std::path::{Path, PathBuf};

/// Folders to look into before the system's and after them.
pub(super) struct Folders {
    pub first: Vec<PathBuf>,
    pub last: Vec<PathBuf>,
}

impl Folders {
    pub fn of_this_machine() -> Self {
        let first = env::var_os("SYNTH_CUDA_LIBS").map(|v| env::split_paths(&v).collect()).unwrap_or_default();
        let mut last = Vec::new();
        for home in ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os) {
            last.extend(["lib64", "lib"].map(|lib| Path::new(&home).join(lib)));
        }
        last.extend(["/usr/local/cuda/lib64", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"].map(PathBuf::from));
        last.extend(pythons().iter().flat_map(|prefix| of_python(prefix)));
        Self { first, last }
    }
}

/// The prefixes of the Pythons that a user is likely to mean: the active environment, those on the `PATH`, the user's own.
fn pythons() -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    for bin in env::var_os("PATH").iter().flat_map(env::split_paths).filter(|bin| bin.join("python3").exists()) {
        prefixes.extend(bin.parent().map(Path::to_path_buf));
    }
    prefixes.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.push("/usr/local".into());
    prefixes.push("/usr".into());
    prefixes
}

/// `<prefix>/lib/python3*/{site,dist}-packages/nvidia/*/lib`, and Debian's `<prefix>/lib/python3/dist-packages`.
fn of_python(prefix: &Path) -> Vec<PathBuf> {
    let versions = within(&prefix.join("lib"))
        .into_iter()
        .filter(|folder| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")));
    let packages = versions.flat_map(|version| ["site-packages", "dist-packages"].map(|kind| version.join(kind)));
    packages.flat_map(|packages| within(&packages.join("nvidia"))).map(|package| package.join("lib")).collect()
}

/// What is in a folder, in the order of names; nothing of one that cannot be read.
fn within(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_libraries_of_a_python() {
        let prefix = tempfile::tempdir().unwrap();
        let made = |path: &str| {
            let path = prefix.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let cudnn = made("lib/python3.11/site-packages/nvidia/cudnn/lib");
        let cu13 = made("lib/python3.11/site-packages/nvidia/cu13/lib");
        made("lib/perl5/site-packages/nvidia/cudnn/lib");
        assert_eq!(of_python(prefix.path()), [cu13, cudnn]);
    }

    #[test]
    fn a_prefix_that_is_not_there_has_none() {
        assert_eq!(of_python(Path::new("/nonexistent")), Vec::<PathBuf>::new());
    }
}
