//! `synth bench SUITE.toml` through the binary: a whole suite within seconds, nothing done twice, kills and interruptions survived.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const METHOD: &str = r#"
recipe = "ssd"
set = ["buffer.samples=40", "batch=20", "practice=1", "fill=1", "adversary_steps=2", "generator.width=8", "views=2",
  "student.batch=8", "student.reestimate=1"]
"#;

/// A folder with a suite and its data: ten classes of single-coloured noise.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(steps: usize) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for (split, count) in [("train", 6), ("test", 3)] {
            for class in 0..10u32 {
                let folder = place.path("data").join(split).join(class.to_string());
                fs::create_dir_all(&folder).unwrap();
                for i in 0..count {
                    let pixel = |x: u32, y: u32| image::Rgb([25 * class as u8, (x * y * (i + 1)) as u8, (x + y) as u8]);
                    image::RgbImage::from_fn(32, 32, pixel).save(folder.join(format!("{i}.png"))).unwrap();
                }
            }
        }
        let head = "title = \"Tiny\"\ndata = \"data\"\nhold_back = 10\nseeds = [0]\nsnapshots = 2\n\
                    baselines = [\"teacher\", \"supervised\", \"kd-real\", \"kd-noise\"]\n\
                    [supervised]\nepochs = 1\nset = [\"batch=16\"]\n\
                    [kd]\nnoise = 20\nset = [\"student.batch=8\", \"student.reestimate=1\"]\n\
                    [[teacher]]\nname = \"r20\"\nmodel = \"synth/resnet20-cifar10\"\nstudents = [\"resnet8\"]\n";
        let text = format!("{head}[[method]]\n{METHOD}[[budget]]\nsteps = {steps}\n");
        fs::write(place.path("suite.toml"), text).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bench(&self, more: &[&str]) -> Command {
        self.bench_in("out", more)
    }

    fn bench_in(&self, out: &str, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synth"));
        command.arg("bench").arg(self.path("suite.toml")).arg("-o").arg(self.path(out));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The rows of `results.jsonl`.
    fn rows(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path("out/results.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The folder of the run whose row is of this kind.
    fn run_of(&self, kind: &str) -> PathBuf {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["kind"] == kind).unwrap();
        self.path("out/runs").join(row["id"].as_str().unwrap())
    }

    /// How often each run was started, by its folder's name.
    fn starts(&self) -> Vec<(String, usize)> {
        let mut all: Vec<(String, usize)> = fs::read_dir(self.path("out/runs"))
            .unwrap()
            .map(|entry| {
                let folder = entry.unwrap().path();
                let log = fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
                (folder.file_name().unwrap().to_string_lossy().into_owned(), log.matches("$ synth").count())
            })
            .collect();
        all.sort();
        all
    }
}

fn succeeded(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_there() {
        assert!(start.elapsed() < Duration::from_secs(300), "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_suite_leaves_rows_a_table_and_a_page_and_does_nothing_twice() {
    let place = Place::new(6);
    let listed = succeeded(place.bench(&["--dry-run"]).output().unwrap());
    assert!(listed.contains("r20 to resnet8, KD on noise, 6 steps, seed 0") && listed.contains("5 runs"), "{listed}");
    assert!(!place.path("out").exists(), "a dry run does nothing");

    succeeded(place.bench(&["--filter", "noise", "-q"]).output().unwrap());
    assert_eq!(place.rows().len(), 1);
    let told = succeeded(place.bench(&["-q"]).output().unwrap());
    assert!(told.contains("5 done, 0 failed, 0 open"), "{told}");
    let rows = place.rows();
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["teacher", "supervised", "kd-real", "kd-noise", "data-free"]);
    for row in &rows {
        assert_eq!(
            (&row["status"], &row["test"]["images"], &row["held_back"]["images"]),
            (&"done".into(), &30.into(), &10.into())
        );
        assert!(
            row["made"]["program"]["sha256"].as_str().unwrap().len() == 64
                && row["made"]["machine"]["cores"].as_u64() > Some(0)
        );
        if row["kind"] == "teacher" {
            continue;
        }
        assert!(row["curve"].as_array().unwrap().len() >= 2, "{row}");
        assert!(row["seconds"]["total"].as_f64() > Some(0.0) && row["peak_memory_mib"].as_f64() > Some(0.0));
        assert_eq!(row["provenance"]["versions"]["synth"], env!("CARGO_PKG_VERSION"));
    }
    let own = &rows[4];
    assert_eq!(own["images_kept"].as_u64().unwrap() % 20, 0);
    assert!(own["images_made"].as_u64() >= own["images_kept"].as_u64());
    assert!(own["seconds"]["inversion"].as_f64() > Some(0.0) && own["seconds"]["distillation"].as_f64() > Some(0.0));
    // The student is what the adversary has become: the updates of both stages are its own.
    assert_eq!((&own["adversary_updates"], &own["student_updates"]), (&serde_json::Value::Null, &6.into()));
    // What no student may see is in no set: 60 images, 10 held back.
    assert_eq!(
        (&rows[1]["images_kept"], &rows[2]["images_kept"], &rows[3]["images_kept"]),
        (&50.into(), &50.into(), &20.into())
    );
    let page = fs::read_to_string(place.path("out/index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("5 of 5 runs finished"), "{page}");
    assert!(fs::read_to_string(place.path("out/table.md")).unwrap().contains("| ssd | 1 |"));

    let before =
        (place.starts(), fs::metadata(place.run_of("data-free").join("evaluation.json")).unwrap().modified().unwrap());
    assert!(before.0.iter().all(|(run, starts)| *starts == usize::from(!run.contains("teacher"))), "{before:?}");
    succeeded(place.bench(&["-q"]).output().unwrap());
    let after =
        (place.starts(), fs::metadata(place.run_of("data-free").join("evaluation.json")).unwrap().modified().unwrap());
    assert_eq!(before, after);
    assert_eq!(rows, place.rows());

    // Rows that are shown around name models and sets as the suite does.
    let rows = fs::read_to_string(place.path("out/results.jsonl")).unwrap();
    assert!(!rows.contains(place.path("").to_str().unwrap()), "{rows}");

    // Another folder that knows these rows has nothing left to do, and the same page.
    let known = place.path("out/results.jsonl").to_str().unwrap().to_owned();
    let listed = succeeded(place.bench_in("other", &["--dry-run", "--known", &known]).output().unwrap());
    assert_eq!(listed.matches(" (known)\n").count(), 5, "{listed}");
    let told = succeeded(place.bench_in("other", &["-q", "--known", &known]).output().unwrap());
    assert!(told.contains("5 done, 0 failed, 0 open") && !place.path("other/runs").exists(), "{told}");
    for file in ["results.jsonl", "table.md", "index.html"] {
        let read = |out: &str| fs::read_to_string(place.path(out).join(file)).unwrap();
        assert!(read("out") == read("other"), "{file}");
    }
    fs::write(place.path("stale.jsonl"), fs::read_to_string(&known).unwrap().replace("\"id\":\"", "\"id\":\"x"))
        .unwrap();
    let stale = place.path("stale.jsonl").to_str().unwrap().to_owned();
    let output = place.bench_in("third", &["--known", &stale]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("none of its 5 rows"), "{said}");
}

#[test]
fn a_run_that_fails_is_a_row_and_is_tried_again_next_time() {
    let place = Place::new(4);
    succeeded(place.bench(&["-q", "--filter", "data"]).output().unwrap());
    // Something is in the way of one run.
    let dry = succeeded(place.bench(&["--dry-run", "--json", "--filter", "ssd"]).output().unwrap());
    let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
    let folder = place.path("out/runs").join(dry["runs"][0]["id"].as_str().unwrap());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("result.unfinished"), "in the way").unwrap();
    let output = place.bench(&["-q"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("4 done, 1 failed"), "{told}");
    let row = place.rows().pop().unwrap();
    assert_eq!(row["status"], "failed");
    assert!(row["error"].as_str().unwrap().contains("result.unfinished"), "{row}");
    let page = fs::read_to_string(place.path("out/index.html")).unwrap();
    assert!(page.contains("failed: cannot"), "a failure is on the page");

    fs::remove_file(folder.join("result.unfinished")).unwrap();
    let told = succeeded(place.bench(&["-q"]).output().unwrap());
    assert!(told.contains("5 done, 0 failed"), "{told}");
}

/// A trained teacher whose weights were removed is trained again where a run still needs them, on images evenly over the rows.
#[test]
fn a_teacher_that_is_gone_is_trained_again_for_whoever_needs_it() {
    let place = Place::new(2);
    let suite = |seeds: &str| {
        let text = format!(
            "title = \"Trained\"\ndata = \"data\"\nseeds = {seeds}\nbaselines = [\"kd-noise\"]\n\
             [kd]\nnoise = 20\nset = [\"student.batch=8\", \"student.reestimate=1\"]\n\
             [[teacher]]\nname = \"t\"\nnet = \"resnet8\"\ntrain = {{ epochs = 1, images = 20, set = [\"batch=16\"] }}\n\
             students = [\"resnet8\"]\n[[budget]]\nsteps = 2\n"
        );
        fs::write(place.path("suite.toml"), text).unwrap();
        succeeded(place.bench(&["-q"]).output().unwrap())
    };
    assert!(suite("[0]").contains("2 done, 0 failed"));
    let result = place.run_of("train-teacher").join("result");
    let about: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(result.join("synth.json")).unwrap()).unwrap();
    assert!(about["data"]["name"].as_str().unwrap().ends_with("(20 of them)"), "{}", about["data"]);
    fs::remove_dir_all(&result).unwrap();
    assert!(suite("[0]").contains("2 done, 0 failed"));
    assert!(!result.exists(), "nobody needs it");
    assert!(suite("[0, 1]").contains("3 done, 0 failed"));
    assert!(result.exists());
}

/// A harness that is killed leaves its run alive: the next one waits for it and does the work once.
#[test]
fn a_killed_harness_is_started_again_and_nothing_is_done_twice() {
    let place = Place::new(200);
    let mut killed = place.bench(&["-q", "--filter", "KD on real"]).spawn().unwrap();
    let unfinished =
        |run: std::io::Result<fs::DirEntry>| run.is_ok_and(|r| r.path().join("result.unfinished").exists());
    let started = || fs::read_dir(place.path("out/runs")).is_ok_and(|mut runs| runs.any(unfinished));
    wait_for("the run", started);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let told = succeeded(place.bench(&["-q", "--filter", "KD on real"]).output().unwrap());
    assert!(told.contains("1 done, 0 failed"), "{told}");
    assert_eq!(place.starts().iter().map(|(_, starts)| *starts).collect::<Vec<_>>(), [1]);
    assert_eq!(place.rows()[0]["made"]["process_seconds"], serde_json::Value::Null);
}

/// A signal to both, as Ctrl-C is, and one to the harness alone stop the run too, which keeps its state; the next harness goes on
/// from there. (Who starts tests in the background may ignore Ctrl-C itself.)
#[cfg(unix)]
#[test]
fn an_interrupted_suite_goes_on_where_it_stopped() {
    interrupted(true);
    interrupted(false);
}

/// A suite that a signal stops, to its whole group or to the harness alone, goes on where it was.
#[cfg(unix)]
fn interrupted(to_all: bool) {
    use std::os::unix::process::CommandExt;
    let place = Place::new(60);
    let mut stopped = place.bench(&["-q", "--filter", "ssd"]).process_group(0).spawn().unwrap();
    let unfinished = || {
        let runs = fs::read_dir(place.path("out/runs")).ok()?;
        runs.flatten().map(|run| run.path().join("result.unfinished")).find(|path| path.exists())
    };
    let logged = |folder: PathBuf| fs::metadata(folder.join("metrics.jsonl")).is_ok_and(|about| about.len() > 0);
    wait_for("the first step", || unfinished().is_some_and(logged));
    let to = format!("{}{}", if to_all { "-" } else { "" }, stopped.id());
    assert!(Command::new("kill").args(["-TERM", "--", &to]).status().unwrap().success());
    assert_eq!(stopped.wait().unwrap().code(), Some(130));
    assert!(unfinished().is_some_and(|folder| holds_a_state(&folder)), "a state to go on from");

    let told = succeeded(place.bench(&["-q", "--filter", "ssd"]).output().unwrap());
    assert!(told.contains("1 done, 0 failed"), "{told}");
    assert_eq!(unfinished(), None);
    let row = &place.rows()[0];
    assert!(row["resumed"].as_u64() >= Some(1), "{row}");
    let seconds: Vec<f64> =
        row["curve"].as_array().unwrap().iter().map(|point| point["seconds"].as_f64().unwrap()).collect();
    assert!(seconds.len() >= 2 && seconds.windows(2).all(|pair| pair[0] <= pair[1]), "{seconds:?}");
}

fn holds_a_state(folder: &Path) -> bool {
    fs::read_dir(folder.join("states")).is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn what_cannot_be_done_here_is_said_before_the_first_run() {
    let place = Place::new(4);
    let refusal = |text: &str, code: i32| {
        fs::write(place.path("suite.toml"), text).unwrap();
        let output = place.bench(&[]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.starts_with("error: ") && said.trim_end().lines().count() == 1, "{said}");
        assert!(!place.path("out/runs").exists());
        said
    };
    let suite = fs::read_to_string(place.path("suite.toml")).unwrap();
    assert!(refusal(&suite.replace("recipe = \"ssd\"", "recipe = \"magic\""), 2).contains("magic"));
    let dry = succeeded(place.bench(&["--dry-run"]).output().unwrap());
    assert!(dry.contains("problem: method \"magic\"") && dry.contains("5 runs"), "{dry}");
    assert!(refusal(&suite.replace("data = \"data\"", "data = \"nowhere at all\""), 2).contains("nowhere at all"));
    assert!(refusal(&suite.replace("hold_back", "holdback"), 1).contains("holdback"));
    // A folder of somebody else's is left as it is.
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/index.html"), "my site").unwrap();
    assert!(refusal(&suite, 2).contains("it holds index.html, and is not the folder of a suite"));
    assert_eq!(fs::read_to_string(place.path("out/index.html")).unwrap(), "my site");
    fs::remove_dir_all(place.path("out")).unwrap();
    // Nor is memory taken that no set could fill.
    fs::write(place.path("suite.toml"), suite.replace("noise = 20", "noise = 400000000000")).unwrap();
    let output = place.bench(&["-q", "--filter", "noise"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        place.rows()[0]["error"].as_str().unwrap().starts_with("kd.noise: 400000000000 images"),
        "{:?}",
        place.rows()
    );
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(["bench"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_synth")).args(["bench", "no-such-file", "-o", "x"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read no-such-file"));
}
