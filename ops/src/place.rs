//! Crop, flip and normalise: images as a network in training sees them, differentiable in the image.

use super::mem::{build, tensor, view};
use super::par::{self, Shared};
use super::spatial::{nhwc, per_image};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::mem::MaybeUninit;

/// Where a crop of the original size lies, and whether it is mirrored.
///
/// Output pixel (y, x) shows input pixel (y + dy, x + dx), or (y + dy, (W − 1 − x) + dx) when flipped; outside is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Placement {
    pub dy: i32,
    pub dx: i32,
    pub flip: bool,
}

impl Placement {
    fn source(&self, y: usize, x: usize, h: usize, w: usize) -> Option<usize> {
        let x = if self.flip { w - 1 - x } else { x };
        let (y, x) = (y as isize + self.dy as isize, x as isize + self.dx as isize);
        let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
        inside.then(|| y as usize * w + x as usize)
    }

    /// Labels of the pixels of an image of `size` (height, width), where the placement puts them; outside is `void`.
    pub fn labels<T: Copy>(&self, labels: &[T], [h, w]: [usize; 2], void: T) -> Vec<T> {
        let label = |o: usize| self.source(o / w, o % w, h, w).map_or(void, |from| labels[from]);
        (0..h * w).map(label).collect()
    }
}

/// Crops, flips and normalises images in `[0, 1]`: `(v − mean) / std` per channel, zeros outside the image *before*
/// normalising, as the usual training transform does.
pub fn place(x: &Tensor, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("augment", x)?;
    check_places(n, c, places, mean, std)?;
    on_cuda!(x, super::cuda::place::place(x, places, mean, std));
    per_image(x, [n, h, w, c], |i, image, out| {
        for (o, pixel) in out.chunks_exact_mut(c).enumerate() {
            let from = places[i].source(o / w, o % w, h, w);
            for (ch, p) in pixel.iter_mut().enumerate() {
                *p = (from.map_or(0.0, |f| image[f * c + ch]) - mean[ch]) / std[ch];
            }
        }
    })
}

/// [`place`] for 8-bit images (`value / 255` in `[0, 1]`), one `[h, w, c]` slice each; the result lies on `device`.
pub fn place_bytes(
    images: &[&[u8]],
    [h, w, c]: [usize; 3],
    places: &[Placement],
    mean: &[f32],
    std: &[f32],
    device: &Device,
) -> Result<Tensor> {
    let n = images.len();
    check_places(n, c, places, mean, std)?;
    if n == 0 || images.iter().any(|i| i.len() != h * w * c) {
        return Err(Error::shape("augment", format!("{n} images, expected {h}x{w}x{c} bytes each")));
    }
    let (scale, shift) = byte_map(mean, std);
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return super::cuda::place::place_bytes(images, [h, w, c], places, &scale, &shift, device);
    }
    let _ = device;
    // SAFETY: every image is written in full by its own task.
    unsafe {
        build((n, h, w, c), |out| {
            let out = Shared(out);
            par::each(n, |i| {
                let to = std::slice::from_raw_parts_mut(out.at(i * h * w * c).cast::<MaybeUninit<f32>>(), h * w * c);
                for (o, pixel) in to.chunks_exact_mut(c).enumerate() {
                    match places[i].source(o / w, o % w, h, w) {
                        Some(f) => {
                            for (ch, p) in pixel.iter_mut().enumerate() {
                                p.write(f32::from(images[i][f * c + ch]) * scale[ch] + shift[ch]);
                            }
                        }
                        None => {
                            for (p, shift) in pixel.iter_mut().zip(&shift) {
                                p.write(*shift);
                            }
                        }
                    }
                }
            });
        })
    }
}

/// The images of a set that does not change, where a network computes: on a card they are brought up once, on the CPU they are
/// there.
pub struct Gallery<'a> {
    pixels: &'a [u8],
    dims: [usize; 3],
    device: Device,
    #[cfg(feature = "cuda")]
    stored: Option<super::cuda::place::Stored>,
}

impl<'a> Gallery<'a> {
    /// Images of `dims` (height, width, channels) without gaps.
    pub fn new(pixels: &'a [u8], dims: [usize; 3], device: &Device) -> Result<Self> {
        Ok(Self {
            pixels,
            dims,
            device: device.clone(),
            #[cfg(feature = "cuda")]
            stored: match device.is_cuda() {
                true => super::cuda::place::Stored::new(pixels, device)?,
                false => None,
            },
        })
    }

