//! A Hub on this machine: the routes that fetching and pushing use, with a store of large files on another port, and
//! whatever should go wrong.
#![allow(dead_code)]

pub mod http;
mod push;
pub mod repo;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use synth::hub::{Hub, Patience, Settings, Token};

#[allow(unused_imports)] // not every test needs all
pub use http::{Answer, Manner, Request, Server};
pub use repo::{Repo, git_blob, is_large, oid, sha256};

/// The one token that the server knows.
pub const TOKEN: &str = "hf_the_right_token";

/// Changes the answers to some requests.
pub struct Trouble {
    /// Part of the path of those requests.
    pub on: &'static str,
    /// Their method, or empty for all.
    pub method: &'static str,
    /// How often.
    pub times: usize,
    pub change: Box<dyn Fn(Answer) -> Answer + Send>,
}

/// What the server holds.
#[derive(Default)]
pub struct State {
    /// By `models/owner/name` or `datasets/owner/name`.
    pub repos: BTreeMap<String, Repo>,
    /// The store of large files, by SHA-256.
    pub store: BTreeMap<String, Vec<u8>>,
    /// Parts that have been sent, by SHA-256 and number.
    pub parts: BTreeMap<(String, usize), Vec<u8>>,
    /// Large files are to be sent in parts of this many bytes.
    pub part_size: Option<usize>,
    /// Refuses every commit.
    pub no_commits: bool,
    /// Makes every new repository public, whatever was asked.
    pub always_public: bool,
    pub troubles: Vec<Trouble>,
    /// All requests; those to the store have `store:` in front of their path.
    pub requests: Vec<Request>,
    /// Address of the store.
    pub store_url: String,
}

pub struct HubServer {
    state: Arc<Mutex<State>>,
    hub: Server,
    store: Server,
}

impl HubServer {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let (for_hub, for_store) = (state.clone(), state.clone());
        let hub = Server::start(move |request| answer(&for_hub, "", request, route));
        let store = Server::start(move |request| answer(&for_store, "store:", request, store_route));
        state.lock().unwrap().store_url = store.url();
        Self { state, hub, store }
    }

    pub fn url(&self) -> String {
        self.hub.url()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a repository (`models/owner/name`); gives its commit.
    pub fn add(&self, id: &str, repo: Repo) -> String {
        let commit = repo.branches["main"].clone();
        self.state().repos.insert(id.into(), repo);
        commit
    }

    pub fn repo(&self, id: &str) -> Repo {
        self.state().repos[id].clone()
    }

    /// Changes the next `times` answers to requests whose path contains `on`; of several that fit, the first that is left.
    pub fn trouble(&self, on: &'static str, times: usize, change: impl Fn(Answer) -> Answer + Send + 'static) {
        self.state().troubles.push(Trouble { on, method: "", times, change: Box::new(change) });
    }

    /// As [`HubServer::trouble`], for one method.
    pub fn trouble_with(
        &self,
        method: &'static str,
        on: &'static str,
        times: usize,
        change: impl Fn(Answer) -> Answer + Send + 'static,
    ) {
        self.state().troubles.push(Trouble { on, method, times, change: Box::new(change) });
    }

    /// `METHOD path` of all requests so far.
    pub fn log(&self) -> Vec<String> {
        self.state().requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Settings for this server that lose no time.
    pub fn settings(&self, cache: &Path) -> Settings {
        Settings {
            endpoint: self.url(),
            token: None,
            cache: cache.to_path_buf(),
            offline: false,
            patience: hasty(),
            certificates: None,
        }
    }

    pub fn hub(&self, cache: &Path) -> Hub {
        Hub::new(self.settings(cache))
    }

    /// With the token that the server knows.
    pub fn hub_with_token(&self, cache: &Path) -> Hub {
        let token = Token::parse(TOKEN, "test").unwrap();
        Hub::new(Settings { token, ..self.settings(cache) })
    }
}

pub fn hasty() -> Patience {
    Patience {
        connect: Duration::from_secs(2),
        read: Duration::from_millis(1200),
        least: 1000,
        window: Duration::from_millis(300),
        retries: 2,
        pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(500),
    }
}

type Route = fn(&mut State, &Request) -> Answer;

fn answer(state: &Mutex<State>, prefix: &str, request: &Request, route: Route) -> Answer {
    let mut state = state.lock().unwrap_or_else(|e| e.into_inner());
    let path = format!("{prefix}{}", request.path);
    state.requests.push(Request { path: path.clone(), ..request.clone() });
    let mut answer = route(&mut state, request);
    let fits = |trouble: &&mut Trouble| {
        let of_method = trouble.method.is_empty() || trouble.method == request.method;
        trouble.times > 0 && of_method && path.contains(trouble.on)
    };
    if let Some(trouble) = state.troubles.iter_mut().find(fits) {
        trouble.times -= 1;
        answer = (trouble.change)(answer);
    }
    answer
}

fn route(state: &mut State, request: &Request) -> Answer {
    if request.header("authorization").is_some_and(|value| value != format!("Bearer {TOKEN}")) {
        return Answer::error(401, "", "Invalid credentials in Authorization header");
    }
    let parts = request.parts();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["api", kind, owner, name]) => info(state, request, &format!("{kind}/{owner}/{name}"), "main"),
        ("GET", ["api", kind, owner, name, "revision", revision]) => {
            info(state, request, &format!("{kind}/{owner}/{name}"), revision)
        }
        ("GET", ["api", kind, owner, name, "tree", revision]) => {
            tree(state, request, &format!("{kind}/{owner}/{name}"), revision)
        }
        ("GET" | "HEAD", ["datasets", owner, name, "resolve", revision, file @ ..]) => {
            resolve(state, request, &format!("datasets/{owner}/{name}"), revision, &file.join("/"))
        }
        ("GET" | "HEAD", [owner, name, "resolve", revision, file @ ..]) => {
            resolve(state, request, &format!("models/{owner}/{name}"), revision, &file.join("/"))
        }
        ("POST", _) => push::route(state, request, &parts),
        _ => Answer::error(404, "", "no such route"),
    }
}

