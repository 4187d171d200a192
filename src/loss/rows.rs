//! Logits as rows of classes: one row per image or, of networks that answer for every pixel, one per pixel. A loss looks at rows
//! and divides by their number; what is said of a whole image is the mean over its rows.

use crate::ops::logits::{self, Apart, Found, Pair, Slope};
use crate::ops::{self, mem, par};
use crate::{Error, Result};
use candle_core::Tensor;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Rows that a thread takes at once. The cut, and with it the order of sums, depends on the number of rows alone.
pub(super) const CHUNK: usize = 1024;

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

    pub(super) fn same_shape(&self, other: &Rows) -> Result<()> {
        if (self.n, self.k) == (other.n, other.k) {
            return Ok(());
        }
        Err(Error::shape("loss", format!("[{}, {}] against [{}, {}]", self.n, self.k, other.n, other.k)))
    }

    /// The sum over all rows of the probabilities of every class.
    pub(super) fn mass(&self) -> Result<Vec<f64>> {
        let values = mem::view(&self.values)?;
        let (values, k) = (&values[..], self.k);
        let ([], parts) = par::filled(self.n, CHUNK, [], |range, []| {
            let mut sum = vec![0f64; k];
            mem::with_scratch(range.len() * k, |p| {
                softmax_of(&values[range.start * k..range.end * k], k, &[1.0; CHUNK], Slope::Probability, p);
                p.chunks_exact(k).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, p)| *sum += f64::from(*p)));
            });
            sum
        });
        let mut total = vec![0f64; k];
        parts.iter().for_each(|part| total.iter_mut().zip(part).for_each(|(t, p)| *t += p));
        Ok(total)
    }

    /// A value that `of` says of every row of each chunk.
    fn list(&self, of: impl Fn(&[f32], &mut [f32]) + Sync) -> Result<Vec<f32>> {
        let (_, [list]) = in_chunks([self], [1], |_, [x], [list]| of(x, list))?;
        Ok(list)
    }

    /// The highest probability of every row.
    fn sureness(&self) -> Result<Vec<f32>> {
        self.list(|x, list| {
            let found = softmax_of(x, self.k, &[1.0; CHUNK], Slope::Probability, &mut []);
            list.iter_mut().zip(found.log_sum).for_each(|(sure, log_sum)| *sure = (-log_sum).exp());
        })
    }

    /// As [`agreement`].
    pub(super) fn agreement(&self, other: &Rows) -> Result<f64> {
        self.same_shape(other)?;
        let (same, []) = in_chunks([self, other], [], |range, values, []| {
            let mut best = [[0f32; CHUNK]; 2];
            best.iter_mut().zip(values).for_each(|(best, x)| logits::best(x, self.k, &mut best[..range.len()]));
            let [a, b] = best;
            a[..range.len()].iter().zip(&b).filter(|(a, b)| a == b).count()
        })?;
        Ok(same.iter().sum::<usize>() as f64 / self.n.max(1) as f64)
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
    of_rows.par_chunks_exact(each).map(mean).collect()
}

fn widen(from: &[f32], to: &mut [f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f64::from(*from));
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
    let k = inputs[0].k;
    let (parts, grads) = in_chunks(inputs, [k; G], |range, values, mut out| {
        let (mut rows, mut grads) = ([const { Vec::new() }; I], [const { Vec::new() }; G]);
        rows.iter_mut().chain(&mut grads).for_each(|row| row.resize(k, 0f64));
        let mut total = 0.0;
        for (at, i) in range.enumerate() {
            let at = at * k..(at + 1) * k;
            for (row, values) in rows.iter_mut().zip(&values) {
                widen(&values[at.clone()], row);
            }
            grads.iter_mut().for_each(|grad| grad.fill(0.0));
            total += of(i, std::array::from_fn(|j| &rows[j][..]), grads.each_mut().map(|grad| &mut grad[..]));
            for (out, grad) in out.iter_mut().zip(&grads) {
                out[at.clone()].iter_mut().zip(grad).for_each(|(out, g)| *out = *g as f32);
            }
        }
        total
    })?;
    Ok((parts.iter().sum(), grads))
}

/// What `of` says of every chunk of rows, in their order, and the lists of `widths` values per row that it writes: it is given the
/// rows' numbers, their values in each of the inputs, which have one shape, and their part of each list, all zeros.
pub(super) fn in_chunks<const I: usize, const G: usize, T: Send>(
    inputs: [&Rows; I],
    widths: [usize; G],
    of: impl Fn(Range<usize>, [&[f32]; I], [&mut [f32]; G]) -> T + Sync,
) -> Result<(Vec<T>, [Vec<f32>; G])> {
    let (n, k) = (inputs[0].n, inputs[0].k);
    let views = inputs.iter().map(|rows| mem::view(&rows.values)).collect::<ops::Result<Vec<_>>>()?;
    let values: Vec<&[f32]> = views.iter().map(|view| &view[..]).collect();
    let (lists, parts) = par::filled(n, CHUNK, widths, |range, lists| {
        let own = std::array::from_fn(|j| &values[j][range.start * k..range.end * k]);
        of(range, own, lists)
    });
    Ok((parts, lists))
}