    /// [`place_bytes`] of images `rows`.
    ///
    /// # Errors
    /// As [`place_bytes`], or an image that is not there.
    pub fn place(&self, rows: &[usize], places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Tensor> {
        let [h, w, c] = self.dims;
        #[cfg(feature = "cuda")]
        if let Some(stored) = &self.stored {
            check_places(rows.len(), c, places, mean, std)?;
            let (scale, shift) = byte_map(mean, std);
            return stored.place(rows, self.dims, places, &scale, &shift);
        }
        let image = |row: &usize| self.pixels.get(row * h * w * c..(row + 1) * h * w * c);
        let slices: Option<Vec<&[u8]>> = rows.iter().map(image).collect();
        let slices = slices.ok_or_else(|| Error::shape("augment", format!("{rows:?} are not all among the images")))?;
        place_bytes(&slices, self.dims, places, mean, std, &self.device)
    }
}

/// What bytes are multiplied by and what is added.
fn byte_map(mean: &[f32], std: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let scale = std.iter().map(|s| 1.0 / (255.0 * s)).collect();
    let shift = mean.iter().zip(std).map(|(m, s)| -m / s).collect();
    (scale, shift)
}

/// Gradient of [`place`] with respect to the images.
pub fn place_backward(dy: &Tensor, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<Tensor> {
    let [n, h, w, c] = nhwc("augment", dy)?;
    check_places(n, c, places, mean, std)?;
    on_cuda!(dy, super::cuda::place::place_backward(dy, places, std));
    per_image(dy, [n, h, w, c], |i, dy, dx| {
        for (o, g) in dy.chunks_exact(c).enumerate() {
            if let Some(f) = places[i].source(o / w, o % w, h, w) {
                for (ch, g) in g.iter().enumerate() {
                    dx[f * c + ch] += g / std[ch];
                }
            }
        }
    })
}

/// Rows of equal length, mixed: `λ·x[i] + (1 − λ)·x[partner[i]]`.
///
/// # Errors
/// If there is not one partner for each of the first dimension, or one that is none.
pub fn mix(x: &Tensor, partner: &[usize], lambda: f32) -> Result<Tensor> {
    if x.dims().first() != Some(&partner.len()) || partner.iter().any(|p| *p >= partner.len()) {
        return Err(Error::shape("mix", format!("{} partners of {:?}", partner.len(), x.dims())));
    }
    on_cuda!(x, super::cuda::place::mix(x, partner, lambda));
    tensor(mixed(&view(x)?, partner, lambda), x.shape().clone())
}

/// [`mix`] of plain values.
pub fn mixed(values: &[f32], partner: &[usize], lambda: f32) -> Vec<f32> {
    let len = values.len() / partner.len().max(1);
    let mut out = Vec::with_capacity(values.len());
    for (i, &p) in partner.iter().enumerate() {
        let (a, b) = (&values[i * len..(i + 1) * len], &values[p * len..(p + 1) * len]);
        out.extend(a.iter().zip(b).map(|(a, b)| lambda * a + (1.0 - lambda) * b));
    }
    out
}

fn check_places(n: usize, c: usize, places: &[Placement], mean: &[f32], std: &[f32]) -> Result<()> {
    if places.len() == n && mean.len() == c && std.len() == c {
        return Ok(());
    }
    let found =
        format!("{n} images of {c} channels, {} places, mean of {}, std of {}", places.len(), mean.len(), std.len());
    Err(Error::shape("augment", found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_placed_as_their_values_are() {
        let image: Vec<u8> = (0..4 * 5 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let places = [Placement { dy: 2, dx: -1, flip: true }];
        let (mean, std) = ([0.4f32, 0.5, 0.6], [0.2f32, 0.25, 0.3]);
        let bytes = place_bytes(&[&image], [4, 5, 3], &places, &mean, &std, &Device::Cpu).unwrap();
        let x = tensor(image.iter().map(|v| f32::from(*v) / 255.0).collect(), (1, 4, 5, 3)).unwrap();
        let floats = place(&x, &places, &mean, &std).unwrap();
        let (a, b) = (view(&bytes).unwrap(), view(&floats).unwrap());
        assert!(a.iter().zip(b.iter()).all(|(a, b)| (a - b).abs() < 1e-5), "{:?} {:?}", &a[..9], &b[..9]);
    }
}
