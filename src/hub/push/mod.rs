//! A result folder to the Hub: a model as a model, a set as a dataset.
//!
//! | step | question |
//! |---|---|
//! | `contents.rs` | which files belong to the result |
//! | create | `POST /api/repos/create`, and whether the repository is as private as it should be |
//! | preupload | `POST /api/{kind}s/{id}/preupload/{rev}`: large or small, and the hash of what is there |
//! | `lfs.rs` | large files to their store |
//! | commit | `POST /api/{kind}s/{id}/commit/{rev}`: small files, and the hashes of the large ones |

mod contents;
pub(super) mod lfs;

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

pub(super) use contents::SET;
pub use contents::{Contents, Item};

use super::fault::Fault;
use super::hash::Running;
use super::http::{Call, Http, url};
use super::listing::{Listing, api};
use super::name::HubName;
use super::{Hub, Watch};
use crate::files::PROVENANCE;
use crate::{Error, Result};
use lfs::Large;

const JSON: &str = "application/json";
/// Bytes of a file by which the Hub tells text from other data.
const SAMPLE: u64 = 512;
/// The largest file that goes into a commit itself.
const SMALL_LIMIT: u64 = 20 << 20;

/// What is to be sent where.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    pub contents: &'a Contents,
    /// With the branch as its revision; a branch that is not there is made.
    pub to: &'a HubName,
    /// Whether everybody may see it. A repository that is public already takes nothing without this.
    pub public: bool,
    /// First line of the commit.
    pub message: &'a str,
    /// Propose the commit as a pull request.
    pub pull_request: bool,
}

/// What has been sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// The page of the repository.
    pub url: String,
    /// 40 hexadecimal digits; `None` if everything was there already.
    pub commit: Option<String>,
    pub pull_request: Option<String>,
    /// Names of the files that are new.
    pub sent: Vec<String>,
    /// Names of those that were there already, with the same content.
    pub kept: Vec<String>,
    /// Names of files of an older result, such as shards of a larger set, that are there no more.
    pub removed: Vec<String>,
}

/// A file and what the Hub says of it.
struct Decided<'a> {
    item: &'a Item,
    /// SHA-256 of a large file; `None` for one that goes into the commit.
    oid: Option<String>,
    /// Whether the same content is there.
    there: bool,
}

#[derive(Deserialize)]
struct Modes {
    files: Vec<Mode>,
}

#[derive(Deserialize)]
struct Mode {
    path: String,
    #[serde(rename = "uploadMode")]
    mode: String,
    #[serde(default, rename = "shouldIgnore")]
    ignored: bool,
    #[serde(default)]
    oid: Option<String>,
}

#[derive(Deserialize)]
struct Committed {
    #[serde(rename = "commitOid")]
    commit: String,
    #[serde(default, rename = "pullRequestUrl")]
    pull_request: Option<String>,
}

impl Hub {
    /// Sends a result, in one commit, without the files that are there already; that commit removes what an older result in the
    /// same place had beside them.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a token, or for a public repository where `public` is false; [`Error::Hub`] and
    /// [`Error::Io`]; [`Error::Interrupted`]. Nothing of a failed push is visible in the repository.
    pub fn push(&self, push: &Push, watch: &mut dyn Watch) -> Result<Pushed> {
        if self.settings.offline {
            return Err(Error::invalid(
                "push",
                "the network is not to be used",
                "leave out --offline and HF_HUB_OFFLINE",
            ));
        }
        if self.settings.token.is_none() {
            let hint = format!("make one with write access at {}/settings/tokens", self.settings.endpoint);
            return Err(Error::invalid("HF_TOKEN", "sending needs a token, and there is none", hint));
        }
        let job = Job { http: self.http()?, endpoint: &self.settings.endpoint, push };
        let said = |fault: Fault| fault.about(push.to, &self.settings.endpoint);
        job.create().map_err(said)?;
        let main = job.check_visibility().map_err(said)?;
        let there = job.branch(main).map_err(said)?;
        job.send(&there, watch).map_err(said)
    }
}

