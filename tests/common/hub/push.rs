//! The routes that receive: repositories, branches, large files, commits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::repo::{Files, Repo, is_large, oid, sha256};
use super::{Answer, Request, State};

pub fn route(state: &mut State, request: &Request, parts: &[&str]) -> Answer {
    // The address that completes a file in parts carries its own signature.
    if request.header("authorization").is_none() && parts[0] != "complete" {
        return Answer::error(401, "", "Invalid username or password.");
    }
    match parts {
        ["api", "repos", "create"] => create(state, request),
        ["api", "validate-yaml"] => Answer::json(&json!({"errors": [], "warnings": []})),
        ["api", kind, owner, name, "branch", branch] => new_branch(state, &format!("{kind}/{owner}/{name}"), branch),
        ["api", kind, owner, name, "preupload", revision] => {
            preupload(state, &format!("{kind}/{owner}/{name}"), revision, &request.json())
        }
        ["api", kind, owner, name, "commit", revision] => {
            commit(state, &format!("{kind}/{owner}/{name}"), revision, request)
        }
        ["datasets", .., "info", "lfs", "objects", "batch"] | [_, _, "info", "lfs", "objects", "batch"] => {
            batch(state, request)
        }
        ["complete", hash] => complete(state, hash, &request.json()),
        ["verify", hash] => verify(state, hash, &request.json()),
        _ => Answer::error(404, "", "no such route"),
    }
}

fn create(state: &mut State, request: &Request) -> Answer {
    let question = request.json();
    let text = |key: &str| question[key].as_str().unwrap_or_default().to_string();
    let id = format!("{}s/{}/{}", text("type"), text("organization"), text("name"));
    if text("organization") == "somebody-else" {
        return Answer::error(403, "", "You don't have the rights to create a model under this namespace");
    }
    if state.repos.contains_key(&id) {
        return Answer::error(409, "", "You already created this model repo");
    }
    // Two clients, two ways of saying it.
    let private = (question["private"] == true || question["visibility"] == "private") && !state.always_public;
    let mut repo = Repo { private, ..Repo::default() };
    repo.commit("main", "initial commit", Files::from([(".gitattributes".into(), b"*.safetensors lfs\n".to_vec())]));
    state.repos.insert(id.clone(), repo);
    Answer::json(&json!({ "url": format!("{}/{}", home(request), id.trim_start_matches("models/")) }))
}

fn new_branch(state: &mut State, id: &str, branch: &str) -> Answer {
    let Some(repo) = state.repos.get_mut(id) else { return Answer::error(404, "RepoNotFound", "Repository not found") };
    if repo.branches.contains_key(branch) {
        return Answer::error(409, "", "Reference already exists");
    }
    let main = repo.branches["main"].clone();
    repo.branches.insert(branch.into(), main);
    Answer::new(200)
}

fn preupload(state: &State, id: &str, revision: &str, question: &Value) -> Answer {
    let Some(repo) = state.repos.get(id) else { return Answer::error(404, "RepoNotFound", "Repository not found") };
    let Some((_, files)) = repo.at(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let one = |file: &Value| {
        let name = file["path"].as_str().unwrap();
        let there = files.get(name).map(|bytes| oid(name, bytes));
        let sample = STANDARD.decode(file["sample"].as_str().unwrap()).unwrap();
        assert_eq!(sample.len() as u64, file["size"].as_u64().unwrap().min(512), "{name}");
        let mode = if is_large(name) { "lfs" } else { "regular" };
        json!({"path": name, "uploadMode": mode, "shouldIgnore": name == "ignored.json", "oid": there})
    };
    let files: Vec<Value> = question["files"].as_array().unwrap().iter().map(one).collect();
    Answer::json(&json!({ "files": files }))
}

fn batch(state: &State, request: &Request) -> Answer {
    let hub = home(request);
    let one = |object: &Value| {
        let (hash, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
        if state.store.contains_key(hash) {
            return json!({"oid": hash, "size": size});
        }
        let verify = json!({ "href": format!("{hub}/verify/{hash}") });
        let upload = match state.part_size {
            None => json!({"href": format!("{}/upload/{hash}", state.store_url), "header": {"X-Store": "yes"}}),
            Some(part) => {
                let mut header = json!({ "chunk_size": part.to_string() });
                for number in 1..=size.div_ceil(part as u64) {
                    header[format!("{number:05}")] = json!(format!("{}/part/{hash}/{number}", state.store_url));
                }
                json!({"href": format!("{hub}/complete/{hash}"), "header": header})
            }
        };
        json!({"oid": hash, "size": size, "actions": {"upload": upload, "verify": verify}})
    };
    let objects: Vec<Value> = request.json()["objects"].as_array().unwrap().iter().map(one).collect();
    Answer::json(&json!({"transfer": "basic", "objects": objects}))
}

fn complete(state: &mut State, hash: &str, question: &Value) -> Answer {
    let mut whole = Vec::new();
    for (index, part) in question["parts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(
            (&part["partNumber"], &part["etag"]),
            (&json!(index + 1), &json!(format!("\"part-{}\"", index + 1)))
        );
        whole.extend_from_slice(&state.parts[&(hash.to_string(), index + 1)]);
    }
    state.store.insert(hash.into(), whole);
    Answer::new(200)
}

fn verify(state: &State, hash: &str, question: &Value) -> Answer {
    match state.store.get(hash) {
        Some(bytes) if sha256(bytes) == hash && question["size"] == json!(bytes.len()) => Answer::new(200),
        _ => Answer::error(422, "", "the object is not what it should be"),
    }
}

fn commit(state: &mut State, id: &str, revision: &str, request: &Request) -> Answer {
    if state.no_commits {
        return Answer::error(400, "", "no such object");
    }
    let text = String::from_utf8(request.body.clone()).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let message = lines[0]["value"]["summary"].as_str().unwrap().to_string();
    let (mut files, mut gone) = (Files::new(), Vec::new());
    for line in &lines[1..] {
        let value = &line["value"];
        let name = value["path"].as_str().unwrap().to_string();
        if line["key"] == "deletedFile" {
            gone.push(name);
            continue;
        }
        let bytes = match line["key"].as_str() {
            Some("file") => STANDARD.decode(value["content"].as_str().unwrap()).unwrap(),
            Some("lfsFile") => match state.store.get(value["oid"].as_str().unwrap()) {
                Some(bytes) => bytes.clone(),
                None => return Answer::error(400, "", "LFS pointer pointed to a file that does not exist"),
            },
            other => panic!("{other:?}"),
        };
        files.insert(name, bytes);
    }
    let Some(repo) = state.repos.get_mut(id) else { return Answer::error(404, "RepoNotFound", "Repository not found") };
    let pull = request.query == "create_pr=1";
    let branch = if pull { "refs/pr/1" } else { revision };
    let oid = repo.change(branch, &message, files, &gone);
    let page = format!("{}/{}", home(request), id.trim_start_matches("models/"));
    let url = pull.then(|| format!("{page}/discussions/1"));
    let commit = format!("{page}/commit/{oid}");
    Answer::json(&json!({"success": true, "commitOid": oid, "commitUrl": commit, "pullRequestUrl": url}))
}

/// The address under which the server was asked.
fn home(request: &Request) -> String {
    format!("http://{}", request.header("host").unwrap())
}
