//! A convolution and its backward-data pass as the same thing: a gather with taps.
//!
//! Output pixels are cut into *phases*, grids in which every pixel sees the same taps at the same relative places. A
//! stride-1 convolution is one phase, or several where a dilated kernel sees the map's padding from most of its pixels. A convolution behind nearest ×2 upsampling is four phases over the small map,
//! whose taps are sums of the original weights. The backward-data pass of stride `s` is `s²` phases over the gradient.
//! One gather kernel (see `gather.rs`) and one outer-product kernel (see `outer.rs`) serve all of them.

use super::spec::{Conv2dSpec, Sizes};

/// Floats of padded input that one piece of work should have.
const PIECE_FLOATS: usize = 49_152;
/// Output pixels that one piece should have, if they are to be had.
const PIXELS_PER_PIECE: usize = 128;
/// Pieces that a batch should have, if that leaves them these pixels: threads that share a few are idle at the end.
const PIECES: usize = 16;

/// One weight position that a phase reads.
pub(crate) struct Tap {
    /// Place relative to the phase's first input pixel of an output pixel, in padded rows and columns.
    pub dy: usize,
    pub dx: usize,
    /// Positions (ky, kx) of the original kernel whose weights are summed here.
    pub sources: Vec<[usize; 2]>,
}

/// A grid of output pixels that share their taps.
pub(crate) struct Phase {
    /// First output pixel and distance between output pixels.
    pub out: [usize; 2],
    pub out_step: [usize; 2],
    /// Number of rows and columns of the grid.
    pub rows: usize,
    pub cols: usize,
    /// Padded input pixel of the first output pixel and distance between them.
    pub origin: [usize; 2],
    pub step: [usize; 2],
    pub taps: Vec<Tap>,
}

/// A gather from padded `[h, w, c]` images to `[out_h, out_w, c_out]` images.
pub(crate) struct Plan {
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    /// Padded size.
    pub hp: usize,
    pub wp: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub c_out: usize,
    pub groups: usize,
    pub phases: Vec<Phase>,
}

/// One axis of a phase before both axes are combined: output start and step, count, and taps (offset, sources).
struct Line {
    out: usize,
    out_step: usize,
    count: usize,
    step: usize,
    taps: Vec<(isize, Vec<usize>)>,
}

/// A line is cut where that leaves less than this share of its work, in twentieths: more lines pack more weights.
const WORTH: usize = 17;

impl Line {
    /// Taps times pixels, these in groups of `group`.
    fn work(&self, group: usize) -> usize {
        self.count.next_multiple_of(group) * self.taps.len()
    }

    /// Of a dilated kernel the parts of the line along `axis` of a map of `size` pixels, where that saves work; else the line.
    fn cut(self, spec: &Conv2dSpec, axis: usize, size: usize) -> Vec<Line> {
        if spec.dilation[axis] == 1 || spec.groups > 1 {
            return vec![self];
        }
        // The gather kernel works on groups of four pixels of a row.
        let group = if axis == 1 { 4 } else { 1 };
        let whole = self.seeing(size);
        let parts = whole.parts(size);
        let work: usize = parts.iter().map(|part| part.work(group)).sum();
        if 20 * work < WORTH * whole.work(group) { parts } else { vec![whole] }
    }

    /// The line in parts whose pixels all see the same taps, with these alone: nothing of them reads padding.
    fn parts(&self, size: usize) -> Vec<Line> {
        let mut parts: Vec<Line> = Vec::new();
        let mut last = Vec::new();
        for o in 0..self.count {
            let start = (o * self.step) as isize;
            let taps = self.taps.iter().map(|(offset, sources)| (start + offset, sources));
            let seen: Vec<_> = taps.filter(|(place, _)| (0..size as isize).contains(place)).collect();
            let sources: Vec<_> = seen.iter().map(|(_, sources)| *sources).collect();
            match parts.last_mut().filter(|_| last == sources) {
                Some(part) => part.count += 1,
                None => parts.push(Line {
                    out: self.out + o * self.out_step,
                    count: 1,
                    taps: seen.into_iter().map(|(place, sources)| (place, sources.clone())).collect(),
                    ..*self
                }),
            }
            last = sources;
        }
        parts
    }

    /// Without the taps that see nothing but padding, wherever they stand: of a dilated kernel on a map that is smaller than it, most.
    fn seeing(mut self, size: usize) -> Self {
        let sees =
            |offset: isize| (0..self.count).any(|o| (0..size as isize).contains(&((o * self.step) as isize + offset)));
        self.taps.retain(|tap| sees(tap.0));
        self
    }
}

