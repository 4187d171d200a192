//! Fractals: how fast a point escapes under a map of the plane that is applied again and again.

use super::maths::log2;
use crate::rng::Stream;
use rand::RngExt;

/// A fractal and the part of it that is seen.
pub struct Fractal {
    form: Form,
    trap: Trap,
    /// What is added in each step; for the Mandelbrot forms it is the point itself.
    c: [f32; 2],
    /// Middle of the part that is seen, and its size.
    middle: [f32; 2],
    zoom: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Julia,
    CubicJulia,
    Mandelbrot,
    BurningShip,
    Tricorn,
    /// z → (|x|, |y|)/|z|² − c, which folds and turns inside out.
    Kali,
}

/// What is read off the way of a point.
#[derive(Clone, Copy, Debug)]
enum Trap {
    /// When it escapes.
    Time,
    /// How near it comes to the origin.
    Point,
    /// How near it comes to an axis.
    Cross,
}

const STEPS: usize = 32;
const FORMS: [Form; 6] =
    [Form::Julia, Form::CubicJulia, Form::Mandelbrot, Form::BurningShip, Form::Tricorn, Form::Kali];

impl Fractal {
    pub fn random(rng: &mut Stream) -> Self {
        let form = FORMS[rng.random_range(0..FORMS.len())];
        let turn = rng.random::<f32>() * std::f32::consts::TAU;
        let c = match form {
            // Just outside the main cardioid of the Mandelbrot set, where Julia sets are richest.
            Form::Julia => {
                let swell = rng.random_range(1.0..1.12);
                let (a, b) = (turn.cos(), turn.sin());
                [swell * (0.5 * a - 0.25 * (2.0 * turn).cos()), swell * (0.5 * b - 0.25 * (2.0 * turn).sin())]
            }
            Form::CubicJulia => [0.65 * turn.cos(), 0.65 * turn.sin()],
            _ => [rng.random_range(0.4..1.1), rng.random_range(0.3..1.0)],
        };
        let middle = match form {
            Form::Julia | Form::CubicJulia | Form::Kali => [rng.random_range(-0.5..0.5), rng.random_range(-0.5..0.5)],
            // On the border of the main cardioid.
            _ => [0.5 * turn.cos() - 0.25 * (2.0 * turn).cos(), 0.5 * turn.sin() - 0.25 * (2.0 * turn).sin()],
        };
        let zoom = 1.2 * 0.12f32.powf(rng.random());
        let trap = match form {
            Form::Kali => [Trap::Point, Trap::Cross][rng.random_range(0..2)],
            _ => [Trap::Time, Trap::Point, Trap::Cross][rng.random_range(0..3)],
        };
        Self { form, trap, c, middle, zoom }
    }

    pub fn structure(&self, out: &mut String) {
        out.push_str(&format!("{:?}{:?}", self.form, self.trap));
    }

    pub fn value(&self, x: f32, y: f32) -> f32 {
        let (x, y) = (self.middle[0] + self.zoom * x, self.middle[1] + self.zoom * y);
        let own = matches!(self.form, Form::Mandelbrot | Form::BurningShip | Form::Tricorn);
        let (c, mut z) = if own { ([x, y], [0.0, 0.0]) } else { (self.c, [x, y]) };
        let mut nearest = f32::MAX;
        for step in 0..STEPS {
            z = self.form.step(z, c);
            let square = z[0] * z[0] + z[1] * z[1];
            nearest = nearest.min(match self.trap {
                Trap::Cross => z[0].abs().min(z[1].abs()),
                _ => square,
            });
            if square > 64.0 && self.form != Form::Kali {
                return match self.trap {
                    // Smooth between steps: an escape by a larger stride counts less.
                    Trap::Time => (step as f32 + 1.0 - log2(log2(square).max(1.0) / 6.0)).max(0.0).sqrt(),
                    _ => log2(nearest + 1e-4),
                };
            }
        }
        match self.trap {
            Trap::Time => 0.0,
            _ => log2(nearest + 1e-4),
        }
    }
}

impl Form {
    fn step(self, [x, y]: [f32; 2], [a, b]: [f32; 2]) -> [f32; 2] {
        match self {
            Self::Julia | Self::Mandelbrot => [x * x - y * y + a, 2.0 * x * y + b],
            Self::BurningShip => [x * x - y * y + a, 2.0 * (x * y).abs() + b],
            Self::Tricorn => [x * x - y * y + a, -2.0 * x * y + b],
            Self::CubicJulia => [x * (x * x - 3.0 * y * y) + a, y * (3.0 * x * x - y * y) + b],
            Self::Kali => {
                let square = x * x + y * y + 1e-6;
                [x.abs() / square - a, y.abs() / square - b]
            }
        }
    }
}
