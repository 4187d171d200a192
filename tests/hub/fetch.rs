//! Fetching models and datasets from a Hub on this machine: the cache, resuming, retries, who gets the token.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::hub::repo::Files;
use crate::hub::{self, Answer, HubServer, Manner, Repo, TOKEN, git_blob, sha256};
use crate::table::table;
use serde_json::json;
use synth::data::{Labelled, Portion, ReadOptions};
use synth::events::Silent;
use synth::hub::{Fetched, Hub, HubName, Kind, Patience, Settings, Watch};
use synth::weights::{Checkpoint, RawData, RawTensor};

const WEIGHTS: &str = "model.safetensors";

fn bytes(count: u32, seed: u32) -> Vec<u8> {
    (0..count).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn model() -> Repo {
    let weights = bytes(300_000, 1);
    Repo::with(&[("config.json", b"{}"), ("README.md", b"# card"), ("notes.txt", b"no"), (WEIGHTS, &weights)])
}

fn fetch(hub: &Hub, text: &str) -> synth::Result<Fetched> {
    hub.model(&HubName::parse(text, Kind::Model).unwrap(), &mut Silent)
}

fn dataset(hub: &Hub, text: &str, split: Option<&str>) -> synth::Result<Fetched> {
    hub.dataset(&HubName::parse(text, Kind::Dataset).unwrap(), split, Portion::Whole, &mut Silent)
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

/// Requests for the content of large files.
fn store_requests(server: &HubServer) -> Vec<Option<String>> {
    let state = server.state();
    let of_store = state.requests.iter().filter(|request| request.path.starts_with("store:"));
    of_store.map(|request| request.header("range").map(String::from)).collect()
}

#[test]
fn a_model_comes_into_the_cache_once_and_is_called_by_its_commit() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let commit = server.add("models/a/b", model());
    let hub = server.hub(folder.path());
    let fetched = fetch(&hub, "a/b").unwrap();
    let root = folder.path().join("models--a--b");
    assert_eq!(
        fetched,
        Fetched { folder: root.join("snapshots").join(&commit), id: "a/b".into(), commit: commit.clone() }
    );
    assert_eq!(fetched.source(), format!("a/b@{commit}"));
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), commit);
    let mut names: Vec<_> = std::fs::read_dir(&fetched.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["README.md", "config.json", WEIGHTS]);
    assert_eq!(read(&root.join("blobs"), &sha256(&bytes(300_000, 1))), bytes(300_000, 1));
    assert_eq!(read(&root.join("blobs"), &git_blob(b"# card")), b"# card");

    // Again: the Hub is only asked for the commit; by its commit, or offline, not even that.
    let before = server.log().len();
    assert_eq!(fetch(&hub, "hf://a/b").unwrap(), fetched);
    assert_eq!(server.log()[before..], ["GET /api/models/a/b/revision/main"]);
    assert_eq!(fetch(&hub, &format!("a/b@{commit}")).unwrap(), fetched);
    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    assert_eq!(fetch(&offline, "a/b").unwrap(), fetched);
    assert_eq!(server.log().len(), before + 1);

    // A new commit changes one file: only that is fetched.
    let files = Files::from([("README.md".into(), b"# new card".to_vec())]);
    let new = server.state().repos.get_mut("models/a/b").unwrap().commit("main", "card", files);
    let before = server.log().len();
    let fetched = fetch(&hub, "a/b").unwrap();
    assert_eq!((&fetched.commit, read(&fetched.folder, "README.md")), (&new, b"# new card".to_vec()));
    let gets = server.log()[before..].iter().filter(|line| line.starts_with("GET") && line.contains("resolve")).count();
    assert_eq!(gets, 1);
}

#[test]
fn of_a_commit_that_another_program_fetched_the_rest_is_asked_for_once() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let name = format!("a/b@{}", server.add("models/a/b", model()));
    let hub = server.hub(folder.path());
    let fetched = fetch(&hub, &name).unwrap();
    // As a program leaves it that wanted weights and configuration.
    let others = || {
        std::fs::remove_file(fetched.folder.join("README.md")).unwrap();
        std::fs::remove_dir_all(folder.path().join("models--a--b/.no_exist")).unwrap();
    };
    others();
    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    assert_eq!(fetch(&offline, &name).unwrap(), fetched);
    assert_eq!(fetch(&hub, &name).unwrap(), fetched);
    assert_eq!(read(&fetched.folder, "README.md"), b"# card");
    let before = server.log().len();
    assert_eq!(fetch(&hub, &name).unwrap(), fetched);
    assert_eq!(server.log().len(), before);
    others();
    // What is there serves, whatever the Hub says of it now.
    for status in [401, 503] {
        server.trouble("/api/", 20, move |_| Answer::new(status));
        assert_eq!(fetch(&hub, &name).unwrap(), fetched);
        server.state().troubles.clear();
    }
}

