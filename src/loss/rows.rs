//! Logits as rows of classes: one row per image or, of networks that answer for every pixel, one per pixel. A loss looks at rows
//! and divides by their number; what is said of a whole image is the mean over its rows.

use crate::ops::mem;
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Rows that a thread takes at once. The cut, and with it the order of sums, depends on the number of rows alone.
const CHUNK: usize = 1024;

/// Logits `[N, K]` or `[N, H, W, K]`, row by row.
pub(crate) struct Rows {
    /// All rows, of all images.
    pub n: usize,
    pub k: usize,
    pub images: usize,
    /// Where they are read.
    values: Tensor,
}

/// Images, rows of all of them, and values of a row.
pub(super) fn size(t: &Tensor) -> Result<(usize, usize, usize)> {
    match t.dims() {
        &[n, k] => Ok((n, n, k)),
        &[n, h, w, k] => Ok((n, n * h * w, k)),
        other => Err(Error::shape("loss", format!("expected logits [N, K] or [N, H, W, K], found {other:?}"))),
    }
}

/// The same logits as a matrix, without a copy.
#[cfg(feature = "cuda")]
pub(super) fn flat(t: &Tensor) -> Result<Tensor> {
    let (_, n, k) = size(t)?;
    Ok(t.reshape((n, k))?)
}

impl Rows {
    pub(crate) fn of(t: &Tensor) -> Result<Self> {
        let (images, n, k) = size(t)?;
        Ok(Self { n, k, images, values: mem::host(t)? })
    }

    /// Share of rows whose first largest entries are at the same place.
    pub(super) fn agreement(&self, other: &Rows) -> Result<f64> {
        let same = sum([self, other], |_, [a, b]| if argmax(a) == argmax(b) { 1.0 } else { 0.0 })?;
        Ok(same / self.n.max(1) as f64)
    }

    pub(super) fn same_shape(&self, other: &Rows) -> Result<()> {
        if (self.n, self.k) == (other.n, other.k) {
            return Ok(());
        }
        Err(Error::shape("loss", format!("[{}, {}] against [{}, {}]", self.n, self.k, other.n, other.k)))
    }

    /// The sum over all rows of the `k` values that `add` adds to.
    pub(super) fn fold(&self, add: impl Fn(&[f64], &mut [f64]) + Sync) -> Result<Vec<f64>> {
        let values = mem::view(&self.values)?;
        let (values, k) = (&values[..], self.k);
        let parts = in_chunks(self.n, |range| {
            let (mut sum, mut row) = (vec![0f64; k], vec![0f64; k]);
            for i in range {
                widen(&values[i * k..(i + 1) * k], &mut row);
                add(&row, &mut sum);
            }
            sum
        });
        let mut total = vec![0f64; k];
        parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
        Ok(total)
    }

    /// What `of` says of every row.
    pub(crate) fn map<T: Send>(&self, of: impl Fn(&[f64]) -> T + Sync) -> Result<Vec<T>> {
        each_row([self], |_, [row]| of(row))
    }

    /// The mean over each image's rows.
    pub(crate) fn per_image(&self, of_rows: &[f32]) -> Vec<f32> {
        per_image(of_rows, self.images)
    }
}

/// The mean over each image's rows, where all `images` have equally many.
pub(crate) fn per_image(of_rows: &[f32], images: usize) -> Vec<f32> {
    let each = of_rows.len() / images.max(1);
    if each <= 1 {
        return of_rows.to_vec();
    }
    let mean = |rows: &[f32]| (rows.iter().map(|v| f64::from(*v)).sum::<f64>() / each as f64) as f32;
    of_rows.chunks_exact(each).map(mean).collect()
}

fn in_chunks<T: Send>(n: usize, of: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let chunk = |c: usize| of(c * CHUNK..n.min((c + 1) * CHUNK));
    match n.div_ceil(CHUNK) {
        0 => Vec::new(),
        1 => vec![chunk(0)],
        chunks => (0..chunks).into_par_iter().map(chunk).collect(),
    }
}

