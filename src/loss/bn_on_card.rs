//! Batch-norm matching where the moments lie on a card: goals and the moving average are kept there.

use super::Value;
use super::bn_stats::BnStatsLoss;
use crate::Result;
use crate::ops::Compute;
use crate::ops::cuda::loss::{Layer, bn_deviation};
use crate::ops::{mem, step};
use candle_core::{Device, Tensor};
use std::sync::OnceLock;

/// What stays on the card.
#[derive(Default)]
pub(super) struct Card {
    /// Per layer `[2, C]`: what mean and variance should be, and their units.
    goals: OnceLock<Vec<[Tensor; 2]>>,
    /// Moving average of the moments of past batches.
    past: Option<Vec<Tensor>>,
}

impl Card {
    /// See [`BnStatsLoss::loss`].
    pub fn loss(&self, of: &BnStatsLoss, moments: &[Tensor], factor: f64) -> Result<(Value, Vec<Tensor>)> {
        let goals = self.goals(of, moments[0].device())?;
        let own = if self.past.is_some() { 1.0 - of.momentum } else { 1.0 };
        let values = mem::tensor(vec![0.0; 2 * moments.len()], (moments.len(), 2))?.to_device(moments[0].device())?;
        let mut grads = Vec::with_capacity(moments.len());
        for (i, (observed, [goal, unit])) in moments.iter().zip(goals).enumerate() {
            let layer = Layer {
                goal,
                unit,
                past: self.past.as_ref().map(|past| &past[i]),
                shares: (own as f32, of.momentum as f32),
                scale: of.scale(i, of.targets[i].mean.len()) as f32,
                factor: factor as f32,
            };
            grads.push(bn_deviation(observed, &layer, &values, i)?);
        }
        Ok((Value::Sum(values), grads))
    }

    /// See [`BnStatsLoss::observe`].
    pub fn observe(&mut self, moments: &[Tensor], momentum: f64) -> Result<()> {
        let Some(past) = &self.past else {
            self.past = Some(moments.iter().map(|m| Ok(m.copy()?)).collect::<Result<_>>()?);
            return Ok(());
        };
        let pairs: Vec<_> = past.iter().zip(moments).collect();
        Ok(step::blend(&pairs, momentum as f32, (1.0 - momentum) as f32)?)
    }

    /// The moving average of every layer on the host, as it is restored from.
    pub fn past(&self) -> Result<Vec<Vec<f64>>> {
        let on_host = |past: &Tensor| Ok(mem::view(&mem::host(past)?)?.iter().map(|v| f64::from(*v)).collect());
        self.past.iter().flatten().map(on_host).collect()
    }

    pub fn forget(&mut self) {
        self.past = None;
    }

    /// Takes over a moving average that was restored.
    pub fn bring(&mut self, past: Option<Vec<Vec<f64>>>, compute: &Compute) -> Result<()> {
        let up = |past: Vec<f64>| {
            let values: Vec<f32> = past.iter().map(|v| *v as f32).collect();
            let channels = values.len() / 2;
            compute.bring(&mem::tensor(values, (2, channels))?)
        };
        self.past = past.map(|past| past.into_iter().map(up).collect()).transpose()?;
        Ok(())
    }

    fn goals(&self, of: &BnStatsLoss, device: &Device) -> Result<&[[Tensor; 2]]> {
        if let Some(goals) = self.goals.get() {
            return Ok(goals);
        }
        let mut goals = Vec::with_capacity(of.targets.len());
        for target in &of.targets {
            let c = target.mean.len();
            let goal = target.mean.iter().chain(&target.var).copied().collect();
            let unit = (0..2 * c).map(|i| of.unit(target, i / c, i % c) as f32).collect();
            goals.push([mem::tensor(goal, (2, c))?.to_device(device)?, mem::tensor(unit, (2, c))?.to_device(device)?]);
        }
        Ok(self.goals.get_or_init(|| goals))
    }
}