/// One push under way.
struct Job<'a> {
    http: &'a Http,
    endpoint: &'a str,
    push: &'a Push<'a>,
}

impl Job<'_> {
    /// Makes the repository unless it is there.
    fn create(&self) -> std::result::Result<(), Fault> {
        let repo = &self.push.to.repo;
        let question = json!({
            "type": repo.kind.word(), "organization": repo.owner, "name": repo.name, "private": !self.push.public,
        });
        match self.post(format!("{}/api/repos/create", self.endpoint), &question) {
            Ok(_) | Err(Fault::Status(409, _)) => Ok(()),
            // A token that may write to a repository need not be one that may make it.
            Err(fault @ (Fault::Forbidden(_) | Fault::NoRepo { .. })) => match self.listing(super::DEFAULT_REVISION) {
                Ok(_) => Ok(()),
                Err(_) => Err(fault),
            },
            Err(fault) => Err(fault),
        }
    }

    fn listing(&self, revision: &str) -> std::result::Result<Listing, Fault> {
        Listing::fetch(self.http, self.endpoint, self.push.to, revision)
    }

    /// What is to be private goes to a private repository only. Gives what its main branch has.
    fn check_visibility(&self) -> std::result::Result<Listing, Fault> {
        let (main, name) = (self.listing(super::DEFAULT_REVISION)?, self.push.to);
        match (self.push.public, main.private) {
            (false, Some(true)) => Ok(main),
            (true, Some(true)) => {
                tracing::warn!("{name} is private and stays so; its settings on the Hub change that");
                Ok(main)
            }
            (true, _) => Ok(main),
            (false, _) => {
                let found = "the repository is public, so everybody would see the result";
                Err(Error::invalid(name.to_string(), found, "say --public, or choose another name").into())
            }
        }
    }

    /// Makes the branch unless it is there, and gives what it has.
    fn branch(&self, main: Listing) -> std::result::Result<Listing, Fault> {
        let revision = self.push.to.revision();
        if revision == super::DEFAULT_REVISION {
            return Ok(main);
        }
        let is_pull_request = revision.starts_with("refs/");
        if !is_pull_request {
            match self.post(format!("{}/branch/{}", self.api(), url::part(revision)), &json!({})) {
                Ok(_) | Err(Fault::Status(409, _)) => {}
                Err(fault) => return Err(fault),
            }
        }
        self.listing(revision)
    }

    fn send(&self, there: &Listing, watch: &mut dyn Watch) -> std::result::Result<Pushed, Fault> {
        let decided = self.decide()?;
        let names = |there: bool| {
            decided.iter().filter(|file| file.there == there).map(|file| file.item.name.clone()).collect::<Vec<_>>()
        };
        let (sent, kept) = (names(false), names(true));
        let url = format!("{}/{}{}", self.endpoint, self.push.to.repo.kind.prefix(), self.push.to.repo);
        // What is no result of this program is nobody's older one.
        let replaces = |name: &String| there.has(PROVENANCE) && self.push.contents.takes_the_place_of(name);
        let removed: Vec<String> = there.files.iter().filter(|name| replaces(name)).cloned().collect();
        if sent.is_empty() && removed.is_empty() {
            return Ok(Pushed { url, commit: None, pull_request: None, sent, kept, removed });
        }
        self.upload(&decided, &url, watch)?;
        let Committed { commit, pull_request } = self.commit(&decided, &removed)?;
        Ok(Pushed { url, commit: Some(commit), pull_request, sent, kept, removed })
    }

    /// Asks how each file is to be sent, and compares it with what is there.
    fn decide(&self) -> std::result::Result<Vec<Decided<'_>>, Fault> {
        let items = &self.push.contents.items;
        let mut files = Vec::new();
        for item in items {
            let sample = STANDARD.encode(item.sample(SAMPLE)?);
            files.push(json!({"path": item.name, "size": item.size, "sample": sample}));
        }
        let reply = self.post(self.at("preupload"), &json!({ "files": files }))?;
        let modes: Modes = reply.json(self.http.patience())?;
        let mode_of = |item: &Item| modes.files.iter().find(|mode| mode.path == item.name);
        let mut decided = Vec::new();
        for item in items {
            let mode = mode_of(item).ok_or_else(|| Fault::Malformed(format!("no word about {}", item.name)))?;
            if mode.ignored {
                tracing::warn!("{}: the repository's .gitignore keeps it out", item.name);
                continue;
            }
            // An empty file cannot be a large one.
            let is_large = mode.mode == "lfs" && item.size > 0;
            if !is_large && item.size > SMALL_LIMIT {
                return Err(Fault::Malformed(format!("{} of {} bytes is to go into git", item.name, item.size)));
            }
            let hash = item.hash(if is_large { Running::sha256() } else { Running::git_blob(item.size) })?;
            let there = mode.oid.as_deref() == Some(hash.as_str());
            decided.push(Decided { item, there, oid: is_large.then_some(hash) });
        }
        Ok(decided)
    }

    fn upload(&self, decided: &[Decided], repository: &str, watch: &mut dyn Watch) -> std::result::Result<(), Fault> {
        let large = |file: &&Decided| !file.there;
        let files: Vec<Large> = decided
            .iter()
            .filter(large)
            .filter_map(|file| Some(Large { item: file.item, oid: file.oid.clone()? }))
            .collect();
        let total = files.iter().map(|file| file.item.size).sum();
        let before = |item: &Item| {
            files.iter().map(|f| f.item).take_while(|other| other.name < item.name).map(|f| f.size).sum::<u64>()
        };
        let watch = RefCell::new(watch);
        lfs::upload(self.http, self.endpoint, repository, &files, &|item, done| {
            watch.borrow_mut().progress(&item.name, before(item) + done, total);
        })
    }

    /// One line of JSON per file, behind one with the message.
    fn commit(&self, decided: &[Decided], removed: &[String]) -> std::result::Result<Committed, Fault> {
        let mut lines = vec![json!({"key": "header", "value": {"summary": self.push.message, "description": ""}})];
        for file in decided.iter().filter(|file| !file.there) {
            lines.push(match &file.oid {
                Some(oid) => {
                    let value = json!({"path": file.item.name, "algo": "sha256", "oid": oid, "size": file.item.size});
                    json!({"key": "lfsFile", "value": value})
                }
                None => {
                    let content = STANDARD.encode(file.item.sample(SMALL_LIMIT)?);
                    json!({"key": "file", "value": {"path": file.item.name, "content": content, "encoding": "base64"}})
                }
            });
        }
        lines.extend(removed.iter().map(|name| json!({"key": "deletedFile", "value": {"path": name}})));
        let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        // Sent once: a commit whose answer is lost may have been made.
        let call = Call::post(self.at("commit"), "application/x-ndjson", body.into_bytes());
        let answer = self.http.once(&call).and_then(|reply| reply.json(self.http.patience()));
        answer.map_err(|fault| match fault {
            Fault::Broken(..) | Fault::Silent(..) | Fault::Truncated { .. } | Fault::Server(..) => Fault::Unconfirmed,
            other => other,
        })
    }

    /// The address of a step that concerns the branch.
    fn at(&self, step: &str) -> String {
        let query = if self.push.pull_request { "?create_pr=1" } else { "" };
        format!("{}/{step}/{}{query}", self.api(), url::part(self.push.to.revision()))
    }

    fn api(&self) -> String {
        api(self.endpoint, self.push.to)
    }

    fn post(&self, url: String, question: &Value) -> std::result::Result<super::http::Reply, Fault> {
        self.http.send(&Call::post(url, JSON, question.to_string().into_bytes()))
    }
}
