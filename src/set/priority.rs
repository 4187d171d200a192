//! Prioritised sampling with importance weights: images on which teacher and student differ come up more often, and
//! the bias is taken back in the loss (Schaul et al., "Prioritized Experience Replay", 2016, as SSD-KD uses it).

use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::rng::Stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Exponents of the sampler.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriorityRule {
    /// How sharply the gap decides: `P_i ∝ (|δ_i| + ε)^α`; 0 is uniform.
    pub alpha: f64,
    /// How much of the bias is taken back: `w_i = (N·P_i)^(−β)`; 1 is all.
    pub beta: f64,
    /// Temperature of the gap `KL(teacher ‖ student)`; the distillation temperature would make it flat.
    pub temperature: f64,
}

impl Default for PriorityRule {
    fn default() -> Self {
        Self { alpha: 0.6, beta: 0.4, temperature: 1.0 }
    }
}

impl PriorityRule {
    /// `(|δ| + ε)^α`
    fn mass(&self, gap: f64) -> f64 {
        (gap.abs() + EPSILON).powf(self.alpha)
    }
}

const EPSILON: f64 = 1e-6;
/// Bounds of a remembered weight, so that one rare image cannot take over.
const WEIGHT_BOUNDS: (f64, f64) = (0.05, 20.0);

/// The gap and the last importance weight of every stored image.
#[derive(Clone, Debug)]
pub struct Priorities {
    rule: PriorityRule,
    /// δ_i = w_{i−1}·KL; an image enters with the largest one of that moment, or 1, and has it until somebody looks at it.
    gap: Vec<f64>,
    /// `(|δ_i| + ε)^α` of every gap: a power per image and step would cost more than the draw.
    mass: Vec<f64>,
    weight: Vec<f64>,
    /// The probabilities that a set asks for, which gaps are multiplied by; even without them.
    wanted: Option<Vec<f64>>,
    /// The probabilities of an even draw among these; the same for all without them.
    even: Option<Vec<f64>>,
    /// Its share, 0 to 1.
    even_share: f64,
}

/// A drawn batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    pub indices: Vec<usize>,
    /// Importance weights, divided by the largest of the batch.
    pub weights: Vec<f32>,
}

impl Priorities {
    /// `n` images that nobody has looked at yet.
    pub fn new(rule: PriorityRule, n: usize) -> Self {
        Self {
            rule,
            gap: vec![1.0; n],
            mass: vec![rule.mass(1.0); n],
            weight: vec![1.0; n],
            wanted: None,
            even: None,
            even_share: 0.0,
        }
    }

    /// The same, drawn in proportion to `weights` (one per image, not negative, not all 0) as well: importance weights then
    /// lead back to these instead of to an even draw. With `even` (as `weights`) an even draw among them is in proportion to that:
    /// where classes are balanced by weights, it is not even over images.
    pub fn with_wanted(self, weights: &[f32], even: Option<&[f32]>) -> Self {
        let shares = |weights: &[f32]| {
            let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let usable = weights.len() == self.len() && sum > 0.0;
            usable.then(|| weights.iter().map(|w| f64::from(*w) / sum).collect::<Vec<f64>>())
        };
        let (wanted, even) = (shares(weights), even.and_then(shares));
        Self { wanted, even, ..self }
    }

    /// From now on a share of the wanted probabilities, 0 to 1, is that of an even draw.
    pub fn set_even_share(&mut self, share: f64) {
        self.even_share = share.clamp(0.0, 1.0);
    }

    /// The probability of image `i` that the set asks for.
    fn wanted(&self, i: usize) -> Option<f64> {
        let wanted = self.wanted.as_ref()?;
        let even = self.even.as_ref().map_or(1.0 / wanted.len() as f64, |even| even[i]);
        Some((1.0 - self.even_share) * wanted[i] + self.even_share * even)
    }

    /// Takes over the gaps and importance weights of `earlier`, which is about the same images.
    pub fn go_back_to(&mut self, earlier: &Self) {
        self.gap.clone_from(&earlier.gap);
        self.mass.clone_from(&earlier.mass);
        self.weight.clone_from(&earlier.weight);
    }

    pub fn len(&self) -> usize {
        self.gap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.gap.is_empty()
    }

    pub fn rule(&self) -> PriorityRule {
        self.rule
    }

    /// Adds `n` images that nobody has looked at yet.
    pub fn extend(&mut self, n: usize) {
        let fresh = self.fresh();
        self.gap.resize(self.gap.len() + n, fresh);
        self.mass.resize(self.mass.len() + n, self.rule.mass(fresh));
        self.weight.resize(self.weight.len() + n, 1.0);
        for shares in [&mut self.wanted, &mut self.even].into_iter().flatten() {
            let mean = 1.0 / shares.len().max(1) as f64;
            shares.resize(shares.len() + n, mean);
        }
    }

