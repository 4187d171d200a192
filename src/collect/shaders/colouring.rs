//! From the number at a point to its colour.

use super::maths::{cos, floor, fract};
use crate::collect::palette::{any, hsv};
use crate::rng::Stream;
use rand::RngExt;

/// A way to colour numbers, which are about 0 with a standard deviation of 1.
pub enum Colouring {
    /// A cosine per channel.
    Cosines { middle: [f32; 3], swing: [f32; 3], frequency: [f32; 3], phase: [f32; 3] },
    /// From colour to colour.
    Ramp(Vec<[f32; 3]>),
    /// Flat colours with sharp borders.
    Bands(Vec<[f32; 3]>),
    /// All hues.
    Hues { turns: f32, from: f32, saturation: f32 },
    /// Two colours.
    Threshold { at: f32, colours: [[f32; 3]; 2] },
}

impl Colouring {
    pub fn random(rng: &mut Stream) -> Self {
        match rng.random_range(0..8) {
            0..=2 => Self::Cosines {
                middle: [(); 3].map(|()| rng.random_range(0.3..0.7)),
                swing: [(); 3].map(|()| rng.random_range(0.2..0.5)),
                frequency: [(); 3].map(|()| rng.random_range(0.08..0.35)),
                phase: [(); 3].map(|()| rng.random()),
            },
            3..=4 => Self::Ramp((0..rng.random_range(2..=5)).map(|_| any(rng)).collect()),
            5 => Self::Bands((0..rng.random_range(3..=7)).map(|_| any(rng)).collect()),
            6 => Self::Hues {
                turns: rng.random_range(0.08..0.3),
                from: rng.random(),
                saturation: rng.random_range(0.4..1.0),
            },
            _ => Self::Threshold { at: rng.random_range(-0.7..0.7), colours: [any(rng), any(rng)] },
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosines { .. } => "cosines",
            Self::Ramp(_) => "ramp",
            Self::Bands(_) => "bands",
            Self::Hues { .. } => "hues",
            Self::Threshold { .. } => "threshold",
        }
    }

    /// The colour of a number, each channel in 0..1.
    pub fn of(&self, value: f32) -> [f32; 3] {
        match self {
            Self::Cosines { middle, swing, frequency, phase } => {
                [0, 1, 2].map(|c| (middle[c] + swing[c] * cos(frequency[c] * value + phase[c])).clamp(0.0, 1.0))
            }
            Self::Ramp(colours) => {
                let (index, share) = place(value, colours.len() - 1);
                [0, 1, 2].map(|c| colours[index][c] + share * (colours[index + 1][c] - colours[index][c]))
            }
            Self::Bands(colours) => colours[place(value, colours.len()).0],
            Self::Hues { turns, from, saturation } => {
                let value = value.clamp(-1e3, 1e3);
                hsv(fract(from + turns * value), *saturation, 0.6 + 0.4 * cos(1.7 * turns * value))
            }
            Self::Threshold { at, colours } => colours[usize::from(value > *at)],
        }
    }
}

/// In which of `parts` between -2 and 2 a value lies, and how far within it.
fn place(value: f32, parts: usize) -> (usize, f32) {
    let at = ((value + 2.0) / 4.0).clamp(0.0, 1.0) * parts as f32;
    let index = floor(at).min(parts as f32 - 1.0);
    (index as usize, at - index)
}
