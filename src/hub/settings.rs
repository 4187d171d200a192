//! Where the Hub is, who asks, and where what it sends is kept: the environment variables of `huggingface_hub`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";
/// A token is some 40 characters; a file that is longer is not one.
const TOKEN_LIMIT: u64 = 4096;

/// A user access token. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl Token {
    /// Reads a token, without white space around it; `None` if nothing is left.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has characters that no header can have; the message does not repeat them.
    pub fn parse(text: &str, origin: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if text.bytes().any(|b| !b.is_ascii_graphic()) {
            let hint = "expected one word of ASCII characters, such as hf_...";
            return Err(Error::invalid(origin, "it is not a token (blanks or other characters within)", hint));
        }
        Ok((!text.is_empty()).then(|| Self(text.to_string())))
    }

    /// `text` without this token, which a server may have repeated.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "(the token)")
    }

    /// The value of the header `Authorization`.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// How long to wait for what, and how often to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next bytes of an answer (`HF_HUB_DOWNLOAD_TIMEOUT` in seconds).
    pub read: Duration,
    /// A transfer that brings fewer bytes than this in `window` is broken off and resumed.
    pub least: u64,
    pub window: Duration,
    /// Tries after the first one, where trying again can help.
    pub retries: u32,
    /// Before the first of them; doubled each time, up to eight times this.
    pub pause: Duration,
    /// A server that asks for a longer pause is not waited for.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(20),
            least: 32 << 10,
            window: Duration::from_secs(30),
            retries: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(120),
        }
    }
}

/// What [`super::Hub`] needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `https://host` or `http://host`, with port and path if need be, without a `/` at the end.
    pub endpoint: String,
    pub token: Option<Token>,
    /// The folder with `models--owner--name/`.
    pub cache: PathBuf,
    /// Use the cache alone and the network not at all.
    pub offline: bool,
    pub patience: Patience,
    /// Certificates (PEM) that are trusted in place of Mozilla's.
    pub certificates: Option<PathBuf>,
}

impl Settings {
    /// As the environment says: `HF_ENDPOINT`, `HF_TOKEN` (else the file `HF_TOKEN_PATH`, by default `$HF_HOME/token`),
    /// `HF_HUB_CACHE` (by default `$HF_HOME/hub`), `HF_HOME` (by default `$XDG_CACHE_HOME/huggingface`, else
    /// `~/.cache/huggingface`), `HF_HUB_OFFLINE`, `HF_HUB_DOWNLOAD_TIMEOUT`, `SSL_CERT_FILE`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an endpoint that is no `http(s)://` address, a token that is none, a number that is none;
    /// [`Error::Io`] for a token file that cannot be read.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(get: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let home = get("HF_HOME").map(expand).unwrap_or_else(|| default_home(get));
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE")).map(expand);
        let mut patience = Patience::default();
        if let Some(text) = get("HF_HUB_DOWNLOAD_TIMEOUT") {
            patience.read = seconds(&text)?;
        }
        Ok(Self {
            endpoint: endpoint(get("HF_ENDPOINT"))?,
            token: token(get, &home)?,
            cache: cache.unwrap_or_else(|| home.join("hub")),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].iter().any(|name| get(name).is_some_and(is_true)),
            patience,
            certificates: get("SSL_CERT_FILE").map(expand),
        })
    }
}

fn endpoint(value: Option<OsString>) -> Result<String> {
    let Some(value) = value else { return Ok(ENDPOINT.into()) };
    let text = value.to_string_lossy();
    let text = text.trim().trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || host.contains(['@', '?', '#', '\\']) || !host.is_ascii() {
        let hint = "expected an address such as https://huggingface.co";
        return Err(Error::invalid("HF_ENDPOINT", super::name::quote(text), hint));
    }
    Ok(text.to_string())
}

fn token(get: &dyn Fn(&str) -> Option<OsString>, home: &Path) -> Result<Option<Token>> {
    for variable in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(value) = get(variable)
            && let Some(token) = Token::parse(&value.to_string_lossy(), variable)?
        {
            return Ok(Some(token));
        }
    }
    let path = get("HF_TOKEN_PATH").map(expand).unwrap_or_else(|| home.join("token"));
    let size = match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(Error::io("open", &path))?.len(),
    };
    if size > TOKEN_LIMIT {
        return Err(Error::file(&path, format!("{size} bytes"), "expected a token; log in again with `hf auth login`"));
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Token::parse(&text, &path.display().to_string())
}

fn seconds(text: &OsString) -> Result<Duration> {
    match text.to_string_lossy().trim().parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => {
            Err(Error::invalid("HF_HUB_DOWNLOAD_TIMEOUT", super::name::quote(&text.to_string_lossy()), "give seconds"))
        }
    }
}

fn is_true(value: OsString) -> bool {
    let value = value.to_string_lossy().to_ascii_uppercase();
    matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn default_home(get: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    let cache = get("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
}

/// A path in which a leading `~` is the home folder.
fn expand(path: OsString) -> PathBuf {
    let path = PathBuf::from(path);
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn with(variables: &[(&str, &str)]) -> Result<Settings> {
        let known: BTreeMap<_, _> = variables.iter().map(|(k, v)| (k.to_string(), OsString::from(v))).collect();
        Settings::from_variables(&|name| known.get(name).cloned())
    }

    #[test]
    fn the_variables_of_the_python_library_are_understood() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let text = home.path().to_str().unwrap();
        std::fs::write(at("token"), "hf_file\n").unwrap();
        let found = with(&[("HF_HOME", text)]).unwrap();
        assert_eq!((found.endpoint.as_str(), &found.cache), (ENDPOINT, &at("hub")));
        assert_eq!(found.token, Some(Token("hf_file".into())));
        assert!(!found.offline);
        let more = [
            ("HF_HOME", text),
            ("HF_HUB_CACHE", "/elsewhere"),
            ("HF_TOKEN", " hf_variable "),
            ("HF_ENDPOINT", "http://localhost:8080/hub/"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "2.5"),
        ];
        let found = with(&more).unwrap();
        assert_eq!((found.endpoint.as_str(), found.cache.to_str()), ("http://localhost:8080/hub", Some("/elsewhere")));
        assert_eq!(found.token, Some(Token("hf_variable".into())));
        assert!(found.offline && found.patience.read == Duration::from_millis(2500));
        assert_eq!(with(&[("XDG_CACHE_HOME", "/c")]).unwrap().cache, Path::new("/c/huggingface/hub"));
    }

    #[test]
    fn nonsense_is_refused_and_a_token_is_never_shown() {
        for endpoint in ["ftp://x", "huggingface.co", "https://", "https:///x", "https://user@x", "https://x?y"] {
            let message = with(&[("HF_ENDPOINT", endpoint)]).unwrap_err().to_string();
            assert!(message.contains("HF_ENDPOINT"), "{message}");
        }
        assert!(with(&[("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).unwrap_err().to_string().contains("give seconds"));
        let message = with(&[("HF_TOKEN", "hf_secret two")]).unwrap_err().to_string();
        assert!(message.contains("HF_TOKEN") && !message.contains("secret"), "{message}");
        let settings = with(&[("HF_TOKEN", "hf_secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
