//! Bands of images as tiles, for the gradient of the weights.

use crate::activation::Activation;
use crate::conv2d::pack::Prologue;
use crate::conv2d::plan::{Phase, Plan};
use crate::simd::amx::{DEPTH, ROWS};
use std::arch::x86_64::*;

/// Values of a tile.
pub(super) const TILE: usize = ROWS * DEPTH;
/// Channels of a row that are laid out together.
pub(super) const CHANNELS: usize = 4 * ROWS;

/// Rows of a band up to which there may be fewer pieces than a batch should have: what bands read of each other's rows is laid out twice.
const LEAST_ROWS: usize = 4;

/// How images are cut: `rows` rows of a phase's grid are a band.
pub(super) struct Bands {
    pub rows: usize,
    pub per_image: usize,
    /// Rows of the padded image from a band's first to its last.
    pub high: usize,
    /// Which of these, and which columns of the padded image, are read: of 1x1 kernels with stride not all.
    read: [Vec<bool>; 2],
}

impl Bands {
    /// Those of `n` images of which 32 need at most so many bytes, and which are so many pieces of 32, if that leaves them a few rows.
    pub fn new(plan: &Plan, n: usize, most_bytes: usize, pieces: usize) -> Self {
        let most = |of: fn(&Phase) -> usize| plan.phases.iter().map(of).max().unwrap_or(0);
        let (all, cols) = (most(|phase| phase.rows).max(1), most(|phase| phase.cols));
        // What the first row of a band reads, and every further one.
        let first = most(|phase| phase.origin[0] + phase.taps.iter().map(|tap| tap.dy).max().unwrap_or(0) + 1);
        let high = |rows: usize| first + (rows - 1) * step(plan);
        let (reads, writes) = (plan.c.next_multiple_of(ROWS), plan.c_out.next_multiple_of(width(plan)));
        let fits = |rows: &usize| {
            let bytes = 2 * DEPTH * (high(*rows) * plan.wp * reads + rows * cols * writes);
            bytes <= most_bytes && (*rows <= LEAST_ROWS || n * all.div_ceil(*rows) >= pieces * DEPTH)
        };
        // Of those that leave the fewest rows empty behind an image's last one the highest.
        let rows = (1..=all).filter(fits).min_by_key(|rows| (rows * all.div_ceil(*rows), all - rows));
        let rows = rows.unwrap_or(1);
        let by = |phase: &Phase, from: usize, axis: usize, count: usize, place: usize| {
            let behind = place.checked_sub(phase.origin[axis] + from);
            behind.is_some_and(|behind| behind % phase.step[axis] == 0 && behind / phase.step[axis] < count)
        };
        let row = |y: usize| plan.phases.iter().any(|p| p.taps.iter().any(|tap| by(p, tap.dy, 0, rows, y)));
        let column = |x: usize| plan.phases.iter().any(|p| p.taps.iter().any(|tap| by(p, tap.dx, 1, p.cols, x)));
        let read = [(0..high(rows)).map(row).collect(), (0..plan.wp).map(column).collect()];
        Self { rows, per_image: all.div_ceil(rows), high: high(rows), read }
    }
}

/// Rows of the padded image from one row of a grid to the next, which is the same for all phases of a forward plan.
fn step(plan: &Plan) -> usize {
    plan.phases.first().map_or(1, |phase| phase.step[0])
}

/// Columns of a block: one tile of them or two.
pub(super) fn width(plan: &Plan) -> usize {
    if plan.c_out > ROWS { 2 * ROWS } else { ROWS }
}

/// 32 bands.
pub(super) struct Piece<'a> {
    pub plan: &'a Plan,
    pub bands: &'a Bands,
    /// The first one, and how many images there are.
    pub first: usize,
    pub n: usize,
    pub x: &'a [f32],
    pub prologue: Option<&'a Prologue<'a>>,
    pub dy: &'a [f32],
}

