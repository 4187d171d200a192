//! Ranges of recipe values, and combinations that make no sense.

use super::{Feed, FillWith, GeneratorRecipe, Input, Lifecycle, LossRecipe, Recipe};
use crate::invert::labels::Labels;
use crate::loss::Adversarial;
use crate::overlay::range;
use crate::{Error, Result};

impl Recipe {
    /// # Errors
    /// The first value that is out of its range, with the range, or that does not go with another.
    pub fn check(&self) -> Result<()> {
        range("batch", self.batch as f64, 2.0 * f64::from(self.batch > 0), 65_536.0)?;
        range("practice", self.practice as f64, 0.0, 1e9)?;
        range("fill", self.fill as f64, 0.0, 1e9)?;
        range("rounds", self.rounds as f64, 0.0, 1e9)?;
        range("batches", self.batches as f64, 1.0, 1e6)?;
        range("adversary_steps", self.adversary_steps as f64, 0.0, 1e9)?;
        range("views", self.views as f64, 0.0, crate::set::MAX_VIEWS as f64)?;
        range("finish_steps", self.finish_steps as f64, 0.0, 1e9)?;
        range("augment.crop", self.augment.crop as f64, 0.0, 4096.0)?;
        range("augment.scale", self.augment.scale, 1e-3, 1.0)?;
        range("blocks_share", self.blocks_share, 0.0, 100.0)?;
        range("phi.gamma", self.phi.gamma, 0.0, 100.0)?;
        range("buffer.guard_low", self.buffer.guard_low, 0.0, 1.0)?;
        range("buffer.guard_high", self.buffer.guard_high, 1.0, 1e9)?;
        generator(&self.generator)?;
        losses(&self.loss)?;
        let c = &self.contrast;
        range("contrast.temperature", c.temperature, 1e-3, 1e3)?;
        range("contrast.width", c.width as f64, 1.0, 8192.0)?;
        range("contrast.lr", c.lr, 0.0, 10.0)?;
        range("contrast.bank", c.bank as f64, 1.0, 1e6)?;
        range("contrast.negatives", c.negatives as f64, 0.0, 65_536.0)?;
        range("contrast.scale", c.scale, 1e-3, 1.0)?;
        self.fits_together()?;
        if !self.student.signal.is_plain() && !self.student.signal.inverted {
            let hint = "leave it at answers, or set student.signal.inverted = true to try";
            return Err(Error::invalid("student.signal", "on images that inversion makes it harms", hint));
        }
        self.student.check()
    }

    fn fits_together(&self) -> Result<()> {
        let g = &self.generator;
        let refused = |key: &str, found: &str, hint: &str| Err(Error::invalid(key, found, hint));
        if g.input == Input::LabelEmbedding && self.labels != Labels::Sweeps {
            let found = "images of one class that share a noisy layer are the same image";
            return refused("labels", found, "take sweeps with generator.input = label-embedding");
        }
        if g.grain && matches!(g.input, Input::Pixels | Input::LabelEmbedding) {
            return refused(
                "generator.grain",
                "the noise comes with latents",
                "take generator.input = latents or noise",
            );
        }
        if g.keep_optimizer && g.lifecycle != Lifecycle::CarryOver {
            let found = "the generator itself does not go on from batch to batch";
            return refused("generator.keep_optimizer", found, "take generator.lifecycle = carry-over");
        }
        if self.fill_with != FillWith::Generator && (g.reset_first > 0 || g.warmup_rebuild > 0) {
            let found = "the batches that it would count are drawn, not made by the generator";
            let key = if g.reset_first > 0 { "generator.reset_first" } else { "generator.warmup_rebuild" };
            return refused(key, found, "leave it at 0, or take fill_with = generator");
        }
        if self.fill == 0 && self.rounds * self.batches == 0 {
            return refused("rounds", "no image would be made to be kept", "take at least one of them, or of `fill`");
        }
        if self.feed == Feed::Fresh && matches!(g.input, Input::Pixels | Input::LabelEmbedding) {
            let found = "fresh images come from a generator of noise";
            return refused("feed", found, "take buffer or batch");
        }
        if self.feed == Feed::Fresh && g.lifecycle != Lifecycle::CarryOver {
            let found = "only a generator that goes on from batch to batch makes good images from fresh noise";
            return refused("feed", found, "take buffer or batch, or generator.lifecycle = carry-over");
        }
        if self.feed != Feed::Buffer {
            let none = "nobody learns from the buffer";
            let student = &self.student;
            let keys = [
                ("fill", self.fill > 0),
                ("fill_with", self.fill_with != FillWith::Generator),
                ("student.mixup_until", student.mixup_until > 0.0),
                ("student.scale", student.scale < 1.0),
                ("student.priority.alpha", student.priority.alpha > 0.0),
            ];
            if let Some((key, _)) = keys.into_iter().find(|(_, stated)| *stated) {
                return refused(key, none, "leave it out, or take feed = buffer");
            }
        }
        Ok(())
    }
}

