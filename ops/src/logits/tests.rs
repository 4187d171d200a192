//! Against f64, on every path.

use super::*;
use crate::simd;

/// From −½ to ½.
fn draw(i: usize, seed: u32) -> f32 {
    ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed).wrapping_mul(2_246_822_519) >> 8) as f32
        / (1 << 24) as f32
        - 0.5
}

fn rows(rows: usize, k: usize, size: f32, seed: u32) -> Vec<f32> {
    (0..rows * k).map(|i| size * draw(i, seed)).collect()
}

fn first_largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let from_largest: Vec<f64> = row.iter().map(|v| f64::from(*v) - f64::from(row[first_largest(row)])).collect();
    let log_sum = from_largest.iter().map(|d| d.exp()).sum::<f64>().ln();
    from_largest.iter().map(|d| d - log_sum).collect()
}

fn on_every_path(of: impl Fn(&str)) {
    let _alone = simd::CHOICE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for level in simd::Level::available() {
        simd::force(Some(level));
        of(level.name());
    }
    simd::force(None);
}

struct Expected {
    kl: f64,
    /// `q − p` and `p·(ln p − ln q − KL)` of every class.
    slopes: Vec<[f64; 2]>,
}

fn expected(t: &[f32], s: &[f32], temperature: f64) -> Expected {
    let mut wide = Wide::default();
    wide.read(t, s, temperature);
    Expected { kl: wide.kl, slopes: wide.slopes().collect() }
}

fn divergences(t: &[f32], s: &[f32], k: usize, temperature: f64, masked: bool) -> [Vec<f32>; 4] {
    let n = t.len() / k;
    let [mut kl, mut alike, mut ds, mut dt] = [n, n, t.len(), t.len()].map(|len| vec![f32::NAN; len]);
    let pair = Pair { teacher: t, student: s, k, temperature, masked };
    divergence(pair, &vec![2.0; n], &mut ds, &mut dt, Apart { kl: &mut kl, alike: &mut alike });
    [kl, alike, ds, dt]
}

/// Also of answers that are nearly alike, at high temperatures, and far from 0 together: nothing cancels.
#[test]
fn divergences_and_gradients_are_those_of_f64() {
    on_every_path(|path| {
        for (k, size, temperature, offset) in [
            (11, 8.0, 1.0, 0.0),
            (11, 8.0, 20.0, 0.0),
            (3, 6.0, 2000.0, 0.0),
            (2, 30.0, 4.0, 0.0),
            (40, 20.0, 1.0, 500.0),
            (1000, 12.0, 4.0, 0.0),
        ] {
            let (t, noise) = (rows(37, k, size, 1), rows(37, k, size, 7));
            for share in [1.0, 1e-2] {
                let s: Vec<f32> = t.iter().zip(&noise).map(|(t, n)| t + share * n + offset).collect();
                let [kl, alike, ds, dt] = divergences(&t, &s, k, temperature, false);
                for row in 0..37 {
                    let at = row * k..(row + 1) * k;
                    let (t, s) = (&t[at.clone()], &s[at.clone()]);
                    let e = expected(t, s, temperature);
                    // The offset takes away digits of what comes in, not of what goes on here. What is computed with is `d`, of which a
                    // class that is all but certain has a small share, and `Σ p |δ| ≤ √(2 KL)`.
                    let d = s.iter().zip(t).map(|(s, t)| f64::from(*s) - f64::from(offset) - f64::from(*t));
                    let widest = d.map(f64::abs).fold(0.0, f64::max) / temperature;
                    let off = (f64::from(kl[row]) - e.kl).abs();
                    // What the sum in f64 itself loses is the last number.
                    let allowed = 3e-6 * e.kl + 5e-7 * widest * (2.0 * e.kl).sqrt() + 1e-15;
                    assert!(off < allowed, "{path}, {k} at {temperature}: {} for {}", kl[row], e.kl);
                    assert_eq!(alike[row] == 1.0, first_largest(t) == first_largest(s));
                    let largest = e.slopes.iter().map(|[s, _]| s.abs()).fold(0.0, f64::max);
                    for (c, slopes) in e.slopes.iter().enumerate() {
                        for (found, expected) in [ds[at.start + c], dt[at.start + c]].into_iter().zip(slopes) {
                            let off = (f64::from(found) - 2.0 * expected).abs();
                            assert!(
                                off < 3e-6 * largest + 5e-7 * widest,
                                "{path}, {k} at {temperature}: {found} for {expected}"
                            );
                        }
                    }
                }
            }
        }
    });
}