impl Piece<'_> {
    /// Where a row of every band begins: `row(band)` of its image, if that has one.
    fn lanes(&self, from: &[f32], image: usize, row: impl Fn(usize) -> Option<usize>) -> Lanes {
        let mut lanes = Lanes { starts: [std::ptr::null(); DEPTH], there: [0; DEPTH], all: true };
        let (mut of, mut band) = (self.first / self.bands.per_image, self.first % self.bands.per_image);
        for i in 0..DEPTH {
            match row(band).filter(|_| of < self.n) {
                Some(at) => (lanes.starts[i], lanes.there[i]) = (from[of * image + at..].as_ptr(), u16::MAX),
                None => lanes.all = false,
            }
            band += 1;
            if band == self.bands.per_image {
                (of, band) = (of + 1, 0);
            }
        }
        lanes
    }

    /// Up to [`CHANNELS`] channels, from `first` on, of row `y` of the bands, as far as it is read: `[pixel][channel][band]` for every 16
    /// channels, which are `pitch` values apart.
    ///
    /// # Safety
    /// There is room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub unsafe fn images(&self, y: usize, first: usize, to: *mut u16, pitch: usize) {
        let (plan, [rows, columns]) = (self.plan, &self.bands.read);
        if !rows[y] {
            return;
        }
        let step = self.bands.rows * step(plan);
        let row = |band: usize| (band * step + y).checked_sub(plan.pad_top).filter(|row| *row < plan.h);
        let lanes = self.lanes(self.x, plan.h * plan.w * plan.c, |band| Some(row(band)? * plan.w * plan.c));
        for (i, first) in (first..plan.c.min(first + CHANNELS)).step_by(ROWS).enumerate() {
            let seen = Seen::new(self.prologue, first, plan.c);
            for x in (0..plan.wp).filter(|x| columns[*x]) {
                // SAFETY: as the caller promises; pixels lie in the rows.
                unsafe {
                    let to = to.add(i * pitch + x * TILE);
                    match x.checked_sub(plan.pad_left).filter(|x| *x < plan.w) {
                        Some(x) => lanes.tile::<true>(x * plan.c + first, &seen, to),
                        None => to.write_bytes(0, TILE),
                    }
                }
            }
        }
    }

    /// Up to [`CHANNELS`] channels, from `first` on, of row `y` of the bands' gradients: `[pixel][tile of 16 columns][pair of bands]` for every
    /// block of columns, which are `pitch` values apart.
    ///
    /// # Safety
    /// There is room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    pub unsafe fn gradients(&self, phase: &Phase, y: usize, first: usize, to: *mut u16, pitch: usize) {
        let plan = self.plan;
        let start = |row: usize| ((phase.out[0] + row * phase.out_step[0]) * plan.out_w + phase.out[1]) * plan.c_out;
        let row = |band: usize| Some(band * self.bands.rows + y).filter(|row| *row < phase.rows);
        let lanes = self.lanes(self.dy, plan.out_h * plan.out_w * plan.c_out, |band| row(band).map(start));
        let (tiles, all) = (width(plan) / ROWS, plan.c_out.next_multiple_of(width(plan)));
        for (i, first) in (first..all.min(first + CHANNELS)).step_by(ROWS).enumerate() {
            let seen = Seen::new(None, first, plan.c_out);
            for x in 0..phase.cols {
                // SAFETY: as the caller promises; pixels lie in the rows.
                unsafe {
                    let to = to.add(i / tiles * pitch + (x * tiles + i % tiles) * TILE);
                    lanes.tile::<false>(x * phase.out_step[1] * plan.c_out + first, &seen, to);
                }
            }
        }
    }
}

/// A row of each of 32 bands: where it begins, and all bits set where it is there.
struct Lanes {
    starts: [*const f32; DEPTH],
    there: [u16; DEPTH],
    /// Whether all are there.
    all: bool,
}

/// What is seen of 16 channels: which of them exist, and what a prologue makes of them.
struct Seen {
    channels: u16,
    affine: bool,
    scale: __m512,
    shift: __m512,
    act: Activation,
}

impl Seen {
    fn new(prologue: Option<&Prologue>, first: usize, channels: usize) -> Self {
        let mask = ((1u32 << channels.saturating_sub(first).min(ROWS)) - 1) as u16;
        // SAFETY: no more is read than there is, and nothing at all where all of them are behind the end.
        let load = |values: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().wrapping_add(first)) };
        // SAFETY: where there are tiles, there is AVX-512.
        let zero = unsafe { _mm512_setzero_ps() };
        let (scale, shift) = prologue.map_or((zero, zero), |p| (load(p.scale), load(p.shift)));
        let act = prologue.map_or(Activation::IDENTITY, |p| p.act);
        Self { channels: mask, affine: prologue.is_some(), scale, shift, act }
    }
}

