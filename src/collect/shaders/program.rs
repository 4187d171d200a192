//! A program: patterns seen through warps, coloured, laid over each other and lit.

use super::colouring::Colouring;
use super::pattern::Pattern;
use super::warp::{Warp, turned};
use super::{LANES, Lanes};
use crate::rng::Stream;
use rand::RngExt;

/// Everything that determines an image, whatever its size.
pub struct Program {
    layers: Vec<Layer>,
    /// How each layer but the first is laid over those before it.
    blends: Vec<Blend>,
    finish: Finish,
}

/// A pattern with its view and its colours.
struct Layer {
    zoom: f32,
    turns: f32,
    shift: [f32; 2],
    warps: Vec<Warp>,
    pattern: Pattern,
    colouring: Colouring,
    /// Whether slopes are lit, and from where.
    light: Option<[f32; 2]>,
}

/// How a layer is laid over what is there.
enum Blend {
    Mean,
    Multiply,
    Screen,
    Difference,
    Lightest,
    /// Where another pattern is high.
    Masked(Box<Layer>),
}

/// What is done to the whole image.
#[derive(Clone, Copy, Debug)]
enum Finish {
    Nothing,
    /// Darker towards the corners.
    Vignette,
    /// Few levels per channel.
    Poster,
    /// Paler, as through fog.
    Fog,
}

impl Program {
    pub fn random(rng: &mut Stream) -> Self {
        let count = [1, 1, 1, 2, 2, 2, 3][rng.random_range(0..7)];
        let layers = (0..count).map(|_| Layer::random(rng)).collect();
        let blends = (1..count).map(|_| Blend::random(rng)).collect();
        let finish = [Finish::Nothing, Finish::Nothing, Finish::Nothing, Finish::Vignette, Finish::Poster, Finish::Fog]
            [rng.random_range(0..6)];
        Self { layers, blends, finish }
    }

    /// The program without its numbers: which operations there are, and how they are arranged.
    pub fn structure(&self) -> String {
        let mut text = String::new();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                self.blends[i - 1].structure(&mut text);
            }
            layer.structure(&mut text);
        }
        text.push_str(&format!(" {:?}", self.finish));
        text
    }

    /// Colours on a grid of `height` x `width` points.
    pub fn colours(&self, height: usize, width: usize) -> Vec<[f32; 3]> {
        let mut canvas = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            let colours = layer.colours(height, width);
            match i {
                0 => canvas = colours,
                _ => self.blends[i - 1].lay(&mut canvas, &colours, height, width),
            }
        }
        self.finish.apply(&mut canvas, height, width);
        canvas
    }
}

impl Layer {
    fn random(rng: &mut Stream) -> Self {
        let warps = [0, 0, 1, 1, 1, 2, 2, 3][rng.random_range(0..8)];
        Self {
            zoom: 0.6 * 4f32.powf(rng.random()),
            turns: rng.random(),
            shift: [rng.random_range(-0.7..0.7), rng.random_range(-0.7..0.7)],
            warps: (0..warps).map(|_| Warp::random(rng)).collect(),
            pattern: Pattern::random(rng),
            colouring: Colouring::random(rng),
            light: rng.random_bool(0.25).then(|| [rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0)]),
        }
    }

    fn structure(&self, text: &mut String) {
        self.warps.iter().for_each(|warp| text.push_str(&format!("{}>", warp.name())));
        self.pattern.structure(text);
        text.push_str(&format!(":{}{}", self.colouring.name(), if self.light.is_some() { "+light" } else { "" }));
    }

    /// The pattern on a grid, brought to a mean of 0 and a standard deviation of 1.
    fn field(&self, height: usize, width: usize) -> Vec<f32> {
        let count = height * width;
        let scale = 2.0 / height.min(width) as f32;
        let mut field = Vec::with_capacity(count + LANES);
        let (mut x, mut y, mut out): (Lanes, Lanes, Lanes) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for start in (0..count).step_by(LANES) {
            for i in 0..LANES {
                let (row, column) = ((start + i) / width, (start + i) % width);
                let (u, v) = ((column as f32 + 0.5) * scale - 1.0, (row as f32 + 0.5) * scale - 1.0);
                let (u, v) = turned(u + self.shift[0], v + self.shift[1], self.turns);
                (x[i], y[i]) = (u * self.zoom, v * self.zoom);
            }
            self.warps.iter().for_each(|warp| warp.apply(&mut x, &mut y));
            self.pattern.values(&x, &y, &mut out);
            field.extend_from_slice(&out);
        }
        field.truncate(count);
        standardise(&mut field);
        field
    }

    fn colours(&self, height: usize, width: usize) -> Vec<[f32; 3]> {
        let field = self.field(height, width);
        let mut colours: Vec<[f32; 3]> = field.iter().map(|value| self.colouring.of(*value)).collect();
        if let Some([east, south]) = self.light {
            let scale = height.min(width) as f32 * 0.05;
            for (at, colour) in colours.iter_mut().enumerate() {
                let (right, below) = ((at % width + 1).min(width - 1), (at / width + 1).min(height - 1));
                let slope = east * (field[at / width * width + right] - field[at])
                    + south * (field[below * width + at % width] - field[at]);
                let light = 1.0 + (scale * slope).clamp(-0.7, 0.7);
                *colour = colour.map(|value| (value * light).clamp(0.0, 1.0));
            }
        }
        colours
    }
}

