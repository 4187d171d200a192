//! Dead leaves: shapes that fall on each other until nothing else can be seen, with the size law of natural images.
//!
//! Radii have a density proportional to `r^-3` between two bounds, which makes the picture look alike at every scale (Lee,
//! Mumford & Huang, "Occlusion models for natural images", 2001). As material for representation learning: Baradad et al.,
//! "Learning to see by looking at noise", 2021.

use super::generated::{Draw, average};
use super::palette::Palette;
use crate::rng::Stream;
use rand::RngExt;
use serde_json::{Value, json};
use std::f32::consts::TAU;

/// Samples per pixel and side: edges are smooth.
const SAMPLES: usize = 2;
/// The smallest radius, as a share of the shorter side, is drawn between these for each image, evenly in its logarithm.
const SMALLEST: (f32, f32) = (0.03, 0.2);
/// The largest radius, as a share of the shorter side.
const LARGEST: f32 = 0.6;
/// Leaves after which what is still open becomes background.
const MOST_LEAVES: usize = 20_000;

/// The generator of dead leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaves;

impl Draw for Leaves {
    fn name(&self) -> &'static str {
        "leaves"
    }

    fn describe(&self) -> Value {
        json!({ "version": 1, "exponent": 3, "smallest_radius": SMALLEST, "largest_radius": LARGEST })
    }

    fn draw(&self, rng: &mut Stream, dims: [usize; 3], out: &mut [u8]) {
        let (height, width) = (dims[0] * SAMPLES, dims[1] * SAMPLES);
        let mut canvas = Canvas { height, width, colours: vec![OPEN; height * width], open: vec![width; height] };
        let style = Style::random(rng);
        let side = height.min(width) as f32;
        let (low, high) = (side * style.smallest, side * LARGEST);
        for _ in 0..MOST_LEAVES {
            if canvas.open.iter().all(|open| *open == 0) {
                break;
            }
            let size = radius(rng, low, high);
            let leaf = Leaf::random(rng, &style, size, [height as f32, width as f32], high);
            canvas.put_below(&leaf);
        }
        let background = style.palette.colour(rng);
        canvas.colours.iter_mut().filter(|colour| **colour == OPEN).for_each(|colour| *colour = background);
        average(&canvas.colours, SAMPLES, dims, out);
    }
}

/// A radius from the density `∝ r^-3` on `[low, high]`.
fn radius(rng: &mut Stream, low: f32, high: f32) -> f32 {
    let (a, b) = (low.powi(-2), high.powi(-2));
    (a - rng.random::<f32>() * (a - b)).powf(-0.5).clamp(low, high)
}

/// What the leaves of one image have in common.
struct Style {
    smallest: f32,
    palette: Palette,
    /// One of the outlines, or a mixture of all.
    outline: Option<u32>,
    /// Share of leaves with a texture.
    textured: f32,
}

impl Style {
    fn random(rng: &mut Stream) -> Self {
        let smallest = SMALLEST.0 * (SMALLEST.1 / SMALLEST.0).powf(rng.random());
        let palette = Palette::random(rng);
        let outline = rng.random_bool(0.5).then(|| rng.random_range(0..OUTLINES));
        let textured = [0.0, 0.0, 0.4, 0.8][rng.random_range(0..4)];
        Self { smallest, palette, outline, textured }
    }
}

/// The edge of a leaf, in coordinates in which its radius is 1.
enum Outline {
    /// Disc or ellipse.
    Ellipse,
    Rectangle,
    /// A regular polygon with so many sides.
    Polygon(f32),
    /// A star or a blossom: so many tips, and how deep they are cut.
    Lobes {
        tips: f32,
        depth: f32,
    },
}

const OUTLINES: u32 = 4;

enum Texture {
    Flat,
    /// From one colour to the other.
    Gradient,
    /// So many stripes.
    Stripes(f32),
    /// A grid of dots.
    Dots(f32),
}

struct Leaf {
    centre: [f32; 2],
    radius: f32,
    /// Height over width.
    aspect: f32,
    turn: [f32; 2],
    outline: Outline,
    texture: Texture,
    colours: [[f32; 3]; 2],
}

impl Leaf {
    fn random(rng: &mut Stream, style: &Style, radius: f32, [height, width]: [f32; 2], margin: f32) -> Self {
        let centre = [height, width].map(|side| rng.random_range(-margin..side + margin));
        let angle = rng.random::<f32>() * TAU;
        let outline = match style.outline.unwrap_or_else(|| rng.random_range(0..OUTLINES)) {
            0 => Outline::Ellipse,
            1 => Outline::Rectangle,
            2 => Outline::Polygon(rng.random_range(3..=6) as f32),
            _ => Outline::Lobes { tips: rng.random_range(3..=8) as f32, depth: rng.random_range(0.15..0.5) },
        };
        let texture = match rng.random::<f32>() < style.textured {
            true => match rng.random_range(0..3) {
                0 => Texture::Gradient,
                1 => Texture::Stripes(rng.random_range(1.0..4.0)),
                _ => Texture::Dots(rng.random_range(1.0..3.0)),
            },
            false => Texture::Flat,
        };
        Self {
            centre,
            radius,
            aspect: rng.random_range(0.35..1.0),
            turn: [angle.cos(), angle.sin()],
            outline,
            texture,
            colours: [style.palette.colour(rng), style.palette.colour(rng)],
        }
    }

