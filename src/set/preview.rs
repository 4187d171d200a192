//! A picture of the set: one row of examples per class.

use crate::data::Images;
use crate::files::write_atomic;
use crate::{Error, Result};
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Rows of the grid; of more classes, so many are shown, evenly spaced.
pub const MAX_CLASSES: usize = 16;
/// Images per class in `preview.png`.
pub const PER_CLASS: usize = 10;
/// Images up to this side, in pixels, are shown twice as large.
const MAGNIFIED_SIDE: usize = 64;
/// Images over this side, in pixels, are thinned out to fit.
const LARGEST_CELL: usize = 256;
/// Width of the lines between images, in pixels.
const LINE: usize = 1;
const BACKGROUND: Rgb<u8> = Rgb([32, 32, 32]);

/// A grid with one row per class (at most [`MAX_CLASSES`]) and `per_class` of its images from left to right, evenly spaced over
/// the set (an inverted one has the images that were made without an adversary first), between thin dark lines; images of at most 64 pixels are enlarged twice without smoothing. `labels` is `[N]`, and classes
/// are `0..classes`. A class without enough images leaves its cells dark.
pub fn grid(images: &Images, labels: &[u32], classes: usize, per_class: usize) -> RgbImage {
    let longest = images.height.max(images.width).max(1);
    let (scale, step) = if longest <= MAGNIFIED_SIDE { (2, 1) } else { (1, longest.div_ceil(LARGEST_CELL)) };
    let cell = (images.height.div_ceil(step) * scale + LINE, images.width.div_ceil(step) * scale + LINE);
    let shown = classes.clamp(1, MAX_CLASSES);
    let columns = per_class.max(1);
    let (height, width) = (shown * cell.0 + LINE, columns * cell.1 + LINE);
    let mut canvas = RgbImage::from_pixel(width as u32, height as u32, BACKGROUND);
    for row in 0..shown {
        let class = row * classes / shown;
        let of_class = |&i: &usize| labels[i] as usize == class;
        let members: Vec<usize> = (0..labels.len().min(images.len())).filter(of_class).collect();
        for column in 0..members.len().min(per_class) {
            let index = members[column * members.len() / per_class.min(members.len())];
            let origin = (row * cell.0 + LINE, column * cell.1 + LINE);
            paste(&mut canvas, images, index, origin, scale, step);
        }
    }
    canvas
}

/// Every `step`-th pixel of an image, each as a square of `scale` pixels, at `(row, column)` of the canvas.
fn paste(canvas: &mut RgbImage, images: &Images, index: usize, origin: (usize, usize), scale: usize, step: usize) {
    let pixels = images.image(index);
    for y in 0..images.height.div_ceil(step) * scale {
        for x in 0..images.width.div_ceil(step) * scale {
            let at = (y / scale * step * images.width + x / scale * step) * images.channels;
            let colour = match images.channels {
                3 => Rgb([pixels[at], pixels[at + 1], pixels[at + 2]]),
                _ => Rgb([pixels[at]; 3]),
            };
            canvas.put_pixel((origin.1 + x) as u32, (origin.0 + y) as u32, colour);
        }
    }
}

/// Writes [`grid`] with [`PER_CLASS`] columns as a PNG file, which appears whole.
///
/// # Errors
/// [`Error::Io`] when the disk refuses.
pub fn write_preview(path: impl AsRef<Path>, images: &Images, labels: &[u32], classes: usize) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    let fewest = labels.len().clamp(1, PER_CLASS);
    grid(images, labels, classes, fewest)
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::file(path.as_ref(), format!("the preview cannot become a PNG ({e})"), "report this"))?;
    write_atomic(path, &bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_images_are_doubled_between_lines() {
        let images = Images::new(vec![10, 20, 30, 40, 50, 60], 1, 1, 2).unwrap();
        let grid = grid(&images, &[1, 0, 1], 2, 2);
        assert_eq!(grid.dimensions(), (11, 7));
        let at = |x, y| grid.get_pixel(x, y).0[0];
        assert_eq!([at(0, 0), at(1, 1), at(2, 2), at(3, 1), at(5, 1)], [32, 30, 30, 40, 32]);
        assert_eq!([at(6, 1), at(1, 4), at(6, 4), at(9, 5)], [32, 10, 50, 60]);
    }

    #[test]
    fn examples_are_spread_over_the_set() {
        let images = Images::new((0..5).collect::<Vec<u8>>(), 1, 1, 1).unwrap();
        let grid = grid(&images, &[0; 5], 1, 2);
        assert_eq!([grid.get_pixel(1, 1).0[0], grid.get_pixel(4, 1).0[0]], [0, 2]);
    }

    #[test]
    fn many_classes_and_large_images_stay_small() {
        let images = Images::new(vec![7; 1000 * 4 * 3], 3, 1000, 4).unwrap();
        let grid = grid(&images, &[99], 100, 10);
        assert_eq!(grid.dimensions(), (21, 16 * 251 + 1));
        let few = super::grid(&images, &[93], 100, 10);
        assert!(few.pixels().any(|p| p.0 == [7; 3]), "class 93 is one of the 16 shown");
    }
}