fn generator(g: &GeneratorRecipe) -> Result<()> {
    range("generator.latent", g.latent as f64, 1.0, 1e6)?;
    range("generator.width", g.width as f64, 2.0, 8192.0)?;
    if !g.width.is_multiple_of(2) {
        return Err(Error::invalid(
            "generator.width",
            g.width.to_string(),
            "take an even number: the last layers have half of it",
        ));
    }
    range("generator.label_scale", g.label_scale, 0.0, 1e3)?;
    range("generator.inner_steps", g.inner_steps as f64, 1.0, 1e6)?;
    range("generator.warmup_steps", g.warmup_steps as f64, 1.0, 1e6)?;
    range("generator.lr", g.lr, 0.0, 10.0)?;
    range("generator.lr_latent", g.lr_latent, 0.0, 10.0)?;
    g.within_batch.check("generator.within_batch")?;
    g.over_run.check("generator.over_run")?;
    range("generator.meta_factor", g.meta_factor, 0.0, 1e3)?;
    range("generator.betas.0", g.betas.0, 0.0, 0.99999)?;
    range("generator.betas.1", g.betas.1, 0.0, 0.99999)
}

fn losses(loss: &LossRecipe) -> Result<()> {
    let weights = [
        ("loss.bn", loss.bn),
        ("loss.bn_first", loss.bn_first),
        ("loss.one_hot", loss.one_hot),
        ("loss.adversarial", loss.adversarial),
        ("loss.balance", loss.balance),
        ("loss.activation", loss.activation),
        ("loss.variation", loss.variation),
        ("loss.image_norm", loss.image_norm),
        ("loss.contrast", loss.contrast),
    ];
    weights.into_iter().try_for_each(|(key, weight)| range(key, weight, 0.0, 1e6))?;
    if let Adversarial::Js { temperature } = loss.adversarial_form {
        range("loss.adversarial_form.js.temperature", temperature, 1e-3, 1000.0)?;
    }
    range("loss.bn_momentum", loss.bn_momentum, 0.0, 0.9999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::assert_refused;

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        let pairs = [
            ("finish_steps=2000000000", "finish_steps"),
            ("generator.within_batch={cosine={floor=nan}}", "generator.within_batch.floor"),
            ("generator.over_run={step={at=[0.5], gamma=inf}}", "generator.over_run.gamma"),
            ("student.augment.crop=3000000000", "student.augment.crop"),
        ];
        assert_refused(&Recipe::default(), Recipe::check, &pairs);
    }

    #[test]
    fn generators_have_even_widths_and_resets_count_what_they_make() {
        let pairs = [("generator.width=33", "generator.width"), ("generator.reset_first=30", "generator.reset_first")];
        assert_refused(&Recipe::named("synth").unwrap(), Recipe::check, &pairs);
    }
}