    /// Image `i` is a new one.
    pub fn reset(&mut self, i: usize) {
        self.set_gap(i, self.fresh());
        self.weight[i] = 1.0;
    }

    fn fresh(&self) -> f64 {
        self.gap.iter().copied().fold(None, |m: Option<f64>, g| Some(m.map_or(g, |m| m.max(g)))).unwrap_or(1.0)
    }

    fn set_gap(&mut self, i: usize, gap: f64) {
        self.gap[i] = gap;
        self.mass[i] = self.rule.mass(gap);
    }

    /// What image `i` is drawn in proportion to.
    fn mass(&self, i: usize) -> f64 {
        self.wanted(i).map_or(self.mass[i], |wanted| wanted * self.mass[i])
    }

    /// P_i of every image.
    pub fn probabilities(&self) -> Vec<f64> {
        let mass: Vec<f64> = (0..self.len()).map(|i| self.mass(i)).collect();
        let sum: f64 = mass.iter().sum();
        mass.into_iter().map(|m| m / sum).collect()
    }

    /// Draws `batch` images with replacement.
    pub fn draw(&self, batch: usize, rng: &mut Stream) -> Draw {
        let p = self.probabilities();
        let mut cumulative = Vec::with_capacity(p.len());
        let mut sum = 0.0;
        for v in &p {
            sum += v;
            cumulative.push(sum);
        }
        let indices: Vec<usize> = (0..batch)
            .map(|_| {
                let u = rng.random::<f64>() * sum;
                cumulative.partition_point(|c| *c <= u).min(p.len() - 1)
            })
            .collect();
        let raw: Vec<f64> = indices.iter().map(|&i| self.importance(i, p[i])).collect();
        let largest = raw.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        Draw { indices, weights: raw.into_iter().map(|w| (w / largest) as f32).collect() }
    }

    fn importance(&self, i: usize, p: f64) -> f64 {
        let over = match self.wanted(i) {
            Some(wanted) => p / wanted.max(f64::MIN_POSITIVE),
            None => self.len() as f64 * p,
        };
        over.powf(-self.rule.beta).clamp(WEIGHT_BOUNDS.0, WEIGHT_BOUNDS.1)
    }

    /// Takes in the gaps `KL(teacher ‖ student)` that were seen on drawn images.
    pub fn update(&mut self, indices: &[usize], gaps: &[f32]) {
        for (&i, &g) in indices.iter().zip(gaps) {
            self.set_gap(i, self.weight[i] * f64::from(g));
        }
        if self.rule.beta == 0.0 {
            return;
        }
        let sum: f64 = (0..self.len()).map(|i| self.mass(i)).sum();
        for &i in indices {
            self.weight[i] = self.importance(i, self.mass(i) / sum);
        }
    }
}

impl Resumable for Priorities {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        to.array("gap", &self.gap);
        to.array("weight", &self.weight);
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        (self.gap, self.weight) = (from.array("gap")?, from.array("weight")?);
        self.mass = self.gap.iter().map(|gap| self.rule.mass(*gap)).collect();
        let wanted = self.wanted.as_ref().map_or(self.gap.len(), Vec::len);
        match self.gap.len() == self.weight.len() && self.gap.len() == wanted {
            true => Ok(()),
            false => Err(from.fault("weight", "it has another length than the gaps")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
    }

    /// Gaps of 1, 2 and 5 are drawn with an eighth, a quarter and five eighths; half of the bias (β = 0.5) is taken back by the square
    /// roots of 8/3, 4/3 and 8/15, and the next gap counts by that.
    #[test]
    fn weights_take_back_their_part_of_the_bias() {
        let mut priorities = Priorities::new(PriorityRule { alpha: 1.0, beta: 0.5, temperature: 1.0 }, 3);
        priorities.update(&[0, 1, 2], &[1.0, 2.0, 5.0]);
        let shares = priorities.probabilities();
        [0.125, 0.25, 0.625].into_iter().zip(&shares).for_each(|(expected, found)| near(*found, expected));

        let draw = priorities.draw(200, &mut Streams::new(0).stream("draw", 0));
        assert!((0..3).all(|image| draw.indices.contains(&image)));
        // Over the largest, which is that of the least drawn image.
        let expected = [1.0, 0.5f64.sqrt(), 0.2f64.sqrt()];
        draw.indices.iter().zip(&draw.weights).for_each(|(&image, found)| near(f64::from(*found), expected[image]));

        priorities.update(&[2], &[4.0]);
        let gap = 4.0 * (8f64 / 15.0).sqrt();
        near(priorities.probabilities()[2], gap / (3.0 + gap));
        // A newcomer is looked at like the hardest image.
        priorities.reset(0);
        near(priorities.probabilities()[0], gap / (2.0 + 2.0 * gap));
    }
}
