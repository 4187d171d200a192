use super::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A counter with an array beside it.
#[derive(Debug, Default, PartialEq)]
struct Counter {
    done: usize,
    seen: Vec<f64>,
    deep: Vec<u8>,
}

impl Resumable for Counter {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("done", self.done)?;
        to.array("seen", &self.seen);
        to.within("below", |to| {
            to.array("deep", &self.deep);
            Ok(())
        })
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.done = from.value("done")?;
        self.seen = from.array("seen")?;
        self.deep = from.part("below").array("deep")?;
        Ok(())
    }
}

fn counter(done: usize) -> Counter {
    Counter { done, seen: vec![0.1 + done as f64, f64::NAN, f64::NEG_INFINITY, -0.0], deep: vec![7; 3 + done] }
}

/// NaN is not equal to itself, its bits are.
fn bits(counter: &Counter) -> (usize, Vec<u64>, Vec<u8>) {
    (counter.done, counter.seen.iter().map(|v| v.to_bits()).collect(), counter.deep.clone())
}

fn checkpoints(folder: &Path, job: Value) -> Checkpoints {
    Checkpoints::in_folder(folder, job, json!({ "instructions": "avx2" }), None).unwrap()
}

fn write(to: &mut Checkpoints, done: usize) -> PathBuf {
    to.write("train", &counter(done), &()).unwrap()
}

fn newest(of: &mut Checkpoints) -> Result<Option<Counter>> {
    let Some((state, _)) = of.newest("train")? else { return Ok(None) };
    let mut counter = Counter::default();
    counter.restore(&state)?;
    Ok(Some(counter))
}

/// Those of the states in a folder, without their hashes.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split_at(name.rfind('-').unwrap()).0.to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn a_state_comes_back_bit_by_bit_and_the_last_two_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = checkpoints(folder.path(), json!({ "seed": 0 }));
    assert!(newest(&mut kept).unwrap().is_none());
    for done in [1, 2, 30] {
        write(&mut kept, done);
    }
    kept.write("other", &counter(99), &()).unwrap();
    assert_eq!(bits(&newest(&mut kept).unwrap().unwrap()), bits(&counter(30)));
    assert_eq!(names(folder.path()), ["other-000001", "train-000002", "train-000003"]);
    // The part in memory is a state too.
    let state = kept.newest("train").unwrap().unwrap().0.in_memory().unwrap();
    let mut again = Counter::default();
    again.restore(&state).unwrap();
    assert_eq!(bits(&again), bits(&counter(30)));
    let mut saver = Saver::default();
    saver.saved("inner", &state);
    assert_eq!(saver.keep().part("inner").part("below").array::<u8>("deep").unwrap(), counter(30).deep);
}

#[test]
fn any_damaged_byte_of_the_newest_state_leaves_the_one_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = checkpoints(folder.path(), json!({}));
    write(&mut kept, 1);
    let last = write(&mut kept, 2);
    let sound = std::fs::read(&last).unwrap();
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        std::fs::write(&last, bytes).unwrap();
        assert_eq!(newest(&mut kept).unwrap().unwrap().done, 1, "byte {at}");
    }
    std::fs::write(&last, &sound[..sound.len() - 1]).unwrap();
    assert_eq!(newest(&mut kept).unwrap().unwrap().done, 1);
    std::fs::write(&last, []).unwrap();
    assert_eq!(newest(&mut kept).unwrap().unwrap().done, 1);
    let first = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).find(|p| *p != last).unwrap();
    std::fs::write(&first, b"x").unwrap();
    let text = newest(&mut kept).unwrap_err().to_string();
    assert!(text.contains("no sound checkpoint is left; start anew with --force"), "{text}");
}

/// A damaged state is none of the two that are kept.
#[test]
fn a_damaged_state_goes_when_there_is_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = checkpoints(folder.path(), json!({}));
    write(&mut kept, 1);
    std::fs::write(write(&mut kept, 2), []).unwrap();
    assert_eq!(newest(&mut kept).unwrap().unwrap().done, 1);
    assert_eq!(names(folder.path()), ["train-000001", "train-000002"]);
    write(&mut kept, 3);
    assert_eq!(names(folder.path()), ["train-000001", "train-000003"]);
    write(&mut kept, 4);
    assert_eq!(names(folder.path()), ["train-000003", "train-000004"]);
}

