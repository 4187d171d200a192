//! Convolutions on a card. 1x1 ones with stride 1 are products of matrices; others are cuDNN's, on weights that are brought into
//! its order first. Enlargement and one-sided padding are passes in front.

use super::dnn::{Geometry, Operands, Pass};
use super::gpu::{Gpu, gpu_of};
use super::launch::{LAYOUT, Launch, POINTWISE, width};
use super::memory::{address, aligned, cast};
use super::{norm, spatial};
use crate::conv2d::{Affine, After, Conv2dSpec, Padding, Sizes, Sums};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// See [`crate::conv2d::forward`]. The sums are left to [`norm`]'s own pass.
pub(crate) fn forward(
    x: &Tensor,
    before: Option<&Affine>,
    w: &Tensor,
    spec: &Conv2dSpec,
    after: &After,
) -> Result<(Tensor, Option<Sums>)> {
    let z = spec.sizes(x.dims(), w.dims())?;
    let gpu = gpu_of(x)?;
    let x = mapped(x, before)?;
    let dims = (z.n, z.out_h, z.out_w, z.c_out);
    let y = if is_product(spec) {
        rows(&x, z.c_in)?.matmul(&matrix(w, &z, x.dtype())?)?.reshape(dims)?
    } else {
        let call = Call::new(&x, spec, &z)?;
        let y = gpu.tensor(dims, x.dtype())?;
        let w = call.weights(&gpu, w)?;
        call.run(&gpu, Pass::Forward, [&call.arranged(&x)?, &w, &y])?;
        y
    };
    epilogue(&gpu, &y, after)?;
    Ok((y, None))
}

/// See [`crate::conv2d::backward_input`].
pub(crate) fn backward_input(dy: &Tensor, w: &Tensor, spec: &Conv2dSpec, input: &[usize]) -> Result<Tensor> {
    let z = spec.sizes(input, w.dims())?;
    check_gradient(dy, &z)?;
    let gpu = gpu_of(dy)?;
    if is_product(spec) {
        let dx = rows(dy, z.c_out)?.matmul(&matrix(w, &z, dy.dtype())?.t()?)?;
        return Ok(dx.reshape(input)?);
    }
    let call = Call::new(dy, spec, &z)?;
    let dx = gpu.tensor(&call.input[..], dy.dtype())?;
    call.run(&gpu, Pass::Data, [&aligned(dy)?, &call.weights(&gpu, w)?, &dx])?;
    call.disarranged(dx)
}

/// See [`crate::conv2d::backward_weights`].
pub(crate) fn backward_weights(
    x: &Tensor,
    before: Option<&Affine>,
    dy: &Tensor,
    spec: &Conv2dSpec,
    weights: &[usize],
) -> Result<Tensor> {
    let z = spec.sizes(x.dims(), weights)?;
    check_gradient(dy, &z)?;
    let gpu = gpu_of(x)?;
    let x = mapped(x, before)?;
    if is_product(spec) {
        let dw = rows(&x, z.c_in)?.t()?.matmul(&rows(dy, z.c_out)?)?;
        return Ok(cast(&dw, DType::F32)?.reshape(weights)?);
    }
    let call = Call::new(&x, spec, &z)?;
    let [kh, kw, c_group, c_out] = [weights[0], weights[1], weights[2], weights[3]];
    let dw = gpu.tensor((c_out, kh, kw, c_group), x.dtype())?;
    call.run(&gpu, Pass::Filter, [&call.arranged(&x)?, &aligned(dy)?, &dw])?;
    let out = gpu.tensor(weights, DType::F32)?;
    let launch = Launch::typed(&gpu, &LAYOUT, "from_krsc", x.dtype()).tensor(&dw).tensor(&out);
    tiles(launch, c_out, kh * kw * c_group)?;
    Ok(out)
}

