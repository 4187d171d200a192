//! Repositories of the test server: commits, branches, which files are large.

use std::collections::BTreeMap;

use sha1::Digest;

pub type Files = BTreeMap<String, Vec<u8>>;

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    pub private: bool,
    pub gated: bool,
    pub commits: BTreeMap<String, Files>,
    pub branches: BTreeMap<String, String>,
    /// Messages of the commits, oldest first.
    pub messages: Vec<String>,
}

impl Repo {
    pub fn with(files: &[(&str, &[u8])]) -> Self {
        let mut repo = Self::default();
        repo.commit("main", "first", files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect());
        repo
    }

    /// Adds files on top of a branch; gives the commit.
    pub fn commit(&mut self, branch: &str, message: &str, files: Files) -> String {
        self.change(branch, message, files, &[])
    }

    /// Adds files on top of a branch, and removes some that have to be there; gives the commit.
    pub fn change(&mut self, branch: &str, message: &str, files: Files, gone: &[String]) -> String {
        let parent = self.branches.get(branch).or_else(|| self.branches.get("main"));
        let mut all = parent.and_then(|commit| self.commits.get(commit)).cloned().unwrap_or_default();
        for name in gone {
            all.remove(name).unwrap_or_else(|| panic!("no {name}"));
        }
        all.extend(files);
        let mut hasher = sha1::Sha1::new_with_prefix(format!("commit {} {message}", self.commits.len()));
        all.iter().for_each(|(name, bytes)| hasher.update([name.as_bytes(), bytes].concat()));
        let commit = hex(&hasher.finalize());
        self.commits.insert(commit.clone(), all);
        self.branches.insert(branch.into(), commit.clone());
        self.messages.push(message.into());
        commit
    }

    /// Commit and files of a branch or a commit.
    pub fn at(&self, revision: &str) -> Option<(&String, &Files)> {
        let commit = self.branches.get(revision).map(String::as_str).unwrap_or(revision);
        self.commits.get_key_value(commit)
    }

    pub fn main(&self) -> &Files {
        self.at("main").unwrap().1
    }
}

/// Whether the server keeps a file in its store of large files.
pub fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".pth", ".parquet", ".png", ".h5", ".onnx"].iter().any(|ending| name.ends_with(ending))
}

pub fn sha256(bytes: &[u8]) -> String {
    synth::files::sha256_bytes(bytes)
}

pub fn git_blob(bytes: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

/// The hash by which the Hub names a file's content.
pub fn oid(name: &str, bytes: &[u8]) -> String {
    if is_large(name) { sha256(bytes) } else { git_blob(bytes) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
