//! Processes of the program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// After that a process hangs.
const LONGEST: Duration = Duration::from_secs(3600);
/// Between two looks at what a process has written.
const LOOK: Duration = Duration::from_millis(1);

/// One start of the program.
#[derive(Clone)]
pub struct Run {
    pub arguments: Vec<String>,
    pub output: PathBuf,
    pub environment: Vec<(String, String)>,
    /// Words in front of the program's own, such as a shell that sets a limit.
    pub through: Vec<String>,
}

impl Run {
    /// Arguments without `-o OUTPUT`; one thread.
    pub fn new(arguments: &[&str], output: &Path) -> Self {
        let own = ["--threads", "1", "-o", output.to_str().unwrap()];
        let arguments = arguments.iter().chain(&own).map(|word| word.to_string()).collect();
        Self { arguments, output: output.into(), environment: Vec::new(), through: Vec::new() }
    }

    pub fn with(mut self, more: &[&str]) -> Self {
        self.arguments.extend(more.iter().map(|word| word.to_string()));
        self
    }

    /// A state as often as may be.
    pub fn often(self) -> Self {
        self.with(&["--checkpoint-every", "0s"])
    }

    pub fn resumed(self) -> Self {
        self.with(&["--resume"])
    }

    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    pub fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(|word| word.to_string()).collect();
        self
    }

    /// The folder in which the run is kept while it is not finished.
    pub fn unfinished(&self) -> PathBuf {
        let mut name = self.output.file_name().unwrap().to_os_string();
        name.push(".unfinished");
        self.output.with_file_name(name)
    }

    /// Its states, oldest first.
    pub fn states(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.unfinished().join("states")) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        let whole = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors") && !is_hidden(path);
        let mut states: Vec<PathBuf> = paths.filter(whole).collect();
        states.sort();
        states
    }

    /// Whether a state is being written.
    pub fn is_writing(&self) -> bool {
        let entries = std::fs::read_dir(self.unfinished().join("states"));
        entries.is_ok_and(|entries| entries.flatten().any(|entry| is_hidden(&entry.path())))
    }

    /// Whether the result is being written.
    pub fn is_ending(&self) -> bool {
        let prefix = format!(".{}.partial-", self.output.file_name().unwrap().to_str().unwrap());
        let entries = std::fs::read_dir(self.output.parent().unwrap());
        entries.is_ok_and(|all| all.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)))
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_synth");
        let mut command = match self.through.split_first() {
            None => Command::new(program),
            Some((first, more)) => {
                let mut command = Command::new(first);
                command.args(more).arg(program);
                command
            }
        };
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// None: by a signal.
    pub code: Option<i32>,
    pub stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self { code: output.status.code(), stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stderr
    }

    /// Exactly one line says what is wrong, with all of `parts` in it.
    pub fn expect_refusal(self, code: i32, parts: &[&str]) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", self.stderr);
        assert!(self.stderr.trim_end().ends_with(errors[0]), "not the last line: {}", self.stderr);
        assert!(parts.iter().all(|part| errors[0].contains(part)), "{parts:?} are not all in: {}", errors[0]);
        errors[0].to_string()
    }
}

/// Runs to the end.
pub fn finish(run: &Run) -> Ended {
    let child = run.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    Ended::of(child.wait_with_output().unwrap())
}

/// A process that works.
pub struct Working {
    pub child: Child,
    begin: Instant,
}

pub fn start(run: &Run) -> Working {
    let child = run.command().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    Working { child, begin: Instant::now() }
}

impl Working {
    /// Waits for something; `false` if the process ended before.
    pub fn until(&mut self, happened: impl Fn() -> bool) -> bool {
        while self.child.try_wait().unwrap().is_none() {
            if happened() {
                return true;
            }
            assert!(self.begin.elapsed() < LONGEST, "it hangs");
            std::thread::sleep(LOOK);
        }
        false
    }

    /// Waits so long; `false` if the process ended before.
    pub fn wait(&mut self, time: Duration) -> bool {
        let begin = Instant::now();
        self.until(|| begin.elapsed() >= time)
    }

    /// Stops the process, until `CONT`, while something is so; `false` if it ended before.
    pub fn holds_when(&mut self, is_so: impl Fn() -> bool) -> bool {
        while self.until(&is_so) {
            self.signal("STOP");
            let pid = self.child.id();
            self.until(|| is_stopped(pid));
            if is_so() {
                return true;
            }
            self.signal("CONT");
        }
        false
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// A signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let signal = format!("-{name}");
        assert!(Command::new("kill").args([&signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn end(self) -> Ended {
        Ended::of(self.child.wait_with_output().unwrap())
    }
}

fn is_stopped(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|line| line.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// Starts the run, and interrupts it once `states` states were written and some more work is done. `false` if it was faster.
pub fn interrupt(run: &Run, states: usize) -> bool {
    let mut working = start(&run.clone().often());
    let reached = working.until(|| run.states().len() >= states);
    if reached {
        working.signal("INT");
    }
    let ended = working.end();
    assert!(matches!(ended.code, Some(0 | 130)), "{}", ended.stderr);
    ended.code == Some(130)
}
