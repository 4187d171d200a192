//! One step of the real work, timed: the very functions that the commands call, on random images.

use super::bound::{Need, Parts};
use super::timing::{self, Timing};
use crate::distill::StudentRecipe;
use crate::invert::{Draws, Recipe, Synthesiser};
use crate::nets::{Network, Passes, Task, reestimate};
use crate::ops::mem::tensor;
use crate::ops::{Compute, mem::page_faults};
use crate::rng::{self, Streams};
use crate::teacher::Teacher;
use crate::train::{Adam, Goal, Sgd, Stepper, trainable};
use crate::{Error, Result};
use candle_core::Tensor;
use serde::Serialize;
use std::time::Instant;

/// Which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Supervised student step: forward, cross-entropy, backward, update.
    Train,
    /// Frozen forward pass.
    Infer,
    /// The same from 8-bit images to answers in memory, as `collect` asks its teacher, in turns with `infer`.
    Answers,
    /// Generator, frozen teacher with statistic matching and cross-entropy, backward to the generator, Adam.
    Invert,
    /// Teacher forward and student step on the divergence from it.
    Distill,
}

/// What to time.
pub struct StepBench {
    pub pass: Pass,
    /// The network that trains, or the teacher in `infer`, `answers` and `invert`.
    pub net: Network,
    /// For `distill`.
    pub teacher: Option<Network>,
    pub batch: usize,
    /// Height, width, channels.
    pub dims: [usize; 3],
    pub classes: usize,
    pub seconds: f64,
    /// For `train` and `distill`: whether convolutions learn by Muon, as the recipes' students do, in place of SGD.
    pub muon: bool,
    /// For `invert`: channels of the generator's small maps (128 in the reference code).
    pub generator_width: usize,
}

/// The result of a timing.
#[derive(Clone, Debug, Serialize)]
pub struct StepResult {
    pub median_ms: f64,
    pub min_ms: f64,
    pub steps: usize,
    /// Page faults per step in the steady state (0 where the system does not count them).
    pub page_faults_per_step: f64,
    /// For `answers`: the median of the `infer` steps in between.
    pub infer_ms: Option<f64>,
}

/// What the step needs for one image.
///
/// # Errors
/// As [`step`].
pub fn need(bench: &StepBench) -> Result<Need> {
    let image = |network: &Network, parts| Ok(Need::of(&crate::nets::trace(network, bench.dims)?, parts));
    match bench.pass {
        Pass::Infer | Pass::Answers => image(&bench.net, Parts::Forward),
        Pass::Train => image(&bench.net, Parts::ToWeights),
        Pass::Distill => Ok(image(teacher_of(bench)?, Parts::Forward)? + image(&bench.net, Parts::ToWeights)?),
        Pass::Invert => {
            let (teacher, recipe) = inversion(bench);
            let generator = Synthesiser::new(&teacher, &recipe, Streams::new(0))?.generator;
            let generated = crate::nets::trace_from(&generator, &[1, recipe.generator.latent])?;
            Ok(Need::of(&generated, Parts::Both) + image(&bench.net, Parts::ToInput)?)
        }
    }
}

fn teacher_of(bench: &StepBench) -> Result<&Network> {
    let missing = || Error::invalid("--pass distill", "no teacher", "name one with --teacher");
    bench.teacher.as_ref().ok_or_else(missing)
}

/// Times a pass.
///
/// # Errors
/// What the pass itself reports, or `distill` without a teacher.
pub fn step(bench: &StepBench) -> Result<StepResult> {
    let [h, w, c] = bench.dims;
    let mut rng = Streams::new(0).stream("bench", 0);
    let compute = bench.net.compute();
    let x = compute.bring(&tensor(rng::normal(&mut rng, bench.batch * h * w * c), (bench.batch, h, w, c))?)?;
    // Of images, or of their pixels.
    let rows = match bench.net.arch.task {
        Task::Classification => bench.batch,
        Task::Segmentation => bench.batch * h * w,
    };
    let labels: Vec<u32> = (0..rows).map(|i| (i % bench.classes) as u32).collect();
    match bench.pass {
        Pass::Infer => {
            let teacher = frozen(bench);
            timed(bench.seconds, compute, || teacher.answers(&x).map(|_| ()))
        }
        Pass::Answers => answers(bench, &x),
        Pass::Train => {
            let (mut sgd, mut stepper) = (optimizer(bench), Stepper::new());
            let of_pixels: Vec<u8> = labels.iter().map(|label| *label as u8).collect();
            let goal = || match bench.net.arch.task {
                Task::Classification => Goal::Labels(&labels),
                Task::Segmentation => Goal::Pixels { labels: &of_pixels, weights: None, focal: 0.0 },
            };
            timed(bench.seconds, compute, || stepper.step(&bench.net, &mut sgd, x.clone(), 0.1, goal()).map(|_| ()))
        }
        Pass::Distill => {
            let teacher = teacher_of(bench)?;
            fit(teacher, &x)?;
            let how = StudentRecipe::default().of_task(bench.net.arch.task).matching;
            let (mut sgd, mut stepper) = (optimizer(bench), Stepper::new());
            let passes = Passes::default();
            timed(bench.seconds, compute, || {
                let answers = passes.infer(teacher, &x)?;
                let goal = Goal::Answers { answers: &answers, how, weights: None };
                stepper.step(&bench.net, &mut sgd, x.clone(), 0.1, goal).map(|_| ())
            })
        }
        Pass::Invert => {
            fit(&bench.net, &x)?;
            invert(bench, &labels)
        }
    }
}

