//! Predictions of a segmentation network as pictures: the image, the labels over it, the answers over it, side by side.

use crate::data::VOID;
use crate::files::write_provenance;
use crate::{Error, Result};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Share of the class's colour.
const OPACITY: f32 = 0.65;
/// White columns between the panels.
const GAP: usize = 4;

/// A folder of overlays.
pub struct Overlays {
    folder: PathBuf,
    colours: Vec<[u8; 3]>,
    digits: usize,
}

impl Overlays {
    /// Makes the folder, with the colours of the classes in `legend.txt` and a `synth.json` that says what it is, for `count` images. For a folder that appears at once,
    /// make it in a [`crate::files::Staging`].
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: impl AsRef<Path>, class_names: &[String], count: usize) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let colours: Vec<[u8; 3]> = (0..class_names.len()).map(colour).collect();
        let line = |([r, g, b], name): (&[u8; 3], &String)| format!("#{r:02x}{g:02x}{b:02x} {name}\n");
        let legend: String = colours.iter().zip(class_names).map(line).collect();
        let path = folder.join("legend.txt");
        fs::write(&path, legend).map_err(Error::io("write", &path))?;
        write_provenance(&folder, &json!({ "kind": "overlays", "count": count }))?;
        Ok(Self { folder, colours, digits: count.saturating_sub(1).to_string().len() })
    }

    /// Writes `INDEX.png` from an image `[H, W, C]` (C is 1 or 3), its labels and the answers, both `[H, W]`; void is black.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Shape`] for sizes that do not fit.
    pub fn write(&self, index: usize, image: &[u8], labels: &[u8], answers: &[u8], width: usize) -> Result<()> {
        let (pixels, channels) = (labels.len(), image.len() / labels.len().max(1));
        let height = pixels / width.max(1);
        if pixels == 0 || answers.len() != pixels || height * width != pixels || !matches!(channels, 1 | 3) {
            let found = format!("{} bytes, {pixels} labels, {} answers, {width} wide", image.len(), answers.len());
            return Err(Error::shape("overlay", found));
        }
        let total = 3 * width + 2 * GAP;
        let mut out = vec![255u8; total * height * 3];
        for (panel, classes) in [None, Some(labels), Some(answers)].into_iter().enumerate() {
            for p in 0..pixels {
                let rgb = [0, 1, 2].map(|c| image[p * channels + c.min(channels - 1)]);
                let shown = classes.map_or(rgb, |classes| self.blend(rgb, classes[p]));
                let at = (p / width * total + panel * (width + GAP) + p % width) * 3;
                out[at..at + 3].copy_from_slice(&shown);
            }
        }
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&out, total as u32, height as u32, ExtendedColorType::Rgb8)
            .map_err(|e| Error::shape("overlay", e.to_string()))?;
        let path = self.folder.join(format!("{index:0digits$}.png", digits = self.digits));
        fs::write(&path, bytes).map_err(Error::io("write", &path))
    }

    fn blend(&self, rgb: [u8; 3], class: u8) -> [u8; 3] {
        if class == VOID {
            return [0; 3];
        }
        let colour = self.colours.get(usize::from(class)).copied().unwrap_or([0; 3]);
        [0, 1, 2].map(|c| (OPACITY * f32::from(colour[c]) + (1.0 - OPACITY) * f32::from(rgb[c])) as u8)
    }
}

/// A colour per class: hues by the golden angle, so that neighbours differ, and three levels of brightness.
fn colour(class: usize) -> [u8; 3] {
    let hue = (class as f32 * 137.508) % 360.0 / 60.0;
    let value = [255.0, 190.0, 125.0][class % 3];
    [5.0, 3.0, 1.0].map(|n: f32| {
        let k = (n + hue) % 6.0;
        (value * (1.0 - 0.85 * k.min(4.0 - k).clamp(0.0, 1.0))) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_has_three_panels_in_colours_of_the_classes() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["sky", "road"].map(String::from);
        let overlays = Overlays::create(folder.path(), &names, 11).unwrap();
        overlays.write(3, &[10, 20, 30, 40, 50, 60], &[0, VOID], &[0, 1], 2).unwrap();
        let picture = image::open(folder.path().join("03.png")).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (2 * 3 + 2 * GAP as u32, 1));
        let at = |x: usize| picture.get_pixel(x as u32, 0).0;
        assert_eq!((at(0), at(1), at(2)), ([10, 20, 30], [40, 50, 60], [255; 3]));
        assert_eq!((at(2 + GAP), at(3 + GAP)), (at(4 + 2 * GAP), [0; 3]));
        assert_ne!(at(5 + 2 * GAP), [0; 3]);
        let legend = fs::read_to_string(folder.path().join("legend.txt")).unwrap();
        assert!(legend.lines().count() == 2 && legend.contains(" sky\n"), "{legend}");
        assert!(overlays.write(0, &[0; 6], &[0, 1], &[0], 2).is_err());
    }

    #[test]
    fn classes_have_colours_of_their_own() {
        let all: std::collections::BTreeSet<[u8; 3]> = (0..60).map(colour).collect();
        assert_eq!(all.len(), 60);
    }
}
