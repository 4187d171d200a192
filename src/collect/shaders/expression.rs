//! Random formulas of the two coordinates.

use super::maths::{floor, fract, sin};
use super::{LANES, Lanes};
use crate::rng::Stream;
use rand::RngExt;

/// A formula.
pub enum Expression {
    X,
    Y,
    Constant(f32),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
}

#[derive(Clone, Copy, Debug)]
pub enum Unary {
    Sin,
    Abs,
    Square,
    Fract,
    Root,
    Steps,
}

#[derive(Clone, Copy, Debug)]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Least,
    Greatest,
    Length,
    Divide,
    /// `sin(a + b·sin(...))`, the wave of a wave.
    Modulate,
}

const UNARY: [Unary; 6] = [Unary::Sin, Unary::Abs, Unary::Square, Unary::Fract, Unary::Root, Unary::Steps];
const BINARY: [Binary; 8] = [
    Binary::Add,
    Binary::Subtract,
    Binary::Multiply,
    Binary::Least,
    Binary::Greatest,
    Binary::Length,
    Binary::Divide,
    Binary::Modulate,
];

impl Expression {
    /// A formula of at most `depth` operations one within the other, in which a coordinate occurs.
    pub fn random(rng: &mut Stream, depth: usize) -> Self {
        let inner = |rng: &mut Stream| Box::new(Self::random(rng, depth - 1));
        match depth {
            0 if rng.random_bool(0.5) => Self::X,
            0 => Self::Y,
            _ if rng.random_bool(0.35) => {
                let argument = Self::Binary(Binary::Multiply, inner(rng), Box::new(constant(rng)));
                Self::Unary(UNARY[rng.random_range(0..UNARY.len())], Box::new(argument))
            }
            _ => {
                let right = if rng.random_bool(0.2) { Box::new(constant(rng)) } else { inner(rng) };
                Self::Binary(BINARY[rng.random_range(0..BINARY.len())], inner(rng), right)
            }
        }
    }

    /// The formula without its numbers.
    pub fn structure(&self, out: &mut String) {
        match self {
            Self::X => out.push('x'),
            Self::Y => out.push('y'),
            Self::Constant(_) => out.push('c'),
            Self::Unary(op, a) => {
                out.push_str(&format!("{op:?}("));
                a.structure(out);
                out.push(')');
            }
            Self::Binary(op, a, b) => {
                out.push_str(&format!("{op:?}("));
                a.structure(out);
                out.push(',');
                b.structure(out);
                out.push(')');
            }
        }
    }

    /// Its values at some points.
    pub fn values(&self, x: &Lanes, y: &Lanes, out: &mut Lanes) {
        match self {
            Self::X => *out = *x,
            Self::Y => *out = *y,
            Self::Constant(value) => out.fill(*value),
            Self::Unary(op, a) => {
                a.values(x, y, out);
                op.apply(out);
            }
            Self::Binary(op, a, b) => {
                let mut right = [0.0; LANES];
                a.values(x, y, out);
                b.values(x, y, &mut right);
                op.apply(out, &right);
            }
        }
    }
}

fn constant(rng: &mut Stream) -> Expression {
    let size = 0.3 * 12f32.powf(rng.random());
    Expression::Constant(if rng.random() { size } else { -size })
}

impl Unary {
    fn apply(self, values: &mut Lanes) {
        match self {
            Self::Sin => values.iter_mut().for_each(|v| *v = sin(*v)),
            Self::Abs => values.iter_mut().for_each(|v| *v = v.abs()),
            Self::Square => values.iter_mut().for_each(|v| *v = (*v * *v).min(1e4)),
            Self::Fract => values.iter_mut().for_each(|v| *v = fract(*v)),
            Self::Root => values.iter_mut().for_each(|v| *v = v.abs().sqrt()),
            Self::Steps => values.iter_mut().for_each(|v| *v = floor(*v * 3.0) / 3.0),
        }
    }
}

impl Binary {
    fn apply(self, a: &mut Lanes, b: &Lanes) {
        let each = |a: &mut Lanes, f: fn(f32, f32) -> f32| a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
        match self {
            Self::Add => each(a, |a, b| a + b),
            Self::Subtract => each(a, |a, b| a - b),
            Self::Multiply => each(a, |a, b| (a * b).clamp(-1e4, 1e4)),
            Self::Least => each(a, f32::min),
            Self::Greatest => each(a, f32::max),
            Self::Length => each(a, |a, b| (a * a + b * b).sqrt()),
            Self::Divide => each(a, |a, b| a / (0.1 + b.abs())),
            Self::Modulate => each(a, |a, b| sin(a + 0.5 * sin(b))),
        }
    }
}
