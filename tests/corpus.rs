//! Every seed and every finding of the fuzz targets, through the same functions: no panic, no hang, and never more than 512 MiB.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use synth::fuzzing::{TARGETS, Target};

/// No input may make a parser take more memory.
const MEMORY: usize = 512 << 20;
/// Processor time that one input may take, in hundredths of a second.
const TICKS: u64 = 1000;
/// An input that takes so long by the clock, however busy the machine is, hangs.
const PATIENCE: Duration = Duration::from_secs(900);

/// Beyond this the process ends, and says at which input, before the machine is out of memory.
const END: usize = 3 << 30;

/// Counts what is allocated, as it is asked for: a page that is never touched counts too.
struct Counting;

/// The input that is being read.
static INPUT: Mutex<String> = Mutex::new(String::new());

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed).saturating_add(bytes);
    PEAK.fetch_max(now, Relaxed);
    if now > END {
        let name = INPUT.try_lock();
        let name = name.as_ref().map_or("an input", |name| name.as_str());
        // Nothing may be allocated here.
        let _ =
            [name, " takes too much memory\n"].iter().try_for_each(|part| std::io::stderr().write_all(part.as_bytes()));
        std::process::abort();
    }
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may exist at once.
        add(size);
        // SAFETY: as above.
        let new = unsafe { System.realloc(old, layout, size) };
        NOW.fetch_sub(layout.size(), Relaxed);
        new
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Processor time of this process in hundredths of a second, where the system says.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Runs one input; says what went wrong.
fn run(target: Target, name: &str, bytes: Vec<u8>) -> Result<(), String> {
    *INPUT.lock().unwrap() = name.to_string();
    PEAK.store(NOW.load(Relaxed), Relaxed);
    let (base, begin) = (NOW.load(Relaxed), ticks());
    let (done, waits) = channel();
    let work = std::thread::spawn(move || {
        target(&bytes);
        let _ = done.send(());
    });
    if let Err(RecvTimeoutError::Timeout) = waits.recv_timeout(PATIENCE) {
        return Err("it hangs".into());
    }
    work.join().map_err(|_| "it panics")?;
    let (peak, spent) = (PEAK.load(Relaxed).saturating_sub(base), ticks() - begin);
    match (peak > MEMORY, spent > TICKS) {
        (true, _) => Err(format!("it takes {} MiB", peak >> 20)),
        (_, true) => Err(format!("it takes {} s", spent / 100)),
        _ => Ok(()),
    }
}

/// The inputs of a target, by name.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Small texts that grow, as large as they may be: too large to be kept as files.
fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let text = |head: &str, part: &str, bytes: usize, tail: &str| {
        [head.as_bytes(), &part.as_bytes().repeat(bytes / part.len()), tail.as_bytes()].concat()
    };
    let header = text(r#"{"__metadata__":{"a":"b""#, r#","":"""#, 16 << 20, "}}");
    vec![
        ("config", "objects", text("[", r#"{"":0},"#, 4 << 20, "0]")),
        ("config", "lists", text(r#"{"a":["#, "[],", 4 << 20, "0]}")),
        ("set", "objects", text(r#"{"set":["#, r#"{"":0},"#, (4 << 20) - 20, "0]}\0PAR1")),
        ("hub_reply", "files", text(r#"{"sha":"","siblings":["#, r#"{"rfilename":""},"#, 32 << 20, "]}")),
        (
            "hub_reply",
            "metadata",
            text(r#"{"metadata":{"a":["#, r#"{"":0},"#, (16 << 20) - 99, r#"0]},"weight_map":{}}"#),
        ),
        ("recipe", "lists", text("a = [", "[],", 256 << 10, "]")),
        ("recipe", "tables", text("a = [", "{b={}},", 256 << 10, "]")),
        ("card", "lists", text("---\na: [", "[],", 64 << 10, "]\n---\n")),
        ("zip_pickle", "lists", text("", "]0", 16 << 20, "N.")),
        ("legacy_pickle", "marks", text("", "(", 16 << 20, ".")),
        ("safetensors", "metadata", [&(header.len() as u64).to_le_bytes(), &header[..]].concat()),
    ]
}

/// The limits can be broken, or nothing below would say anything.
fn assert_that_limits_hold() {
    let greedy: Target = |_| drop(std::hint::black_box(vec![0u8; MEMORY + 1]));
    assert_eq!(run(greedy, "greedy", Vec::new()), Err("it takes 512 MiB".into()));
    let panics: Target = |_| panic!("on purpose");
    assert_eq!(run(panics, "panics", Vec::new()), Err("it panics".into()));
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn every_seed_and_every_finding_is_taken_or_refused() {
    assert_that_limits_hold();
    let mut wrong = Vec::new();
    for (name, target) in TARGETS {
        let seeds = inputs("corpus", name);
        assert!(seeds.len() >= 5, "{name}: {} seeds", seeds.len());
        for path in seeds.into_iter().chain(inputs("findings", name)) {
            if let Err(found) = run(target, &path.display().to_string(), std::fs::read(&path).unwrap()) {
                wrong.push(format!("{}: {found}", path.display()));
            }
        }
    }
    for (name, what, bytes) in bombs() {
        let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
        wrong
            .extend(run(target, &format!("{name} {what}"), bytes).err().map(|found| format!("{name} {what}: {found}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
