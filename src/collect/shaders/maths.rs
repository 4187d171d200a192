//! Elementary functions made of additions and multiplications alone: the same bits on every machine, many at once.

/// Nearest whole number of |x| < 2^22.
fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 · 2^23: what is added to it loses its fraction
    (x + SHIFT) - SHIFT
}

/// Sine of `turns` full turns, within 0.002; 0 for what is too large to have a phase.
pub fn sin(turns: f32) -> f32 {
    let t = turns.clamp(-1e6, 1e6);
    let t = t - nearest(t);
    let parabola = t * (8.0 - 16.0 * t.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// Cosine of `turns` full turns.
pub fn cos(turns: f32) -> f32 {
    sin(turns + 0.25)
}

/// Angle of (x, y) in turns, -1/2 to 1/2, within 0.0003; 0 at the origin.
pub fn angle(y: f32, x: f32) -> f32 {
    let (a, b) = (x.abs(), y.abs());
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let ratio = low / (high + 1e-30);
    let square = ratio * ratio;
    let eighth = ratio * (0.158_9 + square * (-0.051_2 + square * (0.024_0 - square * 0.006_7)));
    let quarter = if a < b { 0.25 - eighth } else { eighth };
    let half = if x < 0.0 { 0.5 - quarter } else { quarter };
    if y < 0.0 { -half } else { half }
}

/// Logarithm to base 2 of a positive number, within 0.01.
pub fn log2(x: f32) -> f32 {
    let bits = x.max(1e-30).to_bits();
    let exponent = (bits >> 23) as f32 - 127.0;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    exponent + (mantissa - 1.0) * (1.3465 - 0.3465 * (mantissa - 1.0))
}

/// Largest whole number that is not above x, for |x| < 2^22.
pub fn floor(x: f32) -> f32 {
    let whole = nearest(x.clamp(-4e6, 4e6));
    if whole > x { whole - 1.0 } else { whole }
}

/// x within a unit: what is left above [`floor`].
pub fn fract(x: f32) -> f32 {
    x - floor(x)
}

/// A random number in 0..1 for a point of the whole-numbered grid.
pub fn hash(x: f32, y: f32, seed: u32) -> f32 {
    let mut bits = (x as i32 as u32).wrapping_mul(0x9e37_79b1) ^ (y as i32 as u32).wrapping_mul(0x85eb_ca77) ^ seed;
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
    bits = (bits ^ (bits >> 12)).wrapping_mul(0x297a_2d39);
    ((bits ^ (bits >> 15)) >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_their_names_say() {
        for i in -4000..4000 {
            let x = i as f32 * 0.0137;
            assert!((sin(x) - (x * std::f32::consts::TAU).sin()).abs() < 0.002, "sin {x}");
            assert!((cos(x) - (x * std::f32::consts::TAU).cos()).abs() < 0.002, "cos {x}");
            assert_eq!((floor(x), fract(x)), (x.floor(), x - x.floor()), "floor {x}");
            let (s, c) = (x * 0.37).sin_cos();
            assert!((angle(3.0 * s, 3.0 * c) - s.atan2(c) / std::f32::consts::TAU).abs() < 3e-4, "angle {x}");
            if x > 0.0 {
                assert!((log2(x) - x.log2()).abs() < 0.01, "log2 {x}");
            }
        }
        assert_eq!((angle(0.0, 0.0), floor(-0.25), floor(3.0)), (0.0, -1.0, 3.0));
        assert!(sin(f32::MAX).abs() <= 1.0 && log2(0.0).is_finite());
    }

    #[test]
    fn hashes_are_even_and_do_not_repeat() {
        let values: Vec<f32> = (0..10_000).map(|i| hash((i % 100) as f32, (i / 100 - 50) as f32, 7)).collect();
        let mean = values.iter().sum::<f32>() / 1e4;
        let below = values.iter().filter(|v| **v < 0.1).count();
        assert!((mean - 0.5).abs() < 0.01 && (900..1100).contains(&below), "{mean} {below}");
        assert_ne!(hash(1.0, 2.0, 0), hash(2.0, 1.0, 0));
    }
}
