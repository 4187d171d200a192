//! What came of every fault, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::time::Instant;

/// Whether every fault is tried as often as the table asks for.
pub fn is_full() -> bool {
    std::env::var("SYNTH_FAULTS").is_ok_and(|value| value == "full")
}

/// How often to try a fault.
pub fn times(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

/// The rows of the table, in its order.
const FAULTS: [&str; 28] = [
    "SIGKILL of `invert` at a random moment",
    "SIGKILL of `collect` at a random moment",
    "SIGKILL of `distill` at a random moment",
    "SIGKILL of `run` at a random moment",
    "SIGKILL of `train` at a random moment",
    "SIGKILL while a state is written",
    "SIGKILL while the result is written",
    "SIGKILL while an older result is replaced",
    "SIGINT (Ctrl-C)",
    "SIGTERM",
    "disk full (a small file system)",
    "disk full (a limit on the size of files)",
    "disk full from the start",
    "read-only folder for the result",
    "teacher gone before `--resume`",
    "teacher changed before `--resume`",
    "Hub dies in the middle of a download",
    "SIGKILL in the middle of a download",
    "two processes on one output",
    "lock of a process that is dead",
    "lock with the number of another program",
    "clock jumps between two processes",
    "clock jumps in a running process",
    "newest state damaged",
    "all states damaged",
    "a batch that does not fit into memory",
    "a long inversion",
    "a long distillation",
];

/// What came of a fault.
#[derive(Default)]
pub struct Row {
    pub tried: usize,
    /// Runs that could not be gone on with to the same bits, and why.
    pub lost: Vec<String>,
    pub bytes_lost: u64,
    /// How it ended.
    pub ended: String,
}

impl Row {
    /// Notes a run that should have come to the same bits.
    pub fn check(&mut self, differences: Vec<String>) {
        if !differences.is_empty() {
            self.lost.push(differences.join(", "));
        }
    }

    /// Notes the row in the table; the last one writes it.
    pub fn record(self, fault: &'static str) {
        static ROWS: Mutex<BTreeMap<usize, (usize, usize, u64, String)>> = Mutex::new(BTreeMap::new());
        let at = FAULTS.iter().position(|known| *known == fault).unwrap_or_else(|| panic!("no row for {fault}"));
        let Self { tried, lost, bytes_lost, ended } = self;
        println!("{fault}: {tried} times, {} runs and {bytes_lost} bytes lost; {ended}", lost.len());
        let mut rows = ROWS.lock().unwrap_or_else(|e| e.into_inner());
        rows.insert(at, (tried, lost.len(), bytes_lost, ended.clone()));
        if is_full() && rows.len() == FAULTS.len() {
            std::fs::write("docs/FAULTS.md", page(&rows)).unwrap();
        }
        drop(rows);
        assert!(tried > 0 || ended.starts_with("not tried"), "{fault}: every run was faster than its disturbance");
        assert!(lost.is_empty() && bytes_lost == 0, "{fault}: {lost:#?}, {bytes_lost} bytes");
    }
}

fn page(rows: &BTreeMap<usize, (usize, usize, u64, String)>) -> String {
    let mut page = format!("{HEAD}\n{}\n\n", circumstances());
    page += "| fault | tried | runs lost | bytes lost | how it ended |\n|---|---:|---:|---:|---|\n";
    for (at, (tried, lost, bytes, ended)) in rows {
        let _ = writeln!(page, "| {} | {tried} | {lost} | {bytes} | {ended} |", FAULTS[*at]);
    }
    page + TAIL
}

const HEAD: &str = "# What a run survives

Real processes of the program, each disturbed while it worked and then gone on with. A run is *lost* when `--resume` cannot bring
it to the bits of an undisturbed run: weights, tables of images, generator, preview, log (without its times) and `synth.json`
(without times and memory) are compared. *Bytes lost* are those of files that were there before and are gone or changed, and of
anything half-written under a final name. This page is written by one command, `benches/faults.sh`; `cargo test` tries the same
faults, each once or a few times and some with two or three of the commands.
";

const TAIL: &str = "
`invert`, `collect`, `distill`, `run` and `train` are runs of about a second with a state as often as its writing costs no more than a
twentieth of the time (`--checkpoint-every 0s`), one thread each. A run is killed up to three times, and a kill that
finds it finished does not count: there may be fewer runs than kills, or more. Power failures are not among the faults: what is
written is flushed to the disk before it gets its name, but no power was cut here.
";

/// Where and when.
fn circumstances() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let about = |key: &str, text: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_string())
    };
    let memory: f64 = about("MemTotal", &read("/proc/meminfo")).trim_end_matches(" kB").parse().unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let date = std::process::Command::new("date").arg("+%Y-%m-%d").output();
    let date = date.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string()).unwrap_or_default();
    format!(
        "{date}, synth {}, {} ({cores} cores, {:.0} GiB), Linux {}; all of it took {:.0} minutes.",
        env!("CARGO_PKG_VERSION"),
        about("model name", &read("/proc/cpuinfo")),
        memory / f64::from(1 << 20),
        read("/proc/sys/kernel/osrelease").trim(),
        began().elapsed().as_secs_f64() / 60.0
    )
}

/// When the first fault began.
pub fn began() -> Instant {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}
