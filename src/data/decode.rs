//! Encoded pictures to pixels, many at a time, with every limit checked before memory is taken.

use super::{Framing, Images, ReadOptions};
use crate::ops::store::Store;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};
use rayon::prelude::*;
use std::borrow::Cow;
use std::io::Cursor;

/// What to do where sizes differ.
pub(super) const RESIZE: &str = "have them resized: --size of `train`, --resize of `eval`";

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: usize = 4096;

/// The most decoded bytes that one dataset may take, on disk where it is large: 16 GiB, twice the ImageNet validation set at 224x224.
pub const MAX_PIXEL_BYTES: u64 = 16 << 30;

/// What a decoder may allocate for one picture: one of [`MAX_SIDE`] squared, 16 bits, four channels, and its scratch.
pub(super) const MAX_DECODER_BYTES: u64 = 256 << 20;

/// Why a picture was refused: what was found, what to do.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub found: String,
    pub hint: &'static str,
}

impl Refusal {
    pub fn new(found: impl Into<String>, hint: &'static str) -> Self {
        Self { found: found.into(), hint }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    height: usize,
    width: usize,
    channels: usize,
}

/// Gathers decoded pictures of one shape.
pub(crate) struct Collector {
    framing: Option<Framing>,
    channels: Option<usize>,
    shape: Option<Shape>,
    /// What to do about a picture that is refused, where that is always the same.
    hint: Option<&'static str>,
    pixels: Store<u8>,
}

impl Collector {
    pub fn new(options: &ReadOptions) -> Self {
        Self { framing: options.framing, channels: options.channels, shape: None, hint: None, pixels: Store::new() }
    }

    /// For the pictures of a set, which have one known shape.
    pub fn exactly(height: usize, width: usize, channels: usize) -> Self {
        let shape = Some(Shape { height, width, channels });
        Self { framing: None, channels: None, shape, hint: Some("get the set again"), pixels: Store::new() }
    }

    /// Decodes `count` encoded pictures, in parallel, behind those already there. `cell(i)` gives the bytes of each.
    /// On failure: the first refused one and the reason.
    pub fn push<'a, F>(&mut self, count: usize, cell: F) -> Result<(), (usize, Refusal)>
    where
        F: Fn(usize) -> Result<Cow<'a, [u8]>, Refusal> + Sync,
    {
        if count == 0 {
            return Ok(());
        }
        let shape = match self.shape {
            Some(shape) => shape,
            None => self.first_shape(&cell(0).map_err(|e| (0, e))?).map_err(|e| (0, e))?,
        };
        self.shape = Some(shape);
        let len = shape.height * shape.width * shape.channels;
        let start = self.pixels.len();
        if (start as u64).saturating_add(len as u64 * count as u64) > MAX_PIXEL_BYTES {
            let found = format!("the decoded pictures exceed {} GiB", MAX_PIXEL_BYTES >> 30);
            return Err((0, Refusal::new(found, "read a smaller size or fewer rows")));
        }
        let full = |e: crate::ops::Error| (0, Refusal::new(e.to_string(), "set TMPDIR to a folder with room"));
        let added = self.pixels.grow(len * count).map_err(full)?;
        let (framing, convert) = (self.framing, self.channels.is_some());
        let failed = added.par_chunks_exact_mut(len).enumerate().find_map_first(|(i, out)| {
            let decoded = cell(i).and_then(|bytes| decode_into(&bytes, shape, framing, convert, out));
            decoded.err().map(|e| (i, Refusal { hint: self.hint.unwrap_or(e.hint), ..e }))
        });
        failed.map_or(Ok(()), Err)
    }

    /// Height and width of all pictures, known once one was pushed.
    pub fn sides(&self) -> Option<[usize; 2]> {
        self.shape.map(|shape| [shape.height, shape.width])
    }

    /// All pictures so far; none when nothing was pushed.
    pub fn finish(self) -> Option<Images> {
        let Shape { height, width, channels } = self.shape?;
        Some(Images { pixels: self.pixels, channels, height, width })
    }

    /// The common shape, as the options or else the first picture say.
    fn first_shape(&self, bytes: &[u8]) -> Result<Shape, Refusal> {
        let found = shape_of(&open(bytes)?)?;
        let [height, width] = self.framing.map_or([found.height, found.width], |framing| framing.size);
        Ok(Shape { height, width, channels: self.channels.unwrap_or(found.channels) })
    }
}

fn open(bytes: &[u8]) -> Result<impl ImageDecoder + '_, Refusal> {
    const HINT: &str = "PNG, JPEG and WebP pictures can be read";
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let format = image::guess_format(bytes)
        .map_err(|_| Refusal::new(format!("{} bytes that are no picture", bytes.len()), HINT))?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder().map_err(|e| Refusal::new(broken(&e), HINT))
}