/// Rows of one chunk, one value for each.
pub(super) type PerRow = [f32; CHUNK];

/// What [`logits::softmax`] finds of a chunk.
pub(super) struct Softmax {
    pub best: PerRow,
    pub log_sum: PerRow,
    pub entropy: PerRow,
}

/// [`logits::softmax`] of at most [`CHUNK`] rows of `k`.
pub(super) fn softmax_of(x: &[f32], k: usize, scale: &PerRow, slope: Slope, out: &mut [f32]) -> Softmax {
    let rows = x.len() / k.max(1);
    let [mut best, mut log_sum, mut entropy] = [[0f32; CHUNK]; 3];
    let found = Found { best: &mut best[..rows], log_sum: &mut log_sum[..rows], entropy: &mut entropy[..rows] };
    logits::softmax(x, k, &scale[..rows], slope, out, found);
    Softmax { best, log_sum, entropy }
}

/// What [`logits::divergence`] finds of a chunk.
pub(super) struct Divergence {
    pub kl: PerRow,
    pub alike: PerRow,
}

impl Divergence {
    /// Of at most [`CHUNK`] rows.
    pub fn of(pair: Pair, scale: &PerRow, student_out: &mut [f32], teacher_out: &mut [f32]) -> Self {
        let rows = pair.teacher.len() / pair.k.max(1);
        let [mut kl, mut alike] = [[0f32; CHUNK]; 2];
        let found = Apart { kl: &mut kl[..rows], alike: &mut alike[..rows] };
        logits::divergence(pair, &scale[..rows], student_out, teacher_out, found);
        Self { kl, alike }
    }

    /// How many of the first `rows` are alike.
    pub fn alike(&self, rows: usize) -> usize {
        self.alike[..rows].iter().filter(|alike| **alike > 0.0).count()
    }
}

/// Share of rows whose first largest entries are at the same place.
///
/// # Errors
/// Logits of different shapes.
pub fn agreement(a: &Tensor, b: &Tensor) -> Result<f64> {
    Rows::of(a)?.agreement(&Rows::of(b)?)
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

    /// [`Weights::share`] of each of the rows of a chunk, times `factor`.
    pub fn shares(&self, range: &Range<usize>, factor: f64) -> PerRow {
        let mut shares = [0.0; CHUNK];
        shares.iter_mut().zip(range.clone()).for_each(|(share, i)| *share = (factor * self.share(i)) as f32);
        shares
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
    log_softmax(&row, 1.0).into_iter().fold(f64::NEG_INFINITY, f64::max).exp() as f32
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

/// A logit whose probability is 0, in f32 and in products with its logarithm, and which no other is below.
const FAR: f32 = -1e4;

/// Logits in which the class `void`, if there is one, has no part, where they are.
///
/// # Errors
/// A `void` that is none of the classes.
pub fn without(logits: &Tensor, void: Option<usize>) -> Result<Tensor> {
    let Some(void) = void else { return Ok(logits.clone()) };
    let (_, _, k) = size(logits)?;
    if void >= k {
        return Err(Error::shape("loss", format!("void is class {void} of {k}")));
    }
    if !logits.device().is_cpu() {
        let far = (0..k).map(|class| if class == void { FAR } else { 0.0 }).collect();
        return Ok(logits.broadcast_add(&mem::tensor(far, k)?.to_device(logits.device())?)?);
    }
    let mut values = mem::view(logits)?.to_vec();
    values.chunks_exact_mut(k).for_each(|row| row[void] = FAR);
    Ok(mem::tensor(values, logits.dims())?)
}

/// The class of the highest logit of every row.
pub fn decisions(logits: &Tensor) -> Result<Vec<u32>> {
    let rows = Rows::of(logits)?;
    Ok(rows.list(|x, list| logits::best(x, rows.k, list))?.into_iter().map(|class| class as u32).collect())
}

/// The highest probability of every row.
pub fn sureness(logits: &Tensor) -> Result<Vec<f32>> {
    Rows::of(logits)?.sureness()
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
    if rows.n == rows.images {
        let logits = mem::view(&rows.values)?.to_vec();
        return Ok(Verdicts { confidence: logits.chunks_exact(rows.k.max(1)).map(confidence).collect(), logits });
    }
    let confidence = rows.per_image(&rows.sureness()?);
    let each = rows.n / rows.images.max(1);
    let mut found = Vec::with_capacity(rows.images * rows.k);
    for image in 0..rows.images {
        let own = Rows { n: each, k: rows.k, images: 1, values: rows.values.get(image)?.contiguous()? };
        let mass = own.mass()?;
        // `max` would hide what is no number.
        let share = |mass: &f64| if *mass / (each as f64) < LEAST_SHARE { LEAST_SHARE } else { mass / each as f64 };
        found.extend(mass.iter().map(|mass| share(mass).ln() as f32));
    }
    Ok(Verdicts { logits: found, confidence })
}
