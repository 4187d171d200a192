//! The main command through the binary: its result, its refusals, and what a kill leaves.

use crate::tiny::TINY;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use synth::model::{Model, Overrides};
use synth::set::SyntheticSet;
use synth::weights::Checkpoint;

fn synth(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synth"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(output: &Path, more: &[&str]) -> Output {
    synth(&["run", "-q", "-o", &output.display().to_string()]).args(TINY).args(more).output().unwrap()
}

/// Standard error of a refusal: one line that starts with `error:`.
fn refusal(output: Output, code: i32) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.starts_with("error: ") && text.trim_end().lines().count() == 1, "{text}");
    text
}

fn json_of(file: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn without_a_teacher_the_shipped_one_becomes_a_set_and_a_student() {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("first");
    let output = run(&result, &["--json"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("alarm: few images").count(), 1, "both stages look at the set, which is said once: {text}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["architecture"], "resnet8");
    let set = SyntheticSet::read(result.join("set")).unwrap();
    assert_eq!((set.len(), set.class_names.len()), (40, 10));
    assert_eq!(set.provenance["teacher"]["id"], "synth/resnet20-cifar10");
    let student = Model::load(result.join("student"), None, &Overrides::default()).unwrap();
    assert_eq!(student.class_names()[0], "airplane");

    // A finished result is not overwritten; with --force it is replaced.
    let text = refusal(run(&result, &[]), 2);
    assert!(text.contains("--force"), "{text}");
    assert!(run(&result, &["--force", "--seed", "1"]).status.success());
    assert_ne!(SyntheticSet::read(result.join("set")).unwrap().images, set.images);
}

/// The teacher answers live where it can be had; otherwise what it said when the set was made serves, and that is said.
#[test]
fn a_set_without_its_teacher_serves_by_its_recorded_answers() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&folder.path().join("bare"), &[]).status.success());
    assert_eq!(json_of(&folder.path().join("bare/set/synth.json"))["set"].get("views"), None);
    let [bare, none] = ["bare/set", "none"].map(|name| folder.path().join(name).display().to_string());
    let stored = ["distill", &bare, "-o", &none, "--answers", "stored"];
    let text = refusal(synth(&stored).output().unwrap(), 2);
    assert!(text.contains("no recorded views") && text.contains("--views N"), "{text}");

    assert!(run(&folder.path().join("first"), &["--views", "2"]).status.success());
    let set = folder.path().join("first/set");
    let distill = |name: &str, more: &[&str]| {
        let student = folder.path().join(name);
        let paths = [set.to_str().unwrap(), "-o", student.to_str().unwrap()];
        let fixed = ["distill", "--steps", "2", "--set", "student.batch=8", "--set", "student.reestimate=1"];
        let output = synth(&[&fixed[..], &paths, more].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        (json_of(&student.join("synth.json"))["answers"].clone(), text)
    };
    assert_eq!(json_of(&folder.path().join("first/student/synth.json"))["answers"], "live");
    assert_eq!(distill("live", &[]).0, "live");
    assert_eq!(distill("stored", &["--answers", "stored"]).0, "stored");
    // What recorded answers have no part for is neither passed over nor told as done.
    assert_eq!(json_of(&folder.path().join("stored/synth.json"))["recipe"]["mixup_until"], 0.0);
    for value in ["student.mixup_until=1.0", "student.mixup_alpha=5", "student.augment.crop=9"] {
        let [set, other] = ["first/set", "other"].map(|name| folder.path().join(name).display().to_string());
        let words = ["distill", &set, "-o", &other, "--answers", "stored", "--set", value];
        let text = refusal(synth(&words).output().unwrap(), 2);
        assert!(text.contains("fixed when the set was made") && text.contains("--answers live"), "{text}");
    }

    let about = set.join("synth.json");
    let mut gone = json_of(&about);
    gone["teacher"]["id"] = "no/such/teacher".into();
    std::fs::write(&about, gone.to_string()).unwrap();
    let (answers, text) = distill("gone", &[]);
    assert_eq!(answers, "stored");
    assert!(text.contains("recorded answers") && text.contains("no/such/teacher"), "{text}");
}

/// What the rate of SGD does to an adversary that Muon taught is said; the other way round nothing is wrong.
#[test]
fn an_adversary_of_muon_that_goes_on_by_sgd_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    for (name, taught, warned) in [("muon", "student.muon=0.02", true), ("sgd", "student.muon=0", false)] {
        let first = folder.path().join(name);
        assert!(run(&first, &["--set", taught]).status.success());
        let [set, output] = ["set", "other"].map(|part| first.join(part).display().to_string());
        let said = |more: &[&str]| {
            let small = ["--steps", "2", "--set", "student.batch=8", "--set", "student.reestimate=1", "--force"];
            let fixed = ["distill", &set, "-o", &output, "--student", "resnet8", "--init", "adversary"];
            let told = synth(&[&fixed[..], &small, more].concat()).output().unwrap();
            let text = String::from_utf8_lossy(&told.stderr).into_owned();
            assert!(told.status.success(), "{text}");
            text.contains("learned by Muon and goes on by SGD")
        };
        assert_eq!(said(&["--set", "student.muon=0"]), warned, "{name}");
        assert!(!said(&[]), "{name}");
    }
}