impl Lanes {
    /// A tile of the 16 values `at` behind the start of every lane, zeros where there are none: a row has those of two neighbouring lanes
    /// side by side, or (`TURNED`) one of the values of all lanes.
    ///
    /// # Safety
    /// Those that are seen lie in the rows that are there; the tile has room.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn tile<const TURNED: bool>(&self, at: usize, seen: &Seen, to: *mut u16) {
        // SAFETY: as the caller promises.
        unsafe {
            match (self.all && seen.channels == u16::MAX, seen.affine) {
                (true, true) => self.write::<true, true, TURNED>(at, seen, to),
                (true, false) => self.write::<true, false, TURNED>(at, seen, to),
                (false, true) => self.write::<false, true, TURNED>(at, seen, to),
                (false, false) => self.write::<false, false, TURNED>(at, seen, to),
            }
        }
    }

    /// # Safety
    /// As of [`Lanes::tile`]; only where all lanes and all 16 channels are there they are `WHOLE`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn write<const WHOLE: bool, const AFFINE: bool, const TURNED: bool>(
        &self,
        at: usize,
        seen: &Seen,
        to: *mut u16,
    ) {
        // Value `c` of the first half beside that of the second.
        const PLACES: [u16; DEPTH] = {
            let mut places = [0; DEPTH];
            let mut i = 0;
            while i < DEPTH {
                places[i] = (i / 2 + i % 2 * ROWS) as u16;
                i += 1;
            }
            places
        };
        let (slope, cap) = (_mm512_set1_ps(seen.act.slope), _mm512_set1_ps(seen.act.cap));
        // SAFETY: masked lanes are not read.
        unsafe {
            let places = _mm512_loadu_si512(PLACES.as_ptr().cast());
            let value = |lane: usize| {
                let mask = self.there[lane] & seen.channels;
                let from = self.starts[lane].wrapping_add(at);
                let v = if WHOLE { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(mask, from) };
                if !AFFINE {
                    return v;
                }
                let z = _mm512_fmadd_ps(v, seen.scale, seen.shift);
                let z = _mm512_max_ps(_mm512_mul_ps(z, slope), z);
                if WHOLE { _mm512_min_ps(cap, z) } else { _mm512_maskz_min_ps(mask, cap, z) }
            };
            let mut pairs = [_mm512_setzero_si512(); ROWS];
            for (i, pair) in pairs.iter_mut().enumerate() {
                let both = _mm512_cvtne2ps_pbh(value(2 * i + 1), value(2 * i));
                *pair = _mm512_permutexvar_epi16(places, std::mem::transmute::<__m512bh, __m512i>(both));
            }
            let rows = if TURNED { transposed(pairs) } else { pairs };
            for (i, row) in rows.into_iter().enumerate() {
                _mm512_store_si512(to.add(i * DEPTH).cast(), row);
            }
        }
    }
}

/// 16x16 values of 32 bits, transposed: within lanes of 128 bits first, then the lanes.
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut within = [_mm512_setzero_si512(); 16];
    for (rows, to) in rows.chunks_exact(4).zip(within.chunks_exact_mut(4)) {
        let (low, high) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (low2, high2) = (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        to[0] = _mm512_unpacklo_epi64(low, low2);
        to[1] = _mm512_unpackhi_epi64(low, low2);
        to[2] = _mm512_unpacklo_epi64(high, high2);
        to[3] = _mm512_unpackhi_epi64(high, high2);
    }
    let mut out = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let [a, b, c, d] = [within[i], within[4 + i], within[8 + i], within[12 + i]];
        let even = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
        let odd = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[i] = _mm512_shuffle_i32x4::<0x88>(even.0, even.1);
        out[4 + i] = _mm512_shuffle_i32x4::<0x88>(odd.0, odd.1);
        out[8 + i] = _mm512_shuffle_i32x4::<0xdd>(even.0, even.1);
        out[12 + i] = _mm512_shuffle_i32x4::<0xdd>(odd.0, odd.1);
    }
    out
}
