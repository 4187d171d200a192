//! A model or a dataset by name: from the Hub into the cache, or from the cache alone.

use std::path::{Path, PathBuf};

use super::cache::RepoCache;
use super::fault::{Fault, nothing_for};
use super::http::url;
use super::listing::Listing;
use super::name::{HubName, is_commit};
use super::push::SET;
use super::transfer::{Wanted, bring};
use super::{Hub, Watch, select};
use crate::data::Portion;
use crate::files::PROVENANCE;
use crate::weights::{folder, sharded};
use crate::{Error, Result, data};

/// Where the Hub keeps the parquet form of datasets that came in another.
const CONVERTED: &str = "refs/convert/parquet";

/// Files of a repository, in the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// The folder of the commit in the cache (of a dataset: the folder within it that was named).
    pub folder: PathBuf,
    /// `owner/name`
    pub id: String,
    /// 40 hexadecimal digits.
    pub commit: String,
}

impl Fetched {
    /// `owner/name@commit`: names the same files for ever.
    pub fn source(&self) -> String {
        format!("{}@{}", self.id, self.commit)
    }
}

impl Hub {
    /// The folder of a model: `config.json`, weights, and README and preprocessor configuration if it has them.
    ///
    /// A commit that is whole in the cache is not asked for, where the cache knows of all that may lie beside the weights. If the
    /// Hub cannot be reached, the commit that the cache last saw under the revision serves, and a warning says so.
    ///
    /// # Errors
    /// [`Error::Hub`] for everything that goes wrong there or on the way, [`Error::File`] and [`Error::Io`] for the cache,
    /// [`Error::Interrupted`].
    pub fn model(&self, name: &HubName, watch: &mut dyn Watch) -> Result<Fetched> {
        self.model_if(name, &|_| Ok(()), watch)
    }

    /// As [`Hub::model`], but for weights that are not in the cache: those are fetched only if `accept` does not refuse the folder with
    /// what is to lie beside them.
    ///
    /// # Errors
    /// Those of `accept` too.
    pub fn model_if(
        &self,
        name: &HubName,
        accept: &dyn Fn(&Path) -> Result<()>,
        watch: &mut dyn Watch,
    ) -> Result<Fetched> {
        let whole = |fetched: &Fetched| folder::is_whole(&fetched.folder);
        self.fetch(name, name.revision(), &whole, &select::EXTRAS, &mut |listing| {
            let files = select::model_files(name, listing)?;
            self.bring(name, listing, &files.small, watch)?;
            accept(&self.fetched(name, listing.commit.clone()).folder)?;
            self.bring(name, listing, std::slice::from_ref(&files.weights), watch)?;
            if select::has_parts(&files.weights) {
                let index = self.cache(name).snapshot(&listing.commit).join(&files.weights);
                let parts = sharded::Index::read(&index)?.files();
                if let Some(missing) = parts.iter().find(|part| !listing.has(part)) {
                    let found = format!("its index names {}, which it does not hold", super::name::quote(missing));
                    return Err(nothing_for(name, found).into());
                }
                self.bring(name, listing, &parts, watch)?;
            }
            Ok(())
        })
    }

    /// The folder of a dataset, with the parquet files of `split` (as [`data::Labelled::read`] chooses it) and, of a set, its
    /// `synth.json`; of shards that say in their names how many there are, those that hold the `portion`.
    ///
    /// A dataset without parquet files is looked for in the form that the Hub has converted it to.
    ///
    /// # Errors
    /// As [`Hub::model`]; a split that is not there, or that several folders have. Where no split is asked for and the Hub is not, one
    /// that nothing tells from the one that is meant.
    pub fn dataset(
        &self,
        name: &HubName,
        split: Option<&str>,
        portion: Portion,
        watch: &mut dyn Watch,
    ) -> Result<Fetched> {
        let found = match self.dataset_at(name, name.revision(), split, portion, watch) {
            Ok(None) if name.revision.is_none() => match self.dataset_at(name, CONVERTED, split, portion, watch) {
                Err(Error::Hub { absent: true, .. }) => None, // it was not converted
                converted => converted?,
            },
            // Without the Hub nobody knows that there are no tables in `main`: what it has converted may be in the cache.
            Err(error @ Error::Hub { .. }) if name.revision.is_none() && self.knows(name, CONVERTED) => {
                self.dataset_at(name, CONVERTED, split, portion, watch).map_err(|_| error)?
            }
            found => found?,
        };
        found.ok_or_else(|| nothing_for(name, "it has no parquet file"))
    }

