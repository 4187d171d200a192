//! Real datasets against numbers computed by Pillow.

use super::*;
use std::path::PathBuf;

/// A file or folder of the shared test data, or nothing where there is none. The folder is that of the environment
/// variable `SYNTH_TEST_DATA`, which must then be complete, or `shared/data` in or beside the repository.
pub(crate) fn test_data(relative: &str) -> Option<PathBuf> {
    if let Some(root) = std::env::var_os("SYNTH_TEST_DATA") {
        let path = PathBuf::from(root).join(relative);
        assert!(path.exists(), "SYNTH_TEST_DATA has no {relative}");
        return Some(path);
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [repository.join("shared/data"), repository.join("../shared/data")];
    let found = roots.iter().map(|r| r.join(relative)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: no {relative}");
    }
    found
}

fn sha256(bytes: &[u8]) -> String {
    crate::files::sha256_bytes(bytes)
}

fn bytes_of(labels: &[u32]) -> Vec<u8> {
    labels.iter().map(|&l| l as u8).collect()
}

fn histogram(data: &Labelled) -> Vec<usize> {
    let mut counts = vec![0; data.class_names.len()];
    data.labels.iter().for_each(|&l| counts[l as usize] += 1);
    counts
}

pub(super) fn refusal(path: &Path, options: &ReadOptions) -> String {
    let message = Labelled::read(path, options).unwrap_err().to_string();
    assert!(!message.contains('\n'), "one line, please: {message}");
    message
}

/// ```python
/// import hashlib, io, pyarrow.parquet as pq; from PIL import Image
/// def h(path, image, label, limit=None):
///     t = pq.read_table(path).to_pydict(); rows = list(zip(t[image], t[label]))[:limit]
///     px = b"".join(Image.open(io.BytesIO(c["bytes"])).tobytes() for c, _ in rows)
///     print(hashlib.sha256(px).hexdigest(), hashlib.sha256(bytes(l for _, l in rows)).hexdigest())
/// h("uoft-cs/cifar10/plain_text/test-00000-of-00001.parquet", "img", "label")
/// ```
#[test]
fn cifar10_test_is_what_pillow_decodes() {
    let Some(path) = test_data("datasets/uoft-cs/cifar10") else { return };
    let start = std::time::Instant::now();
    let data = Labelled::read(&path, &ReadOptions::default()).unwrap();
    eprintln!("10,000 CIFAR images read in {:?}", start.elapsed());
    assert_eq!((data.images.height, data.images.width, data.images.channels), (32, 32, 3));
    assert_eq!((data.len(), data.images.len(), data.name.as_str()), (10_000, 10_000, "cifar10/test"));
    assert_eq!(histogram(&data), [1000; 10]);
    assert_eq!((&*data.class_names[0], &*data.class_names[9]), ("airplane", "truck"));
    assert_eq!(sha256(&data.images.pixels), "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04");
    assert_eq!(sha256(&bytes_of(&data.labels)), "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5");
    assert_eq!(data.sha256, crate::files::sha256_file(path.join("plain_text/test-00000-of-00001.parquet")).unwrap());
}

/// `h("uoft-cs/cifar10/plain_text/train-00000-of-00003.parquet", "img", "label", 2000)` of the lines above.
#[test]
fn lossless_webp_of_the_train_split_is_exact() {
    let Some(path) = test_data("datasets/uoft-cs/cifar10") else { return };
    let options = ReadOptions { split: Some("train".into()), limit: Some(2000), ..Default::default() };
    let data = Labelled::read(&path, &options).unwrap();
    assert_eq!(data.len(), 2000);
    assert_eq!(sha256(&data.images.pixels), "48bb9c317980e186b159dcfcb952fa1079e1aa552a1df3ea4b271375dfbe3207");
    assert_eq!(sha256(&bytes_of(&data.labels)), "be1c28c816d430be791ef07694742adff327158d0ef082fb990dfadc30a427f0");
}

/// Row counts of the shards: 16,667, 16,667 and 16,666; 17,000 rows end in the second.
#[test]
fn shards_follow_each_other() {
    let Some(path) = test_data("datasets/uoft-cs/cifar10/plain_text") else { return };
    let options = ReadOptions { split: Some("train".into()), limit: Some(17_000), ..Default::default() };
    let both = Labelled::read(&path, &options).unwrap();
    let rest = ReadOptions { limit: Some(333), ..Default::default() };
    let second = Labelled::read(path.join("train-00001-of-00003.parquet"), &rest).unwrap();
    assert_eq!(both.len(), 17_000);
    assert_eq!(both.labels[16_667..], second.labels);
    assert_eq!(both.images.image(16_999), second.images.image(332));
}

/// `h("uoft-cs/cifar100/cifar100/test-00000-of-00001.parquet", "img", "fine_label")` of the lines above.
#[test]
fn cifar100_has_fine_labels_unless_coarse_ones_are_asked_for() {
    let Some(path) = test_data("datasets/uoft-cs/cifar100") else { return };
    let data = Labelled::read(&path, &ReadOptions::default()).unwrap();
    assert_eq!(histogram(&data), [100; 100]);
    assert_eq!(data.class_names[1], "aquarium_fish");
    assert_eq!(sha256(&data.images.pixels), "98d00159abcd07526bc87ffb6cd05ed72ff7714fa67fec7c05e439ece1d1cfe0");
    assert_eq!(sha256(&bytes_of(&data.labels)), "06889c17a5799e0e10d0f5d6705e17779c7c3ad0c729933bc7c4d7658cb31d3e");
    let coarse = ReadOptions { label_column: Some("coarse_label".into()), limit: Some(50), ..Default::default() };
    assert_eq!(Labelled::read(&path, &coarse).unwrap().class_names.len(), 20);
    let missing = ReadOptions { label_column: Some("colour".into()), ..Default::default() };
    assert!(refusal(&path, &missing).contains("img, fine_label, coarse_label"));
}

/// `h("ylecun/mnist/mnist/test-00000-of-00001.parquet", "image", "label")` of the lines above; in colour, the first
/// 100 pictures after `.convert("RGB")`.
#[test]
fn mnist_is_grey_and_becomes_colour_on_demand() {
    let Some(path) = test_data("datasets/ylecun/mnist") else { return };
    let data = Labelled::read(&path, &ReadOptions::default()).unwrap();
    assert_eq!((data.images.height, data.images.width, data.images.channels), (28, 28, 1));
    assert_eq!(sha256(&data.images.pixels), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161");
    assert_eq!(sha256(&bytes_of(&data.labels)), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5");
    let colour = ReadOptions { channels: Some(3), limit: Some(100), ..Default::default() };
    let data = Labelled::read(&path, &colour).unwrap();
    assert_eq!(sha256(&data.images.pixels), "c0a25e87723a121e2b06cd948f2fd58d3da55b8a4bc14da8db8d9479fff0a78e");
}

/// The first 100 CIFAR-10 test pictures after `.convert("L")`; and after `.resize((s, s), Image.BILINEAR)`, of which
/// four pixels are compared, to one step (weights have fewer bits than Pillow's).
#[test]
fn grey_and_resized_are_as_in_pillow() {
    let Some(path) = test_data("datasets/uoft-cs/cifar10") else { return };
    let options = |side: Option<usize>, channels| ReadOptions {
        framing: side.map(|side| Framing::stretched([side; 2])),
        channels,
        limit: Some(100),
        ..Default::default()
    };
    let grey = Labelled::read(&path, &options(None, Some(1))).unwrap();
    assert_eq!(sha256(&grey.images.pixels), "535dadec3c54d913535a1119323b39391291426308189961171ce028e522f596");
    for (side, pixels) in [
        (
            16,
            [
                (0, 0, 0, [155, 111, 45]),
                (0, 8, 5, [139, 127, 114]),
                (99, 15, 15, [208, 182, 131]),
                (50, 3, 5, [86, 107, 127]),
            ],
        ),
        (
            48,
            [
                (0, 0, 0, [158, 112, 49]),
                (0, 24, 16, [168, 157, 147]),
                (99, 47, 47, [199, 178, 127]),
                (50, 3, 5, [150, 199, 249]),
            ],
        ),
    ] {
        let images = Labelled::read(&path, &options(Some(side), None)).unwrap().images;
        for (image, y, x, expected) in pixels {
            let found = &images.image(image)[(y * side + x) * 3..][..3];
            let close = found.iter().zip(expected).all(|(&f, e): (_, i32)| (i32::from(f) - e).abs() <= 1);
            assert!(close, "{side}: image {image} at {y},{x}: {found:?} instead of {expected:?}");
        }
    }
    let same = Labelled::read(&path, &options(Some(32), None)).unwrap();
    assert_eq!(same.images, Labelled::read(&path, &options(None, None)).unwrap().images);
}

/// The first 500 pictures have the means below by `numpy.mean(axis=(0, 1, 2))` after Pillow; JPEG decoders
/// differ in how they interpolate chroma, here by 0.27 steps on average.
#[test]
fn jpeg_is_close_to_pillow() {
    let Some(path) = test_data("datasets/DhanashriPalodkar/tiny-imagenet-32x32") else { return };
    let data =
        Labelled::read(&path, &ReadOptions { limit: Some(500), channels: Some(3), ..Default::default() }).unwrap();
    assert_eq!((data.len(), data.class_names.len()), (500, 200));
    let mean = |c: usize| data.images.pixels.iter().skip(c).step_by(3).map(|&p| f64::from(p)).sum::<f64>() / 512_000.0;
    for (channel, expected) in [121.36493164, 114.73355664, 103.23444727].into_iter().enumerate() {
        assert!((mean(channel) - expected).abs() < 0.5, "channel {channel}: {} instead of {expected}", mean(channel));
    }
}

/// The splits of CamVid are in two folders, and have no labels.
#[test]
fn two_configurations_and_no_labels_are_named() {
    let Some(path) = test_data("datasets/alexgkendall/camvid") else { return };
    assert!(refusal(&path, &ReadOptions::default()).contains("160x120, 320x240"));
    assert!(refusal(&path.join("160x120"), &ReadOptions::default()).contains("image, annotation, name"));
}

/// A train split is taken without asking where it is the only one; 1-bit PNG becomes 0 and 255.
#[test]
fn the_only_split_is_taken() {
    let Some(path) = test_data("datasets/brendenlake/omniglot-background-small") else { return };
    let data = Labelled::read(&path, &ReadOptions { limit: Some(20), ..Default::default() }).unwrap();
    assert_eq!(data.name, "omniglot-background-small/train");
    assert_eq!((data.images.height, data.images.width, data.images.channels), (105, 105, 1));
    assert!(data.images.pixels.iter().all(|&p| p == 0 || p == 255));
}