fn merge(list: impl Iterator<Item = (isize, usize)>) -> Vec<(isize, Vec<usize>)> {
    let mut taps: Vec<(isize, Vec<usize>)> = Vec::new();
    for (offset, k) in list {
        match taps.iter_mut().find(|(o, _)| *o == offset) {
            Some((_, ks)) => ks.push(k),
            None => taps.push((offset, vec![k])),
        }
    }
    taps.sort_by_key(|(o, _)| *o);
    taps
}

/// Axis of the forward pass: output `o` reads input `(o·s + k·d − p) / up`.
fn forward_lines(k: usize, s: usize, d: usize, p: usize, up: usize, out: usize) -> Vec<Line> {
    (0..up)
        .map(|a| Line {
            out: a,
            out_step: up,
            count: (out + up - 1 - a) / up,
            step: s,
            taps: merge((0..k).map(|k| ((a as isize + (k * d) as isize - p as isize).div_euclid(up as isize), k))),
        })
        .collect()
}

/// Axis of the backward-data pass: input gradient `i` reads output gradients.
fn backward_lines(k: usize, s: usize, d: usize, p: usize, up: usize, size: usize) -> Vec<Line> {
    if up == 2 {
        // dx[i] = Σ dy[2i + δ] with δ = a − 2·floor((a + k − p)/2) for both output parities a.
        let taps =
            (0..2isize).flat_map(|a| (0..k).map(move |k| (a - 2 * (a + k as isize - p as isize).div_euclid(2), k)));
        return vec![Line { out: 0, out_step: 1, count: size, step: 2, taps: merge(taps) }];
    }
    (0..s.min(size))
        .map(|phase| Line {
            out: phase,
            out_step: s,
            count: (size + s - 1 - phase) / s,
            step: 1,
            // i = phase + s·j needs o = (i + p − k·d)/s, a whole number.
            taps: merge((0..k).filter_map(|k| {
                let shifted = (phase + p) as isize - (k * d) as isize;
                (shifted.rem_euclid(s as isize) == 0).then(|| (shifted.div_euclid(s as isize), k))
            })),
        })
        .collect()
}

impl Plan {
    /// The forward pass of a convolution.
    pub(crate) fn forward(spec: &Conv2dSpec, z: &Sizes) -> Self {
        let [rows, cols] = Self::forward_axes(spec, z);
        let rows = rows.into_iter().flat_map(|line| line.cut(spec, 0, z.h)).collect();
        let cols = cols.into_iter().flat_map(|line| line.cut(spec, 1, z.w)).collect();
        Self::combine(spec, [z.h, z.w, z.c_in], [z.out_h, z.out_w, z.c_out], rows, cols)
    }

    /// The forward pass as the gradient of the weights follows it: every phase has sums of its own there, so that nothing is cut.
    pub(crate) fn weights(spec: &Conv2dSpec, z: &Sizes) -> Self {
        let [rows, cols] = Self::forward_axes(spec, z);
        Self::combine(spec, [z.h, z.w, z.c_in], [z.out_h, z.out_w, z.c_out], rows, cols)
    }

    fn forward_axes(spec: &Conv2dSpec, z: &Sizes) -> [Vec<Line>; 2] {
        let [kh, kw] = spec.kernel;
        [
            forward_lines(kh, spec.stride[0], spec.dilation[0], spec.padding.top, spec.upsample, z.out_h),
            forward_lines(kw, spec.stride[1], spec.dilation[1], spec.padding.left, spec.upsample, z.out_w),
        ]
    }

    /// The gradient with respect to the input: from `[out_h, out_w, c_out]` back to `[h, w, c_in]`.
    pub(crate) fn backward(spec: &Conv2dSpec, z: &Sizes) -> Self {
        let [kh, kw] = spec.kernel;
        let rows = backward_lines(kh, spec.stride[0], spec.dilation[0], spec.padding.top, spec.upsample, z.h);
        let cols = backward_lines(kw, spec.stride[1], spec.dilation[1], spec.padding.left, spec.upsample, z.w);
        let rows = rows.into_iter().flat_map(|line| line.cut(spec, 0, z.out_h)).collect();
        let cols = cols.into_iter().flat_map(|line| line.cut(spec, 1, z.out_w)).collect();
        Self::combine(spec, [z.out_h, z.out_w, z.c_out], [z.h, z.w, z.c_in], rows, cols)
    }

