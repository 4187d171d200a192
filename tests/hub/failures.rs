//! Everything that can go wrong between here and the Hub: each kind has a message of its own, on one line, and leaves a cache
//! that works as soon as the trouble is over.

mod cases;

use std::collections::BTreeSet;
use std::path::Path;

use crate::hub::{self, HubServer, sha256};
use cases::{CASES, good, weights};
use synth::Error;
use synth::events::Silent;
use synth::hub::{Hub, HubName, Kind, Settings};

fn name(text: &str) -> HubName {
    HubName::parse(text, Kind::Model).unwrap()
}

/// All contents in the cache have the hash that they are called by; nothing is left half-done.
fn assert_sound(cache: &Path, what: &str) {
    let blobs: Vec<_> = std::fs::read_dir(cache.join("models--a--b/blobs")).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(blobs.len(), 3, "{what}: {blobs:?}");
    for blob in blobs {
        let (bytes, called) = (std::fs::read(blob.path()).unwrap(), blob.file_name().into_string().unwrap());
        assert!([sha256(&bytes), hub::git_blob(&bytes)].contains(&called), "{what}: {called}");
    }
}

#[test]
fn each_failure_has_its_own_message_and_leaves_the_cache_usable() {
    let mut seen = BTreeSet::new();
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let server = HubServer::start();
        server.add("models/a/b", good());
        let usual = server.settings(folder.path());
        let mut settings = usual.clone();
        (case.prepare)(&server, &mut settings);
        if case.what == "disk full" && cfg!(not(target_os = "linux")) {
            continue;
        }
        let error = Hub::new(settings).model(&name(case.name), &mut Silent).unwrap_err();
        let message = error.to_string();
        assert!(!message.contains('\n') && message.len() < 600, "{}: {message}", case.what);
        assert!(!message.contains("hf_"), "{}: {message}", case.what);
        for part in case.parts {
            assert!(message.contains(part), "{}: {part:?} is not in: {message}", case.what);
        }
        // Without names and numbers the messages still differ.
        let plain: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
        assert!(seen.insert(plain), "{}: the same message as another: {message}", case.what);
        assert!(!matches!(error, Error::Interrupted), "{}", case.what);

        let incomplete = folder.path().join(format!("models--a--b/blobs/{}.incomplete", sha256(&weights())));
        if incomplete.is_symlink() {
            std::fs::remove_file(incomplete).unwrap(); // there is room again
        }
        server.state().troubles.clear();
        let fetched = Hub::new(usual.clone()).model(&name("a/b"), &mut Silent);
        let fetched = fetched.unwrap_or_else(|error| panic!("{}: afterwards: {error}", case.what));
        assert_eq!(std::fs::read(fetched.folder.join("model.safetensors")).unwrap(), weights(), "{}", case.what);
        assert_sound(folder.path(), case.what);
        let offline = Hub::new(Settings { offline: true, ..usual }).model(&name("a/b"), &mut Silent).unwrap();
        assert_eq!(offline, fetched, "{}", case.what);
    }
    assert!(seen.len() >= 35, "{}", seen.len());
}
