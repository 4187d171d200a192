//! What goes wrong, and what is said then.

use std::time::Duration;

use crate::hub::{self, Answer, HubServer, Manner, Repo, sha256};
use synth::hub::{Settings, Token};

/// Bytes that no compression or padding would produce.
pub fn weights() -> Vec<u8> {
    (0..40_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

pub fn good() -> Repo {
    let readme = "a line of text\n".repeat(200);
    Repo::with(&[("config.json", b"{}"), ("README.md", readme.as_bytes()), ("model.safetensors", &weights())])
}

pub struct Case {
    pub what: &'static str,
    pub name: &'static str,
    pub prepare: fn(&HubServer, &mut Settings),
    /// What the message says.
    pub parts: &'static [&'static str],
}

fn with_token(settings: &mut Settings, token: &str) {
    settings.token = Token::parse(token, "test").unwrap();
}

fn manner(manner: Manner) -> impl Fn(Answer) -> Answer + Send {
    move |answer| Answer { manner: manner.clone(), ..answer }
}

const ALWAYS: usize = usize::MAX;

pub const CASES: &[Case] = &[
    Case {
        what: "no such repository, nobody asks",
        name: "a/none",
        prepare: |_, _| (),
        parts: &[
            "a/none: no such path here, and there is no such model on the Hub, or it is private (401)",
            "HF_TOKEN",
        ],
    },
    Case {
        what: "no such repository for this token",
        name: "a/none",
        prepare: |_, settings| with_token(settings, hub::TOKEN),
        parts: &["there is no such model on the Hub, or the token may not see it (404)", "whose token"],
    },
    Case {
        what: "private repository",
        name: "hf://a/private",
        prepare: |server, _| drop(server.add("models/a/private", Repo { private: true, ..good() })),
        parts: &["a/private: there is no such model on the Hub, or it is private"],
    },
    Case {
        what: "wrong token",
        name: "a/b",
        prepare: |_, settings| with_token(settings, "hf_expired"),
        parts: &["does not accept the token (401)", "/settings/tokens"],
    },
    Case {
        what: "no such revision",
        name: "a/b@v9",
        prepare: |_, _| (),
        parts: &["a/b@v9: the model has no revision `v9` (404)", "leave @v9 out"],
    },
    Case {
        what: "gated, nobody asks",
        name: "a/gated",
        prepare: |server, _| drop(server.add("models/a/gated", Repo { gated: true, ..good() })),
        parts: &[
            "the model is gated",
            "ask for access at http://127.0.0.1",
            "/a/gated, then put your token into HF_TOKEN",
        ],
    },
    Case {
        what: "gated for this account",
        name: "a/gated",
        prepare: |server, settings| {
            server.add("models/a/gated", Repo { gated: true, ..good() });
            with_token(settings, hub::TOKEN);
        },
        parts: &["the model is gated", "with the account of the token"],
    },
    Case {
        what: "forbidden",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, |_| Answer::error(403, "", "storage patterns tripped")),
        parts: &["forbids it (403): `storage patterns tripped`", "give the token the right"],
    },
    Case {
        what: "no such host",
        name: "a/b",
        prepare: |_, settings| settings.endpoint = "http://no-such-host.invalid".into(),
        parts: &["the host no-such-host.invalid cannot be found", "--offline"],
    },
    Case {
        what: "connection refused",
        name: "a/b",
        prepare: |_, settings| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            settings.endpoint = format!("http://{free}");
        },
        parts: &["refuses the connection", "HF_ENDPOINT"],
    },
    Case {
        what: "TLS to a server that speaks none",
        name: "a/b",
        prepare: |_, settings| settings.endpoint = settings.endpoint.replace("http:", "https:"),
        parts: &["no trusted connection (TLS) to 127.0.0.1", "SSL_CERT_FILE"],
    },
    Case {
        what: "silent server",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, manner(Manner::Stalled(0, Duration::from_secs(4)))),
        parts: &["sent nothing for 1.2 s, again and again", "HF_HUB_DOWNLOAD_TIMEOUT"],
    },
    Case {
        what: "slow body",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("GET", "store:", ALWAYS, manner(Manner::Slow(Duration::from_millis(4))))
        },
        parts: &["sends fewer than 3334 bytes per second, again and again", "what has arrived is kept"],
    },
    Case {
        what: "too many requests",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, |_| Answer::new(429).with("Retry-After", "30")),
        parts: &["wants fewer requests (429)", "wait 30 s and try again"],
    },
    Case {
        what: "server failure",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, |_| Answer::new(503)),
        parts: &["failed (503), again and again", "try again later"],
    },
    Case {
        what: "body that ends early",
        name: "a/b",
        prepare: |server, _| {
            // Always at the same place: what has arrived does not grow.
            server.trouble_with("GET", "store:", ALWAYS, |answer| {
                let (left, length) = (answer.body.len(), answer.body.len().to_string());
                let cut = left.saturating_sub(30_000);
                Answer { manner: Manner::Truncated(cut), ..answer }.with("Content-Length", &length)
            });
        },
        parts: &["`model.safetensors` ended after 10000 of 40000 bytes, again and again"],
    },
    Case {
        what: "wrong content",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("GET", "store:", ALWAYS, |mut answer| {
                answer.body[77] ^= 1;
                answer
            });
        },
        parts: &["`model.safetensors` arrived with hash", "instead of", "nothing of it is kept"],
    },
    Case {
        what: "wrong size",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("HEAD", "model.safetensors", ALWAYS, |answer| {
                answer.without("X-Linked-Size").with("X-Linked-Size", "39999")
            });
        },
        parts: &["`model.safetensors` is announced with 39999 bytes and comes with 40000"],
    },
    Case {
        what: "enormous file",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("HEAD", "model.safetensors", ALWAYS, |answer| {
                answer.without("X-Linked-Size").with("X-Linked-Size", "99999999999999")
            });
        },
        parts: &["`model.safetensors` has 99999999999999 bytes, more than is ever fetched"],
    },
    Case {
        what: "no hash",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("HEAD", "model.safetensors", ALWAYS, |answer| answer.without("X-Linked-Etag"));
        },
        parts: &["gives no hash for `model.safetensors`", "HF_ENDPOINT"],
    },
    Case {
        what: "listed file that is not there",
        name: "a/b",
        prepare: |server, _| {
            server
                .trouble_with("HEAD", "README.md", ALWAYS, |_| Answer::error(404, "EntryNotFound", "Entry not found"));
        },
        parts: &["the file `README.md` is listed but not there (404)"],
    },
    Case {
        what: "another commit than was asked for",
        name: "a/b",
        prepare: |server, _| {
            server.trouble_with("HEAD", "README.md", ALWAYS, |answer| {
                answer.without("X-Repo-Commit").with("X-Repo-Commit", "../../../etc")
            });
        },
        parts: &["not what a Hub sends (commit `../../../etc` instead of"],
    },
    Case {
        what: "store that refuses",
        name: "a/b",
        prepare: |server, _| server.trouble_with("GET", "store:", ALWAYS, |_| Answer::new(403)),
        parts: &["the store of large files, 127.0.0.1", "refuses (403)"],
    },
    Case {
        what: "disk full",
        name: "a/b",
        prepare: |_, settings| {
            // A device that takes no byte stands in for the file that should grow.
            let blobs = settings.cache.join("models--a--b/blobs");
            std::fs::create_dir_all(&blobs).unwrap();
            #[cfg(target_os = "linux")]
            std::os::unix::fs::symlink("/dev/full", blobs.join(format!("{}.incomplete", sha256(&weights())))).unwrap();
        },
        parts: &["the disk is full", "HF_HOME"],
    },
    Case {
        what: "cache that cannot be written",
        name: "a/b",
        prepare: |_, settings| {
            std::fs::write(settings.cache.join("file"), "").unwrap();
            settings.cache = settings.cache.join("file");
        },
        parts: &["the cache cannot be written", "set HF_HOME to a folder that you may write to"],
    },
    Case {
        what: "no weights",
        name: "a/card",
        prepare: |server, _| {
            drop(server.add("models/a/card", Repo::with(&[("config.json", b"{}"), ("README.md", b"#")])))
        },
        parts: &["a/card: it has no weights; it holds `README.md`, `config.json`"],
    },
    Case {
        what: "formats that are not read",
        name: "a/keras",
        prepare: |server, _| {
            drop(server.add("models/a/keras", Repo::with(&[("config.json", b"{}"), ("tf_model.h5", b"\x89HDF")])))
        },
        parts: &["in a format that is not read (Keras): `config.json`, `tf_model.h5`"],
    },
    Case {
        what: "no configuration",
        name: "a/bare",
        prepare: |server, _| drop(server.add("models/a/bare", Repo::with(&[("model.safetensors", b"x")]))),
        parts: &["it has no config.json; it holds `model.safetensors`"],
    },
    Case {
        what: "index of parts that are not there",
        name: "a/parts",
        prepare: |server, _| {
            let index = br#"{"weight_map": {"w": "model-00001-of-00001.safetensors"}}"#;
            let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors.index.json", index)];
            server.add("models/a/parts", Repo::with(&files));
        },
        parts: &["its index names `model-00001-of-00001.safetensors`, which it does not hold"],
    },
    Case {
        what: "index that leaves its folder",
        name: "a/escape",
        prepare: |server, _| {
            let index = br#"{"weight_map": {"w": "../../../../outside.safetensors"}}"#;
            let files: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.safetensors.index.json", index)];
            server.add("models/a/escape", Repo::with(&files));
        },
        parts: &["`../../../../outside.safetensors`, which is no file of weights beside it"],
    },
    Case {
        what: "redirects in a circle",
        name: "a/b",
        prepare: |server, _| {
            server.trouble("/api/", ALWAYS, |_| Answer::new(307).with("Location", "/api/models/a/b/revision/main"));
        },
        parts: &["over 10 redirects"],
    },
    Case {
        what: "redirect to another scheme",
        name: "a/b",
        prepare: |server, _| {
            server.trouble("/api/", ALWAYS, |_| Answer::new(302).with("Location", "ftp://a.example/b?signature=secret"))
        },
        parts: &["a redirect to `ftp://a.example/b` is not followed"],
    },
    Case {
        what: "answer that is no JSON",
        name: "a/b",
        prepare: |server, _| {
            server.trouble("/api/", ALWAYS, |answer| Answer { body: b"<html>log in</html>".to_vec(), ..answer });
        },
        parts: &["not what a Hub sends (not the expected JSON: expected value", "such as a proxy"],
    },
    Case {
        what: "answer with a commit that is none",
        name: "a/b",
        prepare: |server, _| {
            server.trouble("/api/", ALWAYS, |_| Answer::json(&serde_json::json!({"sha": "../../x", "siblings": []})));
        },
        parts: &["`sha` is `../../x`, no commit"],
    },
    Case {
        what: "answer that is no HTTP",
        name: "a/b",
        prepare: |server, _| {
            server.trouble("/api/", ALWAYS, manner(Manner::Raw(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec())))
        },
        parts: &["does not answer as a web server"],
    },
    Case {
        what: "connection that closes at once",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, manner(Manner::Raw(Vec::new()))),
        parts: &["the connection to 127.0.0.1", "broke, again and again"],
    },
    Case {
        what: "an answer without a meaning",
        name: "a/b",
        prepare: |server, _| server.trouble("/api/", ALWAYS, |_| Answer::error(418, "", "I'm a teapot")),
        parts: &["unexpected answer 418"],
    },
    Case {
        what: "offline and not in the cache",
        name: "a/b",
        prepare: |_, settings| settings.offline = true,
        parts: &["it is not in the cache (offline)", "once without --offline"],
    },
];
