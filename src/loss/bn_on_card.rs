//! Batch-norm matching where the moments lie on a card: goals and the moving average are kept there.

use super::Value;
use super::bn_stats::BnStatsLoss;
use crate::Result;
use crate::checkpoint::{Resumable, Saved, Saver};
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
                scale: of.scale(of.targets[i].mean.len()) as f32,
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
        step::blend(&pairs, momentum as f32, (1.0 - momentum) as f32)
    }

    /// Moves what was restored to the card.
    pub fn bring(&mut self, compute: &Compute) -> Result<()> {
        self.past.iter_mut().flatten().try_for_each(|past| {
            *past = compute.bring(past)?;
            Ok(())
        })
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

impl Resumable for Card {
    fn save<'a>(&'a self, to: &mut Saver<'a>) -> Result<()> {
        self.past.iter().flatten().enumerate().try_for_each(|(i, past)| to.tensor(&format!("{i:05}"), past))
    }

    fn restore(&mut self, from: &Saved) -> Result<()> {
        let names = (0..).map(|i| format!("{i:05}")).take_while(|name| from.has(name));
        let past = names.map(|name| from.tensor(&name)).collect::<Result<Vec<_>>>()?;
        self.past = (!past.is_empty()).then_some(past);
        Ok(())
    }
}
