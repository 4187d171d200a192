//! Pictures of every kind that a pile may hold, and what is none.

use super::Folder;
use super::picture::decode;
use super::source::{Source, Tally};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;

const CMYK: &[u8] = include_bytes!("../../tests/fixtures/cmyk.jpg");
const ANIMATED: &[u8] = include_bytes!("../../tests/fixtures/animated.webp");

/// Green above, blue below; of any kind that the `image` crate can write as PNG.
fn picture() -> RgbImage {
    RgbImage::from_fn(40, 40, |_, y| if y < 20 { Rgb([10, 200, 30]) } else { Rgb([20, 40, 220]) })
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(picture).unwrap();
    bytes
}

/// A PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
}

/// The PNG with a chunk put in behind its header.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let header = 8 + 25;
    [&png[..header], &chunk(kind, data), &png[header..]].concat()
}

/// The header of a PNG of any size and nothing else.
fn promise(width: u32, height: u32) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let start = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &[&size[..], &[8, 2, 0, 0, 0]].concat())].concat();
    [start, chunk(b"IDAT", &[0; 4]), chunk(b"IEND", &[])].concat()
}

fn decoded(bytes: &[u8], name: &str, channels: usize) -> Result<(Vec<&'static str>, Vec<u8>), &'static str> {
    let mut out = vec![0; 8 * 8 * channels];
    decode(bytes, Some(Path::new(name)), [8, 8, channels], &mut out).map(|changes| (changes, out))
}

#[test]
fn what_can_be_read_is_converted_and_said() {
    let colour = DynamicImage::from(picture());
    let sixteen = DynamicImage::from(colour.to_rgb16());
    let grey = DynamicImage::from(colour.to_luma8());
    let clear = DynamicImage::from(colour.to_rgba8());
    // num_frames 2, num_plays 0; the picture itself is the first frame.
    let control = [&[0, 0, 0, 2, 0, 0, 0, 0][..]].concat();
    let moving = with_chunk(&png(&colour), b"acTL", &control);
    let cases: [(&str, Vec<u8>, &str, usize, &[&str]); 8] = [
        ("plain", png(&colour), "a.png", 3, &[]),
        ("jpeg", jpeg(&picture()), "a.JPG", 3, &[]),
        ("mis-named", jpeg(&picture()), "a.png", 3, &["named as another format than it is"]),
        ("16 bits", png(&sixteen), "a.png", 3, &["16 bits to 8"]),
        ("grey", png(&grey), "a.png", 3, &["grey to colour"]),
        ("to grey", png(&colour), "a.png", 1, &["colour to grey"]),
        ("alpha", png(&clear), "a.png", 3, &["transparency dropped"]),
        ("apng", moving, "a.png", 3, &["animated: its first frame"]),
    ];
    for (case, bytes, name, channels, expected) in cases {
        let (changes, pixels) = decoded(&bytes, name, channels).unwrap_or_else(|reason| panic!("{case}: {reason}"));
        assert_eq!(changes, expected, "{case}");
        if channels == 3 && case != "grey" {
            let (top, bottom) = (&pixels[..3], &pixels[7 * 8 * 3..][..3]);
            let near = |found: &[u8], wanted: [u8; 3]| found.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 6);
            assert!(near(top, [10, 200, 30]) && near(bottom, [20, 40, 220]), "{case}: {top:?} {bottom:?}");
        }
    }
    let (changes, pixels) = decoded(ANIMATED, "a.webp", 3).unwrap();
    assert_eq!((&changes[..], pixels[0]), (&["animated: its first frame"][..], 200));
}

/// ```python
/// Image.open("cmyk.jpg").convert("RGB").getpixel((20, 12))  # (127, 125, 129)
/// ```
#[test]
fn cmyk_becomes_the_rgb_that_pillow_gives() {
    let mut out = vec![0; 24 * 40 * 3];
    let changes = decode(CMYK, None, [24, 40, 3], &mut out).unwrap();
    assert_eq!(changes, ["CMYK to RGB"]);
    let pixel = &out[(12 * 40 + 20) * 3..][..3];
    assert!(pixel.iter().zip([127, 125, 129]).all(|(a, b): (&u8, u8)| a.abs_diff(b) < 8), "{pixel:?}");
}

