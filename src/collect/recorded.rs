//! Recorded answers for a set that was collected, some images at a time, so that the work can be put away in between.

use crate::Result;
use crate::checkpoint::Resumable;
use crate::data::Images;
use crate::distill::record_all;
use crate::events::{Observer, Record};
use crate::set::{View, Views};
use crate::teacher::Teacher;

/// The name of the stage in records and states.
const STAGE: &str = "views";
/// Images between two moments at which the work can be put away, where they are small.
const AT_ONCE: usize = 500;
/// Bytes of their pixels.
const AT_ONCE_BYTES: usize = 8 << 20;

/// The teacher's answers on every view of every image, of which those to the images as they are, `logits`, are there. Goes on from the
/// state that `observer` has, if it has one.
///
/// # Errors
/// As [`record_all`]; an interruption.
pub fn record(
    teacher: &Teacher,
    images: &Images,
    logits: &[f32],
    list: Vec<View>,
    observer: &mut dyn Observer,
) -> Result<Views> {
    let (k, total) = (teacher.classes, images.len());
    let each = list.len() * k;
    let mut views = Views::of(list);
    if let Some(saved) = observer.earlier(STAGE)? {
        views.restore(&saved)?;
    }
    let at_once = AT_ONCE.min(AT_ONCE_BYTES / images.image_len()).max(1);
    let mut done = views.logits.len() / each;
    while done < total {
        observer.between(STAGE, &views)?;
        let next = (done + at_once).min(total);
        for row in done..next {
            views.renew(row, &logits[row * k..][..k])?;
        }
        record_all(teacher, images, &mut views, done..next)?;
        observer.record(&Record { stage: STAGE, done: next, total, images: next - done, values: Vec::new() });
        done = next;
    }
    observer.ended(STAGE, &views)?;
    Ok(views)
}
