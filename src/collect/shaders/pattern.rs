//! Fields: a number for every point of the plane.

use super::expression::Expression;
use super::fractal::Fractal;
use super::maths::{angle, cos, floor, fract, hash, sin};
use super::{LANES, Lanes};
use crate::rng::Stream;
use rand::RngExt;

/// A field.
pub enum Pattern {
    Formula(Expression),
    Fractal(Fractal),
    /// Noise of several octaves.
    Noise {
        seed: u32,
        octaves: u32,
        gain: f32,
        form: NoiseForm,
    },
    /// Distances to scattered points.
    Cells {
        seed: u32,
        form: CellForm,
        metric: Metric,
    },
    Rings {
        frequency: f32,
    },
    Spiral {
        arms: f32,
        pitch: f32,
    },
    /// Plane waves in several directions.
    Waves(Vec<[f32; 3]>),
    Checkers,
    /// Bricks, each with its own shade.
    Bricks {
        seed: u32,
    },
    /// Hills at scattered places: their sum.
    Hills(Vec<[f32; 3]>),
    /// Petals around the centre.
    Petals {
        count: f32,
        depth: f32,
    },
    /// Shapes in a grid, one in each cell with its own size.
    Tiles {
        seed: u32,
        shape: TileShape,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum NoiseForm {
    Smooth,
    /// Sharp crests.
    Ridges,
    /// Round lumps.
    Billows,
    /// Lines of equal height.
    Contours,
}

#[derive(Clone, Copy, Debug)]
pub enum CellForm {
    /// Distance to the nearest point.
    Nearest,
    /// Distance to the border between two.
    Border,
    /// A shade for each.
    Shade,
}

#[derive(Clone, Copy, Debug)]
pub enum Metric {
    Straight,
    /// Along the axes.
    Blocks,
    /// The longer one of the axes.
    Chess,
}

#[derive(Clone, Copy, Debug)]
pub enum TileShape {
    Discs,
    Squares,
    Diamonds,
    Crosses,
    Arcs,
}

impl Pattern {
    pub fn random(rng: &mut Stream) -> Self {
        let frequency = |rng: &mut Stream| 0.5 * 8f32.powf(rng.random());
        match rng.random_range(0..18) {
            0..=3 => {
                let depth = rng.random_range(2..=4);
                Self::Formula(Expression::random(rng, depth))
            }
            4..=5 => Self::Fractal(Fractal::random(rng)),
            6..=7 => Self::Noise {
                seed: rng.random(),
                octaves: rng.random_range(1..=5),
                gain: rng.random_range(0.4..0.65),
                form: [NoiseForm::Smooth, NoiseForm::Ridges, NoiseForm::Billows, NoiseForm::Contours]
                    [rng.random_range(0..4)],
            },
            8..=9 => Self::Cells {
                seed: rng.random(),
                form: [CellForm::Nearest, CellForm::Border, CellForm::Shade][rng.random_range(0..3)],
                metric: [Metric::Straight, Metric::Blocks, Metric::Chess][rng.random_range(0..3)],
            },
            10 => Self::Rings { frequency: frequency(rng) },
            11 => Self::Spiral { arms: rng.random_range(1..=5) as f32, pitch: frequency(rng) },
            12 => {
                let wave = |rng: &mut Stream| [(); 3].map(|()| rng.random_range(-2.0f32..2.0));
                Self::Waves((0..rng.random_range(2..=5)).map(|_| wave(rng)).collect())
            }
            13 => Self::Checkers,
            14 => Self::Bricks { seed: rng.random() },
            15 => {
                let hill = |rng: &mut Stream| {
                    [rng.random_range(-1.5..1.5), rng.random_range(-1.5..1.5), rng.random_range(0.02..0.4)]
                };
                Self::Hills((0..rng.random_range(3..=9)).map(|_| hill(rng)).collect())
            }
            16 => Self::Petals { count: rng.random_range(2..=9) as f32, depth: rng.random_range(0.2..0.9) },
            _ => Self::Tiles {
                seed: rng.random(),
                shape: [TileShape::Discs, TileShape::Squares, TileShape::Diamonds, TileShape::Crosses, TileShape::Arcs]
                    [rng.random_range(0..5)],
            },
        }
    }

    /// What it is, without its numbers.
    pub fn structure(&self, out: &mut String) {
        match self {
            Self::Formula(expression) => expression.structure(out),
            Self::Fractal(fractal) => fractal.structure(out),
            Self::Noise { form, .. } => out.push_str(&format!("Noise{form:?}")),
            Self::Cells { form, metric, .. } => out.push_str(&format!("Cells{form:?}{metric:?}")),
            Self::Tiles { shape, .. } => out.push_str(&format!("Tiles{shape:?}")),
            Self::Rings { .. } => out.push_str("Rings"),
            Self::Spiral { .. } => out.push_str("Spiral"),
            Self::Waves(_) => out.push_str("Waves"),
            Self::Checkers => out.push_str("Checkers"),
            Self::Bricks { .. } => out.push_str("Bricks"),
            Self::Hills(_) => out.push_str("Hills"),
            Self::Petals { .. } => out.push_str("Petals"),
        }
    }

    /// Its values at some points.
    pub fn values(&self, x: &Lanes, y: &Lanes, out: &mut Lanes) {
        let mut each = |f: &dyn Fn(f32, f32) -> f32| {
            for i in 0..LANES {
                out[i] = f(x[i], y[i]);
            }
        };
        match self {
            Self::Formula(expression) => expression.values(x, y, out),
            Self::Fractal(fractal) => each(&|x, y| fractal.value(x, y)),
            Self::Noise { seed, octaves, gain, form } => {
                each(&|x, y| form.of(octave_sum(x, y, *seed, *octaves, *gain, *form)))
            }
            Self::Cells { seed, form, metric } => each(&|x, y| cells(x, y, *seed, *form, *metric)),
            Self::Rings { frequency } => each(&|x, y| sin((x * x + y * y).sqrt() * frequency)),
            Self::Spiral { arms, pitch } => {
                each(&|x, y| sin(angle(y, x) * arms + (x * x + y * y).sqrt() * pitch));
            }
            Self::Waves(waves) => {
                each(&|x, y| waves.iter().map(|[a, b, phase]| sin(a * x + b * y + phase)).sum());
            }
            Self::Checkers => each(&|x, y| if (floor(2.0 * x) + floor(2.0 * y)) as i32 & 1 == 0 { 1.0 } else { 0.0 }),
            Self::Bricks { seed } => each(&|x, y| bricks(x, y, *seed)),
            Self::Hills(hills) => {
                each(&|x, y| {
                    hills
                        .iter()
                        .map(|[a, b, size]| size / (0.02 + (x - a).powi(2) + (y - b).powi(2)))
                        .sum::<f32>()
                        .min(8.0)
                });
            }
            Self::Petals { count, depth } => {
                each(&|x, y| (x * x + y * y).sqrt() - 1.0 + depth * cos(angle(y, x) * count));
            }
            Self::Tiles { seed, shape } => each(&|x, y| tile(x, y, *seed, *shape)),
        }
    }
}

/// Noise between the points of a grid, smooth, 0..1.
pub(super) fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (left, top) = (floor(x), floor(y));
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (smooth(x - left), smooth(y - top));
    let at = |dx: f32, dy: f32| hash(left + dx, top + dy, seed);
    let (above, below) = (mix(at(0.0, 0.0), at(1.0, 0.0), u), mix(at(0.0, 1.0), at(1.0, 1.0), u));
    mix(above, below, v)
}

fn mix(a: f32, b: f32, share: f32) -> f32 {
    a + share * (b - a)
}

fn octave_sum(x: f32, y: f32, seed: u32, octaves: u32, gain: f32, form: NoiseForm) -> f32 {
    let (mut sum, mut size, mut x, mut y) = (0.0, 1.0, x * 1.5, y * 1.5);
    for octave in 0..octaves {
        let value = 2.0 * noise(x, y, seed.wrapping_add(octave)) - 1.0;
        sum += size
            * match form {
                NoiseForm::Smooth | NoiseForm::Contours => value,
                NoiseForm::Ridges => 1.0 - 2.0 * value.abs(),
                NoiseForm::Billows => value.abs(),
            };
        size *= gain;
        // Turned by an irrational angle, so that the grids of the octaves do not show.
        (x, y) = (1.62 * x + 1.18 * y + 17.3, 1.62 * y - 1.18 * x + 5.7);
    }
    sum
}

impl NoiseForm {
    fn of(self, value: f32) -> f32 {
        match self {
            Self::Contours => sin(3.0 * value),
            _ => value,
        }
    }
}

fn cells(x: f32, y: f32, seed: u32, form: CellForm, metric: Metric) -> f32 {
    let (x, y) = (1.7 * x, 1.7 * y);
    let (left, top) = (floor(x), floor(y));
    let (mut first, mut second, mut shade) = (f32::MAX, f32::MAX, 0.0);
    for cell in 0..9 {
        let (column, row) = (left + (cell % 3) as f32 - 1.0, top + (cell / 3) as f32 - 1.0);
        let dx = (column + hash(column, row, seed) - x).abs();
        let dy = (row + hash(column, row, seed ^ 0x5bd1) - y).abs();
        let distance = match metric {
            Metric::Straight => (dx * dx + dy * dy).sqrt(),
            Metric::Blocks => dx + dy,
            Metric::Chess => dx.max(dy),
        };
        if distance < first {
            (second, first, shade) = (first, distance, hash(column, row, seed ^ 0x1f3a));
        } else {
            second = second.min(distance);
        }
    }
    match form {
        CellForm::Nearest => first,
        CellForm::Border => (second - first).min(0.4),
        CellForm::Shade => shade,
    }
}

fn bricks(x: f32, y: f32, seed: u32) -> f32 {
    let row = floor(3.0 * y);
    let along = 1.5 * x + 0.5 * fract(row * 0.5) + 0.25;
    let (u, v) = (fract(along), fract(3.0 * y));
    let joint = u < 0.06 || v < 0.12;
    if joint { -0.6 } else { hash(floor(along), row, seed) }
}

fn tile(x: f32, y: f32, seed: u32, shape: TileShape) -> f32 {
    let (x, y) = (1.8 * x, 1.8 * y);
    let (column, row) = (floor(x), floor(y));
    let (u, v) = (x - column - 0.5, y - row - 0.5);
    let size = 0.15 + 0.3 * hash(column, row, seed);
    let edge = match shape {
        TileShape::Discs => (u * u + v * v).sqrt() - size,
        TileShape::Squares => u.abs().max(v.abs()) - size,
        TileShape::Diamonds => u.abs() + v.abs() - size * 1.3,
        TileShape::Crosses => u.abs().min(v.abs()) - size * 0.4,
        // Quarter circles around two opposite corners, which join up at random.
        TileShape::Arcs => {
            let u = if size < 0.3 { -u } else { u };
            let corner = |a: f32, b: f32| (((a * a + b * b).sqrt()) - 0.5).abs();
            corner(u + 0.5, v + 0.5).min(corner(u - 0.5, v - 0.5)) - 0.12
        }
    };
    (8.0 * edge).clamp(-1.0, 1.0) + 0.3 * hash(column, row, seed ^ 0x77)
}