#[test]
fn every_kind_of_revision_is_found() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let first = server.add("models/a/b", model());
    let mut state = server.state();
    let repo = state.repos.get_mut("models/a/b").unwrap();
    let mut expected = vec![(first.clone(), first)];
    for branch in ["v1.0", "feature/x", "refs/pr/3"] {
        let files = Files::from([("README.md".into(), branch.as_bytes().to_vec())]);
        expected.push((branch.to_string(), repo.commit(branch, branch, files)));
    }
    drop(state);
    for (revision, commit) in expected {
        let fetched = fetch(&server.hub(folder.path()), &format!("a/b@{revision}")).unwrap();
        assert_eq!(fetched.commit, commit, "{revision}");
        let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
        assert_eq!(fetch(&offline, &format!("a/b@{revision}")).unwrap(), fetched, "{revision}");
    }
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", Repo { private: true, ..model() });
    assert!(fetch(&server.hub(folder.path()), "a/b").is_err());
    fetch(&server.hub_with_token(folder.path()), "a/b").unwrap();
    let state = server.state();
    let bearer = format!("Bearer {TOKEN}");
    let with_token = |request: &&hub::Request| request.header("authorization") == Some(bearer.as_str());
    let (store, home): (Vec<_>, Vec<_>) =
        state.requests.iter().skip(1).partition(|request| request.path.starts_with("store:"));
    assert!(!store.is_empty() && store.iter().all(|request| request.header("authorization").is_none()));
    assert!(home.len() > 5 && home.iter().all(with_token));
}

#[test]
fn a_renamed_repository_is_followed() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let commit = server.add("models/a/new", model());
    server.trouble("/api/models/a/old/", 1, |_| Answer::new(307).with("Location", "/api/models/a/new/revision/main"));
    // Each file of the old name leads to the same file of the new one.
    let address = format!("/a/new/resolve/{commit}");
    for file in ["config.json", "README.md", WEIGHTS] {
        let location = format!("{address}/{file}");
        let name: &'static str = Box::leak(format!("/a/old/resolve/{commit}/{file}").into_boxed_str());
        server.trouble(name, usize::MAX, move |_| Answer::new(307).with("Location", &location));
    }
    let fetched = fetch(&server.hub(folder.path()), "a/old").unwrap();
    assert_eq!((fetched.commit, read(&fetched.folder, WEIGHTS)), (commit, bytes(300_000, 1)));
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    server.trouble_with("GET", "store:", 1, |answer| Answer { manner: Manner::Truncated(100_000), ..answer });
    server.trouble_with("GET", "store:", 1, |answer| Answer {
        manner: Manner::Stalled(50_000, Duration::from_secs(2)),
        ..answer
    });
    let fetched = fetch(&server.hub(folder.path()), "a/b").unwrap();
    assert_eq!(read(&fetched.folder, WEIGHTS), bytes(300_000, 1));
    let ranges = store_requests(&server);
    assert_eq!(ranges[0], None);
    assert!(
        ranges.len() == 3 && ranges[1..].iter().all(|range| range.as_ref().unwrap().starts_with("bytes=")),
        "{ranges:?}"
    );
}

/// What another process left: the beginning, rubbish, more than the whole, or the whole.
#[test]
fn what_an_earlier_process_left_is_used_if_it_fits() {
    let whole = bytes(300_000, 1);
    let rubbish = vec![7; 1000];
    let cases: [(&[u8], &[Option<&str>]); 4] = [
        (&whole[..123_456], &[Some("bytes=123456-")]),
        (&rubbish, &[Some("bytes=1000-"), None]),
        (&[whole.clone(), vec![0]].concat(), &[None]),
        (&whole, &[]),
    ];
    for (left, expected) in cases {
        let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
        server.add("models/a/b", model());
        let blobs = folder.path().join("models--a--b/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(format!("{}.incomplete", sha256(&whole))), left).unwrap();
        let fetched = fetch(&server.hub(folder.path()), "a/b").unwrap();
        assert_eq!(read(&fetched.folder, WEIGHTS), whole);
        let ranges = store_requests(&server);
        assert_eq!(ranges.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{} bytes", left.len());
        assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 3);
    }
}

#[test]
fn a_server_that_knows_no_ranges_is_fine() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    let whole = bytes(300_000, 1);
    server.trouble_with("GET", "store:", 1, |answer| Answer { manner: Manner::Truncated(100_000), ..answer });
    server.trouble_with("GET", "store:", 0, |answer| answer);
    let again = whole.clone();
    server.state().troubles.push(hub::Trouble {
        on: "store:",
        method: "GET",
        times: 2,
        change: Box::new(move |answer| match answer.status {
            206 => Answer { status: 200, body: again.clone(), ..Answer::default() },
            _ => answer,
        }),
    });
    let fetched = fetch(&server.hub(folder.path()), "a/b").unwrap();
    assert_eq!(read(&fetched.folder, WEIGHTS), whole);
}