fn check_gradient(dy: &Tensor, z: &Sizes) -> Result<()> {
    if dy.dims() == [z.n, z.out_h, z.out_w, z.c_out] {
        return Ok(());
    }
    Err(Error::shape("conv2d", format!("output gradient {:?} of {z:?}", dy.dims())))
}

/// A norm that was handed on unwritten is written first.
fn mapped(x: &Tensor, before: Option<&Affine>) -> Result<Tensor> {
    match before {
        Some(map) => norm::apply(x, map, None),
        None => aligned(x),
    }
}

/// Whether every pixel is multiplied by one matrix.
fn is_product(spec: &Conv2dSpec) -> bool {
    let plain = Conv2dSpec { padding: Padding::same(0), ..Conv2dSpec::new(1) };
    Conv2dSpec { dilation: [1, 1], products: plain.products, ..*spec } == plain
}

fn rows(t: &Tensor, channels: usize) -> Result<Tensor> {
    Ok(t.reshape((t.elem_count() / channels.max(1), channels))?)
}

/// 1x1 weights as a matrix `[in, out]` of the kind of the activations.
fn matrix(w: &Tensor, z: &Sizes, dtype: DType) -> Result<Tensor> {
    Ok(cast(w, dtype)?.reshape((z.c_in, z.c_out))?)
}

fn epilogue(gpu: &Gpu, y: &Tensor, after: &After) -> Result<()> {
    if after.bias.is_none() && after.residual.is_none() && after.act.is_identity() {
        return Ok(());
    }
    let (n, channels) = (y.elem_count(), y.dims().last().copied().unwrap_or(1));
    let fits = |r: &Tensor| r.dims() == y.dims() && r.dtype() == y.dtype();
    if after.bias.is_some_and(|b| b.elem_count() != channels) || !after.residual.is_none_or(fits) {
        return Err(Error::shape("conv2d", format!("bias or residual does not fit the output {:?}", y.dims())));
    }
    let residual = after.residual.map(aligned).transpose()?;
    let vector = width(y.dtype());
    let (name, per_thread) = if channels % vector == 0 { ("after", vector) } else { ("after1", 1) };
    let launch = Launch::typed(gpu, &POINTWISE, name, y.dtype()).tensor(y).maybe(after.bias);
    let launch = launch.maybe(residual.as_ref()).size(n).size(channels);
    launch.float(after.act.slope).float(after.act.cap).each(n / per_thread)
}

/// One convolution with everything in front of it done: what cuDNN sees.
struct Call {
    geometry: Geometry,
    spec: Conv2dSpec,
    /// Dimensions of the arranged input, `[N, H, W, C]`.
    input: [usize; 4],
    /// Height and width of the input as it came, and after the enlargement.
    plain: [usize; 2],
    large: [usize; 2],
    sided: bool,
}

impl Call {
    fn new(like: &Tensor, spec: &Conv2dSpec, z: &Sizes) -> Result<Self> {
        let p = spec.padding;
        // cuDNN pads both sides alike.
        let sided = p.top != p.bottom || p.left != p.right;
        let large = [z.h * spec.upsample, z.w * spec.upsample];
        let [h, w] = if sided { [large[0] + p.top + p.bottom, large[1] + p.left + p.right] } else { large };
        let padding = if sided { [0, 0] } else { [p.top, p.left] };
        let narrow = |v: usize| i32::try_from(v).map_err(|_| Error::shape("conv2d", format!("a size of {v}")));
        let four =
            |v: [usize; 4]| -> Result<[i32; 4]> { Ok([narrow(v[0])?, narrow(v[1])?, narrow(v[2])?, narrow(v[3])?]) };
        let two = |v: [usize; 2]| -> Result<[i32; 2]> { Ok([narrow(v[0])?, narrow(v[1])?]) };
        let geometry = Geometry {
            x: four([z.n, z.c_in, h, w])?,
            w: four([z.c_out, z.c_in / spec.groups, spec.kernel[0], spec.kernel[1]])?,
            y: four([z.n, z.c_out, z.out_h, z.out_w])?,
            padding: two(padding)?,
            stride: two(spec.stride)?,
            dilation: two(spec.dilation)?,
            groups: narrow(spec.groups)?,
            dtype: like.dtype(),
        };
        Ok(Self { geometry, spec: *spec, input: [z.n, h, w, z.c_in], plain: [z.h, z.w], large, sided })
    }