fn widen(from: &[f32], to: &mut [f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
}

/// `of(row number, that row of every input)` for all rows, of inputs of one shape.
pub(super) fn each_row<const I: usize, T: Send>(
    inputs: [&Rows; I],
    of: impl Fn(usize, [&[f64]; I]) -> T + Sync,
) -> Result<Vec<T>> {
    let (n, k) = (inputs[0].n, inputs[0].k);
    let views = inputs.iter().map(|rows| mem::view(&rows.values)).collect::<Result<Vec<_>>>()?;
    let values: Vec<&[f32]> = views.iter().map(|view| &view[..]).collect();
    let parts = in_chunks(n, |range| {
        let mut rows = [const { Vec::new() }; I];
        rows.iter_mut().for_each(|row| row.resize(k, 0f64));
        let one = |i: usize| {
            for (row, values) in rows.iter_mut().zip(&values) {
                widen(&values[i * k..(i + 1) * k], row);
            }
            of(i, std::array::from_fn(|j| &rows[j][..]))
        };
        range.map(one).collect::<Vec<T>>()
    });
    Ok(parts.into_iter().flatten().collect())
}

/// The sum of what `of` says of every row.
pub(super) fn sum<const I: usize>(inputs: [&Rows; I], of: impl Fn(usize, [&[f64]; I]) -> f64 + Sync) -> Result<f64> {
    Ok(with_grads(inputs, |i, rows, []: [&mut [f64]; 0]| of(i, rows))?.0)
}

/// The sum of what `of` says of every row, and the gradients that it writes: rows of zeros come in, and they leave as f32.
pub(super) fn with_grads<const I: usize, const G: usize>(
    inputs: [&Rows; I],
    of: impl Fn(usize, [&[f64]; I], [&mut [f64]; G]) -> f64 + Sync,
) -> Result<(f64, [Vec<f32>; G])> {
    let (n, k) = (inputs[0].n, inputs[0].k);
    let views = inputs.iter().map(|rows| mem::view(&rows.values)).collect::<Result<Vec<_>>>()?;
    let values: Vec<&[f32]> = views.iter().map(|view| &view[..]).collect();
    let parts = in_chunks(n, |range| {
        let (mut rows, mut grads) = ([const { Vec::new() }; I], [const { Vec::new() }; G]);
        rows.iter_mut().chain(&mut grads).for_each(|row| row.resize(k, 0f64));
        let mut out: [Vec<f32>; G] = std::array::from_fn(|_| Vec::with_capacity(range.len() * k));
        let mut total = 0.0;
        for i in range {
            for (row, values) in rows.iter_mut().zip(&values) {
                widen(&values[i * k..(i + 1) * k], row);
            }
            grads.iter_mut().for_each(|grad| grad.fill(0.0));
            total += of(i, std::array::from_fn(|j| &rows[j][..]), grads.each_mut().map(|grad| &mut grad[..]));
            out.iter_mut().zip(&grads).for_each(|(out, grad)| out.extend(grad.iter().map(|g| *g as f32)));
        }
        (total, out)
    });
    if parts.len() == 1 {
        return parts.into_iter().next().ok_or_else(|| Error::shape("loss", "no rows"));
    }
    let mut all: [Vec<f32>; G] = std::array::from_fn(|_| Vec::with_capacity(n * k));
    let mut total = 0.0;
    for (part, grads) in parts {
        total += part;
        all.iter_mut().zip(grads).for_each(|(all, grad)| all.extend(grad));
    }
    Ok((total, all))
}

/// A gradient with the shape and the place of the logits that it belongs to.
pub(super) fn like(values: Vec<f32>, logits: &Tensor) -> Result<Tensor> {
    Ok(mem::tensor(values, logits.dims())?.to_device(logits.device())?)
}

/// Weights of images, or of rows, for rows.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    weights: Option<&'a [f32]>,
    /// Rows that share a weight.
    each: usize,
    rows: usize,
}

impl<'a> Weights<'a> {
    /// One weight per image or per row of `logits`, or none.
    pub fn of(weights: Option<&'a [f32]>, logits: &Tensor) -> Result<Self> {
        let (images, rows, _) = size(logits)?;
        let each = match weights {
            Some(w) if w.len() == rows => 1,
            Some(w) if w.len() == images => rows / images.max(1),
            Some(w) => return Err(Error::shape("loss", format!("{} weights for {images} samples", w.len()))),
            None => 1,
        };
        Ok(Self { weights, each, rows })
    }