#[test]
fn passing_trouble_is_waited_for() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    server.trouble("/api/", 1, |_| Answer::new(429).with("Retry-After", "0"));
    server.trouble("/api/", 1, |_| Answer::new(502));
    server.trouble_with("HEAD", "config.json", 2, |_| Answer::new(500));
    server.trouble_with("GET", "config.json", 1, |answer| Answer { manner: Manner::Raw(Vec::new()), ..answer });
    server.trouble_with("GET", "store:", 1, |_| Answer::new(403));
    fetch(&server.hub(folder.path()), "a/b").unwrap();
}

#[test]
fn what_the_cache_has_serves_while_the_hub_is_away() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    let fetched = fetch(&server.hub(folder.path()), "a/b").unwrap();
    server.trouble("/api/", usize::MAX, |_| Answer::new(503));
    assert_eq!(fetch(&server.hub(folder.path()), "a/b").unwrap(), fetched);
    // A file is missing: half a model does not serve.
    std::fs::remove_file(fetched.folder.join(WEIGHTS)).unwrap();
    assert!(fetch(&server.hub(folder.path()), "a/b").unwrap_err().to_string().contains("failed (503)"));
}

#[test]
fn two_at_once_fetch_a_file_once() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    server.trouble_with("GET", "store:", 1, |answer| Answer {
        manner: Manner::Stalled(300_000, Duration::ZERO),
        ..answer
    });
    let found: Vec<Fetched> = std::thread::scope(|scope| {
        let run = || fetch(&server.hub(folder.path()), "a/b").unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(store_requests(&server).len(), 1);
    assert_eq!(read(&found[0].folder, WEIGHTS), bytes(300_000, 1));
}

#[test]
fn progress_counts_to_the_whole() {
    struct Seen(Vec<(String, u64, u64)>);
    impl Watch for Seen {
        fn progress(&mut self, file: &str, done: u64, total: u64) {
            self.0.push((file.into(), done, total));
        }
    }
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    let mut seen = Seen(Vec::new());
    server.hub(folder.path()).model(&HubName::parse("a/b", Kind::Model).unwrap(), &mut seen).unwrap();
    assert_eq!(seen.0.last(), Some(&(WEIGHTS.to_string(), 300_000, 300_000)));
    assert!(seen.0.iter().all(|(_, done, total)| done <= total));
}

#[test]
fn weights_in_parts_are_fetched_with_all_their_parts() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, tensor: &str, values: &[f32]| {
        let data = RawTensor { shape: vec![values.len()], data: RawData::F32(values.to_vec()) };
        let path = folder.path().join(name);
        Checkpoint::write_safetensors(&path, &BTreeMap::from([(tensor.into(), data)]), &BTreeMap::new()).unwrap();
        std::fs::read(path).unwrap()
    };
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let index = json!({"metadata": {"total_size": 12}, "weight_map": {"a": names[0], "b": names[1]}}).to_string();
    let (one, two) = (part(names[0], "a", &[1.0, 2.0]), part(names[1], "b", &[3.0]));
    let server = HubServer::start();
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index.as_bytes()),
        (names[0], &one),
        (names[1], &two),
        ("pytorch_model.bin", b"not wanted"),
        ("model-00001-of-00009.safetensors", b"of an older upload"),
    ];
    server.add("models/a/b", Repo::with(&files));
    let fetched = fetch(&server.hub(&folder.path().join("cache")), "a/b").unwrap();
    let found = Checkpoint::read(fetched.folder.join("model.safetensors.index.json")).unwrap();
    assert_eq!(found.tensors["b"].as_f32(), Some(&[3.0][..]));
    assert_eq!(std::fs::read_dir(&fetched.folder).unwrap().count(), 4);
    // Without one part the cache does not have the model.
    std::fs::remove_file(fetched.folder.join(names[1])).unwrap();
    let offline = Hub::new(Settings { offline: true, ..server.settings(&folder.path().join("cache")) });
    assert!(fetch(&offline, "a/b").is_err());
}

