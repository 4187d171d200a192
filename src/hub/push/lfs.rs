//! Sending large files: the batch interface of git LFS, with the Hub's way of sending a file in parts.
//!
//! Protocol: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>. For a file in parts the answer's header has
//! `chunk_size` and an address for each part under `1`, `2`, ...; the tags of the parts complete it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::fault::Fault;
use super::super::http::{Call, Http, Payload, Reply};
use super::contents::Item;
use crate::{Error, Result};

const JSON: &str = "application/vnd.git-lfs+json";
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Files that are asked for at once.
const BATCH: usize = 100;
/// More parts than the Hub ever asks for.
const PART_LIMIT: u64 = 10_000;

/// A large file with the hash of its content.
pub(super) struct Large<'a> {
    pub item: &'a Item,
    /// SHA-256, 64 hexadecimal digits.
    pub oid: String,
}

#[derive(Deserialize)]
struct Answer {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Actions {
    #[serde(default)]
    upload: Option<Action>,
    #[serde(default)]
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
}

/// Reads an answer from any bytes.
pub(in crate::hub) fn read_reply(bytes: &[u8]) {
    let _: std::result::Result<Answer, _> = serde_json::from_slice(bytes);
}

/// Sends the files that the store does not have. `sent` is told how many bytes of a file are through.
pub(super) fn upload(
    http: &Http,
    endpoint: &str,
    repository: &str,
    files: &[Large],
    sent: &dyn Fn(&Item, u64),
) -> std::result::Result<(), Fault> {
    for group in files.chunks(BATCH) {
        let objects: Vec<Value> = group.iter().map(|file| json!({"oid": file.oid, "size": file.item.size})).collect();
        let question = json!({
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256", "objects": objects,
        });
        let call =
            Call::post(format!("{repository}.git/info/lfs/objects/batch"), JSON, question.to_string().into_bytes());
        let answer: Answer = http.send(&call.with("Accept", JSON))?.json(http.patience())?;
        for file in group {
            let object = answer.objects.iter().find(|object| object.oid == file.oid);
            let object = object.ok_or_else(|| Fault::Malformed(format!("no word about {}", file.item.name)))?;
            send(http, endpoint, file, object, &|count| sent(file.item, count))?;
        }
    }
    Ok(())
}

fn send(
    http: &Http,
    endpoint: &str,
    file: &Large,
    object: &Object,
    sent: &dyn Fn(u64),
) -> std::result::Result<(), Fault> {
    if let Some(refusal) = &object.error {
        return Err(Fault::Forbidden(format!("{}: {}", file.item.name, refusal.message)));
    }
    let Some(actions) = &object.actions else {
        sent(file.item.size); // the store has it
        return Ok(());
    };
    if let Some(upload) = &actions.upload {
        let href = at_endpoint(&upload.href, endpoint);
        match upload.header.get("chunk_size") {
            Some(size) => in_parts(http, file, &href, size, &upload.header, sent)?,
            None => {
                let mut call = Call::put(href);
                for (name, value) in &upload.header {
                    call = call.with(name, value.as_str().unwrap_or_default());
                }
                send_slice(http, call, file.item, 0, file.item.size, sent)?;
            }
        }
    }
    if let Some(verify) = &actions.verify {
        let body = json!({"oid": file.oid, "size": file.item.size}).to_string();
        http.send(&Call::post(at_endpoint(&verify.href, endpoint), JSON, body.into_bytes()))?;
    }
    Ok(())
}

/// Sends a file in parts of `size` bytes and completes it with their tags.
fn in_parts(
    http: &Http,
    file: &Large,
    completion: &str,
    size: &Value,
    header: &BTreeMap<String, Value>,
    sent: &dyn Fn(u64),
) -> std::result::Result<(), Fault> {
    let malformed = |why: &str| Fault::Malformed(format!("{why} for {}", file.item.name));
    let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).filter(|size| *size > 0);
    let size = size.ok_or_else(|| malformed("no part size"))?;
    let count = file.item.size.div_ceil(size);
    if count > PART_LIMIT {
        return Err(malformed("too many parts"));
    }
    let mut parts = Vec::new();
    for index in 0..count {
        let number = (index + 1).to_string();
        // Numbers come with leading zeros from some servers.
        let address =
            header.iter().find(|(key, _)| key.trim_start_matches('0') == number).and_then(|(_, url)| url.as_str());
        let address = address.ok_or_else(|| malformed("no address of a part"))?;
        let (from, length) = (index * size, size.min(file.item.size - index * size));
        let reply = send_slice(http, Call::put(address.into()), file.item, from, length, sent)?;
        let tag = reply.header("ETag").ok_or_else(|| malformed("no tag of a part"))?;
        parts.push(json!({"partNumber": index + 1, "etag": tag}));
    }
    let body = json!({"oid": file.oid, "parts": parts}).to_string();
    http.send(&Call::post(completion.into(), JSON, body.into_bytes()).with("Accept", JSON)).map(drop)
}

/// Sends bytes `from .. from + length` of a file.
fn send_slice(
    http: &Http,
    call: Call<'static>,
    item: &Item,
    from: u64,
    length: u64,
    sent: &dyn Fn(u64),
) -> std::result::Result<Reply, Fault> {
    let open = || -> Result<Box<dyn Read + '_>> {
        let mut file = File::open(&item.path).map_err(Error::io("open", &item.path))?;
        file.seek(SeekFrom::Start(from)).map_err(Error::io("read", &item.path))?;
        Ok(Box::new(Counted { file: file.take(length), at: from, sent }))
    };
    let Call { method, url, headers, leave, .. } = call;
    http.send(&Call { method, url, headers, leave, payload: Payload::Stream(length, &open) })
}

/// Tells how far it has been read.
struct Counted<'a> {
    file: std::io::Take<File>,
    at: u64,
    sent: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.at += count as u64;
        (self.sent)(self.at);
        Ok(count)
    }
}

/// An address that the Hub gives for itself, where another one stands in for it.
fn at_endpoint(href: &str, endpoint: &str) -> String {
    match href.strip_prefix(DEFAULT_ENDPOINT) {
        Some(rest) if rest.starts_with('/') => format!("{endpoint}{rest}"),
        _ => href.to_string(),
    }
}
