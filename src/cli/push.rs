//! `synth push`: a result to the Hugging Face Hub.

use super::{Global, print, print_json, table};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use synth::hub::push::{Contents, Item, Pushed};
use synth::hub::{HubName, Kind};
use synth::report::Transfer;
use synth::{Error, Result, hub};

/// Longest first line of a commit.
const MESSAGE_LIMIT: usize = 200;

/// Send a model or a set to the Hugging Face Hub
///
/// The token of the environment is used (HF_TOKEN, or the file that `hf auth login` writes); it needs write access. Only the
/// files of the result are sent; whatever else lies in the folder is named and left out. What an older result had beside them in the
/// repository, such as further shards of a set, is removed; all else there stays.
#[derive(Args)]
pub struct Push {
    /// Folder of a student, of a trained model or of a set
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Repository; it is made if it is not there
    #[arg(long, value_name = "OWNER/NAME")]
    to: String,
    /// Only the owner sees the repository [default]
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// Everybody sees the repository
    #[arg(long)]
    public: bool,
    /// Branch; it is made if it is not there [default: main]
    #[arg(long, value_name = "BRANCH")]
    revision: Option<String>,
    /// First line of the commit
    #[arg(long, value_name = "TEXT", value_parser = message)]
    message: Option<String>,
    /// Propose the files as a pull request
    #[arg(long)]
    create_pr: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line, not empty.
fn message(text: &str) -> std::result::Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=MESSAGE_LIMIT if !text.contains(char::is_control) => Ok(text.into()),
        _ => Err(format!("give one line of 1 to {MESSAGE_LIMIT} characters")),
    }
}

impl Push {
    pub fn run(&self, global: &Global) -> Result<()> {
        let contents = Contents::of(&self.folder)?;
        let to = self.target(contents.kind)?;
        self.check_licence()?;
        if self.dry_run {
            return self.dry(&contents, &to);
        }
        for name in &contents.skipped {
            tracing::warn!("{name} does not belong to the result and is not sent");
        }
        let local = contents.local_paths()?;
        if let Some(path) = local.first() {
            tracing::warn!("synth.json and README.md name paths of this machine, such as {path}");
        }
        let about = match contents.kind {
            Kind::Model => "Model",
            Kind::Dataset => "Set",
        };
        let usual = format!("{about} made by synth {}", env!("CARGO_PKG_VERSION"));
        let push = hub::push::Push {
            contents: &contents,
            to: &to,
            public: self.public,
            message: self.message.as_deref().unwrap_or(&usual),
            pull_request: self.create_pr,
        };
        let pushed = global.access().hub()?.push(&push, &mut Transfer::stderr("sending", global.quiet || self.json))?;
        self.report(&contents, &pushed)
    }

    /// What everybody may see must say under which licence; what only its owner sees may leave it open.
    fn check_licence(&self) -> Result<()> {
        if synth::weights::licence::is_known(&self.folder) {
            return Ok(());
        }
        let found = "its licence is not known: that of its teacher or its training data applies";
        let hint = "state it with --license when making it, or in the head of README.md";
        if self.public {
            return Err(Error::file(&self.folder, found, format!("{hint}, or push it without --public")));
        }
        tracing::warn!("{}: {found}; before it can be public, {hint}", self.folder.display());
        Ok(())
    }

    fn target(&self, kind: Kind) -> Result<HubName> {
        let name = HubName::parse(&self.to, kind)?;
        if name.revision.is_some() || name.folder.is_some() {
            let found = format!("{name} is more than owner/name");
            return Err(Error::invalid("--to", found, "name the branch with --revision"));
        }
        match &self.revision {
            Some(revision) => HubName::parse(&format!("{}@{revision}", name.repo), kind),
            None => Ok(name),
        }
    }

    fn dry(&self, contents: &Contents, to: &HubName) -> Result<()> {
        let how = |item: &Item| if item.is_large() { "large file (LFS)" } else { "in the commit" };
        if self.json {
            let file = |item: &Item| json!({"name": item.name, "bytes": item.size, "lfs": item.is_large()});
            return print_json(&json!({
                "to": to.to_string(), "kind": to.repo.kind.word(), "private": !self.public, "sent": false,
                "files": contents.items.iter().map(file).collect::<Vec<_>>(), "skipped": contents.skipped,
            }));
        }
        let visibility = if self.public { "public" } else { "private" };
        let mut text = format!("nothing is sent; to {visibility} {} {to} would go:\n", to.repo.kind.word());
        let width = contents.items.iter().map(|item| item.name.len()).max().unwrap_or(0);
        for item in &contents.items {
            text += &format!("  {:<width$}  {:>12}  {}\n", item.name, item.size, how(item));
        }
        text += &format!("{} bytes; the Hub decides which files are large\n", contents.size());
        if !contents.skipped.is_empty() {
            text += &format!("not sent: {}\n", contents.skipped.join(", ").replace(char::is_control, " "));
        }
        print(&text)
    }

    fn report(&self, contents: &Contents, pushed: &Pushed) -> Result<()> {
        if self.json {
            return print_json(&json!({
                "url": pushed.url, "commit": pushed.commit, "pull_request": pushed.pull_request, "sent": pushed.sent,
                "kept": pushed.kept, "removed": pushed.removed, "skipped": contents.skipped,
            }));
        }
        let list = |names: &[String]| if names.is_empty() { "none".into() } else { names.join(", ") };
        let mut rows = vec![
            ("to", pushed.url.clone()),
            ("commit", pushed.commit.clone().unwrap_or_else(|| "none: everything is there already".into())),
            ("sent", list(&pushed.sent)),
            ("there", list(&pushed.kept)),
        ];
        rows.extend((!pushed.removed.is_empty()).then(|| ("removed", list(&pushed.removed))));
        rows.extend(pushed.pull_request.clone().map(|url| ("request", url)));
        print(&table(&rows))
    }
}
