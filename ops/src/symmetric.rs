//! Products that are symmetric: what lies above the diagonal is copied from below it.

use super::mem::{build, view};
use super::par::Shared;
use crate::{Error, Result};
use candle_core::Tensor;
use gemm::{Parallelism, gemm};

/// Sides of squares on the diagonal that are computed as a whole: less is quicker multiplied than taken apart.
const WHOLE: usize = 64;
/// Sides of the squares in which the rest is copied to the other side of the diagonal.
const SQUARE: usize = 8;

/// The smaller one of `Xᵀ·X` and `X·Xᵀ`, of `X: [rows, columns]`: the latter if there are fewer rows than columns.
///
/// # Errors
/// A tensor that is no matrix, or not contiguous f32.
pub fn gram(x: &Tensor) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let is_wide = rows < columns;
    on_cuda!(x, if is_wide { Ok(x.matmul(&x.t()?)?) } else { Ok(x.t()?.matmul(x)?) });
    let x = view(x)?;
    let [upright, turned] = [[columns, 1], [1, columns]].map(|strides| Side { values: &x, strides });
    if is_wide { half(rows, columns, upright, turned) } else { half(columns, rows, turned, upright) }
}

/// `A·B` of two symmetric matrices `[n, n]` that commute, as polynomials of one matrix do.
///
/// # Errors
/// As [`gram`], and for two that differ in size.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    on_cuda!(a, Ok(a.matmul(b)?));
    let n = a.dim(0)?;
    if a.dims() != [n, n] || b.dims() != [n, n] {
        return Err(Error::shape("symmetric product", format!("{:?} and {:?}", a.dims(), b.dims())));
    }
    let (a, b) = (view(a)?, view(b)?);
    half(n, n, Side { values: &a, strides: [n, 1] }, Side { values: &b, strides: [n, 1] })
}

/// A matrix whose element `[i, j]` lies at `i·strides[0] + j·strides[1]`.
#[derive(Clone, Copy)]
struct Side<'a> {
    values: &'a [f32],
    strides: [usize; 2],
}

/// The product of `[n, depth]` and `[depth, n]`, which is symmetric.
fn half(n: usize, depth: usize, left: Side, right: Side) -> Result<Tensor> {
    // SAFETY: the sizes are those of the sides, and all is written.
    unsafe { build((n, n), |out| fill(Shared(out), n, depth, [0, n], left, right)) }
}

/// Rows `from..to` of the columns `from..to`: both halves of the diagonal, then what lies below them, which is copied to the right of them.
///
/// # Safety
/// `out` has `n`² values, `left` `[n, depth]` and `right` `[depth, n]`.
unsafe fn fill(out: Shared, n: usize, depth: usize, [from, to]: [usize; 2], left: Side, right: Side) {
    let block = |rows: [usize; 2], columns: [usize; 2]| {
        let strides = |side: Side| side.strides.map(|stride| stride as isize);
        let ([left_row, left_column], [right_row, right_column]) = (strides(left), strides(right));
        // SAFETY: rows and columns lie within n; nothing is read of `out`.
        unsafe {
            gemm(
                rows[1] - rows[0],
                columns[1] - columns[0],
                depth,
                out.at(rows[0] * n + columns[0]),
                1,
                n as isize,
                false,
                left.values.as_ptr().add(rows[0] * left.strides[0]),
                left_column,
                left_row,
                right.values.as_ptr().add(columns[0] * right.strides[1]),
                right_column,
                right_row,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(0),
            );
        }
    };
    if to - from <= WHOLE {
        return block([from, to], [from, to]);
    }
    let middle = from + (to - from).div_ceil(2).next_multiple_of(SQUARE).min(to - from);
    // SAFETY: as the caller promises.
    unsafe {
        fill(out, n, depth, [from, middle], left, right);
        fill(out, n, depth, [middle, to], left, right);
    }
    block([middle, to], [from, middle]);
    // SAFETY: the block was just written; its counterpart is nobody else's.
    unsafe { mirror(out, n, [middle, to], [from, middle]) };
}

/// Copies rows and columns below the diagonal to the other side of it.
///
/// # Safety
/// `out` has `n`² values; `rows` and `columns` lie within n and share nothing.
unsafe fn mirror(out: Shared, n: usize, rows: [usize; 2], columns: [usize; 2]) {
    for row in (rows[0]..rows[1]).step_by(SQUARE) {
        for column in (columns[0]..columns[1]).step_by(SQUARE) {
            let [height, width] = [SQUARE.min(rows[1] - row), SQUARE.min(columns[1] - column)];
            let mut square = [[0f32; SQUARE]; SQUARE];
            // SAFETY: both squares lie within `out`, and share nothing.
            unsafe {
                for i in 0..height {
                    let from = std::slice::from_raw_parts(out.at((row + i) * n + column), width);
                    square.iter_mut().zip(from).for_each(|(to, x)| to[i] = *x);
                }
                for (j, from) in square[..width].iter().enumerate() {
                    std::ptr::copy_nonoverlapping(from.as_ptr(), out.at((column + j) * n + row), height);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::tensor;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn matrix(rows: usize, columns: usize) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64((rows * 1000 + columns) as u64);
        tensor((0..rows * columns).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect(), (rows, columns)).unwrap()
    }

    /// Beside candle's product, as a share of the largest value.
    fn check(what: &str, found: &Tensor, expected: &Tensor) {
        assert_eq!(found.dims(), expected.dims(), "{what}");
        let (found, expected) = (view(found).unwrap(), view(expected).unwrap());
        let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (i, (found, expected)) in found.iter().zip(expected.iter()).enumerate() {
            assert!((found - expected).abs() <= 1e-5 * largest, "{what}: {found} at {i} instead of {expected}");
        }
    }

    #[test]
    fn halves_are_the_whole() {
        for (rows, columns) in
            [(1, 1), (5, 3), (3, 5), (70, 64), (65, 65), (64, 130), (300, 129), (210, 200), (40, 257)]
        {
            let x = matrix(rows, columns);
            let turned = x.t().unwrap().contiguous().unwrap();
            let plain = if rows < columns { x.matmul(&turned) } else { turned.matmul(&x) }.unwrap();
            let own = gram(&x).unwrap();
            check(&format!("gram of {rows}x{columns}"), &own, &plain);
            let square = plain.matmul(&plain).unwrap();
            check("square", &product(&own, &own).unwrap(), &square);
            check("cube", &product(&product(&own, &own).unwrap(), &own).unwrap(), &square.matmul(&plain).unwrap());
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        assert!(product(&matrix(3, 4), &matrix(4, 3)).is_err());
        assert!(product(&matrix(3, 3), &matrix(4, 4)).is_err());
        assert!(gram(&matrix(3, 4).t().unwrap()).is_err());
    }
}
