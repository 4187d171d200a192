//! Answers: their headers and bodies, and which fault an answer or its absence is.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Timeout;
use ureq::http::HeaderMap;

use crate::events::check_interrupt;
use crate::hub::fault::Fault;
use crate::hub::settings::Patience;

/// The largest JSON answer: a dataset of a hundred thousand files stays below this.
const JSON_LIMIT: u64 = 64 << 20;
/// What is read of the explanation of an error.
const SAID_LIMIT: u64 = 16 << 10;

/// An answer whose body has not been read.
pub(in crate::hub) struct Reply {
    pub status: u16,
    /// Who answered, for messages.
    pub host: String,
    headers: HeaderMap,
    body: ureq::Body,
}

impl Reply {
    pub(super) fn new(answer: ureq::http::Response<ureq::Body>, host: String) -> Self {
        let (parts, body) = answer.into_parts();
        Self { status: parts.status.as_u16(), host, headers: parts.headers, body }
    }

    /// A header's value, if it is there and is text.
    pub(in crate::hub) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// Where a redirect leads to.
    pub(super) fn redirect(&self) -> Option<String> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.header("Location").map(String::from))?
    }

    /// The fault that a status of 400 and more stands for. `signed`: a token was sent; `home`: the Hub itself answers.
    pub(super) fn checked(self, signed: bool, home: bool) -> Result<Self, Fault> {
        if self.status < 400 {
            return Ok(self);
        }
        let (status, host) = (self.status, self.host.clone());
        let code = self.header("X-Error-Code").unwrap_or_default().to_string();
        let wait = self.header("Retry-After").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let said = self.said();
        Err(match (status, code.as_str()) {
            (429, _) => Fault::TooMany(wait),
            (408 | 500..=599, _) => Fault::Server(host, status),
            (401 | 403 | 404 | 410, _) if !home => Fault::Store(host, status),
            (_, "RevisionNotFound") => Fault::NoRevision,
            (_, "EntryNotFound") => Fault::NoFile(String::new()),
            (_, "GatedRepo") => Fault::Gated { signed },
            (401, "") if signed => Fault::BadToken,
            (401, _) if said.contains("Invalid credentials") => Fault::BadToken,
            (401 | 404, _) => Fault::NoRepo { signed },
            (403, _) => Fault::Forbidden(said),
            _ => Fault::Status(status, said),
        })
    }

    /// What the server says about an error: a header, or the `error` of a JSON body.
    fn said(self) -> String {
        if let Some(said) = self.header("X-Error-Message") {
            return said.to_string();
        }
        let mut bytes = Vec::new();
        let _ = self.reader().take(SAID_LIMIT).read_to_end(&mut bytes);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        json["error"].as_str().unwrap_or_default().to_string()
    }

    /// The body as JSON; what does not fit the type is not what a Hub sends.
    pub(in crate::hub) fn json<T: DeserializeOwned>(self, patience: &Patience) -> Result<T, Fault> {
        let host = self.host.clone();
        let mut bytes = Vec::new();
        let read = self.reader().take(JSON_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| fault_of(ureq::Error::from(error), &host, patience))?;
        if bytes.len() as u64 > JSON_LIMIT {
            return Err(Fault::Malformed(format!("over {JSON_LIMIT} bytes of JSON")));
        }
        serde_json::from_slice(&bytes).map_err(|error| Fault::Malformed(format!("not the expected JSON: {error}")))
    }

    /// The body as it comes.
    pub(in crate::hub) fn reader(self) -> impl Read {
        self.body.into_with_config().limit(u64::MAX).reader()
    }
}

/// The fault behind a request without an answer, or a body that breaks off.
pub(in crate::hub) fn fault_of(error: ureq::Error, host: &str, patience: &Patience) -> Fault {
    if check_interrupt().is_err() {
        return Fault::Interrupted; // the connection was closed for this reason
    }
    let host = host.to_string();
    match error {
        ureq::Error::HostNotFound => Fault::Dns(host),
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Fault::ConnectTimeout(host, patience.connect),
        ureq::Error::Timeout(_) => Fault::Silent(host, patience.read),
        ureq::Error::Io(error) => fault_of_io(&error, host, patience),
        ureq::Error::Rustls(why) => Fault::Tls(host, why.to_string()),
        ureq::Error::Tls(why) => Fault::Tls(host, why.to_string()),
        ureq::Error::Protocol(why) => Fault::NotHttp(host, why.to_string()),
        ureq::Error::LargeResponseHeader(..) => Fault::NotHttp(host, "its header is too long".into()),
        ureq::Error::ConnectionFailed => Fault::Unreachable(host, "no reason given".into()),
        ureq::Error::ConnectProxyFailed(why) => Fault::Unreachable(host, format!("the proxy says {why}")),
        other => Fault::Broken(host, other.to_string()),
    }
}

fn fault_of_io(error: &std::io::Error, host: String, patience: &Patience) -> Fault {
    const WSAHOST_NOT_FOUND: i32 = 11_001;
    let text = error.to_string();
    match error.kind() {
        // std gives failures of name resolution no kind of their own.
        _ if text.contains("lookup address") || error.raw_os_error() == Some(WSAHOST_NOT_FOUND) => Fault::Dns(host),
        ErrorKind::ConnectionRefused => Fault::Refused(host),
        ErrorKind::InvalidData => Fault::Tls(host, text),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Fault::Silent(host, patience.read),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::AddrNotAvailable => {
            Fault::Unreachable(host, text)
        }
        _ => Fault::Broken(host, text),
    }
}
