//! A newcomer's way with the Hub, through the binary: a teacher by name, a student, both back to the Hub, and the student
//! loaded from there by name. `SYNTH_TEST_PROGRAM` names another binary than the one built for tests, such as an installed one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hub::{Answer, HubServer, Manner, Repo, TOKEN};
use crate::tiny::TINY;
use serde_json::Value;
use synth::data::Images;
use synth::model::{Model, Overrides};
use synth::nets::Network;
use synth::nets::registry::{self, Shape};
use synth::rng::Streams;
use synth::teacher::Teacher;

/// The program, knowing this Hub and a cache of its own.
struct Newcomer<'a> {
    server: &'a HubServer,
    home: &'a Path,
}

impl Newcomer<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let program = std::env::var_os("SYNTH_TEST_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_synth").into());
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        for variable in
            ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        {
            command.env_remove(variable);
        }
        for proxy in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        command.env("HF_ENDPOINT", self.server.url()).env("HF_HOME", self.home).env("HF_TOKEN", TOKEN);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        let all = [&output.stdout[..], &output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains(TOKEN), "the token was printed");
        output
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, code: i32, arguments: &[&str], part: &str) {
        let output = self.run(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.starts_with("error: ") && text.lines().count() == 1 && text.contains(part), "{text}");
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The files of a folder as a repository.
fn repo_of(folder: &Path) -> Repo {
    let files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    Repo::with(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

/// A ResNet-8 with fresh weights as somebody's model on the Hub.
fn teacher(folder: &Path) -> Repo {
    let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 4 };
    let names = Some(["ant", "bee", "cat", "dog"].map(String::from).to_vec());
    let (arch, config) = registry::new_model("resnet8", &shape, names, &[0.5; 3], &[0.25; 3]).unwrap();
    let network = Network::init(Arc::new(arch), &mut Streams::new(3).stream("teacher", 0)).unwrap();
    let model = Model::made(network, config);
    std::fs::create_dir(folder).unwrap();
    model.save(folder, "# a teacher", &serde_json::json!({"kind": "supervised"})).unwrap();
    repo_of(folder)
}

fn logits(folder: &Path) -> Vec<u32> {
    let model = Model::load(folder, None, &Overrides::default()).unwrap();
    let pixels: Vec<u8> = (0..4 * 32 * 32 * 3).map(|i| ((i * 7919) >> 3) as u8).collect();
    let images = Images::new(pixels, 3, 32, 32).unwrap();
    Teacher::of(&model).answers_u8(&images, 4).unwrap().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn from_a_name_to_a_student_and_back() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| place.path().join(name);
    let text = |name: &str| at(name).to_str().unwrap().to_string();
    let commit = server.add("models/somebody/teacher", teacher(&at("teacher")));
    let (home, other) = (at("home"), at("other home"));
    let synth = Newcomer { server: &server, home: &home };

    // A teacher by name becomes a set and a student; both say which commit it was.
    synth.succeeds(&[&["run", "somebody/teacher", "-q", "-o", &text("out")][..], &TINY].concat());
    for part in ["out/set/synth.json", "out/student/synth.json"] {
        let teacher = json_of(&at(part))["teacher"].clone();
        assert_eq!(
            (&teacher["id"], &teacher["revision"]),
            (&"somebody/teacher".into(), &commit.clone().into()),
            "{part}"
        );
    }

    // What would be sent, without sending it; then for good.
    let before = server.log().len();
    let said = synth.succeeds(&["push", &text("out/student"), "--to", "me/student", "--dry-run"]);
    assert!(said.contains("private model me/student") && said.contains("model.safetensors"), "{said}");
    assert_eq!(server.log().len(), before);
    synth.refused(1, &["push", &text("out/student"), "--to", "me/student", "--public"], "its licence is not known");
    synth.refused(1, &["push", &text("out"), "--to", "me/all"], "the folder of a whole run");
    synth.refused(2, &["push", &text("out/student"), "--to", "../student"], "Hub name");
    let measure = ["eval", &text("out/student"), "--data", &text("out/set"), "--split", "train"];
    let measured: Value =
        serde_json::from_str(&synth.succeeds(&[&measure[..], &["--json", "--card"]].concat())).unwrap();
    std::fs::write(at("out/student/.env"), "PASSWORD=x").unwrap();
    let said = synth.run(&["push", &text("out/student"), "--to", "me/student", "--message", "first try"]);
    assert!(
        said.status.success() && String::from_utf8_lossy(&said.stderr).contains(".env does not belong"),
        "{said:?}"
    );
    synth.succeeds(&["push", &text("out/set"), "--to", "me/set", "--json"]);
    let repo = server.repo("models/me/student");
    assert!(repo.private && repo.messages[1] == "first try" && !repo.main().contains_key(".env"));
    let card = String::from_utf8(repo.main()["README.md"].clone()).unwrap();
    let accuracy = format!("value: {}\n", measured["top1"]);
    for part in ["model-index:\n- name: student\n", "type: set\n", "split: train\n", "num_examples: 40\n", &accuracy] {
        assert!(card.contains(part), "{part}: {card}");
    }
    synth.refused(2, &["eval", "me/student", "--data", &text("out/set"), "--card"], "card is not on this machine");

    // Somebody else, with an empty cache, by name alone.
    let synth = Newcomer { server: &server, home: &other };
    let eval = ["eval", "me/student", "--data", "me/set", "--split", "train", "--json"];
    let found: Value = serde_json::from_str(&synth.succeeds(&eval)).unwrap();
    let student = format!("me/student@{}", repo.branches["main"]);
    let data = format!("me/set@{}/train", server.repo("datasets/me/set").branches["main"]);
    assert_eq!((&found["model"]["source"], &found["data"]["name"]), (&student.into(), &data.into()));
    assert_eq!(found["count"], 40);
    let snapshot = other.join("hub/models--me--student/snapshots").join(&repo.branches["main"]);
    assert_eq!(logits(&snapshot), logits(&at("out/student")));

    // Offline, the cache is enough; without one, that is said.
    let requests = server.log().len();
    let again: Value = serde_json::from_str(&synth.succeeds(&[&eval[..], &["--offline"]].concat())).unwrap();
    assert_eq!((&again["loss"], &again["confusion"]), (&found["loss"], &found["confusion"]));
    let nothing = at("nothing");
    let stranger = Newcomer { server: &server, home: &nothing };
    stranger.refused(1, &["inspect", "me/student", "--offline"], "it is not in the cache");
    stranger.refused(1, &["inspect", "no-such-folder/model.pth"], "no such file or folder");
    assert_eq!(server.log().len(), requests);
    stranger.refused(1, &["inspect", "me/no-such-model"], "no such path here");

    // A set by name is told from a model, whether or not the name says so.
    for name in ["me/set", "datasets/me/set", "hf://datasets/me/set"] {
        let about: Value = serde_json::from_str(&stranger.succeeds(&["inspect", name, "--json"])).unwrap();
        assert_eq!((&about["kind"], &about["count"]), (&"set".into(), &40.into()), "{name}");
    }
    stranger.refused(1, &["inspect", "datasets/me/no-such-set"], "me/no-such-set");

    // The set's teacher is found again by its commit.
    let distill = ["distill", "-q", "--steps", "2", "--set", "student.batch=8", "--set", "student.reestimate=1"];
    stranger.succeeds(&[&distill[..], &[&text("out/set"), "-o", &text("second")]].concat());
    assert_eq!(json_of(&at("second/synth.json"))["answers"], "live");
    assert_eq!(json_of(&at("second/synth.json"))["teacher"]["revision"], commit.as_str());

    // And so is the set itself, with the adversary that belongs to it.
    let by_name = ["me/set", "--student", "resnet8", "--init", "adversary", "-o", &text("third")];
    stranger.succeeds(&[&distill[..], &by_name].concat());
    let set = format!("me/set@{}", server.repo("datasets/me/set").branches["main"]);
    assert_eq!(json_of(&at("third/synth.json"))["set"]["source"], set);
}

/// An encoder that the Hub does not give is done without; one that somebody did not want to wait for is not.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_inversion_that_fetches_its_text_encoder() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/somebody/encoder", Repo::with(&[("config.json", b"{}"), ("model.safetensors", &[7; 9000])]));
    stall(&server);
    let (home, out) = (place.path().join("home"), place.path().join("out"));
    let synth = Newcomer { server: &server, home: &home };
    let encoder = ["--recipe", "nayer", "--set", "generator.text_encoder=somebody/encoder"];
    let invert = ["invert", "synth/resnet20-cifar10", "-q", "-o", out.to_str().unwrap()];
    let blobs = home.join("hub/models--somebody--encoder/blobs");
    let output = interrupted(synth.command(&[&invert[..], &encoder].concat()), &blobs);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(130), "error: interrupted\n"));
}