#[test]
fn another_run_is_refused_with_the_difference() {
    let folder = tempfile::tempdir().unwrap();
    let job = |lr: f64, seed: u64| json!({ "recipe": { "generator": { "lr": lr } }, "seed": seed });
    write(&mut checkpoints(folder.path(), job(0.003, 1)), 5);
    assert_eq!(newest(&mut checkpoints(folder.path(), job(0.003, 1))).unwrap().unwrap().done, 5);
    let text = newest(&mut checkpoints(folder.path(), job(0.005, 1))).unwrap_err().to_string();
    assert!(text.contains("recipe.generator.lr is 0.003 there and 0.005 here"), "{text}");
    let text = newest(&mut checkpoints(folder.path(), job(0.003, 2))).unwrap_err().to_string();
    assert!(text.contains("seed is 1 there and 2 here"), "{text}");
    // Another machine may round differently, and is told so.
    let elsewhere = Checkpoints::in_folder(folder.path(), job(0.003, 1), json!({ "instructions": "avx512" }), None);
    assert_eq!(newest(&mut elsewhere.unwrap()).unwrap().unwrap().done, 5);
    assert_eq!(difference(&json!({ "a": 1 }), &json!({ "a": 1, "b": 2 })).unwrap(), "b is null there and 2 here");
}

#[test]
fn a_missing_or_wrong_entry_is_named() {
    let state = Saver::of(&counter(1)).unwrap().keep();
    let text = state.value::<usize>("donne").unwrap_err().to_string();
    assert!(text.contains("donne: it is missing"), "{text}");
    let text = state.array::<f32>("seen").unwrap_err().to_string();
    assert!(text.contains("seen: it holds F64, expected F32"), "{text}");
    assert!(state.part("below").array::<u8>("seen").unwrap_err().to_string().contains("below/seen"));
    assert!(state.has("below") && state.has("done") && !state.has("belo") && !state.has("don"));
}

#[test]
fn states_that_cannot_be_written_leave_the_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let states = folder.path().join("states");
    let mut kept = checkpoints(&states, json!({}));
    write(&mut kept, 1);
    std::fs::rename(&states, folder.path().join("away")).unwrap();
    assert!(!kept.try_write("train", &counter(2), &()));
    assert!(kept.lost().is_some_and(|(why, _)| why.contains("train-000001")));
    std::fs::rename(folder.path().join("away"), &states).unwrap();
    assert_eq!(newest(&mut kept).unwrap().unwrap().done, 1);
    assert!(kept.try_write("train", &counter(2), &()) && kept.lost().is_none());
    assert_eq!(newest(&mut kept).unwrap().unwrap().done, 2);
}

#[test]
fn one_process_holds_an_unfinished_result() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("result");
    let held = Unfinished::open(&target, Begin::default()).unwrap();
    let text = Unfinished::open(&target, Begin { force: true, resume: true }).unwrap_err().to_string();
    assert!(text.contains(&format!("process {} is working on it", std::process::id())), "{text}");
    let states = held.states();
    drop(held);
    assert!(!states.parent().unwrap().exists(), "nothing was kept in it");

    // A state outlives its process, and says so.
    let held = Unfinished::open(&target, Begin::default()).unwrap();
    write(&mut checkpoints(&states, json!({})), 3);
    drop(held);
    let text = Unfinished::open(&target, Begin::default()).unwrap_err().to_string();
    assert!(text.contains("go on with --resume, or start anew with --force"), "{text}");
    assert!(Unfinished::open(&target, Begin { resume: true, force: false }).unwrap().goes_on());
    // Whoever starts anew may still fail before anything begins.
    let anew = || Unfinished::open(&target, Begin { resume: false, force: true }).unwrap();
    drop(anew());
    let anew = anew();
    assert!(anew.is_begun() && !anew.goes_on());
    anew.clear().unwrap();
    assert!(!anew.is_begun());
    drop(anew);
    assert!(!states.exists());
}

#[test]
fn a_clock_adds_up_what_processes_spent() {
    let mut clock = Clock::default();
    let begun = Clock { earlier: Duration::from_secs(100), ..Clock::default() };
    clock.restore(&Saver::of(&begun).unwrap().keep()).unwrap();
    assert_eq!(clock.resumed, 1);
    assert!((100.0..101.0).contains(&clock.elapsed().as_secs_f64()));
}

/// A process that died between setting an old result aside and naming the new one.
#[test]
fn a_result_that_was_set_aside_is_back_before_anything_else_happens() {
    if !Path::new("/proc/self").exists() {
        return; // nobody knows there who is dead
    }
    let folder = tempfile::tempdir().unwrap();
    let (target, aside) = (folder.path().join("result"), folder.path().join(".result.old-4000000000-abc"));
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(aside.join("model"), "old").unwrap();
    let text = Unfinished::open(&target, Begin::default()).unwrap_err().to_string();
    assert!(text.contains("it exists already"), "{text}");
    assert_eq!(std::fs::read(target.join("model")).unwrap(), b"old");
    assert!(!aside.exists());
}
