//! One encoded picture out of a pile of anything, brought to the teacher's size: what cannot be read is left out with a reason.

use crate::data::framing::resize;
use crate::data::{Filter, in_channels, is_cut_off};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The largest encoded picture, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 20;
/// The longest side, in pixels, and the most pixels: those of any camera. A picture is decoded whole.
const MAX_SIDE: u32 = 16_384;
const MAX_PIXELS: u64 = 64 << 20;
/// What a decoder may allocate for one picture.
const MAX_DECODER_BYTES: u64 = 512 << 20;

/// What was done to a picture, beyond resizing; in the words of the tally.
pub(crate) type Changes = Vec<&'static str>;

/// Decodes any picture into `out`, `[H, W, C]` of `dims`: the middle of it in the shape of `dims`, resized bilinearly. What it
/// is, its first bytes say; `named` is only compared with that.
///
/// # Errors
/// Why it is left out.
pub(crate) fn decode(
    bytes: &[u8],
    named: Option<&Path>,
    dims: [usize; 3],
    out: &mut [u8],
) -> Result<Changes, &'static str> {
    if bytes.is_empty() {
        return Err("empty file");
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err("file of more than 64 MiB");
    }
    let format = image::guess_format(bytes).map_err(|_| "no picture")?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) {
        return Err("a format other than PNG, JPEG and WebP");
    }
    // The decoders are others' work on bytes from anywhere.
    let decoded = catch_unwind(AssertUnwindSafe(|| open(bytes, format))).unwrap_or(Err("damaged"));
    let (picture, mut changes) = decoded?;
    let says = named.and_then(|name| ImageFormat::from_path(name).ok());
    if says.is_some_and(|says| says != format) {
        changes.push("named as another format than it is");
    }
    out.copy_from_slice(&fitted(picture, dims, &mut changes));
    Ok(changes)
}

fn open(bytes: &[u8], format: ImageFormat) -> Result<(DynamicImage, Changes), &'static str> {
    let mut changes = Changes::new();
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODER_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let reason = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => "too large: over 16,384 pixels a side or 512 MiB to decode",
        _ => "damaged",
    };
    let decoder = reader.into_decoder().map_err(reason)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err("too large: over 64 megapixels");
    }
    if is_cut_off(bytes) {
        return Err("damaged");
    }
    if is_animated(bytes, format) {
        changes.push("animated: its first frame");
    }
    if format == ImageFormat::Jpeg && jpeg_components(bytes) == Some(4) {
        changes.push("CMYK to RGB");
    }
    match decoder.color_type() {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => changes.push("16 bits to 8"),
        _ => {}
    }
    if decoder.color_type().has_alpha() {
        changes.push("transparency dropped");
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(reason)?;
    match (picture.width(), picture.height()) {
        (0, _) | (_, 0) => Err("damaged"),
        _ => Ok((picture, changes)),
    }
}

fn is_animated(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => PngDecoder::new(Cursor::new(bytes)).is_ok_and(|d| d.is_apng().unwrap_or(false)),
        ImageFormat::WebP => WebPDecoder::new(Cursor::new(bytes)).is_ok_and(|d| d.has_animation()),
        _ => false,
    }
}

/// Components of a JPEG, as its frame header (SOF) says: 1 grey, 3 colour, 4 CMYK.
fn jpeg_components(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    loop {
        let marker = bytes.get(at..at + 4)?;
        let length = usize::from(u16::from_be_bytes([marker[2], marker[3]]));
        match marker[1] {
            // SOF0 to SOF15 but for DHT, JPG and DAC, which lie among them.
            0xc0..=0xcf if !matches!(marker[1], 0xc4 | 0xc8 | 0xcc) => return bytes.get(at + 9).copied(),
            0xff => at += 1,
            _ => at += 2 + length,
        }
    }
}

/// The middle of a picture in the shape of `dims`, resized to it, in its channels.
fn fitted(picture: DynamicImage, [height, width, channels]: [usize; 3], changes: &mut Changes) -> Vec<u8> {
    let coloured = picture.color().has_color();
    match (coloured, channels) {
        (true, 1) => changes.push("colour to grey"),
        (false, 3) => changes.push("grey to colour"),
        _ => {}
    }
    let (height, width) = (height as u32, width as u32);
    let (h, w) = (picture.height(), picture.width());
    let (crop_h, crop_w) = match u64::from(w) * u64::from(height) > u64::from(h) * u64::from(width) {
        true => (h, (u64::from(h) * u64::from(width) / u64::from(height)).max(1) as u32),
        false => ((u64::from(w) * u64::from(height) / u64::from(width)).max(1) as u32, w),
    };
    let middle = in_channels(picture.crop_imm((w - crop_w) / 2, (h - crop_h) / 2, crop_w, crop_h), channels);
    let sides = |h: u32, w: u32| [h as usize, w as usize];
    resize(&middle, sides(crop_h, crop_w), sides(height, width), channels, Filter::Bilinear)
}