/// Mean 0 and standard deviation 1, what is no number 0; a field without any differences stays 0.
fn standardise(field: &mut [f32]) {
    field.iter_mut().for_each(|v| *v = if v.is_finite() { v.clamp(-1e4, 1e4) } else { 0.0 });
    let n = field.len().max(1) as f64;
    let mean = field.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    let variance = field.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
    let scale = if variance > 1e-12 { 1.0 / variance.sqrt() } else { 0.0 };
    field.iter_mut().for_each(|v| *v = ((f64::from(*v) - mean) * scale) as f32);
}

impl Blend {
    fn random(rng: &mut Stream) -> Self {
        match rng.random_range(0..8) {
            0 => Self::Mean,
            1 => Self::Multiply,
            2 => Self::Screen,
            3 => Self::Difference,
            4 => Self::Lightest,
            _ => Self::Masked(Box::new(Layer::random(rng))),
        }
    }

    fn structure(&self, text: &mut String) {
        match self {
            Self::Mean => text.push_str(" mean "),
            Self::Multiply => text.push_str(" multiply "),
            Self::Screen => text.push_str(" screen "),
            Self::Difference => text.push_str(" difference "),
            Self::Lightest => text.push_str(" lightest "),
            Self::Masked(mask) => {
                text.push_str(" where[");
                mask.structure(text);
                text.push_str("] ");
            }
        }
    }

    fn lay(&self, canvas: &mut [[f32; 3]], colours: &[[f32; 3]], height: usize, width: usize) {
        let each = |canvas: &mut [[f32; 3]], f: fn(f32, f32) -> f32| {
            for (a, b) in canvas.iter_mut().flatten().zip(colours.iter().flatten()) {
                *a = f(*a, *b);
            }
        };
        match self {
            Self::Mean => each(canvas, |a, b| 0.5 * (a + b)),
            Self::Multiply => each(canvas, |a, b| a * (0.25 + 0.75 * b)),
            Self::Screen => each(canvas, |a, b| 1.0 - (1.0 - a) * (1.0 - b)),
            Self::Difference => each(canvas, |a, b| (a - b).abs()),
            Self::Lightest => each(canvas, f32::max),
            Self::Masked(mask) => {
                for ((a, b), value) in canvas.iter_mut().zip(colours).zip(mask.field(height, width)) {
                    let share = (0.5 + 2.0 * value).clamp(0.0, 1.0);
                    *a = [0, 1, 2].map(|c| a[c] + share * (b[c] - a[c]));
                }
            }
        }
    }
}

impl Finish {
    fn apply(self, canvas: &mut [[f32; 3]], height: usize, width: usize) {
        let levels = |value: f32| super::maths::floor(value * 3.99) / 3.0;
        for (at, colour) in canvas.iter_mut().enumerate() {
            *colour = match self {
                Self::Nothing => *colour,
                Self::Vignette => {
                    let (u, v) =
                        (at as f32 % width as f32 / width as f32 - 0.5, (at / width) as f32 / height as f32 - 0.5);
                    colour.map(|value| value * (1.0 - 1.2 * (u * u + v * v)))
                }
                Self::Poster => colour.map(levels),
                Self::Fog => colour.map(|value| 0.35 + 0.5 * value),
            };
        }
    }
}
