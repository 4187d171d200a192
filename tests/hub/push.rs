//! Sending results to a Hub on this machine: what goes there, what does not, who sees it.

use std::path::{Path, PathBuf};

use crate::hub::{Answer, HubServer, Manner, Repo, TOKEN, sha256};
use serde_json::json;
use synth::events::Silent;
use synth::hub::push::{Contents, Push, Pushed};
use synth::hub::{Hub, HubName, Settings, Token, Watch};

const WEIGHTS: &str = "model.safetensors";

/// A model folder with things in it that are nobody's business.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 9) as u8).collect();
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{\"architecture\": \"resnet8\"}"),
        ("README.md", b"---\nlicense: other\n---\n# card\n"),
        ("synth.json", b"{\"kind\": \"student\", \"teacher\": {\"id\": \"/home/somebody/teacher\"}}"),
        (WEIGHTS, &weights),
        (".env", b"PASSWORD=secret"),
        ("notes.txt", b"private thoughts"),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// What a test wants to be otherwise.
#[derive(Default)]
struct Wish {
    public: bool,
    revision: Option<&'static str>,
    pull_request: bool,
}

fn push_as(hub: &Hub, folder: &Path, to: &str, wish: &Wish, watch: &mut dyn Watch) -> synth::Result<Pushed> {
    let contents = Contents::of(folder)?;
    let to = wish.revision.map_or(to.to_string(), |revision| format!("{to}@{revision}"));
    let to = HubName::parse(&to, contents.kind)?;
    let push = Push {
        contents: &contents,
        to: &to,
        public: wish.public,
        message: "a student",
        pull_request: wish.pull_request,
    };
    hub.push(&push, watch)
}

fn push(hub: &Hub, folder: &Path) -> synth::Result<Pushed> {
    push_as(hub, folder, "me/student", &Wish::default(), &mut Silent)
}

fn cache() -> PathBuf {
    PathBuf::from("/nonexistent") // sending needs no cache
}

/// Uploads of large files, by route.
fn uploads(server: &HubServer) -> Vec<String> {
    server.log().into_iter().filter(|line| line.starts_with("PUT")).collect()
}

#[test]
fn a_result_is_sent_whole_and_private() {
    let (server, folder) = (HubServer::start(), folder());
    let pushed = push(&server.hub_with_token(&cache()), folder.path()).unwrap();
    let repo = server.repo("models/me/student");
    assert!(repo.private);
    assert_eq!(pushed.url, format!("{}/me/student", server.url()));
    assert_eq!((pushed.commit.as_ref(), &repo.messages[1][..]), (Some(&repo.branches["main"]), "a student"));
    assert_eq!(pushed.sent, ["README.md", "config.json", WEIGHTS, "synth.json"]);
    let names: Vec<&String> = repo.main().keys().collect();
    assert_eq!(names, [".gitattributes", "README.md", "config.json", WEIGHTS, "synth.json"]);
    for name in &pushed.sent {
        assert_eq!(repo.main()[name], std::fs::read(folder.path().join(name)).unwrap(), "{name}");
    }
    let log = server.log();
    assert!(log.iter().any(|line| line.starts_with("POST /verify/")), "{log:?}");
    let state = server.state();
    let upload = state.requests.iter().find(|request| request.method == "PUT").unwrap();
    assert_eq!((upload.header("x-store"), upload.header("content-length")), (Some("yes"), Some("100000")));
}

#[test]
fn what_is_there_is_not_sent_again() {
    let (server, folder) = (HubServer::start(), folder());
    let hub = server.hub_with_token(&cache());
    let first = push(&hub, folder.path()).unwrap();
    let again = push(&hub, folder.path()).unwrap();
    assert_eq!((again.commit, again.sent.len(), again.kept), (None, 0, first.sent));
    std::fs::write(folder.path().join("README.md"), "# other card").unwrap();
    let third = push(&hub, folder.path()).unwrap();
    assert_eq!((third.sent, third.kept.len()), (vec!["README.md".to_string()], 3));
    assert_eq!(uploads(&server).len(), 1);
    // Another repository, the same weights: the store has them.
    push_as(&hub, folder.path(), "me/other", &Wish::default(), &mut Silent).unwrap();
    assert_eq!(uploads(&server).len(), 1);
    assert!(server.repo("models/me/other").main().contains_key(WEIGHTS));
}

