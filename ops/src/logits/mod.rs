//! Rows of logits, as many at a time as a vector has lanes: softmax, divergence of two answers and their gradients.
//!
//! Rows are short (a dozen classes) and many (every pixel), so lanes are rows, not classes: a block of rows is turned round, and
//! maxima and sums are plain vector operations. Cost per row of K classes: K exponentials (some twelve multiply-adds over all lanes)
//! for a softmax, 2K for a divergence, and as much again for turning the block round and back.
//!
//! What a row gives depends on nothing but this row.

mod kernels;
#[cfg(test)]
mod tests;

use super::mem::with_scratch;
use kernels::{WIDEST, best_rows, divergence_rows, softmax_rows};

/// What [`softmax`] finds of each row: lists of one value per row.
pub struct Found<'a> {
    /// Place of the first largest value.
    pub best: &'a mut [f32],
    /// `ln Σ exp(x − max)`, at least 0: minus the logarithm of the largest probability.
    pub log_sum: &'a mut [f32],
    /// `−Σ p ln p`
    pub entropy: &'a mut [f32],
}

/// What becomes of the probabilities of a row.
#[derive(Clone, Copy, PartialEq)]
pub enum Slope {
    /// `p`
    Probability,
    /// `−p·(ln p + entropy)`: the gradient of the entropy.
    Entropy,
}

/// The place of the first largest value of each row of `x [rows, k]`.
pub fn best(x: &[f32], k: usize, places: &mut [f32]) {
    assert!(x.len() == places.len() * k, "rows of logits");
    if k == 0 {
        return;
    }
    with_scratch(k * WIDEST, |scratch| {
        // SAFETY: the lists have the lengths that the kernel counts on, as checked above.
        unsafe { best_rows([places.len(), k], x.as_ptr(), places.as_mut_ptr(), scratch.as_mut_ptr()) };
    });
}

/// The softmax of rows `x [rows, k]`; `out`, if it is of that size and not empty, becomes `scale` (one per row) times `slope`.
pub fn softmax(x: &[f32], k: usize, scale: &[f32], slope: Slope, out: &mut [f32], found: Found) {
    let rows = scale.len();
    assert!(x.len() == rows * k && (out.is_empty() || out.len() == x.len()), "rows of logits");
    assert!([found.best.len(), found.log_sum.len(), found.entropy.len()] == [rows; 3], "a place for every row");
    if k == 0 {
        return;
    }
    with_scratch(k * WIDEST, |scratch| {
        let out = if out.is_empty() { std::ptr::null_mut() } else { out.as_mut_ptr() };
        let places = [found.best, found.log_sum, found.entropy].map(<[f32]>::as_mut_ptr);
        // SAFETY: all lists have the lengths that the kernel counts on, as checked above.
        unsafe { softmax_rows([rows, k], x.as_ptr(), scale.as_ptr(), slope, out, places, scratch.as_mut_ptr()) };
    });
}

/// What [`divergence`] is taken of.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// `[rows, k]`
    pub teacher: &'a [f32],
    /// `[rows, k]`
    pub student: &'a [f32],
    pub k: usize,
    pub temperature: f64,
    /// Rows whose largest values are at different places get a gradient of 0.
    pub masked: bool,
}

/// What [`divergence`] finds of each row.
pub struct Apart<'a> {
    /// `KL(p ‖ q)`, at least 0, of the teacher's probabilities p and the student's q at the temperature.
    pub kl: &'a mut [f32],
    /// 1 where the first largest values are at the same place, else 0.
    pub alike: &'a mut [f32],
}

/// The divergence of rows and, where they are not empty, `scale` (one per row) times the gradients with respect to the logits over
/// T: `student_out` becomes that times `q − p`, and `teacher_out` times `p·(ln p − ln q − KL)`.
///
/// With `d = (s − t)/T`, minus any number, and `δ = d − Σ p d`: `KL = ln(1 + H)`, `H = Σ p (e^δ − 1 − δ)`,
/// `q − p = p (e^δ − 1 − H)/(1 + H)`, and `ln p − ln q − KL = −δ`. Nothing cancels there, however alike the answers are: at a
/// temperature of 20 their probabilities differ in the third digit.
pub fn divergence(pair: Pair, scale: &[f32], student_out: &mut [f32], teacher_out: &mut [f32], found: Apart) {
    let (rows, k) = (scale.len(), pair.k);
    let size = rows * k;
    assert!(pair.teacher.len() == size && pair.student.len() == size, "rows of logits");
    assert!([&student_out, &teacher_out].iter().all(|out| out.is_empty() || out.len() == size), "a gradient for each");
    assert!(found.kl.len() == rows && found.alike.len() == rows, "a place for every row");
    if k == 0 {
        return;
    }
    let mut far = 0;
    with_scratch(3 * k * WIDEST, |scratch| {
        let of = |out: &mut [f32]| if out.is_empty() { std::ptr::null_mut() } else { out.as_mut_ptr() };
        let outs = [of(student_out), of(teacher_out)];
        let places = [found.kl.as_mut_ptr(), found.alike.as_mut_ptr()];
        // SAFETY: all lists have the lengths that the kernel counts on, as checked above.
        far = unsafe { divergence_rows(pair, scale.as_ptr(), rows, outs, places, scratch.as_mut_ptr()) };
    });
    if far == 0 {
        return;
    }
    let mut wide = Wide::default();
    for row in 0..rows {
        if found.kl[row].is_finite() {
            continue;
        }
        let at = row * k..(row + 1) * k;
        wide.read(&pair.teacher[at.clone()], &pair.student[at.clone()], pair.temperature);
        found.kl[row] = wide.kl as f32;
        let scale = if pair.masked && found.alike[row] == 0.0 { 0.0 } else { f64::from(scale[row]) };
        if let Some(out) = student_out.get_mut(at.clone()) {
            out.iter_mut().zip(wide.slopes()).for_each(|(out, [student, _])| *out = (scale * student) as f32);
        }
        if let Some(out) = teacher_out.get_mut(at) {
            out.iter_mut().zip(wide.slopes()).for_each(|(out, [_, teacher])| *out = (scale * teacher) as f32);
        }
    }
}

/// A row in f64.
#[derive(Default)]
struct Wide {
    /// Logarithms of p and of q.
    logs: Vec<[f64; 2]>,
    kl: f64,
}

impl Wide {
    fn read(&mut self, teacher: &[f32], student: &[f32], temperature: f64) {
        self.logs.clear();
        self.logs.extend(teacher.iter().zip(student).map(|(t, s)| [t, s].map(|v| f64::from(*v) / temperature)));
        for side in 0..2 {
            let max = self.logs.iter().fold(f64::NEG_INFINITY, |max, row| max.max(row[side]));
            let sum = self.logs.iter().map(|row| (row[side] - max).exp()).sum::<f64>().ln() + max;
            self.logs.iter_mut().for_each(|row| row[side] -= sum);
        }
        // `max` would hide what is no number.
        let kl: f64 = self.logs.iter().map(|[p, q]| p.exp() * (p - q)).sum();
        self.kl = if kl < 0.0 { 0.0 } else { kl };
    }

    /// `q − p` and `p·(ln p − ln q − KL)` of every class.
    fn slopes(&self) -> impl Iterator<Item = [f64; 2]> {
        self.logs.iter().map(|[p, q]| [q.exp() - p.exp(), p.exp() * (p - q - self.kl)])
    }
}
