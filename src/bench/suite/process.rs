//! One run: a process of this program in a folder of its own, with its log.

use crate::events::check_interrupt;
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process may take to stop by itself after it was asked to.
const GRACE: Duration = Duration::from_secs(30);
/// The end of a log in which its error is looked for.
const LOG_END: u64 = 16 << 10;

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The result is there; how long the process took, unless an earlier harness had started it.
    Done(Option<f64>),
    /// In words, on one line.
    Failed(String),
}

/// Runs `program` with `words` in `folder`, where `result` appears, unless that is there. Its output goes to `log.txt`. `note` is
/// called just before.
///
/// A process outlives a harness that is killed. It holds the file `lock` as its standard input for as long as it lives; the
/// next harness waits for it instead of doing the same work beside it.
///
/// # Errors
/// [`Error::Interrupted`], with the process gone; [`Error::Io`].
pub fn carry_out(
    program: &Path,
    words: &[String],
    folder: &Path,
    result: &Path,
    note: impl FnOnce() -> Result<()>,
) -> Result<Outcome> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let lock = locked(&folder.join("lock"), folder)?;
    if result.exists() {
        return Ok(Outcome::Done(None));
    }
    let path = folder.join("log.txt");
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let mut log = log.map_err(Error::io("open", &path))?;
    let _ = writeln!(log, "$ synth {}", words.join(" "));
    let copies = lock.try_clone().and_then(|lock| Ok((lock, log.try_clone()?, log.try_clone()?)));
    let (lock, out, err) = copies.map_err(Error::io("share", &path))?;
    note()?;
    let start = Instant::now();
    let child = Command::new(program).args(words).stdin(Stdio::from(lock)).stdout(out).stderr(err).spawn();
    let status = ended(&mut child.map_err(Error::io("start", program))?)?;
    if status.success() && result.exists() {
        return Ok(Outcome::Done(Some(start.elapsed().as_secs_f64())));
    }
    check_interrupt()?;
    Ok(Outcome::Failed(reason(&path, status)))
}

/// Takes the lock, once nobody has it any more.
fn locked(path: &Path, folder: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let file = file.map_err(Error::io("open", path))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    tracing::warn!("{}: a process of an earlier harness is at work there; waiting", folder.display());
                }
                told = true;
                check_interrupt()?;
                std::thread::sleep(10 * LOOK);
            }
            // Not every file system can lock.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

/// Waits for the end of a process, or makes one when somebody has asked to stop.
fn ended(child: &mut Child) -> Result<ExitStatus> {
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().map_err(Error::io("wait for", "the process of a run"))? {
            return Ok(status);
        }
        if check_interrupt().is_err() {
            let since = *asked.get_or_insert_with(|| {
                ask_to_stop(child);
                Instant::now()
            });
            if since.elapsed() > GRACE {
                let _ = child.kill();
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// A terminal has told the process too; `kill` has not. It takes both as one.
fn ask_to_stop(child: &Child) {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::TERM);
    #[cfg(not(unix))]
    let _ = child;
}

/// The last error that a log speaks of in its last attempt.
fn reason(log: &Path, status: ExitStatus) -> String {
    let text = end_of(log).unwrap_or_default();
    let text = text.rsplit("\n$ synth ").next().unwrap_or_default();
    let words = text.lines().rev().find_map(|line| line.strip_prefix("error: "));
    let words = words.map(|words| words.trim_start_matches("run failed: ").replace(char::is_control, " "));
    words.unwrap_or_else(|| format!("ended with {status}; see log.txt"))
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LOG_END);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Outcome {
        let words = ["-c".to_string(), script.to_string()];
        carry_out(Path::new("/bin/sh"), &words, folder, &folder.join("result"), || Ok(())).unwrap()
    }

    #[test]
    fn a_result_is_made_once_and_a_failure_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let why = shell("echo 'error: first'; echo 'error: no luck' >&2; echo more; exit 3", folder);
        assert_eq!(why, Outcome::Failed("no luck".into()));
        assert!(matches!(shell("exit 0", folder), Outcome::Failed(why) if why.starts_with("ended with")), "no result");
        let make = format!("mkdir {}", folder.join("result").display());
        assert!(matches!(shell(&make, folder), Outcome::Done(Some(_))));
        assert_eq!(shell("echo 'error: again'; exit 1", folder), Outcome::Done(None));
        let log = fs::read_to_string(folder.join("log.txt")).unwrap();
        assert_eq!(log.matches("$ synth").count(), 3, "{log}");
    }

    #[test]
    fn a_process_that_outlived_its_harness_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let script = format!("sleep 0.7; mkdir {}", folder.join("result").display());
        let mut orphan = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::from(lock)).spawn().unwrap();
        assert_eq!(shell("echo 'error: beside it'; exit 1", folder), Outcome::Done(None));
        orphan.wait().unwrap();
    }
}