    /// Its colour at a point, if it is there.
    fn at(&self, y: f32, x: f32) -> Option<[f32; 3]> {
        let (dy, dx) = ((y - self.centre[0]) / self.radius, (x - self.centre[1]) / self.radius);
        let [cos, sin] = self.turn;
        let (u, v) = (dx * cos + dy * sin, (dy * cos - dx * sin) / self.aspect);
        let inside = match self.outline {
            Outline::Ellipse => u * u + v * v <= 1.0,
            // Half a diagonal is the radius.
            Outline::Rectangle => u.abs().max(v.abs()) <= std::f32::consts::FRAC_1_SQRT_2,
            Outline::Polygon(sides) => {
                let sector = TAU / sides;
                let angle = v.atan2(u).rem_euclid(sector) - sector / 2.0;
                u.hypot(v) * angle.cos() <= (sector / 2.0).cos()
            }
            Outline::Lobes { tips, depth } => u.hypot(v) <= 1.0 - depth * (0.5 - 0.5 * (tips * v.atan2(u)).cos()),
        };
        inside.then(|| self.colour(u, v))
    }

    fn colour(&self, u: f32, v: f32) -> [f32; 3] {
        let share = match self.texture {
            Texture::Flat => 0.0,
            Texture::Gradient => 0.5 + 0.5 * u,
            Texture::Stripes(count) => f32::from((u * count).rem_euclid(1.0) < 0.5),
            Texture::Dots(count) => {
                let cell = |value: f32| (value * count).rem_euclid(1.0) - 0.5;
                f32::from(cell(u).hypot(cell(v)) < 0.3)
            }
        };
        let [a, b] = &self.colours;
        [0, 1, 2].map(|channel| a[channel] + share * (b[channel] - a[channel]))
    }
}

/// No colour that a leaf has.
const OPEN: [f32; 3] = [-1.0; 3];

struct Canvas {
    height: usize,
    width: usize,
    colours: Vec<[f32; 3]>,
    /// Points of each row without a colour.
    open: Vec<usize>,
}

impl Canvas {
    /// Colours what the leaf shows between those that lie on it already: the same picture as putting each on top in the
    /// opposite order.
    fn put_below(&mut self, leaf: &Leaf) {
        let reach = leaf.radius;
        let span = |centre: f32, side: usize| {
            let from = (centre - reach).floor().clamp(0.0, side as f32) as usize;
            from..((centre + reach).ceil().clamp(0.0, side as f32) as usize)
        };
        for y in span(leaf.centre[0], self.height) {
            if self.open[y] == 0 {
                continue;
            }
            for x in span(leaf.centre[1], self.width) {
                let place = &mut self.colours[y * self.width + x];
                if *place == OPEN
                    && let Some(colour) = leaf.at(y as f32 + 0.5, x as f32 + 0.5)
                {
                    *place = colour;
                    self.open[y] -= 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    /// The share of radii above r is (r^-2 - R^-2) / (r0^-2 - R^-2): Kolmogorov's distance of 20,000 draws from it is below
    /// 1.63/√20000 with probability 0.99.
    #[test]
    fn radii_follow_the_inverse_cube() {
        let (low, high) = (2.0f64, 40.0f64);
        let mut rng = Streams::new(5).stream("radii", 0);
        let mut radii: Vec<f64> = (0..20_000).map(|_| f64::from(radius(&mut rng, 2.0, 40.0))).collect();
        radii.sort_by(f64::total_cmp);
        assert!(radii[0] >= low && radii[19_999] <= high);
        let below = |r: f64| (low.powi(-2) - r.powi(-2)) / (low.powi(-2) - high.powi(-2));
        let distance =
            radii.iter().enumerate().map(|(i, r)| (below(*r) - (i as f64 + 0.5) / 20_000.0).abs()).fold(0.0, f64::max);
        assert!(distance < 1.63 / 20_000f64.sqrt(), "{distance}");
    }

    #[test]
    fn every_outline_stays_within_its_radius_and_covers_its_centre() {
        let mut rng = Streams::new(1).stream("leaves", 0);
        for outline in 0..OUTLINES {
            for _ in 0..50 {
                let mut style = Style::random(&mut rng);
                style.outline = Some(outline);
                let leaf = Leaf::random(&mut rng, &style, 10.0, [64.0, 64.0], 20.0);
                let [y, x] = leaf.centre;
                assert!(leaf.at(y, x).is_some());
                let far = (0..360).map(|degree| (degree as f32).to_radians().sin_cos());
                assert!(far.into_iter().all(|(s, c)| leaf.at(y + 10.1 * s, x + 10.1 * c).is_none()));
            }
        }
    }

    #[test]
    fn leaves_cover_images_that_differ() {
        let draw = |index| {
            let mut pixels = vec![0; 32 * 48 * 3];
            Leaves.draw(&mut Streams::new(7).stream("leaves", index), [32, 48, 3], &mut pixels);
            pixels
        };
        let images: Vec<Vec<u8>> = (0..40).map(draw).collect();
        assert_eq!(images[3], draw(3));
        for (i, image) in images.iter().enumerate() {
            let colours: std::collections::BTreeSet<&[u8]> = image.chunks(3).collect();
            assert!(colours.len() > 8, "image {i} has {} colours", colours.len());
            assert!(images[..i].iter().all(|other| other != image));
        }
    }
}
