//! Batch-norm statistic matching: the moments of what every batch norm of the teacher reads should be those that it
//! saw in training (Yin et al., "Dreaming to Distill", 2020), with the running form of FastDFKD that matches the union
//! of past batches and the current one.

use super::Value;
use crate::checkpoint::{Resumable, Saved, Saver};
use crate::ops::{Compute, mem};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// How a layer's deviation is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BnForm {
    /// `Σ_l ‖μ̂ − μ‖₂ + ‖v̂ − v‖₂`, as the reference code has it.
    SumOfNorms,
    /// Deviations in units of the teacher, `Δμ/σ` and `Δσ²/σ²`: root mean square per layer, mean over layers.
    TeacherUnits,
    /// `Σ_l Σ_c KL(N(μ̂, v̂) ‖ N(μ, v))` of normal distributions per channel (Choi et al., "Data-Free Network Quantization with
    /// Adversarial Knowledge Distillation", 2020, equation 5).
    GaussianKl,
}

/// Running statistics of one batch norm of the teacher, `[C]` each.
#[derive(Clone, Debug)]
pub struct LayerStatistics {
    pub mean: Vec<f32>,
    pub var: Vec<f32>,
    pub eps: f32,
}

/// The loss over all layers, with the moving average of past batches.
pub struct BnStatsLoss {
    pub(super) targets: Vec<LayerStatistics>,
    form: BnForm,
    /// 0: each batch on its own. m: `(1 − m)·batch + m·average of past batches` should match.
    pub(super) momentum: f64,
    /// What the first layer's deviation is multiplied by.
    first: f64,
    /// (mean, biased variance) of past batches, `2·C` values per layer.
    past: Option<Vec<Vec<f64>>>,
    #[cfg(feature = "cuda")]
    card: super::bn_on_card::Card,
}

impl BnStatsLoss {
    /// A loss for a teacher's layers, in the order in which they run.
    pub fn new(targets: Vec<LayerStatistics>, form: BnForm, momentum: f64) -> Self {
        Self {
            targets,
            form,
            momentum,
            first: 1.0,
            past: None,
            #[cfg(feature = "cuda")]
            card: Default::default(),
        }
    }

    /// The same with the first layer's deviation multiplied by `factor` (10 in DeepInversion's code for ImageNet, for fidelity).
    pub fn with_first(self, factor: f64) -> Self {
        Self { first: factor, ..self }
    }

    /// Value and one gradient `[2, C]` per layer, multiplied by `factor`, for moments `[2, C]` (mean, biased variance).
    ///
    /// At a deviation of exactly 0 the gradient of a norm is 0.
    pub fn loss(&self, moments: &[Tensor], factor: f64) -> Result<(Value, Vec<Tensor>)> {
        if moments.len() != self.targets.len() {
            let found = format!("{} layers observed, {} expected", moments.len(), self.targets.len());
            return Err(Error::shape("bn_stats", found));
        }
        #[cfg(feature = "cuda")]
        if self.stays_on_card(moments) {
            return self.card.loss(self, moments, factor);
        }
        let mut total = 0.0;
        let mut grads = Vec::with_capacity(moments.len());
        for (l, (observed, target)) in moments.iter().zip(&self.targets).enumerate() {
            let host = mem::host(observed)?;
            let m = mem::view(&host)?;
            let c = target.mean.len();
            let mut grad = vec![0f32; 2 * c];
            if self.form == BnForm::GaussianKl {
                total += self.gaussian(l, &m, target, &mut grad);
            } else {
                for (part, goal) in [&target.mean, &target.var].into_iter().enumerate() {
                    let observed = &m[part * c..(part + 1) * c];
                    total += self.part(l, part, observed, goal, target, &mut grad[part * c..(part + 1) * c]);
                }
            }
            grad.iter_mut().for_each(|g| *g *= factor as f32);
            grads.push(mem::tensor(grad, (2, c))?.to_device(observed.device())?);
        }
        Ok((Value::Known(total), grads))
    }

    /// Whether goals and the moving average are kept on the card where the moments lie.
    #[cfg(feature = "cuda")]
    fn stays_on_card(&self, moments: &[Tensor]) -> bool {
        self.form != BnForm::GaussianKl && moments.first().is_some_and(|m| m.device().is_cuda())
    }

    /// What a deviation of channel `i` is divided by.
    pub(super) fn unit(&self, target: &LayerStatistics, part: usize, i: usize) -> f64 {
        match (self.form, part) {
            (BnForm::SumOfNorms, _) => 1.0,
            (_, 0) => f64::from(target.var[i] + target.eps).sqrt(),
            _ => f64::from(target.var[i] + target.eps),
        }
    }

    /// What the deviation of a layer with `c` channels is multiplied by. In units of the teacher: root mean square, mean over
    /// layers, so that one weight serves 13 layers or 55.
    pub(super) fn scale(&self, layer: usize, c: usize) -> f64 {
        let first = if layer == 0 { self.first } else { 1.0 };
        match self.form {
            BnForm::SumOfNorms | BnForm::GaussianKl => first,
            BnForm::TeacherUnits => first / ((c as f64).sqrt() * self.targets.len() as f64),
        }
    }