/// A smaller set in the place of a larger one: what would be read beside it goes; what is nobody's part of a set stays.
#[test]
fn what_an_older_set_had_beside_it_is_removed() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let shard = |i: usize, of: usize| format!("data/train-{i:05}-of-{of:05}.parquet");
    let [one, of_two] = [vec![shard(0, 1)], vec![shard(0, 2), shard(1, 2)]];
    let push = |shards: &[String], more: &[&str], revision: Option<&'static str>| {
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::create_dir_all(folder.path().join("data")).unwrap();
        for name in shards.iter().map(String::as_str).chain(more.iter().copied()).chain(["README.md"]) {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        std::fs::write(folder.path().join("synth.json"), r#"{"kind": "set"}"#).unwrap();
        let wish = Wish { revision, ..Wish::default() };
        push_as(&server.hub_with_token(&cache()), folder.path(), "me/set", &wish, &mut Silent).unwrap()
    };
    // Somebody's own data are no older set.
    let photos = shard(1, 10);
    server.add("datasets/me/set", Repo { private: true, ..Repo::with(&[(&photos, b"x")]) });
    assert_eq!(push(&of_two, &["generator.safetensors"], None).removed.len(), 0);
    assert!(server.repo("datasets/me/set").main().contains_key(&photos));
    let own = [
        ("data/test-00000-of-00001.parquet", "x"),
        ("data/train-clean-00000-of-00001.parquet", "x"),
        ("data/more/train-00000-of-00001.parquet", "x"),
        ("data/train.csv", "x"),
    ];
    let files = own.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
    server.state().repos.get_mut("datasets/me/set").unwrap().commit("main", "own", files.into());
    let pushed = push(&one, &[], Some("other"));
    assert_eq!(pushed.removed, [&of_two[..], &[photos, "generator.safetensors".to_string()]].concat());
    let repo = server.repo("datasets/me/set");
    let names = |branch: &str| repo.at(branch).unwrap().1.keys().cloned().collect::<Vec<_>>();
    assert!(names("main").contains(&of_two[1]), "another branch");
    let mut expected = vec!["README.md".to_string(), "synth.json".into(), one[0].clone()];
    expected.extend(own.map(|(name, _)| name.to_string()));
    expected.sort();
    assert_eq!(names("other"), expected);
    // Nothing is new, but something is too much.
    server.state().repos.get_mut("datasets/me/set").unwrap().commit(
        "other",
        "old",
        [(of_two[1].clone(), vec![1])].into(),
    );
    let pushed = push(&one, &[], Some("other"));
    assert_eq!((pushed.sent.len(), &pushed.removed[..], pushed.commit.is_some()), (0, &of_two[1..], true));
}

#[test]
fn a_large_file_goes_in_parts_where_the_hub_wants_it() {
    struct Seen(Vec<(u64, u64)>);
    impl Watch for Seen {
        fn progress(&mut self, _: &str, done: u64, total: u64) {
            self.0.push((done, total));
        }
    }
    let (server, folder) = (HubServer::start(), folder());
    server.state().part_size = Some(30_000);
    // A part is sent again when its store fails.
    server.trouble_with("PUT", "store:/part/", 1, |_| Answer::new(500));
    let mut seen = Seen(Vec::new());
    push_as(&server.hub_with_token(&cache()), folder.path(), "me/student", &Wish::default(), &mut seen).unwrap();
    assert_eq!(server.repo("models/me/student").main()[WEIGHTS], std::fs::read(folder.path().join(WEIGHTS)).unwrap());
    assert_eq!(uploads(&server).len(), 5);
    assert_eq!(seen.0.last(), Some(&(100_000, 100_000)));
}

#[test]
fn what_is_to_be_private_never_reaches_a_public_repository() {
    let (server, folder) = (HubServer::start(), folder());
    let hub = server.hub_with_token(&cache());
    let public = Wish { public: true, ..Wish::default() };
    push_as(&hub, folder.path(), "me/student", &public, &mut Silent).unwrap();
    assert!(!server.repo("models/me/student").private);
    std::fs::write(folder.path().join("README.md"), "# secret").unwrap();
    let message = push(&hub, folder.path()).unwrap_err().to_string();
    assert!(message.contains("the repository is public") && message.contains("--public"), "{message}");
    assert_ne!(server.repo("models/me/student").main()["README.md"], b"# secret");
    push_as(&hub, folder.path(), "me/student", &public, &mut Silent).unwrap();
    // A server that does not heed what it is asked for is found out before anything is sent.
    server.state().always_public = true;
    let message = push_as(&hub, folder.path(), "me/new", &Wish::default(), &mut Silent).unwrap_err().to_string();
    assert!(message.contains("the repository is public"), "{message}");
    assert_eq!(server.repo("models/me/new").main().len(), 1);
}

