//! What goes wrong between here and the Hub, and how it is said: one line each, with what to do.

use std::time::Duration;

use super::name::{HubName, Kind, quote};
use super::settings::Token;
use crate::Error;

/// A failure before it is known which repository it concerns.
#[derive(Debug)]
pub(super) enum Fault {
    /// A host's name cannot be resolved.
    Dns(String),
    Refused(String),
    /// Any other reason why there is no connection.
    Unreachable(String, String),
    Tls(String, String),
    ConnectTimeout(String, Duration),
    /// Connected, and then nothing for so long.
    Silent(String, Duration),
    /// Fewer bytes than this per second.
    Slow(String, u64),
    /// The connection ended in the middle of something.
    Broken(String, String),
    /// An answer that is not HTTP.
    NotHttp(String, String),
    BadToken,
    /// The repository is not there, or is private; whether a token was sent.
    NoRepo {
        signed: bool,
    },
    NoRevision,
    NoFile(String),
    Gated {
        signed: bool,
    },
    Forbidden(String),
    /// Too many requests; how long the server asks to wait.
    TooMany(Option<Duration>),
    /// 5xx and 408.
    Server(String, u16),
    /// A store of large files refuses an address that the Hub has just given out.
    Store(String, u16),
    /// A commit was sent, and no answer came.
    Unconfirmed,
    /// Any other status.
    Status(u16, String),
    RedirectLoop(String),
    /// To something that is not http or https, or from https to http.
    Redirect(String),
    /// An answer that is not what a Hub sends.
    Malformed(String),
    /// The body ended after so many of so many bytes.
    Truncated {
        file: String,
        got: u64,
        of: u64,
    },
    WrongSize {
        file: String,
        said: u64,
        found: u64,
    },
    WrongHash {
        file: String,
        said: String,
        found: String,
    },
    NoHash(String),
    TooLarge {
        file: String,
        size: u64,
    },
    /// The network is switched off, and the cache does not have it.
    Offline,
    /// Something here, not there: the disk, the cache, a file to send.
    Local(Error),
    Interrupted,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => Self::Interrupted,
            other => Self::Local(other),
        }
    }
}

impl Fault {
    /// The same without a token in what a server says.
    pub(super) fn without(self, token: &Token) -> Self {
        match self {
            Self::Forbidden(said) => Self::Forbidden(token.hidden_in(&said)),
            Self::Status(status, said) => Self::Status(status, token.hidden_in(&said)),
            Self::Redirect(target) => Self::Redirect(token.hidden_in(&target)),
            Self::RedirectLoop(target) => Self::RedirectLoop(token.hidden_in(&target)),
            Self::Malformed(found) => Self::Malformed(token.hidden_in(&found)),
            other => other,
        }
    }

