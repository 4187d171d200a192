//! Crops, mirror images, normalisation and mixing on a card.

use super::gpu::{Gpu, gpu_of, of_device};
use super::launch::{Launch, PLACE};
use super::memory::aligned;
use crate::place::Placement;
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{DType, Device, Tensor};

/// dy, dx and flip per image, as the kernels read them.
fn flat(places: &[Placement]) -> Vec<i32> {
    places.iter().flat_map(|p| [p.dy, p.dx, i32::from(p.flip)]).collect()
}

/// See [`crate::place::place`].
pub(crate) fn place(x: &Tensor, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let (gpu, (n, h, w, c)) = (gpu_of(x)?, x.dims4()?);
    let x = super::memory::cast(x, DType::F32)?;
    let (out, places) = (gpu.tensor((n, h, w, c), DType::F32)?, gpu.upload_raw(&flat(places))?);
    let (mean, std) = (gpu.upload(mean, c)?, gpu.upload(std, c)?);
    let launch = Launch::new(&gpu, &PLACE, "place").tensor(&x).pointer(gpu.address_of(&places)).tensor(&mean);
    launch.tensor(&std).tensor(&out).size(n).size(h).size(w).size(c).each(out.elem_count())?;
    Ok(out)
}

/// See [`crate::place::place_backward`].
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
    let gpu = of_device(device)?;
    let bytes = gpu.upload_raw(&images.concat())?;
    launch_bytes(&gpu, &bytes, None, [images.len(), h, w, c], places, [scale, shift])
}

fn launch_bytes(
    gpu: &Gpu,
    bytes: &CudaSlice<u8>,
    rows: Option<&[usize]>,
    [n, h, w, c]: [usize; 4],
    places: &[Placement],
    [scale, shift]: [&[f32]; 2],
) -> Result<Tensor> {
    let narrow = |row: &usize| i32::try_from(*row).map_err(|_| Error::shape("augment", format!("image {row}")));
    let rows = rows.map(|rows| rows.iter().map(narrow).collect::<Result<Vec<i32>>>()).transpose()?;
    let rows = rows.map(|rows| gpu.upload_raw(&rows)).transpose()?;
    let places = gpu.upload_raw(&flat(places))?;
    let (scale, shift) = (gpu.upload(scale, c)?, gpu.upload(shift, c)?);
    let out = gpu.tensor((n, h, w, c), DType::F32)?;
    let launch = Launch::new(gpu, &PLACE, "place_bytes").pointer(gpu.address_of(bytes));
    let launch = launch.pointer(rows.as_ref().map_or(0, |rows| gpu.address_of(rows)));
    let launch = launch.pointer(gpu.address_of(&places)).tensor(&scale).tensor(&shift).tensor(&out);
    launch.size(n).size(h).size(w).size(c).each(out.elem_count())?;
    Ok(out)
}

/// Images that stay on a card.
pub(crate) struct Stored {
    bytes: CudaSlice<u8>,
    device: Device,
}

/// Bytes that images may take there.
const MOST_STORED: usize = 4 << 30;

impl Stored {
    /// `None` if they are too many.
    pub fn new(pixels: &[u8], device: &Device) -> Result<Option<Self>> {
        if pixels.is_empty() || pixels.len() > MOST_STORED {
            return Ok(None);
        }
        Ok(Some(Self { bytes: of_device(device)?.upload_raw(pixels)?, device: device.clone() }))
    }

    /// [`place_bytes`] of images `rows` of `[h, w, c]`.
    pub fn place(
        &self,
        rows: &[usize],
        [h, w, c]: [usize; 3],
        places: &[Placement],
        scale: &[f32],
        shift: &[f32],
    ) -> Result<Tensor> {
        let gpu = of_device(&self.device)?;
        if rows.iter().any(|row| (row + 1) * h * w * c > self.bytes.len()) {
            return Err(Error::shape("augment", format!("{rows:?} are not all among the stored images")));
        }
        launch_bytes(&gpu, &self.bytes, Some(rows), [rows.len(), h, w, c], places, [scale, shift])
    }
}

/// See [`crate::place::mix`].
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
