//! Label maps: what every pixel of an image should show, for teachers that answer for pixels.
//!
//! Nothing is known of the classes but their number and how much of the teacher's world each seems to take ([`Prior`]), so that
//! chance decides which is where.

use super::prior::Prior;
use crate::rng::{Stream, normal};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// How label maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Two to six classes in smooth regions: the highest of as many fields of slow noise.
    Smooth,
    /// Two to eight classes as in a street or a room: something above a horizon, something behind, a ground that narrows
    /// towards the horizon with verges, and upright things that stand on it, the larger the nearer.
    Scene,
}

/// Parts of a scene that fill it, and at most as many things that stand in it.
const PARTS: usize = 4;
const MOST_THINGS: usize = 9;
/// By how much the field of the class that a map is drawn for is raised, in its standard deviations.
const RAISED: f32 = 0.5;

impl Layout {
    /// A map `[h, w]` for each of `labels`, in which that class is meant to have a place, of the classes of `prior` alone.
    pub(super) fn draw(self, labels: &[u32], prior: &Prior, size: [usize; 2], rng: &mut Stream) -> Vec<u32> {
        let known = prior.len();
        let mut maps = Vec::with_capacity(labels.len() * size[0] * size[1]);
        for &label in labels {
            let most = if self == Self::Smooth { 6 } else { 8 };
            let count = rng.random_range(2.min(known)..=most.min(known));
            let cast = prior.cast(label, count, rng);
            maps.extend(match self {
                Self::Smooth => smooth(&cast, prior, size, rng),
                Self::Scene => scene(&cast, prior, size, rng),
            });
        }
        maps
    }
}

fn smooth(cast: &[u32], prior: &Prior, [h, w]: [usize; 2], rng: &mut Stream) -> Vec<u32> {
    let cell = h.min(w) as f32 / rng.random_range(1.5..6.0f32);
    let [rows, columns] = [h, w].map(|side| (side as f32 / cell).ceil() as usize + 1);
    let fields: Vec<Vec<f32>> = cast.iter().map(|_| normal(rng, rows * columns)).collect();
    // The first is the one that the map is drawn for.
    let raised = |(i, class): (usize, &u32)| prior.raised(*class) + if i == 0 { RAISED } else { 0.0 };
    let raised: Vec<f32> = cast.iter().enumerate().map(raised).collect();
    let mut map = Vec::with_capacity(h * w);
    for y in 0..h {
        for x in 0..w {
            let (fy, fx) = (y as f32 / cell, x as f32 / cell);
            let (top, left, dy, dx) = (fy as usize, fx as usize, fy.fract(), fx.fract());
            let value = |field: &[f32]| {
                let at = |r: usize, c: usize| field[(top + r).min(rows - 1) * columns + (left + c).min(columns - 1)];
                (1.0 - dy) * ((1.0 - dx) * at(0, 0) + dx * at(0, 1)) + dy * ((1.0 - dx) * at(1, 0) + dx * at(1, 1))
            };
            let values: Vec<f32> = fields.iter().zip(&raised).map(|(field, raised)| value(field) + raised).collect();
            map.push(cast[crate::loss::argmax(&values)]);
        }
    }
    map
}

fn scene(cast: &[u32], prior: &Prior, [h, w]: [usize; 2], rng: &mut Stream) -> Vec<u32> {
    // Classes of the cast take the parts, likely ones first; with few things, the last of a large cast may find none left.
    let mut parts = prior.order(cast, rng);
    let more = (parts.len()..PARTS + MOST_THINGS).map(|_| prior.one_of(cast, rng));
    parts.extend(more.collect::<Vec<u32>>());
    let (high, wide) = (h as f32, w as f32);
    let mut share = |low: f32, most: f32| rng.random_range(low..most);
    let (horizon, roofs) = (high * share(0.35, 0.65), high * share(0.05, 0.5));
    let (tilt, vanishing) = (share(-0.15, 0.15), wide * share(0.2, 0.8));
    let (left, right) = (wide * share(-0.6, 0.4), wide * share(0.6, 1.6));
    let [above, behind, ground, verge] = [parts[0], parts[1], parts[2], parts[3]];
    let mut map = Vec::with_capacity(h * w);
    for y in 0..h {
        let depth = ((y as f32 - horizon) / (high - horizon)).max(0.0);
        let edge = |at_bottom: f32| vanishing + (at_bottom - vanishing) * depth;
        for x in 0..w {
            let skyline = roofs.min(horizon) + tilt * (x as f32 - wide / 2.0);
            map.push(match y as f32 {
                y if y < horizon && y < skyline => above,
                y if y < horizon => behind,
                _ if (edge(left)..edge(right)).contains(&(x as f32)) => ground,
                _ => verge,
            });
        }
    }
    let things = rng.random_range(2..=MOST_THINGS);
    let mut bases: Vec<f32> = (0..things).map(|_| rng.random_range(0.0..1.0f32)).collect();
    // The nearer ones stand in front of the others.
    bases.sort_by(f32::total_cmp);
    for (i, base) in bases.into_iter().enumerate() {
        let near = 0.25 + 0.75 * base;
        let foot = horizon + (high - horizon) * base;
        let tall = high * near * rng.random_range(0.15..0.8f32);
        let slim = rng.random_range(0..3) == 0;
        let broad = wide * near * if slim { rng.random_range(0.01..0.05f32) } else { rng.random_range(0.06..0.35f32) };
        let middle = wide * rng.random_range(0.0..1.0f32);
        let within = |from: f32, to: f32, side: usize| {
            (from.max(0.0) as usize).min(side)..(to.max(0.0).ceil() as usize).min(side)
        };
        for y in within(foot - tall, foot, h) {
            map[y * w..][..w][within(middle - broad / 2.0, middle + broad / 2.0, w)].fill(parts[PARTS + i]);
        }
    }
    map
}