/// A network that is not here is refused for some kilobytes, not for all of its weights.
#[test]
fn weights_are_only_fetched_for_a_configuration_that_is_accepted() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    let (hub, name) = (server.hub(folder.path()), HubName::parse("a/b", Kind::Model).unwrap());
    let refuse = |folder: &Path| {
        assert_eq!(read(folder, "config.json"), b"{}");
        Err(synth::Error::invalid("a/b", "not one of ours", "take another"))
    };
    let refused = hub.model_if(&name, &refuse, &mut Silent).unwrap_err().to_string();
    assert_eq!((refused.as_str(), store_requests(&server).len()), ("a/b: not one of ours; take another", 0));
    assert!(hub.model_if(&name, &|_| Ok(()), &mut Silent).is_ok());
    assert_eq!(store_requests(&server).len(), 1);
}

#[test]
fn of_a_dataset_only_the_split_is_fetched() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
    let test = "data/test-00000-of-00001.parquet";
    let files: [(&str, &[u8]); 5] =
        [(train[0], b"t0"), (train[1], b"t1"), (test, b"e"), ("README.md", b"#"), ("synth.json", b"{}")];
    server.add("datasets/a/b", Repo::with(&files));
    let hub = server.hub(folder.path());
    let fetched = dataset(&hub, "datasets/a/b", None).unwrap();
    assert!(fetched.folder.join(test).is_file() && !fetched.folder.join(train[0]).exists());
    assert!(!fetched.folder.join("README.md").exists());
    assert_eq!(read(&fetched.folder, "synth.json"), b"{}", "whether inversion made its images");
    assert!(fetched.folder.starts_with(folder.path().join("datasets--a--b/snapshots")));
    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    assert_eq!(dataset(&offline, "a/b", Some("test")).unwrap(), fetched);
    assert!(dataset(&offline, "a/b", Some("train")).is_err());
    let fetched = dataset(&hub, "a/b", Some("train")).unwrap();
    assert!(train.iter().all(|name| fetched.folder.join(name).is_file()));
    assert!(dataset(&hub, "a/b", Some("dev")).unwrap_err().to_string().contains("no split `dev`"));
}

/// Accuracy on what a student was trained on would pass for accuracy on the test set.
#[test]
fn a_cached_split_is_not_taken_for_the_one_that_nobody_named() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let (train, test) = ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet");
    let commit = server.add("datasets/a/b", Repo::with(&[(train, b"t"), (test, b"e")]));
    let hub = server.hub(folder.path());
    let fetched = dataset(&hub, "a/b", Some("train")).unwrap();
    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    let refused = dataset(&offline, "a/b", None).unwrap_err().to_string();
    assert!(refused.contains("not in the cache") && refused.contains("name the split `train`"), "{refused}");
    assert!(!fetched.folder.join(test).exists());
    dataset(&hub, &format!("a/b@{commit}"), None).unwrap();
    assert!(fetched.folder.join(test).is_file());
    assert_eq!(dataset(&offline, "a/b", None).unwrap(), fetched);
}

