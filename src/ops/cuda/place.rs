//! Crops, mirror images, normalisation and mixing on a card.

use super::gpu::{gpu_of, of_device};
use super::launch::{Launch, PLACE};
use super::memory::aligned;
use crate::Result;
use crate::ops::place::Placement;
use candle_core::{DType, Device, Tensor};

/// dy, dx and flip per image, as the kernels read them.
fn flat(places: &[Placement]) -> Vec<i32> {
    places.iter().flat_map(|p| [p.dy, p.dx, i32::from(p.flip)]).collect()
}

/// See [`crate::ops::place::place`].
pub(crate) fn place(x: &Tensor, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(x)?, x.dims4()?);
    let x = super::memory::cast(x, DType::F32)?;
    let (out, places) = (gpu.tensor((n, h, w, c), DType::F32)?, gpu.upload_raw(&flat(places))?);
    let (mean, std) = (gpu.upload(mean, c)?, gpu.upload(std, c)?);
    let launch = Launch::new(&gpu, &PLACE, "place").tensor(&x).pointer(gpu.address_of(&places)).tensor(&mean);
    launch.tensor(&std).tensor(&out).size(n).size(h).size(w).size(c).each(out.elem_count())?;
    Ok(out)
}

/// See [`crate::ops::place::place_backward`].
pub(crate) fn place_backward(dy: &Tensor, places: &[Placement], std: &[f32]) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(dy)?, dy.dims4()?);
    let dy = super::memory::cast(dy, DType::F32)?;
    let (out, places, std) =
        (gpu.tensor((n, h, w, c), DType::F32)?, gpu.upload_raw(&flat(places))?, gpu.upload(std, c)?);
    let launch = Launch::new(&gpu, &PLACE, "place_backward").tensor(&dy).pointer(gpu.address_of(&places)).tensor(&std);
    launch.tensor(&out).size(n).size(h).size(w).size(c).each(out.elem_count())?;
    Ok(out)
}

/// 8-bit images, each with its place, as `v·scale + shift` per channel.
pub(crate) fn place_bytes(
    images: &[&[u8]],
    [h, w, c]: [usize; 3],
    places: &[Placement],
    scale: &[f32],
    shift: &[f32],
    device: &Device,
) -> Result<Tensor> {
    let (gpu, n) = (of_device(device)?, images.len());
    let (bytes, places) = (gpu.upload_raw(&images.concat())?, gpu.upload_raw(&flat(places))?);
    let (scale, shift) = (gpu.upload(scale, c)?, gpu.upload(shift, c)?);
    let out = gpu.tensor((n, h, w, c), DType::F32)?;
    let launch = Launch::new(&gpu, &PLACE, "place_bytes").pointer(gpu.address_of(&bytes));
    let launch = launch.pointer(gpu.address_of(&places)).tensor(&scale).tensor(&shift).tensor(&out);
    launch.size(n).size(h).size(w).size(c).each(out.elem_count())?;
    Ok(out)
}

/// See [`crate::ops::place::mix`].
pub(crate) fn mix(x: &Tensor, partner: &[usize], lambda: f32) -> Result<Tensor> {
    let (gpu, x) = (gpu_of(x)?, aligned(x)?);
    let out = gpu.tensor(x.shape().clone(), DType::F32)?;
    let places: Vec<i32> = partner.iter().map(|&p| p as i32).collect();
    let places = gpu.upload_raw(&places)?;
    let len = x.elem_count() / partner.len().max(1);
    let launch = Launch::new(&gpu, &PLACE, "mix_rows").tensor(&x).pointer(gpu.address_of(&places)).float(lambda);
    launch.tensor(&out).size(partner.len()).size(len).each(x.elem_count())?;
    Ok(out)
}
