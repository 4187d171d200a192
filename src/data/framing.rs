//! How a picture of any size becomes one of the size that a model reads: what timm, torchvision and transformers do before they
//! measure a model.

use super::MAX_SIDE;
use crate::weights::config::PretrainedConfig;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;

/// How the pixels of a picture in another size are found, as Pillow does it: where pictures shrink, filters are widened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The pixel whose square holds the centre of the new one.
    Nearest,
    Bilinear,
    Hamming,
    /// Catmull-Rom's (a = -0.5).
    Bicubic,
    /// Of three lobes.
    Lanczos,
}

/// Names of all, as timm has them.
const FILTERS: [(&str, Filter); 5] = [
    ("nearest", Filter::Nearest),
    ("bilinear", Filter::Bilinear),
    ("hamming", Filter::Hamming),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

impl Filter {
    /// timm's and torchvision's name.
    pub fn name(self) -> &'static str {
        FILTERS.iter().find(|(_, filter)| *filter == self).map_or("", |(name, _)| name)
    }

    /// What it weighs pixels by, if it takes more than one.
    fn weights(self) -> Option<FilterType> {
        match self {
            Self::Nearest => None,
            Self::Bilinear => Some(FilterType::Bilinear),
            Self::Hamming => Some(FilterType::Hamming),
            Self::Bicubic => Some(FilterType::CatmullRom),
            Self::Lanczos => Some(FilterType::Lanczos3),
        }
    }
}

/// The way of pictures of any size to images of one: resized, then cut to the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Framing {
    /// Height and width of the images, in pixels.
    pub size: [usize; 2],
    /// Height and width that pictures are resized to; what they have more than `size` is cut off, evenly on both sides.
    pub resized: [usize; 2],
    /// Whether pictures keep their shape: then they become just large enough to cover `resized`.
    pub keeps_shape: bool,
    pub filter: Filter,
}

/// timm's usual share of the side that is left after the cut.
const USUAL_CROP: f64 = 0.875;

impl Framing {
    /// To `size` (height, width), whatever the shape of the picture, bilinearly.
    pub fn stretched(size: [usize; 2]) -> Self {
        Self { size, resized: size, keeps_shape: false, filter: Filter::Bilinear }
    }

    /// As [`Framing::of`], for those who only tell of it: what is not there here is none.
    pub fn known(images: &PretrainedConfig) -> Option<Self> {
        Self::of(images).ok().flatten()
    }

    /// What a model's configuration says, as timm does it; `None` where it says nothing. Of `crop_pct`, `crop_mode` and
    /// `interpolation`, one that is absent beside others is 0.875, `center` or `bicubic`.
    ///
    /// # Errors
    /// In words, a `crop_pct` outside 0 to 1, and modes and filters that are not there.
    pub fn of(images: &PretrainedConfig) -> Result<Option<Self>, String> {
        let (mode, interpolation) = (images.crop_mode.as_deref(), images.interpolation.as_deref());
        if images.crop_pct.is_none() && mode.is_none() && interpolation.is_none() {
            return Ok(None);
        }
        let share = images.crop_pct.unwrap_or(USUAL_CROP);
        if !(share > 0.0 && share <= 1.0) {
            return Err(format!("crop_pct is {share}, expected more than 0 and at most 1"));
        }
        let keeps_shape = match mode {
            None | Some("center") => true,
            Some("squash") => false,
            Some(other) => return Err(format!("crop_mode is {other:?}, expected \"center\" or \"squash\"")),
        };
        let name = interpolation.unwrap_or("bicubic");
        let Some((_, filter)) = FILTERS.iter().find(|(known, _)| *known == name) else {
            let known = FILTERS.map(|(known, _)| known).join(", ");
            return Err(format!("interpolation is {name:?}, expected one of {known}"));
        };
        // What was rounded on its way into the file is no pixel less.
        let before = |side: usize| (side as f64 / share + 1e-6).floor().min(MAX_SIDE as f64) as usize;
        let [_, height, width] = images.input_size;
        let size = [height, width];
        Ok(Some(Self { size, resized: size.map(before), keeps_shape, filter: *filter }))
    }

    /// Whether a picture of this height and width stays as it is.
    pub(super) fn keeps(&self, sides: [usize; 2]) -> bool {
        self.size == sides && self.resized == sides
    }

    /// Height and width of a picture before its edges are cut off, as torchvision rounds them.
    fn resized_sides(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let [h, w] = self.resized;
        if !self.keeps_shape {
            return self.resized;
        }
        if h == w {
            let long = |long: usize, short: usize| h * long / short.max(1);
            return if height <= width { [h, long(width, height)] } else { [long(height, width), w] };
        }
        let ratio = (height as f64 / h as f64).min(width as f64 / w as f64);
        [height, width].map(|side| (side as f64 / ratio).round_ties_even() as usize)
    }

