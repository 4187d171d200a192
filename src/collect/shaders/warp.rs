//! Maps of the plane into itself: what a pattern is seen through.

use super::maths::{angle, cos, floor, fract, log2, sin};
use super::pattern::noise;
use super::{LANES, Lanes};
use crate::rng::Stream;
use rand::RngExt;

/// A map of the plane.
pub enum Warp {
    /// Distance and angle become coordinates.
    Polar { repeats: f32 },
    /// As `Polar`, with the logarithm of the distance: a tunnel.
    Tunnel { repeats: f32 },
    /// Mirrored into a sector, as in a kaleidoscope.
    Kaleidoscope { sectors: f32 },
    /// Turned the more, the nearer to the middle.
    Swirl { strength: f32 },
    /// Shifted by waves along the other axis.
    Ripple { frequency: f32, strength: f32 },
    /// Shifted by noise.
    Turbulence { seed: u32, frequency: f32, strength: f32 },
    /// z²
    Square,
    /// 1/z
    Inversion,
    /// The same in every cell of a grid, mirrored in every other.
    Mirrors { size: f32 },
    /// Enlarged in the middle.
    Lens { strength: f32 },
    /// Cut into mosaic pieces of one value each.
    Mosaic { size: f32 },
    /// Folded over lines again and again.
    Folds { offset: f32 },
    /// Slanted.
    Shear { by: f32 },
}

impl Warp {
    pub fn random(rng: &mut Stream) -> Self {
        let sign = if rng.random() { 1.0 } else { -1.0 };
        match rng.random_range(0..15) {
            0 => Self::Polar { repeats: rng.random_range(1..=6) as f32 },
            1 => Self::Tunnel { repeats: rng.random_range(1..=6) as f32 },
            2 => Self::Kaleidoscope { sectors: rng.random_range(3..=9) as f32 },
            3 => Self::Swirl { strength: sign * rng.random_range(0.2..1.0) },
            4 => Self::Ripple { frequency: rng.random_range(0.4..2.5), strength: rng.random_range(0.1..0.5) },
            5..=7 => Self::Turbulence {
                seed: rng.random(),
                frequency: rng.random_range(0.6..2.5),
                strength: rng.random_range(0.2..1.2),
            },
            8 => Self::Square,
            9 => Self::Inversion,
            10 => Self::Mirrors { size: rng.random_range(0.4..1.5) },
            11 => Self::Lens { strength: sign * rng.random_range(0.2..0.7) },
            12 => Self::Mosaic { size: rng.random_range(0.08..0.35) },
            13 => Self::Folds { offset: rng.random_range(0.2..0.7) },
            _ => Self::Shear { by: sign * rng.random_range(0.3..1.2) },
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Polar { .. } => "polar",
            Self::Tunnel { .. } => "tunnel",
            Self::Kaleidoscope { .. } => "kaleidoscope",
            Self::Swirl { .. } => "swirl",
            Self::Ripple { .. } => "ripple",
            Self::Turbulence { .. } => "turbulence",
            Self::Square => "square",
            Self::Inversion => "inversion",
            Self::Mirrors { .. } => "mirrors",
            Self::Lens { .. } => "lens",
            Self::Mosaic { .. } => "mosaic",
            Self::Folds { .. } => "folds",
            Self::Shear { .. } => "shear",
        }
    }

    /// Moves points.
    pub fn apply(&self, x: &mut Lanes, y: &mut Lanes) {
        for i in 0..LANES {
            (x[i], y[i]) = self.of(x[i], y[i]);
        }
    }

    fn of(&self, x: f32, y: f32) -> (f32, f32) {
        match *self {
            Self::Polar { repeats } => ((x * x + y * y).sqrt() * 2.0 - 1.0, angle(y, x) * repeats),
            Self::Tunnel { repeats } => (0.7 * log2(x * x + y * y + 1e-3), angle(y, x) * repeats),
            Self::Kaleidoscope { sectors } => {
                let within = (fract(angle(y, x) * sectors) - 0.5).abs() / sectors;
                let distance = (x * x + y * y).sqrt();
                (distance * cos(within), distance * sin(within))
            }
            Self::Swirl { strength } => turned(x, y, strength / (0.3 + x * x + y * y)),
            Self::Ripple { frequency, strength } => {
                (x + strength * sin(frequency * y), y + strength * sin(frequency * x))
            }
            Self::Turbulence { seed, frequency, strength } => {
                let (u, v) = (frequency * x, frequency * y);
                let shift = |seed| strength * (noise(u, v, seed) - 0.5);
                (x + shift(seed), y + shift(seed ^ 0xa5a5))
            }
            Self::Square => (x * x - y * y, 2.0 * x * y),
            Self::Inversion => {
                let share = 1.0 / (x * x + y * y + 0.02);
                (x * share, -y * share)
            }
            Self::Mirrors { size } => (mirrored(x, size), mirrored(y, size)),
            Self::Lens { strength } => {
                let share = 1.0 + strength * (x * x + y * y - 0.5).clamp(-0.5, 1.0);
                (x * share, y * share)
            }
            Self::Mosaic { size } => ((floor(x / size) + 0.5) * size, (floor(y / size) + 0.5) * size),
            Self::Folds { offset } => (0..4).fold((x, y), |(x, y), _| {
                let (u, v) = turned(x.abs() - offset, y.abs() - offset, 0.11);
                (1.15 * u, 1.15 * v)
            }),
            Self::Shear { by } => (x + by * y, y),
        }
    }
}

/// (x, y) turned by so many turns.
pub(super) fn turned(x: f32, y: f32, turns: f32) -> (f32, f32) {
    let (c, s) = (cos(turns), sin(turns));
    (c * x - s * y, s * x + c * y)
}

/// x within 0..size, going to and fro.
fn mirrored(x: f32, size: f32) -> f32 {
    let within = fract(x / (2.0 * size)) * 2.0;
    size * if within > 1.0 { 2.0 - within } else { within }
}
