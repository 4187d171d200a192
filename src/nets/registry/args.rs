//! Arguments of a family, each checked when it is read, none overlooked.

use super::Shape;
use crate::weights::config::{CLASS_LIMIT, SIDE_LIMIT};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::ops::RangeInclusive;

/// The `model_args` of a configuration, and which of them the family knows.
pub(in crate::nets) struct Args<'a> {
    family: &'a str,
    values: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Args<'a> {
    pub fn new(family: &'a str, values: &'a Map<String, Value>) -> Self {
        Self { family, values, known: Vec::new() }
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.values.get(key)
    }

    /// The error for a value that will not do.
    pub fn refuse(&self, key: &str, found: impl std::fmt::Display, hint: &str) -> Error {
        Error::invalid(format!("{} of {}", key, self.family), format!("found {found}"), hint)
    }

    /// A whole number in `range`.
    pub fn count(&mut self, key: &'static str, range: RangeInclusive<usize>, default: Option<usize>) -> Result<usize> {
        let value = self.get(key);
        let hint = format!("it is a whole number from {} to {}", range.start(), range.end());
        let Some(value) = value else {
            return default.ok_or_else(|| self.refuse(key, "nothing", &hint));
        };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        number.filter(|number| range.contains(number)).ok_or_else(|| self.refuse(key, value, &hint))
    }

    /// A list of whole numbers, each in `range`.
    pub fn list(&mut self, key: &'static str, range: RangeInclusive<usize>, default: &[usize]) -> Result<Vec<usize>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let number = |value: &Value| value.as_u64().and_then(|number| usize::try_from(number).ok());
        let numbers = value.as_array().and_then(|values| {
            values.iter().map(|value| number(value).filter(|number| range.contains(number))).collect()
        });
        let hint = format!("it is a list of whole numbers from {} to {}", range.start(), range.end());
        numbers.ok_or_else(|| self.refuse(key, value, &hint))
    }

    /// A word.
    pub fn text(&mut self, key: &'static str, default: &'static str) -> Result<&'a str> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.refuse(key, value, "it is a word in quotes")),
        }
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.refuse(key, value, "it is true or false")),
        }
    }

    /// A number in `range`.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let hint = match range.start() == range.end() {
            true => format!("only {} is supported", range.start()),
            false => format!("it is a number from {} to {}", range.start(), range.end()),
        };
        let number = value.as_f64().filter(|number| range.contains(number));
        number.ok_or_else(|| self.refuse(key, value, &hint))
    }

    /// Height and width, stated as one side or as two; no larger than those of images.
    pub fn sides(&mut self, key: &'static str) -> Result<Option<[usize; 2]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = |value: &Value| {
            let side = value.as_u64().and_then(|side| usize::try_from(side).ok());
            side.filter(|side| (1..=SIDE_LIMIT).contains(side))
        };
        let pair = value.as_array().and_then(|pair| match &pair[..] {
            [height, width] => Some([number(height)?, number(width)?]),
            _ => None,
        });
        let sides = pair.or(number(value).map(|side| [side, side]));
        let hint = format!("it is one side, or height and width, each from 1 to {SIDE_LIMIT}");
        sides.map(Some).ok_or_else(|| self.refuse(key, value, &hint))
    }

    /// Whether a value other than null is there, for arguments that switch something on by being stated; `default` where
    /// the argument is not there at all.
    pub fn stated(&mut self, key: &'static str, default: bool) -> bool {
        self.get(key).map_or(default, |value| !value.is_null())
    }

    /// Arguments that decide nothing of a trained network.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// `bn_eps`, which is added to variances.
    pub fn eps(&mut self, default: f64) -> Result<f64> {
        let Some(value) = self.get("bn_eps") else { return Ok(default) };
        let eps = value.as_f64().filter(|eps| (1e-12..=1.0).contains(eps));
        eps.ok_or_else(|| self.refuse("bn_eps", value, "it is a number from 1e-12 to 1"))
    }

    /// An argument that has one possible value, whether it is stated or not.
    pub fn fixed(&mut self, key: &'static str, only: Value) -> Result<()> {
        match self.get(key) {
            Some(value) if *value != only => Err(self.refuse(key, value, &format!("only {only} is supported"))),
            _ => Ok(()),
        }
    }

    /// What timm may state of any network: its classes, its images' channels, and what its last layer reads: `avg`, the
    /// average over all pixels, or `token`.
    pub fn of_timm(&mut self, shape: &Shape, pooling: &str) -> Result<()> {
        let classes = self.count("num_classes", 1..=CLASS_LIMIT, Some(shape.num_classes))?;
        if classes != shape.num_classes {
            let hint = format!("the configuration has {} beside it", shape.num_classes);
            return Err(self.refuse("num_classes", classes, &hint));
        }
        self.fixed("global_pool", json!(pooling))?;
        // With which timm builds a network for other than colour images.
        let stated = self.count("in_chans", 1..=4096, Some(shape.channels))?;
        if stated != shape.channels {
            let hint = format!("the images have {}", shape.channels);
            return Err(self.refuse("in_chans", stated, &hint));
        }
        // Of training alone.
        self.ignore(&["drop_rate", "drop_path_rate"]);
        Ok(())
    }

    /// Refuses arguments that the family does not have: a network that ignores one would not be the one described.
    pub fn finish(&self) -> Result<()> {
        let stranger = self.values.keys().find(|key| !self.known.contains(&key.as_str()));
        stranger.map_or(Ok(()), |key| {
            let hint = format!("the arguments are {}", self.known.join(", "));
            Err(Error::invalid(format!("model_args of {}", self.family), format!("unknown argument {key:?}"), hint))
        })
    }
}