    /// The image of a picture of `sides` (height, width), both `[H, W, C]`, 8 bits each. A picture may be so narrow that it would
    /// be far larger than what is left of it: then, in words, why there is none.
    pub(super) fn apply(&self, pixels: &[u8], sides: [usize; 2], channels: usize) -> Result<Vec<u8>, String> {
        let [height, width] = self.size;
        let [h, w] = self.resized_sides(sides);
        if h.max(w) > 4 * MAX_SIDE {
            return Err(format!("a picture of {}x{} pixels, too narrow to keep its shape", sides[1], sides[0]));
        }
        let resized = resize(pixels, sides, [h, w], channels, self.filter);
        if [h, w] == self.size {
            return Ok(resized);
        }
        let (top, left) = (middle(h, height), middle(w, width));
        let row = |y: usize| &resized[((top + y) * w + left) * channels..][..width * channels];
        Ok((0..height).flat_map(row).copied().collect())
    }
}

/// Where the middle `kept` of `all` begins: half of the rest, and of two equals the even one, as torchvision has it.
fn middle(all: usize, kept: usize) -> usize {
    (all.saturating_sub(kept) as f64 / 2.0).round_ties_even() as usize
}

/// Of `from` pixels in a row, those that stand for the `to` of another length: whose part of the row holds the new one's centre.
pub(super) fn nearest(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|new| ((2 * new + 1) * from / (2 * to)).min(from.saturating_sub(1))).collect()
}

/// A picture `[H, W, C]` of sides `from` in those of `to` (height, width); of 1 or 3 channels.
///
/// Rows first, rounded to 8 bits, then columns, as Pillow does it: where a filter overshoots, the other order, which the library
/// takes by itself, cuts off other values.
///
/// # Panics
/// When `pixels` are fewer than `from` says, or a side is 0.
pub(crate) fn resize(pixels: &[u8], from: [usize; 2], to: [usize; 2], channels: usize, filter: Filter) -> Vec<u8> {
    let Some(weights) = filter.weights() else {
        let columns = nearest(from[1], to[1]);
        let pixel = |y: usize, x: usize| &pixels[(y * from[1] + x) * channels..][..channels];
        let row = |y: usize| columns.iter().flat_map(move |x| pixel(y, *x));
        return nearest(from[0], to[0]).into_iter().flat_map(row).copied().collect();
    };
    let turn = |pixels: &[u8], sides| match channels {
        1 => turned::<1>(pixels, sides),
        _ => turned::<3>(pixels, sides),
    };
    let mut picture = Cow::Borrowed(pixels);
    if from[1] != to[1] {
        let narrowed = rows(&turn(&picture, from), [from[1], to[1]], from[0] * channels, weights);
        picture = turn(&narrowed, [to[1], from[0]]).into();
    }
    if from[0] != to[0] {
        picture = rows(&picture, [from[0], to[0]], to[1] * channels, weights).into();
    }
    picture.into_owned()
}

/// Of `from` rows of `width` bytes, `to`: weighted means of rows. All resizing is by rows of bytes, since the library's code for each other
/// kind of pixels would become a part of this crate, with that for all of them a quarter of its machine code.
fn rows(bytes: &[u8], [from, to]: [usize; 2], width: usize, weights: FilterType) -> Vec<u8> {
    let mut out = vec![0; to * width];
    let [from, to, width] = [from, to, width].map(|side| side as u32);
    let picture = TypedImageRef::<U8>::from_buffer(width, from, bytes).expect("as many bytes as its sides say");
    let mut resized = TypedImage::<U8>::from_buffer(width, to, &mut out).expect("as many bytes as its sides say");
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(weights));
    Resizer::new().resize_typed(&picture, &mut resized, &options).expect("all of the picture is resized");
    out
}

/// A picture `[H, W, C]` of these sides as `[W, H, C]`.
fn turned<const C: usize>(pixels: &[u8], [height, width]: [usize; 2]) -> Vec<u8> {
    /// Of squares that are turned one after the other, so that what is read and what is written stay in the first cache.
    const SIDE: usize = 32;
    let (pixels, _) = pixels.as_chunks::<C>();
    let mut out = vec![[0; C]; pixels.len()];
    for top in (0..height).step_by(SIDE) {
        for left in (0..width).step_by(SIDE) {
            for x in left..width.min(left + SIDE) {
                for y in top..height.min(top + SIDE) {
                    out[x * height + y] = pixels[y * width + x];
                }
            }
        }
    }
    out.into_flattened()
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (filter, [height, width], [h, w]) = (self.filter.name(), self.size, self.resized);
        match (self.keeps_shape, h == w) {
            (false, _) => write!(f, "stretched to {w}x{h} ({filter})")?,
            (true, true) => write!(f, "shorter side to {h} ({filter})")?,
            (true, false) => write!(f, "as small as covers {w}x{h} ({filter})")?,
        }
        match self.keeps_shape || self.resized != self.size {
            true => write!(f, ", the middle {width}x{height}"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