    /// Whether the cache knows a commit of `revision`.
    fn knows(&self, name: &HubName, revision: &str) -> bool {
        self.cache(name).commit_of(revision).is_some()
    }

    /// The folder of a set that `synth push` has sent, with all that belongs to it.
    ///
    /// # Errors
    /// As [`Hub::model`]; a dataset that is no set.
    pub fn set(&self, name: &HubName, watch: &mut dyn Watch) -> Result<Fetched> {
        let whole = |fetched: &Fetched| {
            let shards = data::shards(&fetched.folder.join("data"), Some("train"));
            fetched.folder.join(PROVENANCE).is_file() && shards.is_ok_and(|found| found.is_some())
        };
        self.fetch(name, name.revision(), &whole, &SET, &mut |listing| {
            let files = select::set_files(name, listing)?;
            self.bring(name, listing, &files, watch)
        })
    }

    fn dataset_at(
        &self,
        name: &HubName,
        revision: &str,
        split: Option<&str>,
        portion: Portion,
        watch: &mut dyn Watch,
    ) -> Result<Option<Fetched>> {
        let mut empty = false;
        let chosen = |fetched: &Fetched| data::shards_for(&fetched.folder, split, portion).ok().flatten();
        // The cache may lack the split that would be taken where none is asked for.
        let is_meant = |found: &str| split.is_some() || data::comes_first(found);
        let whole = |fetched: &Fetched| chosen(fetched).is_some_and(|(found, _)| is_meant(&found));
        let fetched = self.fetch(name, revision, &whole, &[], &mut |listing| {
            let files = select::dataset_files(name, listing, split)?;
            empty = files.is_none();
            self.bring_rows(name, listing, &files.unwrap_or_default(), portion, watch)?;
            match self.bring(name, listing, &select::about_set(name, listing), watch) {
                Err(fault) if !matches!(fault, Fault::Interrupted) => {
                    // What a set says of itself is good to have, and nothing that its images have to wait for.
                    tracing::debug!("{}", fault.about(name, &self.settings.endpoint));
                    Ok(())
                }
                brought => brought,
            }
        });
        let cached = || self.cache(name).commit_of(revision).and_then(|commit| chosen(&self.fetched(name, commit)));
        let fetched = fetched.map_err(|error| match (error, split.map_or_else(cached, |_| None)) {
            (Error::Hub { name, found, hint, absent }, Some((split, _))) => {
                let hint = format!("{hint}; or name the split `{split}`, which is in the cache, if that is meant");
                Error::Hub { name, found, hint, absent }
            }
            (error, _) => error,
        })?;
        Ok((!empty).then_some(fetched))
    }

    /// Fetches shards, one after another until they hold the `portion`. A missing shard that nobody would notice afterwards is
    /// not left out.
    fn bring_rows(
        &self,
        name: &HubName,
        listing: &Listing,
        files: &[String],
        portion: Portion,
        watch: &mut dyn Watch,
    ) -> std::result::Result<(), Fault> {
        let numbered = files.iter().all(|file| data::says_its_place(Path::new(file)));
        let Some(wanted) = portion.rows().filter(|_| numbered) else {
            return self.bring(name, listing, files, watch);
        };
        let mut rows = 0;
        for file in portion.order(files.len()).map(|number| &files[number]) {
            self.bring(name, listing, std::slice::from_ref(file), watch)?;
            rows += data::rows(&self.cache(name).snapshot(&listing.commit).join(file))?;
            if rows >= wanted {
                break;
            }
        }
        Ok(())
    }

