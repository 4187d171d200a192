//! What a repository holds at a revision: one question to the Hub's API.

use serde::Deserialize;

use super::fault::Fault;
use super::http::{Call, Http, url};
use super::name::{HubName, is_commit, is_safe_path};

/// Commit and files of a repository.
#[derive(Debug, PartialEq)]
pub(super) struct Listing {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// Paths within the repository, safe to append to a folder.
    pub files: Vec<String>,
    /// Whether only some people see it; unknown if the Hub does not say.
    pub private: Option<bool>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    private: Option<bool>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    pub(super) fn fetch(http: &Http, endpoint: &str, name: &HubName, revision: &str) -> Result<Self, Fault> {
        let address = format!("{}/revision/{}", api(endpoint, name), url::part(revision));
        let answer: Answer = http.send(&Call::get(address))?.json(http.patience())?;
        answer.checked()
    }

    /// Reads the text of an answer.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let answer = serde_json::from_slice::<Answer>(bytes);
        answer.map_err(|error| Fault::Malformed(error.to_string()))?.checked()
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == file)
    }
}

impl Answer {
    /// What of it is to be believed.
    fn checked(self) -> Result<Listing, Fault> {
        if !is_commit(&self.sha) {
            return Err(Fault::Malformed(format!("`sha` is {}, no commit", super::name::quote(&self.sha))));
        }
        // A name that would leave the folder cannot be fetched, and nothing that is needed has one.
        let files = self.siblings.into_iter().map(|file| file.rfilename).filter(|file| is_safe_path(file)).collect();
        Ok(Listing { commit: self.sha, files, private: self.private })
    }
}

/// The address of a repository in the API.
pub(super) fn api(endpoint: &str, name: &HubName) -> String {
    format!("{endpoint}/api/{}s/{}", name.repo.kind.word(), name.repo)
}