/// Whether this is a JPEG without an end mark behind the last mark of a scan: decoders fill with grey what it lacks, and say nothing.
pub(crate) fn is_cut_off(bytes: &[u8]) -> bool {
    const START: [u8; 2] = [0xff, 0xd8];
    const SCAN: [u8; 2] = [0xff, 0xda];
    const END: [u8; 2] = [0xff, 0xd9];
    let last_scan = || bytes.windows(2).rposition(|pair| pair == SCAN);
    bytes.starts_with(&START) && last_scan().is_some_and(|at| !bytes[at..].windows(2).any(|pair| pair == END))
}

/// Height and width of an encoded picture.
pub(super) fn dimensions(bytes: &[u8]) -> Result<[usize; 2], Refusal> {
    shape_of(&open(bytes)?).map(|shape| [shape.height, shape.width])
}

fn broken(e: &image::ImageError) -> String {
    format!("a picture that cannot be decoded ({})", e.to_string().replace(['\n', '\r'], " "))
}

fn shape_of(decoder: &impl ImageDecoder) -> Result<Shape, Refusal> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(Refusal::new(format!("a picture of {width}x{height} pixels"), "sides may be 1 to 4096 pixels"));
    }
    Ok(Shape { height, width, channels: if decoder.color_type().has_color() { 3 } else { 1 } })
}

fn decode_into(
    bytes: &[u8],
    shape: Shape,
    framing: Option<Framing>,
    convert: bool,
    out: &mut [u8],
) -> Result<(), Refusal> {
    const HINT: &str = "the file is damaged; get it again";
    let decoder = open(bytes)?;
    if is_cut_off(bytes) {
        return Err(Refusal::new("a JPEG that is cut off (it has no end mark)", HINT));
    }
    let found = shape_of(&decoder)?;
    if found.channels != shape.channels && !convert {
        let kind = |c| if c == 1 { "grey" } else { "colour" };
        let found = format!("a {} picture among {} ones", kind(found.channels), kind(shape.channels));
        return Err(Refusal::new(found, "have them converted: --channels of `train`, --resize of `eval`"));
    }
    let sides = [found.height, found.width];
    if sides != [shape.height, shape.width] && framing.is_none() {
        let found = format!(
            "a picture of {}x{} pixels among {}x{} ones (width x height)",
            found.width, found.height, shape.width, shape.height
        );
        return Err(Refusal::new(found, RESIZE));
    }
    let plain = matches!(decoder.color_type(), ColorType::L8 | ColorType::Rgb8);
    let stays = framing.is_none_or(|framing| framing.keeps(sides));
    if plain && stays && found == shape && decoder.total_bytes() == out.len() as u64 {
        return decoder.read_image(out).map_err(|e| Refusal::new(broken(&e), HINT));
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| Refusal::new(broken(&e), HINT))?;
    let pixels = fit(picture, shape.channels, framing).map_err(|found| Refusal::new(found, "leave it out"))?;
    if pixels.len() != out.len() {
        return Err(Refusal::new(format!("{} decoded bytes instead of {}", pixels.len(), out.len()), HINT));
    }
    out.copy_from_slice(&pixels);
    Ok(())
}

/// A picture in 1 or 3 channels and in its frame, `[H, W, C]`.
fn fit(picture: DynamicImage, channels: usize, framing: Option<Framing>) -> Result<Vec<u8>, String> {
    let sides = [picture.height() as usize, picture.width() as usize];
    let pixels = in_channels(picture, channels);
    match framing {
        Some(framing) => framing.apply(&pixels, sides, channels),
        None => Ok(pixels),
    }
}

/// The pixels of a picture in colour (3 channels) or in grey, `[H, W, C]`.
pub(crate) fn in_channels(picture: DynamicImage, channels: usize) -> Vec<u8> {
    match channels {
        3 => picture.into_rgb8().into_raw(),
        _ if picture.color().has_color() => luma(&picture.into_rgb8()).into_raw(),
        _ => picture.into_luma8().into_raw(),
    }
}

/// Grey by ITU-R 601, in the fixed-point form of Pillow's `convert("L")`, which teachers of grey images were fed by
/// (the `image` crate's own conversion is ITU-R 709).
fn luma(rgb: &image::RgbImage) -> image::GrayImage {
    image::GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        let [r, g, b] = rgb.get_pixel(x, y).0.map(u32::from);
        image::Luma([((19_595 * r + 38_470 * g + 7_471 * b + 0x8000) >> 16) as u8])
    })
}
