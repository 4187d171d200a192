//! What happens when a loss is no number any more: back to a state that was sound, and on with a lower rate.

use crate::checkpoint::{Resumable, Saved, Saver};
use crate::{Error, Result};

/// How often a rate is halved before a run is given up.
const HALVINGS: u32 = 5;

/// Counts how often a stage had to be set back.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Who learns, and the recipe key of its rate.
    who: &'static str,
    key: &'static str,
    halvings: u32,
}

impl Guard {
    pub fn new(who: &'static str, key: &'static str) -> Self {
        Self { who, key, halvings: 0 }
    }

    /// What the recipe's rate is multiplied by.
    pub fn factor(&self) -> f64 {
        0.5f64.powi(self.halvings as i32)
    }

    /// How often the rate was halved.
    pub fn halvings(&self) -> u32 {
        self.halvings
    }

    /// Halves the rate because of what was `found` at `place`.
    ///
    /// # Errors
    /// [`Error::Failed`] with a report, when it has been halved five times.
    pub fn trip(&mut self, found: &str, place: &str) -> Result<()> {
        if self.halvings == HALVINGS {
            let hint = format!("lower {}, or check mean and std of the images", self.key);
            let found = format!(
                "{found} of the {} at {place}, though its rate was halved {HALVINGS} times, to 1/{} of {}",
                self.who,
                1 << HALVINGS,
                self.key
            );
            return Err(Error::Failed { found, hint });
        }
        self.halvings += 1;
        tracing::warn!(
            "{found} of the {} at {place}: back to the last sound state, with 1/{} of {}",
            self.who,
            1 << self.halvings,
            self.key
        );
        Ok(())
    }
}

impl Resumable for Guard {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.value("halvings", self.halvings)
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        self.halvings = from.value("halvings")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_halved_five_times_and_then_the_run_has_failed() {
        let mut guard = Guard::new("student", "student.lr");
        for halvings in 1..=5 {
            guard.trip("the loss is NaN", "step 3").unwrap();
            assert_eq!(guard.factor(), 0.5f64.powi(halvings));
        }
        let text = guard.trip("the loss is NaN", "step 3").unwrap_err().to_string();
        assert!(
            text.contains("the loss is NaN of the student at step 3") && text.contains("1/32 of student.lr"),
            "{text}"
        );
    }
}