fn optimizer(bench: &StepBench) -> Sgd {
    let turn = if bench.muon { StudentRecipe::default().turn(&bench.net) } else { 0.0 };
    Sgd::new(0.9, false, 1e-4, crate::train::Decay::All).turning(turn as f32)
}

/// Gives the batch norms of a teacher the statistics of `x`, as those of a trained one have its data's. With a fresh network's the
/// logits of a deep one are out of all bounds, a student soon agrees with them, and what is left of its gradients is smaller than
/// normal numbers, which take many times as long.
fn fit(teacher: &Network, x: &Tensor) -> Result<()> {
    reestimate(teacher, x.clone(), 1.0)
}

/// The network as a frozen teacher.
fn frozen(bench: &StepBench) -> Teacher {
    let [h, w, channels] = bench.dims;
    Teacher {
        network: bench.net.clone(),
        mean: vec![0.0; channels],
        std: vec![1.0; channels],
        size: [h, w],
        channels,
        classes: bench.classes,
        void: None,
        passes: Passes::default(),
    }
}

/// The pass of `collect` and the plain one, by turns, so that both see the same machine.
fn answers(bench: &StepBench, x: &Tensor) -> Result<StepResult> {
    let (teacher, compute) = (frozen(bench), bench.net.compute());
    let pixels: Vec<u8> = (0..x.elem_count()).map(|i| ((i * 2_654_435_761) >> 24) as u8).collect();
    let (mut plain, mut own) = (Vec::new(), Vec::new());
    let both = timed(bench.seconds, compute, || {
        let start = Instant::now();
        teacher.answers(x)?;
        compute.synchronize()?;
        plain.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        teacher.answers_bytes(&pixels, bench.batch)?;
        own.push(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    })?;
    // The first ones are the warm-up.
    let timed = |mut times: Vec<f64>| {
        let mut times = times.split_off(times.len() - both.steps);
        times.sort_by(f64::total_cmp);
        (times[times.len() / 2], times[0])
    };
    let (infer_ms, (median_ms, min_ms)) = (timed(plain).0, timed(own));
    Ok(StepResult { median_ms, min_ms, infer_ms: Some(infer_ms), ..both })
}

/// The teacher and the recipe of the inner step: the reference's generator, which is not told the label.
fn inversion(bench: &StepBench) -> (Teacher, Recipe) {
    let teacher = frozen(bench);
    let mut recipe = Recipe::default();
    recipe.generator.conditional = false;
    recipe.generator.width = bench.generator_width;
    (teacher, recipe)
}

fn invert(bench: &StepBench, labels: &[u32]) -> Result<StepResult> {
    let (teacher, recipe) = inversion(bench);
    let synthesiser = Synthesiser::new(&teacher, &recipe, Streams::new(0))?;
    let latent = recipe.generator.latent;
    let mut rng = Streams::new(0).stream("bench/latents", 0);
    let latents: Tensor = tensor(rng::normal(&mut rng, bench.batch * latent), (bench.batch, latent))?;
    let latents = bench.net.compute().bring(&latents)?;
    let draws = Draws::still(bench.batch);
    let (mut adam, mut adam_z) = (Adam::new((0.5, 0.999)), Adam::new((0.5, 0.999)));
    let generator = synthesiser.generator.duplicate()?;
    timed(bench.seconds, bench.net.compute(), || {
        let pass = synthesiser.inner_step(&generator, &latents, labels, &draws, &[], None)?;
        adam.step(trainable(&generator.weights, &pass.grads), 3e-3)?;
        adam_z.step([(&latents, pass.latent_grad.as_ref())], 1e-2)
    })
}

/// Times steps; a step ends when the device has done all of it.
fn timed(seconds: f64, compute: &Compute, mut f: impl FnMut() -> Result<()>) -> Result<StepResult> {
    let mut before = 0;
    let step = || f().and_then(|()| Ok(compute.synchronize()?));
    let timing = timing::timed(seconds, step, || before = page_faults(), |_| ())?;
    let faults = (page_faults() - before) as f64 / timing.calls as f64;
    let Timing { median_ms, min_ms, calls } = timing;
    Ok(StepResult { median_ms, min_ms, steps: calls, page_faults_per_step: faults, infer_ms: None })
}
