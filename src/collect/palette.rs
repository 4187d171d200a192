//! Colours that go together, or not.

use crate::rng::Stream;
use rand::RngExt;

/// How the colours of an image are chosen.
pub(super) enum Palette {
    /// Anything, each on its own.
    Any,
    /// Some colours and what is near them.
    Near { colours: Vec<[f32; 3]>, spread: f32 },
    /// One hue, from dark to light.
    Tones { hue: f32, saturation: f32 },
}

impl Palette {
    pub fn random(rng: &mut Stream) -> Self {
        match rng.random_range(0..5) {
            0 => Self::Any,
            1 => Self::Tones { hue: rng.random(), saturation: rng.random() },
            _ => {
                let colours = (0..rng.random_range(2..=6)).map(|_| any(rng)).collect();
                Self::Near { colours, spread: rng.random_range(0.0..0.15) }
            }
        }
    }

    /// A colour, each channel in 0..1.
    pub fn colour(&self, rng: &mut Stream) -> [f32; 3] {
        match self {
            Self::Any => any(rng),
            Self::Tones { hue, saturation } => hsv(*hue, *saturation, rng.random()),
            Self::Near { colours, spread } => colours[rng.random_range(0..colours.len())]
                .map(|value| (value + spread * rng.random_range(-1.0f32..1.0)).clamp(0.0, 1.0)),
        }
    }
}

/// Any colour: even in hue, and as often pale as strong.
pub(super) fn any(rng: &mut Stream) -> [f32; 3] {
    hsv(rng.random(), rng.random::<f32>().sqrt(), rng.random_range(0.1..1.0))
}

/// Hue (in turns), saturation and value as red, green and blue.
pub(super) fn hsv(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    [0.0, 2.0 / 3.0, 1.0 / 3.0].map(|phase| {
        let away = ((hue + phase).rem_euclid(1.0) * 6.0 - 3.0).abs() - 1.0;
        value * (1.0 - saturation * (1.0 - away.clamp(0.0, 1.0)))
    })
}

#[cfg(test)]
mod tests {
    use super::hsv;

    #[test]
    fn hues_are_where_they_belong() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]);
        let near = |found: [f32; 3], expected: [f32; 3]| found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(hsv(1.0 / 3.0, 1.0, 0.5), [0.0, 0.5, 0.0]), "{:?}", hsv(1.0 / 3.0, 1.0, 0.5));
        assert!(near(hsv(2.0 / 3.0, 1.0, 1.0), [0.0, 0.0, 1.0]));
        assert!(near(hsv(1.0 / 6.0, 0.5, 1.0), [1.0, 1.0, 0.5]));
    }
}
