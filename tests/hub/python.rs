//! The Python library and this program on the same Hub and in the same cache: each understands the other.
//!
//! Needs an interpreter with `huggingface_hub`, named by `$SYNTH_TEST_PYTHON`; without it the test says so and passes.

use std::path::Path;
use std::process::Command;

use crate::hub::{HubServer, Repo, TOKEN, sha256};
use serde_json::Value;
use synth::events::Silent;
use synth::hub::push::{Contents, Push};
use synth::hub::{Fetched, Hub, HubName, Kind, Settings};

/// Runs `tests/python/check_hub.py` with this Hub and this cache.
fn python(server: &HubServer, home: &Path, arguments: &[&str]) -> Option<Value> {
    let Some(interpreter) = std::env::var_os("SYNTH_TEST_PYTHON") else {
        eprintln!("skipped: SYNTH_TEST_PYTHON does not name an interpreter with huggingface_hub");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/check_hub.py");
    let mut command = Command::new(interpreter);
    command.arg(script).args(arguments).env("HF_ENDPOINT", server.url()).env("HF_HOME", home).env("HF_TOKEN", TOKEN);
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    Some(serde_json::from_str(out.lines().last().unwrap()).unwrap())
}

fn model() -> Repo {
    let weights: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut repo = Repo::with(&[("config.json", b"{}"), ("README.md", b"# card"), ("model.safetensors", &weights)]);
    repo.private = true;
    repo
}

fn fetch(hub: &Hub, text: &str) -> synth::Result<Fetched> {
    hub.model(&HubName::parse(text, Kind::Model).unwrap(), &mut Silent)
}

/// The files of a folder and their contents are those that Python has seen.
fn assert_same(folder: &Path, seen: &Value) {
    for (name, hash) in seen["files"].as_object().unwrap() {
        assert_eq!(hash, &sha256(&std::fs::read(folder.join(name)).unwrap()), "{name}");
    }
}

#[test]
fn what_python_fetches_serves_here_and_the_other_way_round() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    let commit = server.add("models/a/b", model());
    server.state().repos.get_mut("models/a/b").unwrap().commit("refs/pr/1", "pr", Default::default());
    let (theirs, ours) = (place.path().join("theirs"), place.path().join("ours"));

    // Python fetches from the test server, so the server speaks as the Hub does; then its cache serves here.
    let Some(seen) = python(&server, &theirs, &["fetch", "model", "a/b", "main"]) else { return };
    eprintln!("huggingface_hub {}", seen["version"]);
    let offline = |home: &Path| Hub::new(Settings { offline: true, ..server.settings(&home.join("hub")) });
    let found = fetch(&offline(&theirs), "a/b").unwrap();
    assert_eq!((found.commit.as_str(), found.folder.to_str()), (commit.as_str(), seen["folder"].as_str()));
    assert_eq!(seen["files"].as_object().unwrap().len(), 3);
    assert_same(&found.folder, &seen);

    // What this program has fetched serves Python without a request.
    let fetched = fetch(&server.hub_with_token(&ours.join("hub")), "a/b").unwrap();
    let pull = fetch(&server.hub_with_token(&ours.join("hub")), "a/b@refs/pr/1").unwrap();
    let requests = server.log().len();
    for (revision, fetched) in [("main", &fetched), (commit.as_str(), &fetched), ("refs/pr/1", &pull)] {
        let seen = python(&server, &ours, &["offline", "model", "a/b", revision]).unwrap();
        assert_eq!(seen["folder"].as_str(), fetched.folder.to_str());
        assert_same(&fetched.folder, &seen);
    }
    assert_eq!(server.log().len(), requests);

    // And Python goes on in a cache that this program began: nothing is fetched twice.
    python(&server, &ours, &["fetch", "model", "a/b", "main"]).unwrap();
    assert!(!server.log()[requests..].iter().any(|line| line.contains("store:")), "{:?}", server.log());
}

/// The same folder sent by both: the same files, and the second time nothing.
#[test]
fn both_send_a_result_in_the_same_way() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    let (folder, home) = (place.path().join("student"), place.path().join("home"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("synth.json"), r#"{"kind": "student"}"#).unwrap();
    for (name, bytes) in model().main() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    for part_size in [None, Some(70_000)] {
        server.state().part_size = part_size;
        server.state().store.clear();
        server.state().repos.clear();
        let Some(_) = python(&server, &home, &["push", "model", "me/theirs", folder.to_str().unwrap()]) else { return };
        server.state().store.clear();
        let push = |to: &str| {
            let contents = Contents::of(&folder).unwrap();
            let to = HubName::parse(to, contents.kind).unwrap();
            let push = Push { contents: &contents, to: &to, public: false, message: "x", pull_request: false };
            server.hub_with_token(&home).push(&push, &mut Silent).unwrap()
        };
        assert_eq!(push("me/ours").sent.len(), 4);
        assert_eq!(server.repo("models/me/theirs").main(), server.repo("models/me/ours").main());
        assert_eq!(push("me/theirs").sent.len(), 0);
    }
}
