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

/// Processor time so far, in the system's ticks.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    /// Of all cores.
    all: u64,
    /// That somebody used; with what a virtual machine did not get.
    used: u64,
    /// That this process and the children it has waited for used.
    own: u64,
}

impl Ticks {
    /// Absent where the system does not say.
    pub fn now() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self::of(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// From the whole machine's line and this process's.
    fn of(machine: &str, process: &str) -> Option<Self> {
        let numbers = |text: &str| text.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect::<Vec<u64>>();
        let cores = numbers(machine.lines().next()?.strip_prefix("cpu ")?);
        // user, nice, system, idle, waiting, two kinds of interrupts, stolen; what guests had is among the first.
        let [user, nice, system, idle, waiting, hard, soft, stolen] = *cores.first_chunk()?;
        let used = user + nice + system + hard + soft + stolen;
        // Behind the name, which may have blanks: user and system time are the 12th and 13th, then those of children.
        let own = numbers(process.rsplit_once(") ")?.1).get(11..15)?.iter().sum();
        Some(Self { all: used + idle + waiting, used, own })
    }

    /// Share, 0 to 1, of all processor time since `earlier` that went to others.
    pub fn of_others(&self, earlier: &Self) -> Option<f64> {
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let others = since(self.used, earlier.used) - since(self.own, earlier.own);
        (self.all > earlier.all).then(|| others.max(0.0) / since(self.all, earlier.all))
    }
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

    #[test]
    fn others_have_what_neither_this_process_nor_its_children_used() {
        let machine = |user, idle| format!("cpu  {user} 10 20 {idle} 5 1 2 3 7 0\ncpu0 1 2 3\n");
        let process = |own, children| format!("17 (a) b) S 1 2 3 4 5 6 7 8 9 10 {own} 30 {children} 0 20 0\n");
        let before = Ticks::of(&machine(100, 1000), &process(50, 0)).unwrap();
        let after = Ticks::of(&machine(300, 1200), &process(80, 120)).unwrap();
        assert_eq!(after.of_others(&before), Some(0.125));
        assert_eq!(before.of_others(&before), None);
        assert!(
            Ticks::of("intr 1 2\n", &process(1, 1)).is_none() && Ticks::of(&machine(1, 1), "17 (a) S 1\n").is_none()
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_that_was_waited_for_is_no_other() {
        let before = Ticks::now().unwrap();
        let spin = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", spin]).status().unwrap().success());
        let after = Ticks::now().unwrap();
        assert!(after.own > before.own && after.of_others(&before).is_some_and(|share| share <= 1.0));
    }
}
