//! What people write behind `--from`, opened: generators, paths, datasets on the Hub.

use super::Access;
use crate::collect::{Source, Wish, open};
use crate::hub::{HubName, Kind};
use crate::report::Transfer;
use crate::teacher::Teacher;
use crate::{Error, Result};

/// Opens what `wishes` name: generators, paths, datasets on the Hub. Of these only the shards that hold the first `limit` rows are
/// fetched, which is enough for a pool of that size.
///
/// # Errors
/// As [`open`] and [`crate::hub::Hub::dataset`].
pub fn open_sources(
    wishes: &[Wish],
    teacher: &Teacher,
    seed: u64,
    limit: Option<usize>,
    access: &Access,
) -> Result<Vec<(Box<dyn Source>, f64)>> {
    let one = |wish: &Wish| {
        let source = match wish.generator(teacher, seed) {
            Some(generator) => generator,
            None => open_named(wish, limit, access)?,
        };
        Ok((source, wish.weight))
    };
    wishes.iter().map(one).collect()
}

fn open_named(wish: &Wish, limit: Option<usize>, access: &Access) -> Result<Box<dyn Source>> {
    let (path, split) = wish.path_and_split();
    let Some(name) = HubName::of_path(&path, Kind::Dataset)? else {
        if !path.exists() {
            let hint =
                "noise, noise:uniform, leaves, shaders, a folder, a dataset, a tar file, a set or a name on the Hub";
            return Err(Error::invalid("--from", format!("there is no {}", path.display()), hint));
        }
        return open(&path, &path.display().to_string(), split, None);
    };
    let (hub, mut transfer) = (access.hub()?, Transfer::stderr("fetching", access.quiet));
    let fetched = match split {
        Some(_) => hub.dataset(&name, split, limit, &mut transfer)?,
        None => match hub.dataset(&name, Some("train"), limit, &mut transfer) {
            // Offline nobody knows which splits there are; the cache may have what was fetched for want of `train`.
            Err(Error::NoSplit { .. } | Error::Hub { absent: true, .. }) => {
                hub.dataset(&name, None, limit, &mut transfer)?
            }
            other => other?,
        },
    };
    open(&fetched.folder, &fetched.source(), split, limit)
}
