//! Eight lanes in plain Rust, which the compiler makes vectors of where it can.

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

macro_rules! lanes {
    ($a:ident, $b:ident, |$x:ident, $y:ident| $e:expr) => {{
        let mut out = [0f32; 8];
        let mut i = 0;
        while i < 8 {
            let ($x, $y) = ($a[i], $b[i]);
            out[i] = $e;
            i += 1;
        }
        out
    }};
}

// SAFETY of every function: pointers hold eight values, says the contract of `Simd`.
impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;
    const NARROW: (usize, usize) = (1, 1);
    const WIDE: (usize, usize) = (1, 1);
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, lanes: usize) -> Self::V {
        let mut v = [0f32; 8];
        unsafe { std::ptr::copy_nonoverlapping(p, v.as_mut_ptr(), lanes) };
        v
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: Self::V, lanes: usize) {
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, lanes) };
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        let mut i = 0;
        while i < 8 {
            // A fused multiply-add only where it is an instruction: as a library call it would be 50 times slower.
            out[i] = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                a[i].mul_add(b[i], c[i])
            } else {
                a[i] * b[i] + c[i]
            };
            i += 1;
        }
        out
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        lanes!(a, a, |x, _y| x.sqrt())
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanes!(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn pow2(n: Self::V) -> Self::V {
        // The exponent field of a float, whose bias is 127.
        lanes!(n, n, |x, _y| f32::from_bits(((x as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn if_gt(x: Self::V, y: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        let mut out = no;
        let mut i = 0;
        while i < 8 {
            out[i] = if x[i] > y[i] { yes[i] } else { no[i] };
            i += 1;
        }
        out
    }
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        let sum = |v: Self::V| ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
        [sum(v[0]), sum(v[1]), sum(v[2]), sum(v[3])]
    }
}