    /// The batch's share in what should match, and the past's part of it: `2·C` values of `layer`.
    fn shares(&self, layer: usize) -> (f64, Option<&[f64]>) {
        match &self.past {
            Some(past) => (1.0 - self.momentum, Some(&past[layer])),
            None => (1.0, None),
        }
    }

    /// Divergence of the normal distributions of one layer's channels; variances count with the layer's ε, so that a channel
    /// that never varies costs much and not everything.
    fn gaussian(&self, layer: usize, observed: &[f32], target: &LayerStatistics, grad: &mut [f32]) -> f64 {
        let (c, scale) = (target.mean.len(), self.scale(layer, target.mean.len()));
        let (own, past) = self.shares(layer);
        let seen = |i: usize| own * f64::from(observed[i]) + self.momentum * past.map_or(0.0, |p| p[i]);
        let mut total = 0.0;
        for i in 0..c {
            let eps = f64::from(target.eps);
            let (off, var) = (seen(i) - f64::from(target.mean[i]), seen(c + i) + eps);
            let goal = f64::from(target.var[i]) + eps;
            total += (off * off + var) / (2.0 * goal) - 0.5 * (var / goal).ln() - 0.5;
            grad[i] = (scale * own * off / goal) as f32;
            grad[c + i] = (scale * own * 0.5 * (1.0 / goal - 1.0 / var)) as f32;
        }
        scale * total
    }

    /// One norm (of the means or of the variances) of one layer.
    fn part(
        &self,
        layer: usize,
        part: usize,
        observed: &[f32],
        goal: &[f32],
        target: &LayerStatistics,
        grad: &mut [f32],
    ) -> f64 {
        let c = goal.len();
        let (own, past) = self.shares(layer);
        let past = past.map(|past| &past[part * c..(part + 1) * c]);
        let unit = |i: usize| self.unit(target, part, i);
        let deviation: Vec<f64> = (0..c)
            .map(|i| {
                let seen = own * f64::from(observed[i]) + self.momentum * past.map_or(0.0, |p| p[i]);
                (seen - f64::from(goal[i])) / unit(i)
            })
            .collect();
        let norm = deviation.iter().map(|d| d * d).sum::<f64>().sqrt();
        let scale = self.scale(layer, c);
        if norm > 0.0 {
            for (i, g) in grad.iter_mut().enumerate() {
                *g = (scale * own * deviation[i] / (norm * unit(i))) as f32;
            }
        }
        scale * norm
    }

    /// Takes the last observed moments of a finished batch into the moving average.
    pub fn observe(&mut self, moments: &[Tensor]) -> Result<()> {
        if self.momentum == 0.0 {
            return Ok(());
        }
        #[cfg(feature = "cuda")]
        if self.stays_on_card(moments) {
            return self.card.observe(moments, self.momentum);
        }
        let seen = moments
            .iter()
            .map(|m| Ok(mem::view(&mem::host(m)?)?.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>()))
            .collect::<Result<Vec<_>>>()?;
        match &mut self.past {
            None => self.past = Some(seen),
            Some(past) => {
                for (p, s) in past.iter_mut().flatten().zip(seen.iter().flatten()) {
                    *p = self.momentum * *p + (1.0 - self.momentum) * s;
                }
            }
        }
        Ok(())
    }

    /// Moves what was restored to where the moments lie.
    ///
    /// # Errors
    /// A device that refuses.
    pub fn bring(&mut self, _compute: &Compute) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.form != BnForm::GaussianKl && !_compute.is_cpu() {
            self.card.bring(self.past.take(), _compute)?;
        }
        Ok(())
    }

    /// Deviation of given moments from the teacher in its own units, without the moving average: for reports.
    pub fn distance(&self, moments: &[Tensor]) -> Result<f64> {
        let plain = BnStatsLoss::new(self.targets.clone(), BnForm::TeacherUnits, 0.0);
        plain.loss(moments, 1.0)?.0.get()
    }
}

impl Resumable for BnStatsLoss {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        let name = |layer: usize| format!("{layer:05}");
        #[cfg(feature = "cuda")]
        for (layer, past) in self.card.past()?.iter().enumerate() {
            to.owned(&name(layer), past);
        }
        let past = self.past.iter().flatten().enumerate();
        past.for_each(|(layer, past)| to.array(&name(layer), past));
        Ok(())
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        #[cfg(feature = "cuda")]
        self.card.forget();
        self.past = None;
        if self.targets.is_empty() || !from.has("00000") {
            return Ok(());
        }
        let mut all = Vec::with_capacity(self.targets.len());
        for (layer, target) in self.targets.iter().enumerate() {
            let name = format!("{layer:05}");
            let past: Vec<f64> = from.array(&name)?;
            if past.len() != 2 * target.mean.len() {
                return Err(from.fault(&name, "it has another number of channels"));
            }
            all.push(past);
        }
        self.past = Some(all);
        Ok(())
    }
}
