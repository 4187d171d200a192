//! What people write behind `--from`, opened: generators, paths, datasets on the Hub.

use super::Access;
use crate::collect::{Source, Wish, open};
use crate::data::Portion;
use crate::hub::{HubName, Kind};
use crate::report::Transfer;
use crate::teacher::Teacher;
use crate::{Error, Result};

/// Opens what `wishes` name: generators, paths, datasets on the Hub. Of these only as many shards from all over the split are
/// fetched as hold `rows` rows, which is enough for a pool of that size.
///
/// # Errors
/// As [`open`] and [`crate::hub::Hub::dataset`].
pub fn open_sources(
    wishes: &[Wish],
    teacher: &Teacher,
    seed: u64,
    rows: usize,
    access: &Access,
) -> Result<Vec<(Box<dyn Source>, f64)>> {
    let one = |wish: &Wish| {
        let source = match wish.generator(teacher, seed) {
            Some(generator) => generator,
            None => open_named(wish, Portion::Spread(rows), access)?,
        };
        Ok((source, wish.weight))
    };
    wishes.iter().map(one).collect()
}

fn open_named(wish: &Wish, portion: Portion, access: &Access) -> Result<Box<dyn Source>> {
    let (path, split) = wish.path_and_split();
    let Some(name) = HubName::of_path(&path, Kind::Dataset)? else {
        if !path.exists() {
            let hint =
                "noise, noise:uniform, leaves, shaders, a folder, a dataset, a tar file, a set or a name on the Hub";
            return Err(Error::invalid("--from", format!("there is no {}", path.display()), hint));
        }
        return open(&path, &path.display().to_string(), split, Portion::Whole);
    };
    let (hub, mut transfer) = (access.hub()?, Transfer::stderr("fetching", access.quiet));
    let fetched = match split {
        Some(_) => hub.dataset(&name, split, portion, &mut transfer)?,
        None => match hub.dataset(&name, Some("train"), portion, &mut transfer) {
            Err(Error::NoSplit { .. }) => hub.dataset(&name, None, portion, &mut transfer)?,
            other => other?,
        },
    };
    open(&fetched.folder, &fetched.source(), split, portion)
}