#[test]
fn branches_and_pull_requests() {
    let (server, folder) = (HubServer::start(), folder());
    let hub = server.hub_with_token(&cache());
    let branch = Wish { revision: Some("trial/1"), ..Wish::default() };
    for _ in 0..2 {
        push_as(&hub, folder.path(), "me/student", &branch, &mut Silent).unwrap();
    }
    let repo = server.repo("models/me/student");
    assert_eq!((repo.main().len(), repo.at("trial/1").unwrap().1.len()), (1, 5));
    let request = Wish { pull_request: true, ..Wish::default() };
    let pushed = push_as(&hub, folder.path(), "me/student", &request, &mut Silent).unwrap();
    assert_eq!(pushed.pull_request, Some(format!("{}/me/student/discussions/1", server.url())));
    assert_eq!(server.repo("models/me/student").main().len(), 1);
}

#[test]
fn refusals_say_what_to_do_and_never_the_token() {
    let (server, folder) = (HubServer::start(), folder());
    let token = |text| Token::parse(text, "test").unwrap();
    let with = |settings: Settings| push(&Hub::new(settings), folder.path()).unwrap_err().to_string();
    let usual = server.settings(&cache());
    let cases = [
        (with(usual.clone()), "HF_TOKEN: sending needs a token"),
        (with(Settings { token: token("hf_wrong"), ..usual.clone() }), "does not accept the token"),
        (with(Settings { offline: true, token: token(TOKEN), ..usual.clone() }), "--offline"),
        (
            push_as(&server.hub_with_token(&cache()), folder.path(), "somebody-else/x", &Wish::default(), &mut Silent)
                .unwrap_err()
                .to_string(),
            "forbids it (403): `You don't have the rights",
        ),
    ];
    for (message, part) in cases {
        assert!(message.contains(part) && !message.contains('\n') && !message.contains("hf_"), "{message}");
    }
    assert!(server.state().repos.is_empty());
}

/// Whatever breaks while sending, the repository shows nothing of it, and the next push completes it.
#[test]
fn a_push_that_fails_leaves_nothing_half_done() {
    let breaks: [(&str, &str, fn(Answer) -> Answer); 5] = [
        ("POST", "/preupload/", |_| Answer::json(&json!({"files": []}))),
        ("POST", "/objects/batch", |_| Answer::json(&json!({"objects": "none"}))),
        ("PUT", "store:/upload/", |_| Answer::new(500)),
        ("PUT", "store:/upload/", |answer| Answer { manner: Manner::Raw(Vec::new()), ..answer }),
        ("POST", "/verify/", |_| Answer::error(422, "", "another size")),
    ];
    for (method, on, change) in breaks {
        let (server, folder) = (HubServer::start(), folder());
        let hub = server.hub_with_token(&cache());
        server.trouble_with(method, on, usize::MAX, change);
        let message = push(&hub, folder.path()).unwrap_err().to_string();
        assert!(message.starts_with("me/student: ") && !message.contains('\n'), "{message}");
        assert_eq!(server.repo("models/me/student").main().len(), 1, "{on}");
        server.state().troubles.clear();
        push(&hub, folder.path()).unwrap();
        assert_eq!(server.repo("models/me/student").main().len(), 5, "{on}");
    }
    let (server, folder) = (HubServer::start(), folder());
    let hub = server.hub_with_token(&cache());
    server.state().no_commits = true;
    assert!(push(&hub, folder.path()).unwrap_err().to_string().contains("unexpected answer 400: `no such object`"));
    server.state().no_commits = false;
    // A commit that is made, and whose answer is lost, is not made twice.
    server.trouble("/commit/", 1, |answer| Answer { manner: Manner::Raw(Vec::new()), ..answer });
    assert!(push(&hub, folder.path()).unwrap_err().to_string().contains("did not confirm the commit"));
    assert_eq!(server.repo("models/me/student").messages.len(), 2);
    assert_eq!(push(&hub, folder.path()).unwrap().commit, None);
}

#[test]
fn a_set_becomes_a_dataset() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let files =
        ["README.md", "preview.png", "generator.safetensors", "data/train-00000-of-00001.parquet", "data/notes.txt"];
    files.iter().for_each(|name| std::fs::write(folder.path().join(name), name).unwrap());
    std::fs::write(folder.path().join("synth.json"), r#"{"kind": "set"}"#).unwrap();
    let pushed = push(&server.hub_with_token(&cache()), folder.path()).unwrap();
    assert_eq!(pushed.url, format!("{}/datasets/me/student", server.url()));
    let repo = server.repo("datasets/me/student");
    assert!(repo.private && repo.main().len() == 6 && !repo.main().contains_key("data/notes.txt"));
    let state = server.state();
    assert!(state.store.contains_key(&sha256(b"data/train-00000-of-00001.parquet")));
}
