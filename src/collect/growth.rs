//! The images of a set while they come together: those that were chosen from the pool, then those that are made of them.

use super::boundary::Search;
use super::{Copies, Pool, Selection, Survey, fill, survey};
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::events::{Observer, or_put_away};
use crate::loss::argmax;
use crate::ops::store::Store;
use crate::rng::Streams;
use crate::teacher::Teacher;
use crate::{Error, Result};

/// The name of the stage in states.
const STAGE: &str = "growth";

/// What is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Varied copies for each class.
    pub copies: Vec<usize>,
    /// The least probability with which the teacher is to see the class in them.
    pub least: f64,
    /// Images on both sides of the teacher's borders; see [`super::boundary`].
    pub boundary: usize,
}

/// Images with the teacher's answers.
pub struct Growth {
    /// `[n, H, W, C]`
    pub pixels: Store<u8>,
    /// `[n, classes]`
    pub logits: Store<f32>,
    /// Varied copies that were made, for the classes that were gone through.
    pub filled: Vec<usize>,
    search: Option<Search>,
    /// Values of both arrays that were chosen, and those up to which everything is whole.
    chosen: [usize; 2],
    whole: [usize; 2],
}

impl Growth {
    /// The chosen images, drawn or read again into stores that move to disk at `limit` bytes.
    ///
    /// # Errors
    /// As [`Pool::gather`].
    pub fn of(
        pool: &mut Pool,
        survey: &Survey,
        chosen: &Selection,
        limit: usize,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (mut pixels, mut logits) = (Store::spilling_at(limit), Store::spilling_at(limit));
        let wanted: Vec<_> = chosen.rows.iter().map(|&row| survey.places[row]).collect();
        let gathered = pool.gather(&wanted, &mut pixels);
        or_put_away(gathered, survey::STAGE, survey, observer)?;
        chosen.rows.iter().try_for_each(|&row| logits.extend(survey.answer(row)))?;
        let lengths = [pixels.len(), logits.len()];
        Ok(Self { pixels, logits, filled: Vec::new(), search: None, chosen: lengths, whole: lengths })
    }

    /// Images from the teacher's borders that were added.
    pub fn crossings(&self) -> usize {
        self.search.as_ref().map_or(0, Search::added)
    }

    /// Makes what is wanted, going on from the state that `observer` has, if it has one.
    ///
    /// # Errors
    /// As [`fill`] and [`Search::step`].
    pub fn grow(
        &mut self,
        teacher: &Teacher,
        wanted: &Wanted,
        streams: &Streams,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        if wanted.copies.iter().all(|count| *count == 0) && wanted.boundary == 0 {
            self.filled = vec![0; wanted.copies.len()];
            return Ok(());
        }
        if let Some(saved) = observer.earlier(STAGE)? {
            self.restore(&saved)?;
        }
        let grown = self.go_on(teacher, wanted, streams, observer);
        or_put_away(grown, STAGE, &*self, observer)?;
        observer.ended(STAGE, &*self)
    }

    fn go_on(
        &mut self,
        teacher: &Teacher,
        wanted: &Wanted,
        streams: &Streams,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let mut members = self.members(&wanted.copies, teacher.classes);
        for (class, &missing) in wanted.copies.iter().enumerate().skip(self.filled.len()) {
            observer.between(STAGE, &*self)?;
            let members = std::mem::take(&mut members[class]);
            let copies = Copies { class: class as u32, missing, least: wanted.least };
            let made = fill(teacher, &members, copies, streams, &mut self.pixels, &mut self.logits)?;
            self.filled.push(made);
            self.whole = [self.pixels.len(), self.logits.len()];
        }
        if wanted.boundary == 0 {
            return Ok(());
        }
        let mut search = match self.search.take() {
            Some(search) => search,
            None => Search::new(teacher, &self.logits, wanted.boundary)?,
        };
        loop {
            let done = search.step(teacher, &mut self.pixels, &mut self.logits, streams);
            let over = !matches!(done, Ok(true));
            if done.is_ok() {
                self.whole = [self.pixels.len(), self.logits.len()];
            }
            // A step that failed has left the search as it was.
            self.search = Some(search);
            if over {
                return done.map(|_| ());
            }
            observer.between(STAGE, &*self)?;
            search = self.search.take().ok_or_else(|| Error::shape("growth", "the search went missing"))?;
        }
    }

    /// Rows of the chosen images of every class that lacks some.
    fn members(&self, missing: &[usize], classes: usize) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); missing.len()];
        if missing.iter().all(|count| *count == 0) {
            return members;
        }
        for (row, answer) in self.logits[..self.chosen[1]].chunks_exact(classes).enumerate() {
            let class = argmax(answer);
            if missing.get(class).is_some_and(|count| *count > 0) {
                members[class].push(row);
            }
        }
        members
    }
}

impl Resumable for Growth {
    /// What was chosen is not kept: it is drawn or read again.
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("pixels", &self.pixels[self.chosen[0]..self.whole[0]]);
        to.array("logits", &self.logits[self.chosen[1]..self.whole[1]]);
        to.value("filled", &self.filled)?;
        self.search.as_ref().map_or(Ok(()), |search| to.part("search", search))
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.pixels.extend(&from.array::<u8>("pixels")?)?;
        self.logits.extend(&from.array::<f32>("logits")?)?;
        self.filled = from.value("filled")?;
        self.whole = [self.pixels.len(), self.logits.len()];
        self.search = None;
        if from.has("search") {
            let mut search = Search::default();
            from.restore("search", &mut search)?;
            self.search = Some(search);
        }
        Ok(())
    }
}
