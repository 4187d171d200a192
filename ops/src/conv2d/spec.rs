//! What a convolution is: kernel, stride, padding, dilation, groups, and the nearest ×2 upsampling in front of it.

use crate::Precision;
use crate::{Error, Result};

/// Zeros around the input, per side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

impl Padding {
    /// The same number of rows and columns on every side.
    pub const fn same(p: usize) -> Self {
        Self { top: p, left: p, bottom: p, right: p }
    }

    /// TensorFlow's "same" for an input of `[height, width]`: as many outputs as there are steps of `stride` in it, and of an
    /// odd number of zeros one more at the end.
    pub fn tensorflow(kernel: [usize; 2], stride: [usize; 2], input: [usize; 2]) -> Self {
        let [(top, bottom), (left, right)] = [0, 1].map(|axis| {
            let outputs = input[axis].div_ceil(stride[axis].max(1));
            let reach = outputs.saturating_sub(1) * stride[axis] + kernel[axis];
            let zeros = reach.saturating_sub(input[axis]);
            (zeros / 2, zeros - zeros / 2)
        });
        Self { top, left, bottom, right }
    }
}

/// Hyper-parameters of a 2-d convolution over `[N, H, W, C]` with weights `[KH, KW, C/groups, C_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dSpec {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: Padding,
    pub dilation: [usize; 2],
    pub groups: usize,
    /// 2: the input is first enlarged to `[N, 2H, 2W, C]` by repeating pixels (never materialised: computed as four
    /// small convolutions on the small map with summed weights); 1: it is not. With 2, stride and dilation must be 1.
    pub upsample: usize,
    /// Of what is multiplied on a CPU with tiles; sums are f32 in any case. (On a card it is that of the maps.)
    pub products: Precision,
}

impl Conv2dSpec {
    /// A square kernel with stride 1, no padding, no dilation, one group.
    pub const fn new(kernel: usize) -> Self {
        Self {
            kernel: [kernel, kernel],
            stride: [1, 1],
            padding: Padding::same(0),
            dilation: [1, 1],
            groups: 1,
            upsample: 1,
            products: Precision::F32,
        }
    }
    pub const fn stride(mut self, s: usize) -> Self {
        self.stride = [s, s];
        self
    }
    pub const fn padding(mut self, p: usize) -> Self {
        self.padding = Padding::same(p);
        self
    }
    pub const fn dilation(mut self, d: usize) -> Self {
        self.dilation = [d, d];
        self
    }
    pub const fn groups(mut self, g: usize) -> Self {
        self.groups = g;
        self
    }
    pub const fn upsampled(mut self) -> Self {
        self.upsample = 2;
        self
    }

    /// Checks the shapes and gives the sizes of one call.
    ///
    /// # Errors
    /// Ranks, channel counts or sizes that do not fit, printed with the shapes.
    pub fn sizes(&self, x: &[usize], w: &[usize]) -> Result<Sizes> {
        let fail = |why: &str| Error::shape("conv2d", format!("{why}: input {x:?}, weights {w:?}, {self:?}"));
        let (&[n, h, width, c_in], &[kh, kw, c_group, c_out]) = (x, w) else {
            return Err(fail("expected input [N,H,W,C] and weights [KH,KW,C/groups,C_out]"));
        };
        if [kh, kw] != self.kernel || self.groups == 0 || c_group * self.groups != c_in || c_out % self.groups != 0 {
            return Err(fail("weights do not fit"));
        }
        if self.upsample != 1 && (self.upsample != 2 || self.stride != [1, 1] || self.dilation != [1, 1]) {
            return Err(fail("upsampling goes by 2 and with stride and dilation 1 only"));
        }
        if self.stride.contains(&0) || self.dilation.contains(&0) || [n, h, width, c_in, c_out, kh, kw].contains(&0) {
            return Err(fail("nothing may be 0"));
        }
        let p = self.padding;
        let padded = |size: usize, before: usize, after: usize| {
            size.checked_mul(self.upsample)?.checked_add(before)?.checked_add(after)
        };
        let frame = padded(h, p.top, p.bottom).zip(padded(width, p.left, p.right));
        let values = frame.and_then(|(h, w)| [n, h, w, c_in].into_iter().try_fold(1usize, usize::checked_mul));
        let (Some((rows, columns)), Some(_)) = (frame, values) else {
            return Err(fail("the padded input has more values than can be counted"));
        };
        let out = |padded: usize, axis: usize| -> Option<usize> {
            let reach = self.dilation[axis].checked_mul(self.kernel[axis] - 1)?.checked_add(1)?;
            Some(padded.checked_sub(reach)? / self.stride[axis] + 1)
        };
        match (out(rows, 0), out(columns, 1)) {
            (Some(out_h), Some(out_w)) => Ok(Sizes { n, h, w: width, c_in, out_h, out_w, c_out }),
            _ => Err(fail("the kernel is larger than the padded input")),
        }
    }
}

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c_in: usize,
    pub out_h: usize,
    pub out_w: usize,
    pub c_out: usize,
}