#[test]
fn the_middle_is_kept_in_its_proportions() {
    // Red borders left and right of a white square.
    let wide = RgbImage::from_fn(90, 30, |x, _| if (30..60).contains(&x) { Rgb([255; 3]) } else { Rgb([255, 0, 0]) });
    let (_, pixels) = decoded(&png(&wide.clone().into()), "a.png", 3).unwrap();
    assert!(pixels.iter().all(|v| *v == 255));
    let high = image::imageops::rotate90(&wide);
    assert!(decoded(&png(&high.into()), "a.png", 3).unwrap().1.iter().all(|v| *v == 255));
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let whole = png(&picture().into());
    let mut flipped = jpeg(&picture());
    flipped.truncate(150);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", vec![], "empty file"),
        ("text", b"<html>not found</html>".to_vec(), "no picture"),
        ("gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;".to_vec(), "a format other than PNG, JPEG and WebP"),
        ("cut", whole[..whole.len() / 2].to_vec(), "damaged"),
        ("cut jpeg", flipped, "damaged"),
        ("bomb", promise(60_000, 60_000), "too large: over 16,384 pixels a side or 512 MiB to decode"),
        ("large", promise(16_000, 16_000), "too large: over 64 megapixels"),
        ("nothing", promise(0, 5), "damaged"),
    ];
    for (case, bytes, reason) in cases {
        assert_eq!(decoded(&bytes, "a.png", 3).unwrap_err(), reason, "{case}");
    }
}

#[test]
fn a_folder_of_anything_gives_what_can_be_read_with_a_tally() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::create_dir_all(at("deep/er")).unwrap();
    std::fs::write(at("a.png"), png(&picture().into())).unwrap();
    std::fs::write(at("b.png"), jpeg(&picture())).unwrap();
    std::fs::write(at("deep/er/c.jpg"), CMYK).unwrap();
    std::fs::write(at("deep/d.gif"), b"GIF89a").unwrap();
    std::fs::write(at("e.jpeg"), b"").unwrap();
    std::fs::write(at("notes.txt"), b"no picture by its name").unwrap();
    std::fs::create_dir(at("f.png")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("g.png")).unwrap();
    let mut folder = Folder::open(root.path()).unwrap();
    assert_eq!(folder.items(), Some(6));
    let (mut tally, mut numbers, mut bytes) = (Tally::default(), Vec::new(), 0);
    let all: Vec<usize> = (0..6).collect();
    folder
        .visit(&all, [16, 16, 3], &mut tally, &mut |passed| {
            numbers.extend_from_slice(passed.numbers);
            bytes += passed.pixels.len();
            assert_eq!(passed.last, 5, "items that could not be read were looked at, too");
            Ok(())
        })
        .unwrap();
    // In the order of paths: a.png, b.png, deep/d.gif, deep/er/c.jpg, e.jpeg, g.png.
    assert_eq!((&numbers[..], bytes), (&[0, 1, 3][..], 3 * 16 * 16 * 3));
    let skipped: Vec<(&str, usize)> = tally.skipped.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
    let expected = [("a format other than PNG, JPEG and WebP", 1), ("cannot be opened", 1), ("empty file", 1)];
    assert_eq!(skipped, expected);
    assert_eq!(tally.converted.values().sum::<usize>(), 2, "{tally:?}");
}

/// Decoders fill with grey what is missing.
#[test]
fn a_jpeg_that_is_cut_off_is_damaged() {
    let whole = jpeg(&RgbImage::from_fn(64, 64, |x, y| Rgb([(7 * x) as u8, (5 * y) as u8, (x * y) as u8])));
    assert!(decoded(&whole, "a.jpg", 3).is_ok());
    // What is behind the end is nobody's business.
    assert!(decoded(&[&whole[..], b"more"].concat(), "a.jpg", 3).is_ok());
    for part in [5, 8, 9] {
        assert_eq!(decoded(&whole[..whole.len() * part / 10], "a.jpg", 3).unwrap_err(), "damaged");
    }
}

#[cfg(unix)]
#[test]
fn folders_behind_links_and_deep_down_are_listed_once() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deep = (0..20).fold(folder.path().to_path_buf(), |path, i| path.join(i.to_string()));
    std::fs::create_dir_all(&deep).unwrap();
    for path in [folder.path(), &deep, elsewhere.path()] {
        std::fs::write(path.join("a.png"), "").unwrap();
    }
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    assert_eq!(Folder::open(folder.path()).unwrap().items(), Some(3));
    let bottom = (0..60).fold(deep, |path, i| path.join(i.to_string()));
    std::fs::create_dir_all(&bottom).unwrap();
    let message = Folder::open(folder.path()).err().unwrap().to_string();
    assert!(message.contains("more than 64 folders deep"), "{message}");
}
