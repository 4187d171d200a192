//! Recorded answers for a set that was collected, some images at a time, so that the work can be put away in between.

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::data::Images;
use crate::distill::record_views;
use crate::events::{Observer, Record};
use crate::ops::store::Store;
use crate::set::{View, Views};
use crate::teacher::Teacher;

/// The name of the stage in records and states.
const STAGE: &str = "views";
/// Images between two moments at which the work can be put away, where they are small.
const AT_ONCE: usize = 500;
/// Bytes of their pixels.
const AT_ONCE_BYTES: usize = 8 << 20;

/// The answers so far, `[n, views, classes]`.
struct Recorded {
    logits: Store<f32>,
}

/// The teacher's answers on every view of every image, going on from the state that `observer` has, if it has one.
///
/// # Errors
/// As [`record_views`]; an interruption.
pub fn record(teacher: &Teacher, images: &Images, list: Vec<View>, observer: &mut dyn Observer) -> Result<Views> {
    let mut recorded = Recorded { logits: Store::new() };
    if let Some(saved) = observer.earlier(STAGE)? {
        recorded.restore(&saved)?;
    }
    let (each, len, total) = (list.len() * teacher.classes, images.image_len(), images.len());
    let at_once = AT_ONCE.min(AT_ONCE_BYTES / len).max(1);
    let mut done = recorded.logits.len() / each;
    while done < total {
        observer.between(STAGE, &recorded)?;
        let next = (done + at_once).min(total);
        let [h, w, c] = [images.height, images.width, images.channels];
        let part = Images::new(images.pixels[done * len..next * len].to_vec(), c, h, w)?;
        recorded.logits.extend(&record_views(teacher, &part, list.clone())?.logits)?;
        observer.record(&Record { stage: STAGE, done: next, total, images: next - done, values: Vec::new() });
        done = next;
    }
    observer.ended(STAGE, &recorded)?;
    Ok(Views { list, logits: recorded.logits })
}

impl Resumable for Recorded {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("logits", &self.logits);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.logits = from.store("logits")?;
        Ok(())
    }
}
