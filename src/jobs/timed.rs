//! The time of a job of several stages, kept in the states of all of them.

use crate::Result;
use crate::checkpoint::{Clock, Resumable, Saved, Saver};
use crate::events::{Observer, Pupil, Record};
use crate::signs::Signs;

/// An observer whose states have the clock of the job in them.
pub(super) struct Timed<'a> {
    observer: &'a mut dyn Observer,
    pub clock: Clock,
}

impl<'a> Timed<'a> {
    /// The clock starts now.
    pub fn new(observer: &'a mut dyn Observer) -> Self {
        Self { observer, clock: Clock::default() }
    }
}

struct WithClock<'a> {
    state: &'a dyn Resumable,
    clock: &'a Clock,
}

impl Resumable for WithClock<'_> {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.part("clock", self.clock)?;
        to.part("own", self.state)
    }

    /// It is taken apart by [`Timed::earlier`].
    fn restore(&mut self, _: &Saved) -> Result<()> {
        Ok(())
    }
}

impl Observer for Timed<'_> {
    fn record(&mut self, record: &Record) {
        self.observer.record(record);
    }

    fn updated(&mut self, stage: &'static str, pupil: &dyn Pupil) -> Result<()> {
        self.observer.updated(stage, pupil)
    }

    fn between(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.observer.between(stage, &WithClock { state, clock: &self.clock })
    }

    fn ended(&mut self, stage: &'static str, state: &dyn Resumable) -> Result<()> {
        self.observer.ended(stage, &WithClock { state, clock: &self.clock })
    }

    fn signs(&mut self, signs: &Signs) -> Result<()> {
        self.observer.signs(signs)
    }

    fn alarm(&mut self, text: &str) -> Result<()> {
        self.observer.alarm(text)
    }

    fn earlier(&mut self, stage: &'static str) -> Result<Option<Saved>> {
        let Some(saved) = self.observer.earlier(stage)? else { return Ok(None) };
        saved.restore("clock", &mut self.clock)?;
        Ok(Some(saved.part("own")))
    }
}
