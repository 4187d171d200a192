//! Addresses: making them, telling who answers them, following redirects.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;

use crate::hub::fault::Fault;

/// All but what needs no escape anywhere in an address.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One part of a path; a `/` within is escaped too, as the Hub wants it in revisions.
pub(in crate::hub) fn part(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A path whose `/` stay.
pub(in crate::hub) fn path(text: &str) -> String {
    text.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Who answers: scheme, host, port. A token goes to one origin and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::hub) struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    pub(in crate::hub) fn of(uri: &Uri) -> Self {
        let https = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Self { https, host: uri.host().unwrap_or_default().to_ascii_lowercase(), port }
    }

    /// Whether this machine answers itself.
    pub(in crate::hub) fn is_here(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }

    /// Host, with the port if it is not the usual one, for messages.
    pub(in crate::hub) fn shown(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Reads an address of ours.
pub(in crate::hub) fn parse(text: &str) -> Result<Uri, Fault> {
    let uri: Uri = text.parse().map_err(|_| Fault::Redirect(text.into()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(Fault::Redirect(text.into())),
    }
}

/// Where a redirect leads: `location` as seen from `base`.
///
/// Refused are other schemes than http and https, and the way from https to http.
pub(in crate::hub) fn join(base: &Uri, location: &str) -> Result<Uri, Fault> {
    let location = location.trim().split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map(|a| a.as_str()).unwrap_or_default();
    let target = match location {
        _ if has_scheme(location) => location.to_string(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ if location.starts_with('?') => format!("{scheme}://{authority}{}{location}", base.path()),
        _ => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        }
    };
    let target = parse(&target)?;
    match (scheme, target.scheme_str()) {
        ("https", Some("http")) => Err(Fault::Redirect(target.to_string())),
        _ => Ok(target),
    }
}

fn has_scheme(location: &str) -> bool {
    let Some((scheme, _)) = location.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped() {
        assert_eq!(part("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(path("data/a b#?.parquet"), "data/a%20b%23%3F.parquet");
        assert_eq!(part("timm_x-1.0~"), "timm_x-1.0~");
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let base = parse("https://hub.example:8443/a/b/resolve/main/c?x=1").unwrap();
        for (location, expected) in [
            ("https://cdn.example/f?sig=%2F#top", "https://cdn.example/f?sig=%2F"),
            ("//cdn.example/f", "https://cdn.example/f"),
            ("/new/name", "https://hub.example:8443/new/name"),
            ("d", "https://hub.example:8443/a/b/resolve/main/d"),
            ("?y=2", "https://hub.example:8443/a/b/resolve/main/c?y=2"),
        ] {
            assert_eq!(join(&base, location).unwrap().to_string(), expected);
        }
        for location in
            ["ftp://x/y", "file:///etc/passwd", "http://hub.example:8443/c", "javascript:alert(1)", "https://"]
        {
            assert!(matches!(join(&base, location), Err(Fault::Redirect(_))), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |text: &str| Origin::of(&parse(text).unwrap());
        assert_eq!(of("https://Hub.example/a"), of("https://hub.example:443/b"));
        for other in
            ["http://hub.example", "https://hub.example:444", "https://hub.example.evil", "https://hub.example@evil"]
        {
            assert_ne!(of("https://hub.example"), of(other), "{other}");
        }
        assert_eq!(of("http://h:81/").shown(), "h:81");
        assert!(of("http://localhost:8080").is_here() && of("http://[::1]:1").is_here() && !of("https://h").is_here());
    }
}
