//! A small HTTP/1.1 server on threads: one connection per request, and answers that go wrong on demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// Still escaped, without the query.
    pub path: String,
    pub query: String,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The parts of the path, with escapes taken back.
    pub fn parts(&self) -> Vec<String> {
        let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        self.path.split('/').skip(1).map(decode).collect()
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub manner: Manner,
}

/// How an answer is sent.
#[derive(Clone, Debug, Default)]
pub enum Manner {
    #[default]
    Well,
    /// So many bytes of the body, then the connection ends.
    Truncated(usize),
    /// One byte after another, with this pause.
    Slow(Duration),
    /// So many bytes of the body, then nothing for so long.
    Stalled(usize, Duration),
    /// These bytes and nothing of HTTP.
    Raw(Vec<u8>),
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: 200, body: value.to_string().into_bytes(), ..Self::default() }
            .with("Content-Type", "application/json")
    }

    /// An error as the Hub sends it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "error": message }).to_string().into_bytes();
        let answer = Self { status, body, ..Self::default() }.with("X-Error-Message", message);
        if code.is_empty() { answer } else { answer.with("X-Error-Code", code) }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    fn send(&self, head_only: bool, out: &mut TcpStream) -> std::io::Result<()> {
        if let Manner::Raw(bytes) = &self.manner {
            return out.write_all(bytes);
        }
        let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Content-Length")) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        out.write_all(format!("{head}\r\n").as_bytes())?;
        if head_only {
            return Ok(());
        }
        match &self.manner {
            Manner::Well => out.write_all(&self.body),
            Manner::Truncated(count) => out.write_all(&self.body[..(*count).min(self.body.len())]),
            Manner::Slow(pause) => self.body.iter().try_for_each(|byte| {
                sleep(*pause);
                out.write_all(&[*byte])
            }),
            Manner::Stalled(count, time) => {
                out.write_all(&self.body[..(*count).min(self.body.len())])?;
                sleep(*time);
                Ok(())
            }
            Manner::Raw(_) => Ok(()),
        }
    }
}

/// A running server; it ends when dropped.
pub struct Server {
    address: String,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server on a free port of this machine.
    pub fn start(handle: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, handle) = (Arc::new(AtomicBool::new(false)), Arc::new(handle));
        let stopped = stop.clone();
        spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let handle = handle.clone();
                spawn(move || stream.and_then(|stream| serve(stream, handle.as_ref())));
            }
        });
        Self { address, stop }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(mut stream: TcpStream, handle: &dyn Fn(&Request) -> Answer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut first = [0];
    stream.peek(&mut first)?;
    if !first[0].is_ascii_uppercase() {
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"); // the greeting of TLS
    }
    let Some(request) = read(&stream)? else { return Ok(()) };
    let answer = handle(&request);
    answer.send(request.method == "HEAD", &mut stream)
}

/// Reads a request; `None` for what is none.
fn read(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = Vec::new();
    (&mut input).take(65_536).read_until(b'\n', &mut line)?;
    let first = String::from_utf8_lossy(&line).trim_end().to_string();
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Ok(None) };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
        }
    }
    if headers.get("expect").is_some_and(|value| value == "100-continue") {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0u64);
    let mut body = Vec::new();
    match chunked {
        true => read_chunks(&mut input, &mut body)?,
        false => drop((&mut input).take(length).read_to_end(&mut body)?),
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Request { method: method.into(), path: path.into(), query: query.into(), headers, body }))
}

fn read_chunks(input: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or("0"), 16).unwrap_or(0);
        input.take(size).read_to_end(body)?;
        input.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}