/// A class that the teacher rules out, as void is, and the student does not: nothing of it is left to f64.
#[test]
fn a_class_without_a_share_costs_no_digits() {
    on_every_path(|path| {
        let (k, n) = (12, 37);
        for (size, temperature) in [(8.0, 1.0), (8.0, 20.0), (40.0, 1.0)] {
            let (mut t, noise) = (rows(n, k, size, 1), rows(n, k, size, 7));
            let s: Vec<f32> = t.iter().zip(&noise).map(|(t, noise)| t + noise).collect();
            t.chunks_exact_mut(k).for_each(|row| row[4] = -1e4);
            let [kl, _, ds, dt] = divergences(&t, &s, k, temperature, false);
            for (row, kl) in kl.iter().enumerate() {
                let at = row * k..(row + 1) * k;
                let e = expected(&t[at.clone()], &s[at.clone()], temperature);
                assert!((f64::from(*kl) - e.kl).abs() < 3e-6 * (1.0 + e.kl), "{path}: {kl} for {}", e.kl);
                for (c, slopes) in e.slopes.iter().enumerate() {
                    for (found, expected) in [ds[at.start + c], dt[at.start + c]].into_iter().zip(slopes) {
                        let off = (f64::from(found) - 2.0 * expected).abs();
                        assert!(off < 5e-6 * (1.0 + e.kl), "{path}, {size} at {temperature}: {found} for {expected}");
                    }
                }
            }
            let (mut kl, mut alike, mut scratch) = (vec![0f32; n], vec![0f32; n], vec![0f32; 3 * k * WIDEST]);
            let pair = Pair { teacher: &t, student: &s, k, temperature, masked: false };
            let places = [kl.as_mut_ptr(), alike.as_mut_ptr()];
            let nowhere = [std::ptr::null_mut(); 2];
            // SAFETY: all lists have the lengths that the kernel counts on.
            let left =
                unsafe { divergence_rows(pair, vec![1.0; n].as_ptr(), n, nowhere, places, scratch.as_mut_ptr()) };
            assert_eq!(left, 0, "{path}, {size} at {temperature}");
        }
    });
}

/// A student that is sure of what the teacher rules out: beyond what the exponential of f32 can say.
#[test]
fn answers_far_apart_are_finite_and_what_is_no_number_stays_none() {
    on_every_path(|path| {
        let t = [200.0, 0.0, -50.0, 1.0, 2.0, 0.0, f32::NAN, 0.0, 1.0, 3.0, 0.0, f32::NEG_INFINITY];
        let s = [-900.0, 0.0, 700.0, 1.5, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, f32::NAN, 0.0];
        let [kl, alike, ds, dt] = divergences(&t, &s, 3, 1.0, false);
        assert!((kl[0] - 1600.0).abs() < 1e-3, "{path}: {kl:?}");
        assert!((ds[0] + 2.0).abs() < 1e-6 && (ds[2] - 2.0).abs() < 1e-6 && ds[1] == 0.0, "{path}: {ds:?}");
        assert!(dt[..6].iter().all(|v| v.is_finite()), "{path}: {dt:?}");
        assert!((f64::from(kl[1]) - expected(&t[3..6], &s[3..6], 1.0).kl).abs() < 1e-6, "{path}: {kl:?}");
        assert!(kl[2..].iter().all(|kl| kl.is_nan()) && ds[6..].iter().all(|v| v.is_nan()), "{path}: {kl:?}");
        assert_eq!(alike[..2], [0.0, 0.0]);
        let [kl, _, ds, dt] = divergences(&t[..6], &s[..6], 3, 1.0, true);
        assert!(ds.iter().chain(&dt).all(|v| *v == 0.0) && kl[0] > 1000.0, "{path}: {ds:?}");
    });
}

#[test]
fn softmax_and_entropy_are_those_of_f64() {
    on_every_path(|path| {
        for (k, size) in [(1, 1.0), (2, 60.0), (11, 8.0), (33, 250.0), (1000, 12.0)] {
            let x = rows(21, k, size, 3);
            // Sums of k numbers in f32.
            let bound = 1e-6 * (k as f64 / 40.0).sqrt().max(1.0);
            let scale: Vec<f32> = (0..21).map(|i| 0.5 + i as f32).collect();
            let [mut best, mut log_sum, mut entropy] = [0; 3].map(|_| vec![f32::NAN; 21]);
            let [mut p, mut slope] = [0; 2].map(|_| vec![f32::NAN; x.len()]);
            for (kind, out) in [(Slope::Probability, &mut p), (Slope::Entropy, &mut slope)] {
                let found = Found { best: &mut best, log_sum: &mut log_sum, entropy: &mut entropy };
                softmax(&x, k, &scale, kind, out, found);
            }
            for (row, values) in x.chunks(k).enumerate() {
                let log_p = log_softmax(values);
                let place = first_largest(values);
                let expected: f64 = -log_p.iter().map(|l| l.exp() * l).sum::<f64>();
                assert_eq!(best[row], place as f32, "{path}");
                assert!((f64::from(log_sum[row]) + log_p[place]).abs() < bound, "{path}: {}", log_sum[row]);
                assert!((f64::from(entropy[row]) - expected).abs() < bound, "{path}: {} for {expected}", entropy[row]);
                for (c, l) in log_p.iter().enumerate() {
                    let [p, slope] = [&p, &slope].map(|list| f64::from(list[row * k + c]) / f64::from(scale[row]));
                    assert!((p - l.exp()).abs() < 5e-7, "{path}: {p} for {}", l.exp());
                    assert!((slope + l.exp() * (l + expected)).abs() < bound, "{path}: {slope}");
                }
            }
        }
        let x = [f32::NAN, 0.0, 1.0, 1.0, f32::INFINITY, 0.0, 2.0, f32::NAN, 3.0, -1.0, -1.0, -2.0];
        let [mut places, mut log_sum, mut entropy] = [[0f32; 4]; 3];
        best(&x, 3, &mut places);
        let expected: Vec<f32> = x.chunks(3).map(|row| first_largest(row) as f32).collect();
        assert_eq!(places[..], expected[..], "{path}");
        let found = Found { best: &mut places, log_sum: &mut log_sum, entropy: &mut entropy };
        softmax(&x, 3, &[1.0; 4], Slope::Probability, &mut [], found);
        assert!(log_sum[..3].iter().all(|v| v.is_nan()) && log_sum[3].is_finite(), "{path}: {log_sum:?}");
    });
}