    /// Asks for the commit of `revision` and lets `bring` fetch what is needed of it; or finds it in the cache if `whole`. Of a
    /// commit that others have fetched, files that it may have (`optional`) can be missing: while nothing is known of them, the Hub
    /// is asked.
    fn fetch(
        &self,
        name: &HubName,
        revision: &str,
        whole: &dyn Fn(&Fetched) -> bool,
        optional: &[&str],
        bring: &mut dyn FnMut(&Listing) -> std::result::Result<(), Fault>,
    ) -> Result<Fetched> {
        let said = |fault: Fault| fault.about(&name.at(revision), &self.settings.endpoint);
        let cache = self.cache(name);
        let cached = cache.commit_of(revision).map(|commit| self.fetched(name, commit)).filter(whole);
        let settled = |commit: &str| is_commit(revision) && optional.iter().all(|file| cache.knows(commit, file));
        if let Some(found) = cached.clone().filter(|found| self.settings.offline || settled(&found.commit)) {
            return Ok(found);
        }
        if self.settings.offline {
            return Err(said(Fault::Offline));
        }
        let or_cached = |fault: Fault, cached: Option<Fetched>| match cached {
            Some(found) => {
                tracing::warn!("{}; the cache serves: {}", said(fault), found.source());
                Ok(found)
            }
            None => Err(said(fault)),
        };
        // Whatever the Hub says of it now, a commit stays what it is.
        let stays = |fault: &Fault| is_commit(revision) && !matches!(fault, Fault::Interrupted);
        let listing = match Listing::fetch(self.http()?, &self.settings.endpoint, name, revision) {
            Ok(listing) => listing,
            Err(fault) => {
                let serves = fault.is_network() || stays(&fault);
                return or_cached(fault, cached.filter(|_| serves));
            }
        };
        if let Err(fault) = bring(&listing) {
            let serves = stays(&fault);
            return or_cached(fault, cached.filter(|_| serves));
        }
        let mut lacking = optional.iter().filter(|file| !listing.has(file));
        if let Err(error) = lacking.try_for_each(|file| cache.note_absent(&listing.commit, file)) {
            tracing::debug!("{error}"); // it saves a question, and a cache that is complete may be read-only
        }
        cache.note(revision, &listing.commit)?;
        Ok(self.fetched(name, listing.commit))
    }

    fn fetched(&self, name: &HubName, commit: String) -> Fetched {
        let mut folder = self.cache(name).snapshot(&commit);
        folder.extend(&name.folder);
        Fetched { folder, id: name.repo.to_string(), commit }
    }

    fn cache(&self, name: &HubName) -> RepoCache {
        RepoCache::new(&self.settings.cache, &name.repo)
    }

    /// Fetches files of a commit that are not in its snapshot yet. All are asked for before the first is fetched, so that the
    /// whole size is known, and none is in the snapshot before the last is there: a part would pass for the whole.
    fn bring(
        &self,
        name: &HubName,
        listing: &Listing,
        files: &[String],
        watch: &mut dyn Watch,
    ) -> std::result::Result<(), Fault> {
        let (http, cache, commit) = (self.http()?, self.cache(name), &listing.commit);
        let missing = files.iter().filter(|file| !cache.snapshot(commit).join(file).exists());
        let ask = |file: &String| {
            let base = format!("{}/{}{}", self.settings.endpoint, name.repo.kind.prefix(), name.repo);
            Wanted::ask(http, file, format!("{base}/resolve/{commit}/{}", url::path(file)), commit)
        };
        let wanted = missing.map(ask).collect::<std::result::Result<Vec<_>, _>>()?;
        let total = wanted.iter().map(|one| one.size).sum();
        let mut before = 0;
        for one in &wanted {
            bring(http, &cache, one, &mut |done| watch.progress(&one.file, before + done, total))?;
            before += one.size;
        }
        wanted.iter().try_for_each(|one| cache.link(commit, &one.file, one.hash.hex()))?;
        Ok(())
    }
}

impl HubName {
    /// The same repository at another revision, for messages.
    fn at(&self, revision: &str) -> Self {
        let is_other = revision != self.revision();
        Self { revision: is_other.then(|| revision.to_string()).or_else(|| self.revision.clone()), ..self.clone() }
    }
}

impl From<Fault> for Error {
    /// For faults that cannot concern a repository.
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Local(error) => error,
            _ => Error::Interrupted,
        }
    }
}