/// The repository, or why it is not shown to who asks.
fn look<'a>(state: &'a State, request: &Request, id: &str) -> Result<&'a Repo, Answer> {
    let signed = request.header("authorization").is_some();
    let repo = state.repos.get(id).filter(|repo| signed || !repo.private);
    match repo {
        None => Err(Answer::error(if signed { 404 } else { 401 }, "RepoNotFound", "Repository not found")),
        Some(repo) if repo.gated => {
            Err(Answer::error(if signed { 403 } else { 401 }, "GatedRepo", "Access to this model is restricted"))
        }
        Some(repo) => Ok(repo),
    }
}

fn info(state: &State, request: &Request, id: &str, revision: &str) -> Answer {
    let repo = match look(state, request, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let Some((commit, files)) = repo.at(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
    let (_, name) = id.split_once('/').unwrap();
    Answer::json(&json!({"_id": "1", "id": name, "sha": commit, "private": repo.private, "siblings": siblings}))
}

fn tree(state: &State, request: &Request, id: &str, revision: &str) -> Answer {
    let repo = match look(state, request, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let Some((_, files)) = repo.at(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let entry = |(name, bytes): (&String, &Vec<u8>)| {
        let mut entry = json!({"type": "file", "path": name, "size": bytes.len(), "oid": git_blob(bytes)});
        if is_large(name) {
            entry["lfs"] = json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 130});
        }
        entry
    };
    Answer::json(&Value::Array(files.iter().map(entry).collect()))
}

fn resolve(state: &mut State, request: &Request, id: &str, revision: &str, file: &str) -> Answer {
    let repo = match look(state, request, id) {
        Ok(repo) => repo,
        Err(answer) => return answer,
    };
    let Some((commit, files)) = repo.at(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let Some(bytes) = files.get(file).cloned() else {
        return Answer::error(404, "EntryNotFound", "Entry not found").with("X-Repo-Commit", commit);
    };
    let hash = format!("\"{}\"", oid(file, &bytes));
    let commit = commit.clone();
    if !is_large(file) {
        let answer = with_range(request, bytes);
        return answer.with("ETag", &hash).with("X-Repo-Commit", &commit);
    }
    let address = format!("{}/lfs/{}?sig=ok", state.store_url, sha256(&bytes));
    let size = bytes.len().to_string();
    state.store.insert(sha256(&bytes), bytes);
    Answer::new(302)
        .with("Location", &address)
        .with("X-Linked-Etag", &hash)
        .with("X-Linked-Size", &size)
        .with("X-Repo-Commit", &commit)
        .with("ETag", "\"of-the-pointer\"")
}

/// The content, or the part of it that is asked for.
fn with_range(request: &Request, bytes: Vec<u8>) -> Answer {
    let from = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let length = bytes.len();
    match from {
        None => Answer { status: 200, body: bytes, ..Answer::default() },
        Some(from) if from >= length => Answer::new(416).with("Content-Range", &format!("bytes */{length}")),
        Some(from) => Answer { status: 206, body: bytes[from..].to_vec(), ..Answer::default() }
            .with("Content-Range", &format!("bytes {from}-{}/{length}", length - 1)),
    }
}

/// The store of large files. It knows nothing of tokens, and one that reaches it has leaked.
fn store_route(state: &mut State, request: &Request) -> Answer {
    assert!(request.header("authorization").is_none(), "the token was sent to another host");
    let parts = request.parts();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["lfs", hash]) if request.query == "sig=ok" => match state.store.get(*hash).cloned() {
            Some(bytes) => with_range(request, bytes).with("ETag", "\"a-tag-of-the-store\""),
            None => Answer::new(404),
        },
        ("PUT", ["upload", hash]) => {
            state.store.insert(hash.to_string(), request.body.clone());
            Answer::new(200)
        }
        ("PUT", ["part", hash, number]) => {
            state.parts.insert((hash.to_string(), number.parse().unwrap()), request.body.clone());
            Answer::new(200).with("ETag", &format!("\"part-{number}\""))
        }
        _ => Answer::new(403),
    }
}
