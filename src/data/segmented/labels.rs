//! Label images: PNGs whose values are classes.

use crate::data::decode::{MAX_DECODER_BYTES, MAX_SIDE, RESIZE, Refusal};
use crate::data::framing::nearest;
use crate::ops::store::Store;
use png::{BitDepth, ColorType, Decoder, Limits, Transformations};
use rayon::prelude::*;
use std::borrow::Cow;
use std::io::Cursor;

/// The label of a pixel of which nothing is known; it counts nowhere.
pub const VOID: u8 = 255;

/// What the values of label images mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelCodes {
    /// Classes, at most 255.
    pub classes: usize,
    /// A class that counts as void.
    pub ignore: Option<u8>,
    /// A value that counts as void, wherever classes begin.
    pub void: Option<u8>,
    /// The value of the first class: 0, or 1 where 0 is void. Without it: what the folder's layout says, else 0.
    pub first: Option<u8>,
}

impl LabelCodes {
    /// The class (or [`VOID`]) that a value stands for, if any. 255 is void everywhere.
    fn class(&self, value: u8) -> Option<u8> {
        let known = value != VOID && Some(value) != self.void;
        let Some(class) = value.checked_sub(self.first.unwrap_or(0)).filter(|_| known) else {
            return Some(VOID);
        };
        match class {
            _ if Some(class) == self.ignore => Some(VOID),
            _ => (usize::from(class) < self.classes).then_some(class),
        }
    }
}

/// Gathers the labels of pictures of one size.
pub(super) struct LabelCollector {
    codes: LabelCodes,
    values: Store<u8>,
}

impl LabelCollector {
    pub fn new(codes: LabelCodes) -> Self {
        Self { codes, values: Store::new() }
    }

    pub fn first(&self) -> u8 {
        self.codes.first.unwrap_or(0)
    }

    pub fn finish(self) -> Store<u8> {
        self.values
    }

    /// Decodes `count` label images in parallel. `cell(i)` gives the bytes of each, and the height and width that its picture
    /// has before it is resized to `to`. On failure: the first refused one and the reason.
    pub fn push<'a>(
        &mut self,
        count: usize,
        to: [usize; 2],
        resize: bool,
        cell: impl Fn(usize) -> Result<(Cow<'a, [u8]>, [usize; 2]), Refusal> + Sync,
    ) -> Result<(), (usize, Refusal)> {
        let full = |e: crate::ops::Error| (0, Refusal::new(e.to_string(), "set TMPDIR to a folder with room"));
        let len = to[0] * to[1];
        // The pictures, which are as many and no smaller, were found to be few enough.
        let added = self.values.grow(len * count).map_err(full)?;
        let codes = self.codes;
        let failed = added.par_chunks_exact_mut(len.max(1)).enumerate().find_map_first(|(i, out)| {
            let done = cell(i).and_then(|(bytes, picture)| one(&bytes, picture, to, resize, codes, out));
            done.err().map(|refusal| (i, refusal))
        });
        failed.map_or(Ok(()), Err)
    }
}

/// One label image into `out`, `[to[0], to[1]]`.
fn one(
    bytes: &[u8],
    picture: [usize; 2],
    to: [usize; 2],
    resize: bool,
    codes: LabelCodes,
    out: &mut [u8],
) -> Result<(), Refusal> {
    let ([height, width], values) = decode(bytes, picture)?;
    if [height, width] != to && !resize {
        let found = format!("a label image of {width}x{height} pixels (width x height) among {}x{} ones", to[1], to[0]);
        return Err(Refusal::new(found, RESIZE));
    }
    let mut classes = [None; 256];
    (0..=VOID).for_each(|value| classes[usize::from(value)] = codes.class(value));
    if let Some(at) = values.iter().position(|value| classes[usize::from(*value)].is_none()) {
        let found = format!(
            "its label image has the value {} at row {}, column {}, of {} classes",
            values[at],
            at / width,
            at % width,
            codes.classes
        );
        return Err(Refusal::new(
            found,
            "values are the model's classes from 0 (with --first-label 1: from 1, and 0 is void), and 255 is void, as is what `train --void` says",
        ));
    }
    let columns = nearest(width, to[1]);
    for (y, row) in nearest(height, to[0]).into_iter().zip(out.chunks_exact_mut(to[1])) {
        let from = &values[y * width..][..width];
        for (o, x) in row.iter_mut().zip(&columns) {
            *o = classes[usize::from(from[*x])].unwrap_or(VOID);
        }
    }
    Ok(())
}

/// Height and width of a PNG, and its grey values or palette indices; its size must be that of the picture.
fn decode(bytes: &[u8], picture: [usize; 2]) -> Result<([usize; 2], Vec<u8>), Refusal> {
    const HINT: &str = "label images are PNGs with one class index of at most 8 bits per pixel, grey or with a palette";
    let broken = |e: png::DecodingError| Refusal::new(format!("a label image that cannot be decoded ({e})"), HINT);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_DECODER_BYTES as usize });
    decoder.set_transformations(Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    let [height, width] = [info.height as usize, info.width as usize];
    let (colour, depth) = (info.color_type, info.bit_depth);
    if [height, width] != picture {
        let found = format!(
            "its label image has {width}x{height} pixels (width x height), the picture {}x{}",
            picture[1], picture[0]
        );
        return Err(Refusal::new(found, "every pixel needs its label: give both the same size"));
    }
    if height.max(width) > MAX_SIDE || depth == BitDepth::Sixteen {
        return Err(Refusal::new(format!("a label image of {width}x{height} pixels with {depth:?} bits"), HINT));
    }
    let size = reader.output_buffer_size().filter(|size| *size <= MAX_DECODER_BYTES as usize);
    let mut rows = vec![0; size.ok_or_else(|| Refusal::new("a label image that is too large", HINT))?];
    let line = reader.next_frame(&mut rows).map_err(broken)?.line_size;
    let values = match colour {
        ColorType::Grayscale | ColorType::Indexed => unpacked(&rows, line, width, depth as usize),
        _ => grey(&rows, colour.samples()).ok_or_else(|| Refusal::new("a label image in colours", HINT))?,
    };
    match values.len() == height * width {
        true => Ok(([height, width], values)),
        false => Err(Refusal::new("a label image that ends early", HINT)),
    }
}

/// Values of 1, 2, 4 or 8 bits, of which a row takes `line` bytes.
fn unpacked(rows: &[u8], line: usize, width: usize, bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits.clamp(1, 8);
    let mask = (0xFFu16 >> (8 - bits.clamp(1, 8))) as u8;
    let value = |row: &[u8], x: usize| row[x / per_byte] >> (8 - bits * (x % per_byte + 1)) & mask;
    rows.chunks_exact(line.max(1)).flat_map(|row| (0..width).map(move |x| value(row, x))).collect()
}

/// The grey values of an image with several samples per pixel, if it is grey; alpha is dropped.
fn grey(rows: &[u8], samples: usize) -> Option<Vec<u8>> {
    let colours = if samples > 2 { 3 } else { 1 };
    let pixels = rows.chunks_exact(samples.max(1));
    pixels.map(|pixel| pixel[..colours].iter().all(|v| *v == pixel[0]).then_some(pixel[0])).collect()
}