/// What was said of a bare file when the set was made holds when its teacher answers again.
#[test]
fn a_bare_file_teaches_again_as_it_was_described() {
    let folder = tempfile::tempdir().unwrap();
    let [bare, first, student] = ["bare.safetensors", "first", "student"].map(|name| folder.path().join(name));
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/resnet20-cifar10/model.safetensors");
    std::fs::copy(weights, &bare).unwrap();
    let [teacher, set, output] = [&bare, &first.join("set"), &student].map(|path| path.display().to_string());
    let described = [&teacher[..], "--arch", "resnet20", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.25,0.3"];
    assert!(run(&first, &described).status.success());

    let steps = ["--steps", "2", "--set", "student.batch=8", "--set", "student.reestimate=1"];
    let told = synth(&[&["distill", &set, "-o", &output][..], &steps].concat()).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let about = json_of(&student.join("synth.json"));
    assert_eq!(about["answers"], "live");
    assert_eq!(about["teacher"], json_of(&first.join("set/synth.json"))["teacher"]);
    let config = Model::load(&student, None, &Overrides::default()).unwrap().config;
    assert_eq!(config.pretrained_cfg.mean, [0.5, 0.4, 0.3]);
}

#[test]
fn values_that_a_recipe_does_not_have_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let result = folder.path().join("first");
    for (more, word) in [
        (vec!["--set", "loss.bm=3"], "loss.bm"),
        (vec!["--set", "loss.bm=3"], "one_hot"),
        (vec!["--set", "loss.bn"], "="),
        (vec!["--set", "loss.bn=many"], "`loss.bn`: \"many\" is no number"),
        (vec!["--set", "rounds=2.5"], "`rounds`: 2.5 is no whole number"),
        (vec!["--set", "rounds=-1"], "`rounds`: -1 is below 0"),
        (vec!["--set", "on_the_fly=1"], "`on_the_fly`: 1 is neither true nor false"),
        (vec!["--views", "163"], "--views: 163; take at most 162"),
        (vec!["--set", "generator.lr=-1"], "generator.lr"),
        (vec!["--set", "student.matching.kl.temperature=0"], "matching.temperature"),
        (vec!["--recipe", "nothing"], "nothing"),
        (vec!["--student", "resnet21"], "resnet21"),
    ] {
        // The tiny run names a student already; a second one wins.
        let mut command = synth(&["run", "-q", "-o", &result.display().to_string()]);
        let output = command.args(TINY.iter().skip(2)).args(&more).output().unwrap();
        let text = refusal(output, 2);
        assert!(text.contains(word), "{more:?}: {text}");
        assert!(!result.exists());
    }
    let file = folder.path().join("mine.toml");
    std::fs::write(&file, "rounds = \"many\"\n").unwrap();
    let text = refusal(run(&result, &["--config", file.to_str().unwrap()]), 1);
    assert!(text.contains("mine.toml: `rounds`: \"many\" is no whole number"), "{text}");
}

/// Where hardly any update fits into the time, an adversary is the better student as it is.
#[test]
fn a_trained_student_without_time_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&folder.path().join("first"), &[]).status.success());
    let distill = |name: &str, student: &str, init: &str| {
        let [set, student_at] = ["first/set", name].map(|part| folder.path().join(part).display().to_string());
        let small = ["--set", "student.batch=8", "--set", "student.reestimate=1", "--minutes", "1e-5"];
        let words = ["distill", &set, "-o", &student_at, "--student", student, "--init", init];
        synth(&[&words[..], &small].concat()).output().unwrap()
    };
    for (init, made) in [("adversary", 0), ("scratch", 1)] {
        let output = distill(init, "resnet8", init);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("0 updates of the student; {made} are made")), "{text}");
        assert_eq!(json_of(&folder.path().join(init).join("synth.json"))["steps"], made);
    }
    let tensors = |file: &str| Checkpoint::read(folder.path().join(file)).unwrap().tensors;
    let (before, after) = (tensors("first/set/adversary.safetensors"), tensors("adversary/model.safetensors"));
    let weights = |name: &&String| !name.contains("running") && !name.contains("num_batches");
    assert!(before.keys().filter(weights).all(|name| before[name] == after[name]));

    let text = refusal(distill("other", "resnet14", "adversary"), 2);
    assert!(text.contains("the set's adversary is resnet8, the student resnet14"), "{text}");
}

/// A terminal that closes stops a run, but not one that `nohup` has started.
#[cfg(unix)]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_so() {
    // What is ignored here is so in what is started from here.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    let is_heard = u64::from_str_radix(mask, 16).unwrap() & 1 == 0;
    let ways = [("trap '' HUP", 0), ("true", 130)];
    for (before, code) in ways.into_iter().filter(|(_, code)| *code == 0 || is_heard) {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("first");
        let script = format!("{before}; exec \"$0\" \"$@\"");
        let words = ["-c", &script, env!("CARGO_BIN_EXE_synth"), "run", "-q", "-o", &result.display().to_string()];
        let mut command = Command::new("/bin/sh");
        let mut child = command.args(words).args(TINY).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while std::fs::read_dir(folder.path()).unwrap().next().is_none() {
            assert_eq!(child.try_wait().unwrap(), None, "it is over before it was asked to stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(Command::new("kill").args(["-HUP", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{before}");
        assert_eq!(result.exists(), code == 0, "{before}");
    }
}

#[test]
fn killed_at_any_moment_nothing_half_written_has_a_final_name() {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..12u64 {
        let result = folder.path().join(format!("run{k}"));
        let mut child = synth(&["run", "-q", "-o", &result.display().to_string()])
            .args(TINY)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 + 150 * k));
        let _ = child.kill();
        let _ = child.wait();
        if result.exists() {
            SyntheticSet::read(result.join("set")).unwrap();
            Model::load(result.join("student"), None, &Overrides::default()).unwrap();
        }
    }
    // What the killed left is cleared away by the next run into the same name.
    let result = folder.path().join("run0");
    assert!(run(&result, &["--force"]).status.success());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().contains("run0.partial")), "{left:?}");
}
