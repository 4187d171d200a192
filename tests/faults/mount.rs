//! Small file systems in memory, where this process may mount them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; it goes when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// One of so many KiB at `folder`, which is made; `None` where that is not allowed.
    pub fn new(folder: &Path, kib: usize) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let size = format!("size={kib}k");
        run(&["mount", "-t", "tmpfs", "-o", &size, "synth-faults"], folder).then(|| Self(folder.into()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Forbids or allows to write.
    pub fn writable(&self, may: bool) {
        let options = format!("remount,{}", if may { "rw" } else { "ro" });
        assert!(run(&["mount", "-o", &options], &self.0));
    }

    /// Fills what is left but `spare` bytes; the file is to be removed.
    pub fn fill(&self, spare: usize) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for piece in [1 << 20, 1 << 12] {
            while file.write(&vec![1u8; piece]).is_ok_and(|written| written > 0) {}
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(spare as u64)).unwrap();
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run(&["umount", "-l"], &self.0);
    }
}

fn run(words: &[&str], folder: &Path) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).arg(folder).output();
    output.is_ok_and(|output| output.status.success())
}