/// Twelve rows in three shards: six of them are in the first two.
#[test]
fn of_a_dataset_only_the_shards_with_the_wanted_rows_are_fetched() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let shards: Vec<(String, Vec<u8>)> =
        (0..3).map(|i| (format!("data/train-{i:05}-of-00003.parquet"), table(4 * i..4 * i + 4))).collect();
    let files: Vec<(&str, &[u8])> = shards.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let commit = server.add("datasets/a/b", Repo::with(&files));
    let name = |text: &str| HubName::parse(text, Kind::Dataset).unwrap();
    let hub = server.hub(folder.path());
    let some = |hub: &Hub, text: &str, portion| hub.dataset(&name(text), Some("train"), portion, &mut Silent);
    let get = |hub: &Hub, text: &str, limit| some(hub, text, Portion::first(limit));
    let there = |fetched: &Fetched| shards.iter().filter(|(name, _)| fetched.folder.join(name).is_file()).count();
    let read = |fetched: &Fetched, limit| {
        let options = ReadOptions { split: Some("train".into()), limit, ..ReadOptions::default() };
        Labelled::read(&fetched.folder, &options).map(|data| data.labels)
    };

    let fetched = get(&hub, "a/b", Some(6)).unwrap();
    assert_eq!((there(&fetched), store_requests(&server).len()), (2, 2));
    assert_eq!(read(&fetched, Some(6)).unwrap(), [0, 1, 2, 3, 4, 5]);
    assert!(read(&fetched, Some(9)).unwrap_err().to_string().contains("2 of the 3 files"));
    assert!(read(&fetched, None).unwrap_err().to_string().contains("2 of the 3 files"));

    // The cache has six rows, by the branch and by the commit, and does not pass them off as more.
    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    assert_eq!(get(&offline, "a/b", Some(8)).unwrap(), fetched);
    assert_eq!(get(&offline, &format!("a/b@{commit}"), Some(1)).unwrap(), fetched);
    for limit in [Some(9), None] {
        assert!(get(&offline, "a/b", limit).unwrap_err().to_string().contains("not in the cache"));
    }
    assert_eq!(there(&get(&hub, &format!("a/b@{commit}"), None).unwrap()), 3);
    assert_eq!((read(&fetched, None).unwrap().len(), store_requests(&server).len()), (12, 3));
    assert_eq!(there(&get(&server.hub(&folder.path().join("other")), "a/b", Some(99)).unwrap()), 3);

    // Rows may be sorted by their class: six from all over are those of the first and the last shard, and so says the cache.
    let far = server.hub(&folder.path().join("far"));
    let fetched = some(&far, "a/b", Portion::Spread(6)).unwrap();
    let found: Vec<bool> = shards.iter().map(|(name, _)| fetched.folder.join(name).is_file()).collect();
    assert_eq!(found, [true, false, true]);
    let offline = Hub::new(Settings { offline: true, ..server.settings(&folder.path().join("far")) });
    assert_eq!(some(&offline, "a/b", Portion::Spread(6)).unwrap(), fetched);
    assert!(some(&offline, "a/b", Portion::First(6)).is_err());
}

/// Nobody could tell later that one of these is missing.
#[test]
fn shards_that_do_not_say_how_many_they_are_are_all_fetched() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let (first, second) = (table(0..4), table(4..8));
    server.add("datasets/a/b", Repo::with(&[("x/train/0000.parquet", &first), ("x/train/0001.parquet", &second)]));
    let name = HubName::parse("a/b", Kind::Dataset).unwrap();
    let fetched = server.hub(folder.path()).dataset(&name, None, Portion::First(2), &mut Silent).unwrap();
    assert!(fetched.folder.join("x/train/0001.parquet").is_file());
}

#[test]
fn configurations_and_converted_datasets_are_found() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let hub = server.hub(folder.path());
    server.add("datasets/a/two", Repo::with(&[("x/test/0000.parquet", b"x"), ("y/test/0000.parquet", b"y")]));
    assert!(dataset(&hub, "a/two", None).unwrap_err().to_string().contains("several folders hold the split `test`"));
    let fetched = dataset(&hub, "hf://datasets/a/two/y", None).unwrap();
    assert_eq!(read(&fetched.folder, "test/0000.parquet"), b"y");

    let mut old = Repo::with(&[("loader.py", b"import os"), ("images.tar", b"...")]);
    let files = Files::from([("default/test/0000.parquet".into(), b"converted".to_vec())]);
    let commit = old.commit("refs/convert/parquet", "convert", files);
    server.add("datasets/a/old", old);
    let fetched = dataset(&hub, "a/old", None).unwrap();
    assert_eq!((&fetched.commit, read(&fetched.folder, "default/test/0000.parquet")), (&commit, b"converted".to_vec()));

    let offline = Hub::new(Settings { offline: true, ..server.settings(folder.path()) });
    assert_eq!(dataset(&offline, "a/old", None).unwrap(), fetched);

    // What goes wrong there is not taken for a dataset that was not converted.
    assert!(dataset(&hub, "a/old", Some("dev")).unwrap_err().to_string().contains("no split `dev`"));
    server.trouble("parquet", 1, |_| Answer::error(403, "", "not today"));
    assert!(dataset(&hub, "a/old", None).unwrap_err().to_string().contains("the Hub forbids it (403)"));

    server.add("datasets/a/none", Repo::with(&[("images.tar", b"...")]));
    assert!(dataset(&hub, "a/none", None).unwrap_err().to_string().contains("it has no parquet file"));
}

#[test]
fn a_server_that_asks_for_too_long_a_pause_is_not_waited_for() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    server.add("models/a/b", model());
    server.trouble("/api/", usize::MAX, |_| Answer::new(429).with("Retry-After", "3600"));
    let begin = Instant::now();
    let patience = Patience { longest_pause: Duration::from_secs(5), ..hub::hasty() };
    let hub = Hub::new(Settings { patience, ..server.settings(folder.path()) });
    assert!(fetch(&hub, "a/b").unwrap_err().to_string().contains("wait 3600 s"));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