    /// Whether the same request may succeed when it is made again.
    pub(super) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Silent(..)
                | Self::Slow(..)
                | Self::Broken(..)
                | Self::TooMany(_)
                | Self::Server(..)
                | Self::Store(..)
                | Self::Truncated { .. }
        )
    }

    /// Whether the Hub could not be asked, so that what the cache has is the best that can be had.
    pub(super) fn is_network(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::Dns(_) | Self::Refused(_) | Self::Unreachable(..) | Self::ConnectTimeout(..) | Self::Tls(..)
            )
    }

    /// The message for a person who asked for `name` at `endpoint`.
    pub(super) fn about(self, name: &HubName, endpoint: &str) -> Error {
        let page = format!("{endpoint}/{}{}", name.repo.kind.prefix(), name.repo);
        match self {
            Self::Local(error) => error,
            Self::Interrupted => Error::Interrupted,
            fault => {
                let missing = matches!(fault, Self::NoRepo { .. } | Self::Offline | Self::Dns(_));
                let found = fault.found(name);
                let found = if missing && name.bare { format!("no such path here, and {found}") } else { found };
                let absent = matches!(fault, Self::NoRepo { .. } | Self::NoRevision | Self::Offline);
                Error::Hub { name: name.to_string(), found, hint: fault.hint(name, endpoint, &page), absent }
            }
        }
    }

    /// What happened, without the name.
    fn found(&self, name: &HubName) -> String {
        let kind = name.repo.kind.word();
        match self {
            Self::Dns(host) => format!("the host {host} cannot be found"),
            Self::Refused(host) => format!("{host} refuses the connection"),
            Self::Unreachable(host, why) => format!("{host} cannot be reached ({why})"),
            Self::Tls(host, why) => format!("no trusted connection (TLS) to {host}: {why}"),
            Self::ConnectTimeout(host, time) => format!("no connection to {host} within {}", seconds(*time)),
            Self::Silent(host, time) => format!("{host} sent nothing for {}, again and again", seconds(*time)),
            Self::Slow(host, rate) => format!("{host} sends fewer than {rate} bytes per second, again and again"),
            Self::Broken(host, why) => format!("the connection to {host} broke, again and again ({why})"),
            Self::NotHttp(host, why) => format!("{host} does not answer as a web server ({why})"),
            Self::BadToken => "the Hub does not accept the token (401)".into(),
            Self::NoRepo { signed: false } => format!("there is no such {kind} on the Hub, or it is private (401)"),
            Self::NoRepo { signed: true } => {
                format!("there is no such {kind} on the Hub, or the token may not see it (404)")
            }
            Self::NoRevision => format!("the {kind} has no revision {} (404)", quote(name.revision())),
            Self::NoFile(file) => format!("the file {} is listed but not there (404)", quote(file)),
            Self::Gated { .. } => format!("the {kind} is gated: its owner must grant access first"),
            Self::Forbidden(said) => format!("the Hub forbids it (403){}", quoted(said)),
            Self::TooMany(_) => "the Hub wants fewer requests (429)".into(),
            Self::Server(host, status) => format!("{host} failed ({status}), again and again"),
            Self::Store(host, status) => format!("the store of large files, {host}, refuses ({status})"),
            Self::Status(status, said) => format!("unexpected answer {status}{}", quoted(said)),
            Self::Unconfirmed => "the Hub did not confirm the commit before the connection ended".into(),
            Self::RedirectLoop(url) => {
                format!("over {} redirects, the last to {}", super::http::REDIRECTS, unsigned(url))
            }
            Self::Redirect(to) => format!("a redirect to {} is not followed", unsigned(to)),
            Self::Malformed(why) => format!("the answer is not what a Hub sends ({why})"),
            Self::Truncated { file, got, of } => {
                format!("{} ended after {got} of {of} bytes, again and again", quote(file))
            }
            Self::WrongSize { file, said, found } => {
                format!("{} is announced with {said} bytes and comes with {found}", quote(file))
            }
            Self::WrongHash { file, said, found } => {
                format!("{} arrived with hash {found} instead of {said}", quote(file))
            }
            Self::NoHash(file) => format!("the server gives no hash for {}, so it cannot be checked", quote(file)),
            Self::TooLarge { file, size } => format!("{} has {size} bytes, more than is ever fetched", quote(file)),
            Self::Offline => "it is not in the cache (offline)".into(),
            Self::Local(error) => error.to_string(),
            Self::Interrupted => "interrupted".into(),
        }
    }

    /// What to do about it.
    fn hint(&self, name: &HubName, endpoint: &str, page: &str) -> String {
        let kept = "try again: what has arrived is kept";
        match self {
            Self::Dns(_) => "check the network, HTTPS_PROXY and HF_ENDPOINT; --offline uses the cache alone".into(),
            Self::Refused(_) | Self::Unreachable(..) => "check HF_ENDPOINT, HTTPS_PROXY and the firewall".into(),
            Self::ConnectTimeout(..) => "check the network and HTTPS_PROXY, or try again later".into(),
            Self::Tls(..) => {
                "check HF_ENDPOINT and the clock; behind a proxy that inspects traffic, give its certificates in \
                 SSL_CERT_FILE"
                    .into()
            }
            Self::Silent(..) => format!("{kept}; HF_HUB_DOWNLOAD_TIMEOUT=60 waits longer"),
            Self::Slow(..) | Self::Broken(..) | Self::Truncated { .. } => kept.into(),
            Self::BadToken => format!("make a new one at {endpoint}/settings/tokens and put it into HF_TOKEN"),
            Self::NoRepo { signed: false } => "check the name; if it is private, put a token into HF_TOKEN".into(),
            Self::NoRepo { signed: true } => "check the name and whose token HF_TOKEN is".into(),
            Self::NoRevision => format!("leave @{} out, or choose a branch, tag or commit of {page}", name.revision()),
            Self::Gated { signed: false } => format!("ask for access at {page}, then put your token into HF_TOKEN"),
            Self::Gated { signed: true } => format!("ask for access at {page} with the account of the token"),
            Self::Forbidden(_) => format!("give the token the right to it at {endpoint}/settings/tokens"),
            Self::TooMany(Some(time)) => format!("wait {} and try again; with a token more is allowed", seconds(*time)),
            Self::TooMany(None) => "wait some minutes and try again; with a token more is allowed".into(),
            Self::Server(..) | Self::Store(..) => "try again later; --offline uses the cache alone".into(),
            Self::Unconfirmed => "push again: what is there already is not sent twice".into(),
            Self::NoFile(_) => "try again; the repository may have changed meanwhile".into(),
            Self::WrongHash { .. } | Self::WrongSize { .. } => {
                "nothing of it is kept; try again later, and tell the owner if it stays so".into()
            }
            Self::TooLarge { .. } => "fetch it by other means and give the folder".into(),
            Self::Offline => "fetch it once without --offline and HF_HUB_OFFLINE, or give a folder".into(),
            Self::NotHttp(..) | Self::Status(..) | Self::RedirectLoop(_) | Self::Redirect(_) => {
                check_endpoint(endpoint)
            }
            Self::Malformed(_) | Self::NoHash(_) => check_endpoint(endpoint),
            Self::Local(_) | Self::Interrupted => String::new(),
        }
    }
}

fn check_endpoint(endpoint: &str) -> String {
    format!("check HF_ENDPOINT (now {endpoint}) and what lies between here and there, such as a proxy")
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {}", quote(said)) }
}

/// An address without its query, which may hold a signature.
fn unsigned(url: &str) -> String {
    quote(url.split('?').next().unwrap_or_default())
}

/// `20 s`, `0.2 s`
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// A repository without anything that could be loaded.
pub(super) fn nothing_for(name: &HubName, found: impl Into<String>) -> Error {
    let hint = match name.repo.kind {
        Kind::Model => "choose a repository with config.json and weights in safetensors or PyTorch form",
        Kind::Dataset => "choose another dataset, or fetch it by other means and give the folder",
    };
    Error::Hub { name: name.to_string(), found: found.into(), hint: hint.into(), absent: true }
}