    /// The input enlarged and padded as far as cuDNN cannot do it.
    fn arranged(&self, x: &Tensor) -> Result<Tensor> {
        let x = if self.spec.upsample == 2 { spatial::nearest2(x)? } else { x.clone() };
        let p = self.spec.padding;
        match self.sided {
            true => shifted(&x, [self.input[1], self.input[2]], [p.top as i32, p.left as i32]),
            false => Ok(x),
        }
    }

    /// The gradient of the input as it came from that of the arranged one.
    fn disarranged(&self, dx: Tensor) -> Result<Tensor> {
        let p = self.spec.padding;
        let dx = match self.sided {
            true => shifted(&dx, self.large, [-(p.top as i32), -(p.left as i32)])?,
            false => dx,
        };
        match self.spec.upsample {
            2 => spatial::nearest2_backward(&dx, self.plain),
            _ => Ok(dx),
        }
    }

    /// `[KH, KW, I, O]` in f32 as `[O, KH, KW, I]` of the kind of the activations.
    fn weights(&self, gpu: &Gpu, w: &Tensor) -> Result<Tensor> {
        let [o, i, kh, kw] = self.geometry.w.map(|v| v as usize);
        let out = gpu.tensor((o, kh, kw, i), self.geometry.dtype)?;
        let launch = Launch::typed(gpu, &LAYOUT, "to_krsc", self.geometry.dtype).tensor(w).tensor(&out);
        tiles(launch, kh * kw * i, o)?;
        Ok(out)
    }

    fn run(&self, gpu: &Gpu, pass: Pass, [first, second, out]: [&Tensor; 3]) -> Result<()> {
        let g = &self.geometry;
        let elements = |d: [i32; 4]| d.iter().map(|v| *v as usize).product::<usize>();
        let expected = match pass {
            Pass::Forward => [elements(g.x), elements(g.w), elements(g.y)],
            Pass::Data => [elements(g.y), elements(g.w), elements(g.x)],
            Pass::Filter => [elements(g.x), elements(g.y), elements(g.w)],
        };
        let given = [first, second, out];
        if given.iter().zip(expected).any(|(t, n)| t.elem_count() != n || t.dtype() != g.dtype) {
            let found = given.map(|t| (t.dims().to_vec(), t.dtype()));
            return Err(Error::shape("conv2d", format!("{pass:?} of {g:?} with {found:?}")));
        }
        let operands = Operands { first: address(first)?, second: address(second)?, out: address(out)? };
        gpu.dnn.lock().run(gpu, pass, *g, &operands)
    }
}

/// A transposition of `[rows, columns]`, by tiles of 32x32.
fn tiles(launch: Launch, rows: usize, columns: usize) -> Result<()> {
    launch.size(rows).size(columns).grid([columns.div_ceil(32), rows.div_ceil(32)], [32, 8])
}

/// A window of `size` (rows, columns) whose pixel (top, left) is the image's first.
fn shifted(x: &Tensor, [oh, ow]: [usize; 2], [top, left]: [i32; 2]) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(x)?, x.dims4()?);
    let out = gpu.tensor((n, oh, ow, c), x.dtype())?;
    let launch = Launch::typed(&gpu, &LAYOUT, "shift_image", x.dtype()).tensor(x).tensor(&out);
    let launch = launch.size(n).size(h).size(w).size(oh).size(ow).size(c).int(top).int(left);
    launch.each(out.elem_count())?;
    Ok(out)
}