/// The share of every class in each cell of a coarser `grid` over a map `[h, w]`: `[rows, columns, classes]`.
pub(super) fn pooled(map: &[u32], [h, w]: [usize; 2], grid: [usize; 2], classes: usize) -> Vec<f32> {
    let mut sums = vec![0f32; grid[0] * grid[1] * classes];
    let mut counts = vec![0f32; grid[0] * grid[1]];
    for (i, class) in map.iter().enumerate() {
        let cell = (i / w * grid[0] / h) * grid[1] + i % w * grid[1] / w;
        sums[cell * classes + *class as usize] += 1.0;
        counts[cell] += 1.0;
    }
    for (cell, count) in sums.chunks_exact_mut(classes).zip(counts) {
        cell.iter_mut().for_each(|sum| *sum /= count.max(1.0));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn known(classes: u32, void: Option<u32>) -> Prior {
        Prior::even((0..classes).filter(|class| Some(*class) != void).collect())
    }

    /// Classes that take much of the teacher's world take much of the maps; those that take little are there all the same, small,
    /// where a map is drawn for them.
    #[test]
    fn maps_have_the_areas_of_their_prior() {
        let shares = [0.4, 0.3, 0.2, 0.04, 0.03, 0.02, 0.01, 0.0];
        for layout in [Layout::Smooth, Layout::Scene] {
            let labels: Vec<u32> = (0..800).map(|i| i % 8).collect();
            let areas = |prior: &Prior| {
                let maps = layout.draw(&labels, prior, [24, 40], &mut Streams::new(2).stream("maps", 0));
                let area = |classes: std::ops::Range<u32>| {
                    maps.iter().filter(|class| classes.contains(class)).count() as f64 / maps.len() as f64
                };
                let there = maps.chunks(24 * 40).zip(&labels).filter(|(map, label)| map.contains(label)).count();
                (area(0..3), area(3..8), there)
            };
            let (even, prior) = (areas(&known(8, None)), areas(&Prior::of((0..8).collect(), &shares)));
            println!("{layout:?}: {even:?} {prior:?}");
            assert!((0.3..0.45).contains(&even.0) && prior.0 > 0.6 && prior.1 > 0.1, "{layout:?}: {even:?} {prior:?}");
            assert!(prior.2 >= 600, "{layout:?}: {} of 800 maps have their class", prior.2);
        }
    }

    /// Several classes, the asked one nearly always among them, in regions: neighbours are mostly alike. Void is nowhere.
    #[test]
    fn maps_have_regions_and_the_class_that_was_asked_for() {
        let size = [24, 40];
        for layout in [Layout::Smooth, Layout::Scene] {
            let labels: Vec<u32> = (0..200).map(|i| i % 8).collect();
            let prior = known(8, Some(5));
            let draw = || layout.draw(&labels, &prior, size, &mut Streams::new(2).stream("maps", 0));
            let maps = draw();
            assert_eq!((maps.len(), draw() == maps), (200 * 24 * 40, true), "{layout:?}");
            assert!(maps.iter().all(|class| *class < 8 && *class != 5), "{layout:?}");
            let (mut there, mut alike, mut kinds) = (0, 0, 0);
            for (map, label) in maps.chunks(24 * 40).zip(&labels) {
                there += usize::from(map.contains(label) || *label == 5);
                alike += map.chunks(40).map(|row| row.windows(2).filter(|two| two[0] == two[1]).count()).sum::<usize>();
                kinds += (0..8).filter(|class| map.contains(class)).count();
            }
            assert!(there >= 170, "{layout:?}: {there} of 200 maps have their class");
            let share = alike as f64 / (200 * 24 * 39) as f64;
            assert!((0.85..0.995).contains(&share), "{layout:?}: {share} of neighbours are alike");
            assert!((400..1200).contains(&kinds), "{layout:?}: {kinds}");
        }
    }

    #[test]
    fn ground_is_below_what_is_above() {
        let maps = Layout::Scene.draw(&[0; 300], &known(12, None), [30, 30], &mut Streams::new(0).stream("maps", 1));
        let mean = |row: usize, other: usize| {
            let same = maps.chunks(900).filter(|map| map[row * 30 + 15] == map[other * 30 + 15]).count();
            same as f64 / 300.0
        };
        assert!(mean(0, 29) < 0.5 * mean(0, 1), "{} {}", mean(0, 29), mean(0, 1));
    }

    #[test]
    fn shares_of_cells_are_counted() {
        let map = [0, 0, 1, 0, 1, 1, 2, 2];
        assert_eq!(pooled(&map, [2, 4], [1, 2], 3), [0.5, 0.5, 0.0, 0.25, 0.25, 0.5]);
        assert_eq!(pooled(&map, [2, 4], [2, 1], 3), [0.75, 0.25, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(pooled(&map[..2], [1, 2], [2, 2], 3)[..6], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn two_classes_are_enough() {
        for layout in [Layout::Smooth, Layout::Scene] {
            let maps = layout.draw(&[1, 0], &known(2, None), [8, 8], &mut Streams::new(0).stream("maps", 2));
            assert!(maps.iter().all(|class| *class < 2));
            let alone = layout.draw(&[1], &known(2, Some(1)), [8, 8], &mut Streams::new(0).stream("maps", 2));
            assert!(alone.iter().all(|class| *class == 0));
        }
    }
}
