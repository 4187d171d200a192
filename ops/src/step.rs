//! The element-wise updates of the optimizers, in place and vectorised; on a card all tensors in one launch.

use super::mem::{update, view};
use super::par::{self, Shared};
use super::simd::{Simd, simd_fn};
use crate::{Error, Result};
use candle_core::Tensor;

const GRAIN: usize = 65_536;

/// Numbers of an SGD update; see `train::Sgd`.
pub struct SgdRule {
    pub lr: f32,
    pub momentum: f32,
    pub nesterov: bool,
    pub weight_decay: f32,
}

/// A parameter with its gradient and its velocity, which appears with the first update.
pub struct Update<'a> {
    pub param: &'a Tensor,
    pub grad: &'a Tensor,
    pub velocity: &'a mut Option<Tensor>,
    /// Whether weight decay pulls on it.
    pub decays: bool,
}

/// A parameter with its gradient and the two moments of Adam, which appear with the first update.
pub struct Moments<'a> {
    pub param: &'a Tensor,
    pub grad: &'a Tensor,
    pub state: &'a mut Option<[Tensor; 2]>,
}

/// Numbers of the update of one tensor on the CPU.
struct OneRule {
    lr: f32,
    momentum: f32,
    look_ahead: f32,
    nesterov: bool,
    weight_decay: f32,
}

/// Numbers of one Adam update; see `train::Adam`.
pub struct AdamRule {
    pub lr: f32,
    pub betas: (f32, f32),
    pub eps: f32,
    /// `1 − βᵗ` of both moments.
    pub correction: [f32; 2],
}

fn check(param: &Tensor, lengths: &[usize]) -> Result<usize> {
    let n = param.elem_count();
    if lengths.iter().all(|l| *l == n) {
        return Ok(n);
    }
    Err(Error::shape("optimizer", format!("parameter {:?}, gradient and state of {lengths:?} values", param.dims())))
}

/// Every parameter and its velocity after one step.
///
/// # Errors
/// Gradients or velocities that do not have the size of their parameter, or lie elsewhere.
pub fn sgd_all(updates: &mut [Update], rule: &SgdRule) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    on_cuda!(first.param, super::cuda::step::sgd(updates, rule));
    for each in updates {
        let fresh = each.velocity.is_none();
        let velocity = match each.velocity.take() {
            Some(velocity) => velocity,
            None => each.param.zeros_like()?,
        };
        let one = OneRule {
            lr: rule.lr,
            momentum: if fresh { 0.0 } else { rule.momentum },
            look_ahead: if rule.nesterov { rule.momentum } else { 0.0 },
            nesterov: rule.nesterov,
            weight_decay: if each.decays { rule.weight_decay } else { 0.0 },
        };
        let grad = view(each.grad)?;
        let mut done = Ok(());
        update(&velocity, |v| done = sgd(each.param, &grad, v, &one))?;
        done?;
        *each.velocity = Some(velocity);
    }
    Ok(())
}

/// Every parameter and its moments after one step of Adam.
///
/// # Errors
/// As [`sgd_all`].
pub fn adam_all(updates: &mut [Moments], rule: &AdamRule) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    on_cuda!(first.param, super::cuda::step::adam(updates, rule));
    for each in updates {
        let [m, v] = match each.state.take() {
            Some(state) => state,
            None => [each.param.zeros_like()?, each.param.zeros_like()?],
        };
        let grad = view(each.grad)?;
        let mut done = Ok(());
        let mut inner = Ok(());
        update(&m, |m| inner = update(&v, |v| done = adam(each.param, &grad, m, v, rule)))?;
        inner?;
        done?;
        *each.state = Some([m, v]);
    }
    Ok(())
}

/// `a ← alpha·a + beta·b` for every pair of equally large tensors; with an `alpha` of 0, what `a` was is not looked at. On a CPU, where
/// numbers too small to be normal take many times as long, they become zeros: an average of zeros would come to the least of them and
/// stay there.
///
/// # Errors
/// Pairs that differ in size or place.
pub fn blend<'a>(pairs: &[(&'a Tensor, &'a Tensor)], alpha: f32, beta: f32) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    on_cuda!(first, super::cuda::step::blend(pairs.iter().copied(), alpha, beta));
    for (a, b) in pairs {
        if a.elem_count() != b.elem_count() {
            return Err(Error::shape("blend", format!("{:?} and {:?}", a.dims(), b.dims())));
        }
        let b = view(b)?;
        let blended = |a: f32, b: f32| {
            let blend = if alpha == 0.0 { beta * b } else { alpha * a + beta * b };
            if blend.abs() < f32::MIN_POSITIVE { 0.0 } else { blend }
        };
        let piece = |(i, a): (usize, &mut [f32])| {
            a.iter_mut().zip(&b[i * GRAIN..]).for_each(|(a, b)| *a = blended(*a, *b));
        };
        update(a, |a| par::each_chunk(a, GRAIN, piece))?;
    }
    Ok(())
}

