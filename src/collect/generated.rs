//! Images that are drawn: each is determined by the seed, the kind and its number alone, so that none needs to be kept.

use super::source::{Each, Passed, Source, Tally, chunk_of};
use crate::Result;
use crate::events::check_interrupt;
use crate::rng::{Stream, Streams};
use rayon::prelude::*;
use serde_json::{Value, json};

/// A way to draw an image.
pub trait Draw: Send + Sync {
    /// As it is called in `--from`; it also names the random streams.
    fn name(&self) -> &'static str;

    /// Settings, for provenance.
    fn describe(&self) -> Value;

    /// Draws one image of `[height, width, channels]`, 1 or 3 of them, into `out`, with what `rng` gives and nothing else.
    fn draw(&self, rng: &mut Stream, dims: [usize; 3], out: &mut [u8]);
}

impl<D: Draw + ?Sized> Draw for Box<D> {
    fn name(&self) -> &'static str {
        self.as_ref().name()
    }

    fn describe(&self) -> Value {
        self.as_ref().describe()
    }

    fn draw(&self, rng: &mut Stream, dims: [usize; 3], out: &mut [u8]) {
        self.as_ref().draw(rng, dims, out);
    }
}

/// Endlessly many images of one kind.
pub struct Generated<D> {
    kind: D,
    seed: u64,
    purpose: String,
}

impl<D: Draw> Generated<D> {
    pub fn new(kind: D, seed: u64) -> Self {
        let purpose = format!("collect/{}", kind.name());
        Self { kind, seed, purpose }
    }

    /// Image `number`, `[H, W, C]`.
    pub fn image(&self, number: usize, dims: [usize; 3], out: &mut [u8]) {
        self.kind.draw(&mut Streams::new(self.seed).stream(&self.purpose, number as u64), dims, out);
    }

    /// As many images as `out` holds, from image `first` on, on all threads.
    pub fn images(&self, first: usize, dims: [usize; 3], out: &mut [u8]) {
        let len = dims.iter().product();
        out.par_chunks_exact_mut(len).enumerate().for_each(|(i, out)| self.image(first + i, dims, out));
    }
}

impl<D: Draw> Source for Generated<D> {
    fn name(&self) -> String {
        self.kind.name().into()
    }

    fn items(&self) -> Option<usize> {
        None
    }

    fn provenance(&self) -> Value {
        json!({ "kind": "generated", "name": self.kind.name(), "settings": self.kind.describe(), "seed": self.seed })
    }

    fn visit(&mut self, numbers: &[usize], dims: [usize; 3], tally: &mut Tally, each: &mut Each) -> Result<()> {
        let len = dims.iter().product();
        let mut pixels = Vec::new();
        for chunk in numbers.chunks(chunk_of(dims)) {
            check_interrupt()?;
            pixels.resize(chunk.len() * len, 0);
            pixels.par_chunks_exact_mut(len).zip(chunk).for_each(|(out, &number)| self.image(number, dims, out));
            each(&Passed { numbers: chunk, pixels: &pixels, last: chunk[chunk.len() - 1], tally })?;
        }
        Ok(())
    }
}

/// A value in 0..1 as 8 bits; what lies outside is cut off, and what is no number is black.
pub(super) fn byte(value: f32) -> u8 {
    (value * 255.0 + 0.5) as u8
}

/// Writes colours, `samples` squared of them per pixel and each in 0..1, as the mean of every pixel; grey by ITU-R 601.
pub(super) fn average(colours: &[[f32; 3]], samples: usize, [height, width, channels]: [usize; 3], out: &mut [u8]) {
    let share = 1.0 / (samples * samples) as f32;
    for (at, pixel) in out.chunks_exact_mut(channels).enumerate().take(height * width) {
        let (top, left) = (at / width * samples, at % width * samples);
        let mut sum = [0f32; 3];
        for row in top..top + samples {
            for colour in &colours[row * width * samples + left..][..samples] {
                sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += value.clamp(0.0, 1.0) * share);
            }
        }
        match pixel {
            [grey] => *grey = byte(0.299 * sum[0] + 0.587 * sum[1] + 0.114 * sum[2]),
            pixel => pixel.iter_mut().zip(sum).for_each(|(value, sum)| *value = byte(sum)),
        }
    }
}