    /// The weight of row `i` over the number of rows; 1 without weights.
    pub fn share(&self, i: usize) -> f64 {
        self.weights.map_or(1.0, |w| f64::from(w[i / self.each])) / self.rows as f64
    }

    /// One weight per row, if there are any.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub fn per_row(&self) -> Option<Cow<'a, [f32]>> {
        self.weights.map(|w| match self.each {
            1 => Cow::Borrowed(w),
            each => w.iter().flat_map(|w| std::iter::repeat_n(*w, each)).collect(),
        })
    }
}

/// log softmax(row / t)
pub(crate) fn log_softmax(row: &[f64], t: f64) -> Vec<f64> {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v / t));
    let log_sum = row.iter().map(|v| (v / t - max).exp()).sum::<f64>().ln() + max;
    row.iter().map(|v| v / t - log_sum).collect()
}

/// softmax(row)
pub(crate) fn softmax(row: &[f64]) -> Vec<f64> {
    log_softmax(row, 1.0).into_iter().map(f64::exp).collect()
}

/// The largest probability of a row of logits.
pub(crate) fn confidence(logits: &[f32]) -> f32 {
    let row: Vec<f64> = logits.iter().map(|v| f64::from(*v)).collect();
    largest(&row)
}

/// The largest probability of a row.
fn largest(row: &[f64]) -> f32 {
    log_softmax(row, 1.0).into_iter().fold(f64::NEG_INFINITY, f64::max).exp() as f32
}

/// Index of the first largest value.
pub fn argmax<T: PartialOrd + Copy>(row: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}

/// The class of the highest logit of every row; if there is a class `void`, the highest of the others.
pub fn known_decisions(logits: &Tensor, void: Option<usize>) -> Result<Vec<u32>> {
    let Some(void) = void else { return decisions(logits) };
    Rows::of(logits)?.map(|row| {
        let mut row = row.to_vec();
        row[void] = f64::NEG_INFINITY;
        argmax(&row) as u32
    })
}

/// The class of the highest logit of every row.
pub fn decisions(logits: &Tensor) -> Result<Vec<u32>> {
    Rows::of(logits)?.map(|row| argmax(row) as u32)
}

/// The highest probability of every row.
pub fn sureness(logits: &Tensor) -> Result<Vec<f32>> {
    Rows::of(logits)?.map(largest)
}

/// What answers say of whole images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// `[N·K]`: of one answer per image that answer; of answers per pixel the logarithm of their mean probabilities, whose
    /// softmax are these and whose highest entry is the class that the pixels see most of.
    pub logits: Vec<f32>,
    /// `[N]`: the mean over the rows of the highest probability.
    pub confidence: Vec<f32>,
}

/// The least mean probability that [`Verdicts`] tell from 0.
const LEAST_SHARE: f64 = 1e-12;

/// What `logits` say of each image.
///
/// # Errors
/// Logits of another shape than `[N, K]` and `[N, H, W, K]`.
pub fn verdicts(logits: &Tensor) -> Result<Verdicts> {
    let rows = Rows::of(logits)?;
    let confidence = rows.per_image(&rows.map(largest)?);
    if rows.n == rows.images {
        return Ok(Verdicts { logits: mem::view(&rows.values)?.to_vec(), confidence });
    }
    let each = rows.n / rows.images.max(1);
    let mut found = Vec::with_capacity(rows.images * rows.k);
    for image in 0..rows.images {
        let own = Rows { n: each, k: rows.k, images: 1, values: rows.values.get(image)?.contiguous()? };
        let mass = own.fold(|row, sum| sum.iter_mut().zip(softmax(row)).for_each(|(sum, p)| *sum += p))?;
        // `max` would hide what is no number.
        let share = |mass: &f64| if *mass / (each as f64) < LEAST_SHARE { LEAST_SHARE } else { mass / each as f64 };
        found.extend(mass.iter().map(|mass| share(mass).ln() as f32));
    }
    Ok(Verdicts { logits: found, confidence })
}