/// `p` and `velocity` after one step with gradient `g`.
fn sgd(param: &Tensor, g: &[f32], velocity: &mut [f32], rule: &OneRule) -> Result<()> {
    let n = check(param, &[g.len(), velocity.len()])?;
    let v = Shared(velocity.as_mut_ptr());
    update(param, |p| {
        let p = Shared(p.as_mut_ptr());
        let pieces = par::pieces(n, GRAIN);
        par::each(pieces, |i| {
            let r = par::range(n, pieces, i);
            // SAFETY: disjoint ranges of slices of n elements.
            unsafe { sgd_range(p.at(r.start), g.as_ptr().add(r.start), v.at(r.start), r.len(), rule) };
        });
    })
}

simd_fn!(fn sgd_range(p: *mut f32, g: *const f32, v: *mut f32, n: usize, rule: &OneRule) = sgd_kernel);

#[inline(always)]
unsafe fn sgd_kernel<S: Simd>(p: *mut f32, g: *const f32, v: *mut f32, n: usize, rule: &OneRule) {
    // SAFETY: all three hold n values; vectors end below `whole`.
    unsafe {
        let whole = n - n % S::LANES;
        let (wd, momentum) = (S::splat(rule.weight_decay), S::splat(rule.momentum));
        let (minus_lr, ahead) = (S::splat(-rule.lr), S::splat(rule.look_ahead));
        let mut i = 0;
        while i < whole {
            let x = S::load(p.add(i));
            let grad = S::fma(wd, x, S::load(g.add(i)));
            let velocity = S::fma(momentum, S::load(v.add(i)), grad);
            S::store(v.add(i), velocity);
            let direction = if rule.nesterov { S::fma(ahead, velocity, grad) } else { velocity };
            S::store(p.add(i), S::fma(minus_lr, direction, x));
            i += S::LANES;
        }
        while i < n {
            let grad = *g.add(i) + rule.weight_decay * *p.add(i);
            *v.add(i) = rule.momentum * *v.add(i) + grad;
            let direction = if rule.nesterov { grad + rule.look_ahead * *v.add(i) } else { *v.add(i) };
            *p.add(i) -= rule.lr * direction;
            i += 1;
        }
    }
}

/// `p`, `m` and `v` after one step with gradient `g`.
fn adam(param: &Tensor, g: &[f32], m: &mut [f32], v: &mut [f32], rule: &AdamRule) -> Result<()> {
    let n = check(param, &[g.len(), m.len(), v.len()])?;
    let (m, v) = (Shared(m.as_mut_ptr()), Shared(v.as_mut_ptr()));
    update(param, |p| {
        let p = Shared(p.as_mut_ptr());
        let pieces = par::pieces(n, GRAIN);
        par::each(pieces, |i| {
            let r = par::range(n, pieces, i);
            let at = r.start;
            // SAFETY: disjoint ranges of slices of n elements.
            unsafe { adam_range(p.at(at), g.as_ptr().add(at), m.at(at), v.at(at), r.len(), rule) };
        });
    })
}

simd_fn!(
    fn adam_range(p: *mut f32, g: *const f32, m: *mut f32, v: *mut f32, n: usize, rule: &AdamRule) = adam_kernel
);

#[inline(always)]
unsafe fn adam_kernel<S: Simd>(p: *mut f32, g: *const f32, m: *mut f32, v: *mut f32, n: usize, rule: &AdamRule) {
    let (b1, b2) = rule.betas;
    let step = rule.lr / rule.correction[0];
    let root = rule.correction[1].sqrt();
    // SAFETY: all four hold n values; vectors end below `whole`.
    unsafe {
        let whole = n - n % S::LANES;
        let (b1v, b2v, c1, c2) = (S::splat(b1), S::splat(b2), S::splat(1.0 - b1), S::splat(1.0 - b2));
        let (minus_step, root_v, eps) = (S::splat(-step), S::splat(1.0 / root), S::splat(rule.eps));
        let mut i = 0;
        while i < whole {
            let grad = S::load(g.add(i));
            let first = S::fma(b1v, S::load(m.add(i)), S::mul(c1, grad));
            let second = S::fma(b2v, S::load(v.add(i)), S::mul(c2, S::mul(grad, grad)));
            S::store(m.add(i), first);
            S::store(v.add(i), second);
            let scale = S::fma(S::sqrt(second), root_v, eps);
            S::store(p.add(i), S::fma(minus_step, S::div(first, scale), S::load(p.add(i))));
            i += S::LANES;
        }
        while i < n {
            let grad = *g.add(i);
            *m.add(i) = b1 * *m.add(i) + (1.0 - b1) * grad;
            *v.add(i) = b2 * *v.add(i) + (1.0 - b2) * grad * grad;
            *p.add(i) -= step * *m.add(i) / ((*v.add(i)).sqrt() / root + rule.eps);
            i += 1;
        }
    }
}
