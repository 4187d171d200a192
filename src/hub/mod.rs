//! The Hugging Face Hub: models and datasets by name, results sent there.
//!
//! ```text
//! owner/name@revision ──▶ name ──▶ fetch:  listing ─▶ select ─▶ transfer ─▶ cache ──▶ folder
//! folder ──▶ push:  contents ─▶ create ─▶ preupload ─▶ lfs ─▶ commit
//! ```
//!
//! | file | content |
//! |---|---|
//! | `name.rs` | `owner/name@revision`, and when an argument is one |
//! | `settings.rs` | endpoint, token, cache: the environment of `huggingface_hub` |
//! | `fault.rs` | what goes wrong, one message each |
//! | `http/` | redirects, token, time-outs, retries, over `ureq` |
//! | `listing.rs`, `select.rs` | what a repository holds, and what of it is needed |
//! | `transfer.rs`, `hash.rs`, `cache.rs` | a file into the cache: resumed, checked, renamed |
//! | `fetch.rs` | a model or a dataset by name |
//! | `push/` | a result folder to the Hub |
//!
//! # Why not the crate `hf-hub`
//!
//! `hf-hub` 1.0 brings some 280 crates (tokio, reqwest, aws-lc, the Xet client). `hf-hub` 0.5 with `ureq` and `rustls` brings
//! some 60, but: it checks no hash of what it fetches; it uses `ETag` and `X-Repo-Commit` as parts of paths without looking at
//! them; it panics on a redirect without `Location`; it knows nothing of `HF_TOKEN`, `HF_HUB_CACHE` and offline use; errors are
//! those of the HTTP library; it cannot upload. What would remain of it here is the names of some folders. `ureq` with `rustls`
//! (16 crates that nothing else here needs) leaves redirects, retries and checks to us, and is blocking, as all of this program.

mod cache;
mod fault;
mod fetch;
mod hash;
mod http;
mod listing;
mod name;
pub mod push;
mod select;
mod settings;
mod transfer;

use std::sync::OnceLock;

use crate::Result;
pub use fetch::Fetched;
pub use name::{DEFAULT_REVISION, HubName, Kind, RepoId, split_commit};
pub use settings::{Patience, Settings, Token};

/// What this program reads of the answers of a Hub, from any bytes.
pub(crate) fn read_reply(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    let base = http::url::parse("https://hub.example/a/b");
    if let Ok(target) = base.and_then(|base| http::url::join(&base, line)) {
        assert_eq!(target.scheme_str(), Some("https"), "{line:?}");
    }
    if let Some(hash) = hash::Hash::of_etag(line) {
        assert!(hash.hex().bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    push::lfs::read_reply(bytes);
    let Ok(listing) = listing::Listing::parse(bytes) else { return };
    assert!(listing.files.iter().all(|file| name::is_safe_path(file)));
    for kind in [Kind::Model, Kind::Dataset] {
        let Ok(name) = HubName::parse("a/b", kind) else { continue };
        let chosen = [
            select::model_files(&name, &listing).map(|files| [files.small, vec![files.weights]].concat()),
            select::dataset_files(&name, &listing, None).map(Option::unwrap_or_default),
            select::dataset_files(&name, &listing, Some("train")).map(Option::unwrap_or_default),
            select::set_files(&name, &listing),
        ];
        for files in chosen {
            match files {
                Ok(files) => assert!(files.iter().all(|file| listing.has(file)), "{files:?}"),
                Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
            }
        }
    }
}

/// Somebody who watches files come and go.
pub trait Watch {
    /// `done` of `total` bytes of all files have been moved; `file` is the one that is moving.
    fn progress(&mut self, file: &str, done: u64, total: u64);
}

impl Watch for crate::events::Silent {
    fn progress(&mut self, _: &str, _: u64, _: u64) {}
}

/// One Hub, with a cache.
pub struct Hub {
    settings: Settings,
    http: OnceLock<http::Http>,
}

impl Hub {
    /// A Hub that nothing is asked of yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, http: OnceLock::new() }
    }

    /// The connection, made when it is first needed: what is in the cache needs none.
    fn http(&self) -> Result<&http::Http> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let made = http::Http::new(&self.settings)?;
        Ok(self.http.get_or_init(|| made))
    }
}
