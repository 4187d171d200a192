//! A token is in nothing that this program prints or writes, and `--offline` makes no connection.

use crate::hub::{Answer, HubServer, Repo, TOKEN};
use crate::tiny::TINY;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use synth::model::Model;
use synth::nets::Network;
use synth::nets::registry::{self, Shape};
use synth::rng::Streams;

const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The program with a home of its own and nothing else of this environment's Hub.
fn synth(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synth"));
    command.args(arguments).stdin(Stdio::null()).env("HF_HOME", home).env("RUST_LOG", "trace");
    for name in [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN_PATH",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_ENDPOINT",
    ] {
        command.env_remove(name);
    }
    for name in PROXIES {
        command.env_remove(name);
    }
    command
}

/// A ResNet-8 with fresh weights in a folder.
fn teacher(folder: &Path) {
    let shape = Shape { channels: 3, height: 32, width: 32, num_classes: 2 };
    let (arch, config) = registry::new_model("resnet8", &shape, None, &[0.5; 3], &[0.25; 3]).unwrap();
    let network = Network::init(Arc::new(arch), &mut Streams::new(3).stream("teacher", 0)).unwrap();
    let model = Model::made(network, config);
    std::fs::create_dir(folder).unwrap();
    model.save(folder, "# a teacher", &serde_json::json!({"kind": "supervised"})).unwrap();
}

fn repo_of(folder: &Path) -> Repo {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files: Vec<(String, Vec<u8>)> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect();
    Repo::with(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

/// The files below `folder` that hold `secret`.
fn holders(folder: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holders(&entry.path(), secret));
        } else if kind.is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let holds = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            found.extend(holds.then(|| entry.path().display().to_string()));
        }
    }
    found
}

/// Runs a command that knows the token, as loudly as it goes, and looks for the token in what it says.
#[track_caller]
fn said(server: &HubServer, home: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = synth(home, arguments);
    let Output { status, stdout, stderr } =
        command.arg("-vv").env("HF_ENDPOINT", server.url()).env("HF_TOKEN", TOKEN).output().unwrap();
    let all = [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat();
    assert!(!all.contains(TOKEN), "{arguments:?} prints the token: {all}");
    (status.success(), all)
}

#[test]
fn a_token_is_in_nothing_that_is_printed_or_written() {
    let (server, place) = (HubServer::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    teacher(&place.path().join("teacher"));
    server.add("models/some/teacher", Repo { private: true, ..repo_of(&place.path().join("teacher")) });
    let home = place.path().join("home");
    let succeeds = |arguments: &[&str]| {
        let (success, all) = said(&server, &home, arguments);
        assert!(success, "{arguments:?}: {all}");
    };
    succeeds(&[&["run", "some/teacher", "-o", &at("out")][..], &TINY].concat());
    succeeds(&["eval", &at("out/student"), "--data", &at("out/set"), "--split", "train", "--card"]);
    succeeds(&["push", &at("out/student"), "--to", "me/student"]);
    succeeds(&["push", &at("out/set"), "--to", "me/set", "--json"]);
    succeeds(&["inspect", "me/student"]);
    succeeds(&["export", &at("out/student"), "--to", "onnx", "-o", &at("student.onnx")]);
    // A server that says what it was sent, in every way that a message can take it up.
    for answer in [
        Answer::error(403, "", &format!("Bearer {TOKEN} may not do that")),
        Answer::error(400, "", &format!("cannot understand {TOKEN}")),
        Answer::new(302).with("Location", &format!("ftp://other.example/{TOKEN}")),
    ] {
        server.trouble("/api/models/some/other", 1, move |_| answer.clone());
        assert!(!said(&server, &home, &["inspect", "some/other"]).0);
    }
    assert_eq!(holders(place.path(), TOKEN), Vec::<String>::new());
    // What looks for it finds it: in the requests, and in a file.
    let bearer = format!("Bearer {TOKEN}");
    assert!(server.state().requests.iter().any(|request| request.header("authorization") == Some(&bearer)));
    std::fs::write(place.path().join("out/set/leak"), format!("x{TOKEN}y")).unwrap();
    assert_eq!(holders(place.path(), TOKEN).len(), 1);
}

/// Counts the connections to a port, and has nothing for any of them.
fn listener() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, count) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = connection.and_then(|mut stream| {
                // What is not read would reset the connection, which is tried again later.
                let head = BufReader::new(&stream).lines();
                head.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
                stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            });
        }
    });
    (url, count)
}

#[test]
fn offline_makes_no_connection() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_string();
    teacher(&place.path().join("teacher"));
    let home = place.path().join("home");
    let (url, connections) = listener();
    // The listener as the Hub, and as the way to any other.
    let as_hub = |command: &mut Command| {
        command.env("HF_ENDPOINT", &url);
    };
    let as_proxy = |command: &mut Command| {
        command.env("HF_ENDPOINT", "http://hub.example").envs(PROXIES.map(|name| (name, &url)));
    };
    let ways: [&dyn Fn(&mut Command); 2] = [&as_hub, &as_proxy];
    let commands: &[&[&str]] = &[
        &["inspect", "some/model"],
        &["inspect", "hf://datasets/some/set"],
        &["eval", "some/model", "--data", "some/data"],
        &["eval", &at("teacher"), "--data", "some/data@main"],
        &["run", "some/model", "-o", &at("a")],
        &["invert", "some/model", "-o", &at("b")],
        &["distill", "some/set", "-o", &at("c"), "--student", "resnet8"],
        &["train", "resnet8", "--data", "some/data", "-o", &at("d")],
        &["export", "some/model", "--to", "onnx", "-o", &at("e.onnx")],
        &["push", &at("teacher"), "--to", "me/model"],
    ];
    for way in ways {
        for arguments in commands {
            let mut command = synth(&home, arguments);
            way(&mut command);
            let output = command.arg("--offline").output().unwrap();
            assert!(!output.status.success(), "{arguments:?} succeeds");
            assert_eq!(connections.load(Ordering::SeqCst), 0, "{arguments:?} connects");
        }
        let mut command = synth(&home, &["inspect", &at("teacher")]);
        way(&mut command);
        assert!(command.arg("--offline").output().unwrap().status.success());
        // Without the option, the listener hears of it: both ways are really watched.
        let mut command = synth(&home, &["inspect", "some/model"]);
        way(&mut command);
        assert!(!command.output().unwrap().status.success());
        assert!(connections.swap(0, Ordering::SeqCst) > 0);
    }
}
