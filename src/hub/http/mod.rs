//! Requests to the Hub: redirects, the token, time-outs, retries.
//!
//! Redirects are followed here and not by the HTTP library, because the token must go to the Hub's own origin only: large
//! files come from stores on other hosts, by addresses that carry their own signature.

mod reply;
mod tries;
pub(super) mod url;

use std::io::Read;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, SendBody};

use super::fault::Fault;
use super::settings::{Settings, Token};
use crate::events::check_interrupt;
use crate::{Error, Result};
pub(super) use reply::{Reply, fault_of};
pub(super) use tries::Tries;
use url::Origin;

/// Redirects that are followed for one request.
pub(super) const REDIRECTS: usize = 10;
/// How often Ctrl-C is looked for while a request waits.
const GLANCE: Duration = Duration::from_millis(100);
const USER_AGENT: &str = concat!("synth/", env!("CARGO_PKG_VERSION"));

/// What a request carries.
pub(super) enum Payload<'a> {
    None,
    Bytes(&'static str, Vec<u8>),
    /// Opened anew for every try: the content and its length.
    Stream(u64, &'a dyn Fn() -> Result<Box<dyn Read + 'a>>),
}

/// A request.
pub(super) struct Call<'a> {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub payload: Payload<'a>,
    /// Whether to follow redirects to other hosts than the Hub; else such a redirect is the answer.
    pub leave: bool,
}

impl Call<'_> {
    pub(super) fn get(url: String) -> Self {
        Self { method: "GET", url, headers: Vec::new(), payload: Payload::None, leave: true }
    }

    /// The headers of a file on the Hub, and not of the store that it redirects to.
    pub(super) fn head(url: String) -> Self {
        Self { method: "HEAD", leave: false, ..Self::get(url) }
    }

    pub(super) fn put(url: String) -> Self {
        Self { method: "PUT", ..Self::get(url) }
    }

    pub(super) fn post(url: String, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { method: "POST", payload: Payload::Bytes(content_type, body), ..Self::get(url) }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The connection to one Hub.
pub(super) struct Http {
    agent: Agent,
    home: Origin,
    token: Option<Token>,
    settings: Settings,
    /// While this lives, a thread of its own looks for Ctrl-C and then closes what is open.
    _alive: Arc<()>,
}

impl Http {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let patience = &settings.patience;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.read))
            .timeout_per_write(Some(patience.read));
        if let Some(path) = &settings.certificates {
            config = config.tls_config(TlsConfig::builder().root_certs(roots(path)?).build());
        }
        let home = url::parse(&settings.endpoint).map(|uri| Origin::of(&uri)).map_err(|_| {
            Error::invalid("HF_ENDPOINT", super::name::quote(&settings.endpoint), "expected http:// or https://")
        })?;
        if home.is_here() {
            config = config.proxy(None); // a proxy leads to other machines
        }
        let agent = config.build().new_agent();
        let alive = Arc::new(());
        close_on_interrupt(agent.clone(), Arc::downgrade(&alive));
        Ok(Self { agent, home, token: settings.token.clone(), settings: settings.clone(), _alive: alive })
    }

    /// Sends a request, again where that can help, and gives an answer of status 2xx (or a redirect that is not followed).
    pub(super) fn send(&self, call: &Call) -> std::result::Result<Reply, Fault> {
        let mut tries = Tries::new(&self.settings.patience);
        loop {
            match self.once(call) {
                Ok(reply) => return Ok(reply),
                Err(fault) => tries.wait(fault)?,
            }
        }
    }

    /// As [`Http::send`], in one try.
    pub(super) fn once(&self, call: &Call) -> std::result::Result<Reply, Fault> {
        self.follow(call).map_err(|fault| match &self.token {
            Some(token) => fault.without(token),
            None => fault,
        })
    }

    /// Sends a request and follows where it leads.
    fn follow(&self, call: &Call) -> std::result::Result<Reply, Fault> {
        let mut uri = url::parse(&call.url)?;
        for _ in 0..=REDIRECTS {
            check_interrupt()?;
            let signed = self.token.as_ref().filter(|_| Origin::of(&uri) == self.home);
            let reply = self.exchange(call, &uri, signed)?;
            let Some(location) = reply.redirect() else { return reply.checked(signed.is_some(), self.is_home(&uri)) };
            let target = url::join(&uri, &location)?;
            if !self.is_home(&target) && !call.leave {
                return Ok(reply);
            }
            if !self.is_home(&target) && !matches!(call.payload, Payload::None) {
                return Err(Fault::Redirect(target.to_string())); // what is sent is sent to the host that it was meant for
            }
            uri = target;
        }
        Err(Fault::RedirectLoop(uri.to_string()))
    }

    fn is_home(&self, uri: &Uri) -> bool {
        Origin::of(uri) == self.home
    }

    fn exchange(&self, call: &Call, uri: &Uri, token: Option<&Token>) -> std::result::Result<Reply, Fault> {
        let host = Origin::of(uri).shown();
        let mut request = ureq::http::Request::builder().method(call.method).uri(uri);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            request = request.header("Authorization", token.bearer());
        }
        let malformed = |error: ureq::http::Error| Fault::Malformed(error.to_string());
        let answer = match &call.payload {
            Payload::None => self.agent.run(request.body(()).map_err(malformed)?),
            Payload::Bytes(kind, bytes) => {
                let request = request.header("Content-Type", *kind).body(bytes.as_slice()).map_err(malformed)?;
                self.agent.run(request)
            }
            Payload::Stream(length, open) => {
                let mut content = open()?;
                let body = SendBody::from_reader(content.as_mut());
                self.agent.run(request.header("Content-Length", length.to_string()).body(body).map_err(malformed)?)
            }
        };
        match answer {
            Ok(answer) => Ok(Reply::new(answer, host)),
            Err(error) => Err(reply::fault_of(error, &host, &self.settings.patience)),
        }
    }

    /// How long to wait for what.
    pub(super) fn patience(&self) -> &super::settings::Patience {
        &self.settings.patience
    }
}

/// Certificates of a PEM file.
fn roots(path: &std::path::Path) -> Result<RootCerts> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::file(path, "no certificate", "SSL_CERT_FILE must name a PEM file with certificates"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// Closes the connections of `agent` on Ctrl-C, so that a request which waits for a silent server ends at once.
fn close_on_interrupt(agent: Agent, alive: Weak<()>) {
    let watch = move || {
        while alive.upgrade().is_some() {
            if check_interrupt().is_err() {
                agent.shutdown();
                return;
            }
            std::thread::sleep(GLANCE);
        }
    };
    // Without the thread, Ctrl-C waits for the time-out.
    let _ = std::thread::Builder::new().name("hub-interrupt".into()).spawn(watch);
}
