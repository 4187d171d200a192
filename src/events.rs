//! What a running stage tells those who watch it: progress bars, the metrics log, tests.

use crate::Result;
use crate::checkpoint::{Resumable, Saved};
use crate::signs::Signs;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// One line of progress.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// `warm-up`, `synthesis`, `adversary`, `distill`, `train`, ...
    pub stage: &'static str,
    /// Rounds or steps done, of `total`.
    pub done: usize,
    pub total: usize,
    /// Images worked on since the last record of this stage.
    pub images: usize,
    /// Named numbers: loss terms, rates, shares.
    pub values: Vec<(&'static str, f64)>,
}

/// A network in training that can be looked at between two updates.
pub trait Pupil {
    /// Writes the weights as they would be kept now into a `.safetensors` file.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    fn write(&self, path: &Path) -> Result<()>;
}

/// Somebody who watches a stage, and may put its state away.
pub trait Observer {
    /// Called after every round or every few steps.
    fn record(&mut self, record: &Record);

    /// Called after every update of a student (or of the adversary, which may become one); most do not look.
    ///
    /// # Errors
    /// What [`Pupil::write`] reports.
    fn updated(&mut self, _stage: &'static str, _pupil: &dyn Pupil) -> Result<()> {
        Ok(())
    }

    /// Called between two steps: the moment at which `state` is whole.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] or [`crate::Error::Paused`] once somebody has asked to stop.
    fn between(&mut self, _stage: &'static str, _state: &dyn Resumable) -> Result<()> {
        check_interrupt()
    }

    /// Called when the last step is over and before the result is made of `state`.
    ///
    /// # Errors
    /// As [`Observer::between`].
    fn ended(&mut self, _stage: &'static str, _state: &dyn Resumable) -> Result<()> {
        check_interrupt()
    }

    /// Called after every batch of an inversion.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] if they are alarming and the run is to stop then.
    fn signs(&mut self, _signs: &Signs) -> Result<()> {
        Ok(())
    }

    /// Called for what is alarming about a finished stage.
    ///
    /// # Errors
    /// [`crate::Error::Failed`] if the run is to stop then.
    fn alarm(&mut self, text: &str) -> Result<()> {
        tracing::error!("alarm: {text}");
        Ok(())
    }

    /// The state from which `stage` goes on, if an earlier process left one.
    ///
    /// # Errors
    /// A state of another run, or damaged ones.
    fn earlier(&mut self, _stage: &'static str) -> Result<Option<Saved>> {
        Ok(None)
    }
}

/// `result`, but if it says that somebody has asked to stop, `state` of `stage` is put away first: for stages that hear of it
/// between two moments at which their state is whole.
///
/// # Errors
/// That of `result`; as [`Observer::between`].
pub fn or_put_away<T>(
    result: Result<T>,
    stage: &'static str,
    state: &dyn Resumable,
    observer: &mut dyn Observer,
) -> Result<T> {
    if let Err(crate::Error::Interrupted) = result {
        observer.between(stage, state)?;
    }
    result
}

/// Nobody.
pub struct Silent;

impl Observer for Silent {
    fn record(&mut self, _: &Record) {}
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks every running stage to stop at its next step.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// `Err(Interrupted)` once somebody has asked to stop.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(crate::Error::Interrupted) } else { Ok(()) }
}
