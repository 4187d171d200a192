//! Where and by what a result was made.

use crate::Result;
use crate::files::sha256_file;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// As the system calls it; empty where it does not say.
    pub processor: String,
    /// That this program may use.
    pub cores: usize,
    pub memory_mib: Option<u64>,
    pub system: String,
}

impl Machine {
    pub fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&memory, "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            processor: field(&info, "model name").unwrap_or_default().to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib.map(|kib| kib / 1024),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// The value of `NAME : VALUE`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// The program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Program {
    pub version: String,
    /// Of the file that ran.
    pub sha256: String,
    /// Commit of the repository that the suite lies in, with `+` if there are changes that no commit has; absent elsewhere.
    pub git: Option<String>,
}

impl Program {
    /// This program, for a suite in `folder`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if its file cannot be read.
    pub fn here(file: &Path, folder: &Path) -> Result<Self> {
        Ok(Self { version: env!("CARGO_PKG_VERSION").into(), sha256: sha256_file(file)?, git: revision(folder) })
    }
}

fn revision(folder: &Path) -> Option<String> {
    let git = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}+") })
}

/// How busy the machine is: processes that want to run, on average of the last minute; absent where the system does not say.
pub fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 17\nmodel name\t: Xeon: fast\n";
        assert_eq!(field(text, "model name"), Some("Xeon: fast"));
        assert_eq!(field(text, "name"), None);
        assert!(Machine::here().cores >= 1);
    }
}