/// The next large file stops after 5,000 bytes.
#[cfg(unix)]
fn stall(server: &HubServer) {
    server.trouble_with("GET", "store:", 1, |answer| Answer {
        manner: Manner::Stalled(5000, Duration::from_secs(15)),
        ..answer
    });
}

/// Whether 5,000 bytes of a file have arrived.
#[cfg(unix)]
fn arrived(blobs: &Path) -> bool {
    let entries = std::fs::read_dir(blobs).into_iter().flatten().flatten();
    entries
        .filter(|e| e.file_name().to_string_lossy().ends_with(".incomplete"))
        .any(|e| e.metadata().unwrap().len() == 5000)
}

/// Starts a command, asks it to stop once its download has stopped, and gives what it says; it ends at once.
#[cfg(unix)]
fn interrupted(mut command: Command, blobs: &Path) -> Output {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !arrived(blobs) {
        assert!(begin.elapsed() < Duration::from_secs(10), "nothing arrived");
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Instant::now();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    output
}

/// What goes wrong on the way is said, and not taken for a thing that is not there.
#[test]
fn failures_are_told_from_absence() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    let (train, test) = ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet");
    server.add("datasets/me/set", Repo::with(&[("synth.json", b"{}"), (train, b"x")]));
    server.add("datasets/me/data", Repo::with(&[(train, b"x"), (test, b"x")]));
    server.add("datasets/me/test", Repo::with(&[(test, b"x")]));
    let (home, out) = (place.path().join("home"), place.path().join("out"));
    let synth = Newcomer { server: &server, home: &home };
    let collect = |from: &str, part: &str| {
        let words = ["collect", "synth/resnet20-cifar10", "-q", "-o", out.to_str().unwrap(), "--from", from];
        synth.refused(1, &words, part);
    };
    server.trouble("train-00000", 2, |_| Answer::error(403, "", "not today"));
    synth.refused(1, &["inspect", "me/set"], "me/set: the Hub forbids it (403)");
    collect("me/data", "me/data: the Hub forbids it (403)");
    // Where there is no such split, another one serves; this one is no parquet file.
    collect("me/test", test);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_download_at_once_and_keeps_what_has_arrived() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/somebody/teacher", teacher(&place.path().join("teacher")));
    stall(&server);
    let home = place.path().join("home");
    let synth = Newcomer { server: &server, home: &home };
    let blobs = home.join("hub/models--somebody--teacher/blobs");
    assert_eq!(interrupted(synth.command(&["inspect", "somebody/teacher"]), &blobs).status.code(), Some(130));
    assert!(arrived(&blobs));
    synth.succeeds(&["inspect", "somebody/teacher"]);
    let state = server.state();
    let resumed = state.requests.iter().rfind(|request| request.path.starts_with("store:")).unwrap();
    assert_eq!(resumed.header("range"), Some("bytes=5000-"));
}
