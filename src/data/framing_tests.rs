//! Pictures as timm and transformers frame them (tests/fixtures/make_framing.py).

use super::*;
use crate::data::{Collector, ReadOptions};
use crate::weights::ModelConfig;
use image::{ImageFormat, RgbImage};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::Path;

const FIXTURES: &[u8] = include_bytes!("../../tests/fixtures/framing.safetensors");

/// The picture of the fixtures, as a PNG file.
fn picture([height, width]: [usize; 2]) -> Vec<u8> {
    let value = |x: u32, y: u32, c: u32| (x * x * 7 + y * y * 3 + x * y * (c + 2) + 31 * c) as u8;
    let rgb = RgbImage::from_fn(width as u32, height as u32, |x, y| image::Rgb([0, 1, 2].map(|c| value(x, y, c))));
    let mut bytes = Cursor::new(Vec::new());
    rgb.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn framing(name: &str, fields: &Value) -> Framing {
    let config = if name.starts_with("timm") {
        let mut config =
            json!({"architecture": "x", "num_classes": 2, "pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1]}});
        config["pretrained_cfg"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ModelConfig::parse(config.to_string().as_bytes(), "config.json")
    } else {
        let config = json!({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]});
        let preprocessor = fields.to_string();
        ModelConfig::parse_with(config.to_string().as_bytes(), Some(preprocessor.as_bytes()), Path::new("config.json"))
    };
    Framing::of(&config.unwrap().pretrained_cfg).unwrap().unwrap()
}

#[test]
fn pictures_are_framed_as_timm_and_transformers_do() {
    let file = SafeTensors::deserialize(FIXTURES).unwrap();
    let (_, header) = SafeTensors::read_metadata(FIXTURES).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about.len(), 21);
    for (name, about) in about {
        let about: Value = serde_json::from_str(about).unwrap();
        let sides = [0, 1].map(|i| about["picture"][i].as_u64().unwrap() as usize);
        let step = about["step"].as_u64().unwrap() as usize;
        let framing = framing(name, &about["fields"]);
        let mut collector = Collector::new(&ReadOptions { framing: Some(framing), ..ReadOptions::default() });
        collector.push(1, |_| Ok(picture(sides).into())).unwrap();
        let images = collector.finish().unwrap();
        let expected = file.tensor(name).unwrap();
        let [h, w] = [images.height, images.width].map(|side| side.div_ceil(step));
        assert_eq!(expected.shape(), [h, w, 3], "{name}: {framing}");
        let pixel = |i: usize| &images.pixels[(i / w * step * images.width + i % w * step) * 3..][..3];
        let found: Vec<u8> = (0..h * w).flat_map(pixel).copied().collect();
        // The library's weights have 16 bits, Pillow's 22.
        let off: Vec<u8> = found.iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).collect();
        let differ = off.iter().filter(|off| **off > 0).count();
        let most = off.iter().max().unwrap();
        assert!(
            *most <= 1 && differ * 20 < off.len(),
            "{name}: {framing}: off by up to {most}, {differ} of {}",
            off.len()
        );
    }
}

#[test]
fn a_way_that_is_not_there_is_named() {
    let of = |crop_pct: Option<f64>, mode: Option<&str>, filter: Option<&str>| {
        let text = |text: Option<&str>| text.map(String::from);
        let images = json!({"input_size": [3, 224, 224], "mean": [0, 0, 0], "std": [1, 1, 1]});
        let images: PretrainedConfig = serde_json::from_value(images).unwrap();
        Framing::of(&PretrainedConfig { crop_pct, crop_mode: text(mode), interpolation: text(filter), ..images })
    };
    assert_eq!(of(None, None, None), Ok(None));
    // As timm fills in what is left open.
    let usual = Framing { size: [224, 224], resized: [256, 256], keeps_shape: true, filter: Filter::Bicubic };
    assert_eq!(of(None, Some("center"), None), Ok(Some(usual)));
    for (crop_pct, mode, filter, part) in [
        (Some(0.0), None, None, "crop_pct is 0"),
        (Some(1.25), None, None, "crop_pct is 1.25"),
        (Some(f64::NAN), None, None, "crop_pct is NaN"),
        (None, Some("border"), None, "crop_mode is \"border\""),
        (None, None, Some("random"), "interpolation is \"random\", expected one of nearest, bilinear"),
    ] {
        let refusal = of(crop_pct, mode, filter).unwrap_err();
        assert!(refusal.contains(part), "{refusal}");
    }
    // The share was rounded on its way: 224 of 256 is 0.875, 224 of 235 is not finite in binary.
    for side in 224..320 {
        let found = of(Some(224.0 / f64::from(side)), None, None).unwrap().unwrap();
        assert_eq!(found.resized, [side as usize; 2]);
    }
}

/// A line of one pixel's width would become 4,096 times as long as what is left of it.
#[test]
fn a_line_does_not_become_a_wall() {
    let framing = Framing { keeps_shape: true, ..Framing::stretched([64, 64]) };
    let refusal = framing.apply(&vec![0; 3 * 4096], [1, 4096], 3).unwrap_err();
    assert!(refusal.contains("4096x1 pixels, too narrow"), "{refusal}");
    assert_eq!(framing.apply(&[7; 3 * 4 * 400], [4, 400], 3).unwrap(), vec![7; 64 * 64 * 3]);
    assert_eq!(Framing::stretched([2, 2]).apply(&[7; 4096], [1, 4096], 1).unwrap(), [7; 4]);
}
