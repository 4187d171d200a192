//! Rows of a suite's runs that were made in another folder or on another machine.

use super::measure::Wanted;
use super::results::{Row, Status, read_rows};
use super::run::Run;
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;

/// What `results.jsonl` of other folders say, by the names of the runs.
#[derive(Debug, Default)]
pub struct Known {
    files: Vec<(PathBuf, Vec<String>)>,
    rows: HashMap<String, Row>,
}

impl Known {
    /// Reads all of `files`; of two rows of one run, one that is done, with all that is `wanted` measured, counts, else the later.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`], which names the line, for anything else than rows of runs.
    pub fn read(files: &[PathBuf], wanted: &Wanted) -> Result<Self> {
        let mut known = Self::default();
        for file in files {
            let rows: Vec<Row> = read_rows(file)?.into_iter().map(|row| row.completed().seen_by(wanted)).collect();
            known.files.push((file.clone(), rows.iter().map(|row| row.id.clone()).collect()));
            for row in rows {
                if !known.has(&row.id) || row.status == Status::Done {
                    known.rows.insert(row.id.clone(), row);
                }
            }
        }
        Ok(known)
    }

    /// Whether a run was done. One that failed elsewhere is tried here.
    pub fn has(&self, id: &str) -> bool {
        self.rows.get(id).is_some_and(|row| row.status == Status::Done)
    }

    /// `row`, or what is known from elsewhere where that says more: a run that is open here, or has failed here only. Teachers and
    /// methods are called as they are here.
    pub fn or(&self, row: Row) -> Row {
        match (row.status, self.rows.get(&row.id)) {
            (Status::Open, Some(known)) => known.clone().labelled_as(row),
            (Status::Failed, Some(known)) if known.status == Status::Done => known.clone().labelled_as(row),
            _ => row,
        }
    }

    /// Refuses a file of which nothing belongs to the suite.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn check(&self, runs: &[Run]) -> Result<()> {
        let belongs = |id: &String| runs.iter().any(|run| run.id == *id);
        match self.files.iter().find(|(_, ids)| !ids.iter().any(belongs)) {
            None => Ok(()),
            Some((file, ids)) => Err(Error::file(
                file,
                format!("none of its {} rows is a run of this suite", ids.len()),
                "a recipe, a teacher or the suite has changed since, which makes every run another one",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::suite::page::tests::row;
    use crate::bench::suite::results::write_rows;
    use std::fs;

    #[test]
    fn what_is_done_counts_over_what_is_open_or_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let named = |id: &str, seed: u64, error: Option<&str>| Row { id: id.into(), ..row("ssd", seed, 0.5, error) };
        let (one, two) = (folder.path().join("one.jsonl"), folder.path().join("two.jsonl"));
        write_rows(&one, &[named("a", 1, None), named("b", 1, Some("no luck")), named("c", 1, None)]).unwrap();
        write_rows(&two, &[named("a", 2, Some("later")), named("b", 2, None)]).unwrap();
        let wanted = Wanted { data: "d", test: true, hold_back: 100 };
        let known = Known::read(&[one.clone(), two.clone()], &wanted).unwrap();
        assert!(known.has("a") && known.has("b") && known.has("c") && !known.has("d"));
        let open = |id: &str| Row { status: Status::Open, ..named(id, 9, None) };
        let seeds = ["a", "b", "c", "d"].map(|id| known.or(open(id)).seed);
        assert_eq!(seeds, [1, 2, 1, 9]);
        assert_eq!(known.or(named("c", 9, Some("here"))).seed, 1);
        assert_eq!(known.or(named("c", 9, None)).seed, 9, "what is done here stays");
        let here = known.or(Row { teacher: "WRN".into(), method: "SSD".into(), ..open("a") });
        assert_eq!((&*here.teacher, &*here.method, here.status), ("WRN", "SSD", Status::Done));
        let more = Known::read(&[one.clone(), two.clone()], &Wanted { hold_back: 200, ..wanted }).unwrap();
        assert!(!more.has("a") && more.or(open("c")).status == Status::Open, "other images were held back");
        let other = Known::read(&[one.clone(), two.clone()], &Wanted { data: "e", ..wanted }).unwrap();
        assert!(!other.has("a") && other.or(open("c")).status == Status::Open, "measured on other data");
        let blind = Known::read(std::slice::from_ref(&one), &Wanted { test: false, ..wanted }).unwrap();
        assert!(blind.has("a") && blind.or(open("a")).test.is_none(), "a suite that reads no test set shows none");
        let failed = Known::read(&[two], &wanted).unwrap();
        assert!(!failed.has("a") && failed.or(open("a")).status == Status::Failed, "tried again, and told until then");

        fs::write(&one, "{\"id\": 3}\n").unwrap();
        let message = Known::read(std::slice::from_ref(&one), &wanted).unwrap_err().to_string();
        assert!(message.contains("line 1") && message.contains("one.jsonl"), "{message}");
        fs::write(&one, "").unwrap();
        let message = Known::read(&[one], &wanted).unwrap().check(&[]).unwrap_err().to_string();
        assert!(message.contains("none of its 0 rows"), "{message}");
    }
}