    fn combine(spec: &Conv2dSpec, input: [usize; 3], output: [usize; 3], rows: Vec<Line>, cols: Vec<Line>) -> Self {
        let seeing =
            |lines: Vec<Line>, size: usize| lines.into_iter().map(|line| line.seeing(size)).collect::<Vec<_>>();
        let (rows, cols) = (seeing(rows, input[0]), seeing(cols, input[1]));
        // The padding that no tap of any phase leaves.
        let reach = |lines: &[Line], size: usize| {
            let low = lines.iter().flat_map(|l| l.taps.iter().map(|t| t.0)).min().unwrap_or(0).min(0);
            let high = lines
                .iter()
                .flat_map(|l| {
                    let last = (l.count.max(1) - 1) * l.step;
                    l.taps.iter().map(move |t| last as isize + t.0 + 1)
                })
                .max()
                .unwrap_or(0)
                .max(size as isize);
            ((-low) as usize, (high - low) as usize)
        };
        let (pad_top, hp) = reach(&rows, input[0]);
        let (pad_left, wp) = reach(&cols, input[1]);
        let mut phases = Vec::new();
        for r in &rows {
            for c in &cols {
                let origin = |line: &Line, pad: usize| {
                    let first = line.taps.first().map_or(0, |t| t.0);
                    (first + pad as isize) as usize
                };
                let taps = r.taps.iter().flat_map(|(oy, kys)| {
                    c.taps.iter().map(move |(ox, kxs)| Tap {
                        dy: (oy - r.taps[0].0) as usize,
                        dx: (ox - c.taps[0].0) as usize,
                        sources: kys.iter().flat_map(|&ky| kxs.iter().map(move |&kx| [ky, kx])).collect(),
                    })
                });
                phases.push(Phase {
                    out: [r.out, c.out],
                    out_step: [r.out_step, c.out_step],
                    rows: r.count,
                    cols: c.count,
                    origin: [origin(r, pad_top), origin(c, pad_left)],
                    step: [r.step, c.step],
                    taps: taps.collect(),
                });
            }
        }
        let [h, w, c] = input;
        let [out_h, out_w, c_out] = output;
        Self { h, w, c, pad_top, pad_left, hp, wp, out_h, out_w, c_out, groups: spec.groups, phases }
    }

    /// Channels of one group on the reading and on the writing side.
    pub(crate) fn group_channels(&self) -> (usize, usize) {
        (self.c / self.groups, self.c_out / self.groups)
    }

    /// Contiguous stretches of the padded image that one output pixel of a phase reads, in a group: (offset, length) in values.
    pub(crate) fn runs(&self, phase: &Phase) -> Vec<(usize, usize)> {
        let (reads, _) = self.group_channels();
        let run = |(dy, dx, count)| ((dy * self.wp + dx) * self.c, count * reads);
        phase.runs(self.groups == 1).into_iter().map(run).collect()
    }

    /// Whether every group has one channel on both sides.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.c == self.groups && self.c_out == self.groups
    }

    /// Images that one piece of work handles: as many as keep its padded input near 192 KiB, and fewer where a batch has only
    /// a few such pieces; on small maps up to 768 KiB (L2 still), so that weights that are read anew by every piece serve some
    /// hundred pixels. At least one.
    pub(crate) fn images_per_piece(&self, n: usize) -> usize {
        let frame = (self.hp * self.wp * self.c).max(1);
        let pixels = (self.out_h * self.out_w).max(1);
        let for_weights = PIXELS_PER_PIECE.div_ceil(pixels).min(4 * PIECE_FLOATS / frame);
        (PIECE_FLOATS / frame).min(n.div_ceil(PIECES)).clamp(1, 64).max(for_weights).min(n.max(1))
    }
}

impl Phase {
    /// Runs of taps that lie side by side in memory: (dy, dx of the first, how many).
    ///
    /// With one group, the channels of neighbouring columns are contiguous, so a run is one long dot product.
    fn runs(&self, mergeable: bool) -> Vec<(usize, usize, usize)> {
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        for t in &self.taps {
            match runs.last_mut() {
                Some((dy, dx, n)) if mergeable && *dy == t.dy && *dx + *n == t.dx => *n += 1,
                _ => runs.push((t.dy, t.dx, 1)),
            }
        }
        runs
    }
}
