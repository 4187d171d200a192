//! Layouts of pictures with label images, and what is refused in them.

use super::*;
use crate::data::table::FEATURES_KEY;
use arrow_array::{ArrayRef, BinaryArray, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::io::Cursor;
use std::sync::Arc;

const CODES: LabelCodes = LabelCodes { classes: 4, ignore: Some(3), void: None, first: None };
/// Labels of 3x2 pixels, and what they mean with [`CODES`].
const VALUES: [u8; 6] = [0, 1, 2, 3, 255, 1];
const CLASSES: [u8; 6] = [0, 1, 2, VOID, VOID, 1];

/// A colour picture of `width` x 2 pixels.
fn picture(width: u32, value: u8) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(width, 2, image::Rgb([value, 0, 9]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG with samples as they stand in the file.
fn png(width: u32, height: u32, colour: png::ColorType, depth: png::BitDepth, rows: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == png::ColorType::Indexed {
        let entries = (0..1u16 << depth as u8).map(|i| i as u8);
        encoder.set_palette(entries.flat_map(|i| [i.wrapping_mul(7), 255 - i, 3]).collect::<Vec<_>>());
    }
    encoder.write_header().unwrap().write_image_data(rows).unwrap();
    bytes
}

fn grey(width: u32, values: &[u8]) -> Vec<u8> {
    let height = values.len() as u32 / width;
    png(width, height, png::ColorType::Grayscale, png::BitDepth::Eight, values)
}

/// Writes a table with two picture columns.
fn table(path: &Path, column: &str, rows: &[(Option<Vec<u8>>, Option<Vec<u8>>)]) {
    let fields =
        Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Binary, true)]);
    let cells = |pick: fn(&(Option<Vec<u8>>, Option<Vec<u8>>)) -> Option<&[u8]>| {
        let bytes = BinaryArray::from_iter(rows.iter().map(pick));
        let paths = BinaryArray::from_iter(rows.iter().map(|_| None::<&[u8]>));
        Arc::new(StructArray::new(fields.clone(), vec![Arc::new(bytes) as ArrayRef, Arc::new(paths)], None)) as ArrayRef
    };
    let of = |name: &str| Field::new(name, DataType::Struct(fields.clone()), true);
    let schema = Arc::new(Schema::new(vec![of(column), of("image")]));
    let json = format!(r#"{{"info":{{"features":{{"image":{{"_type":"Image"}},"{column}":{{"_type":"Image"}}}}}}}}"#);
    let pairs = Some(vec![KeyValue::new(FEATURES_KEY.to_string(), json)]);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs).build();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
    let columns = vec![cells(|row| row.1.as_deref()), cells(|row| row.0.as_deref())];
    writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
    writer.close().unwrap();
}

fn put(path: PathBuf, bytes: Vec<u8>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn read(path: &Path, codes: &LabelCodes) -> Result<Segmented> {
    Segmented::read(path, &ReadOptions::default(), codes)
}

fn refusal(path: &Path, options: &ReadOptions) -> String {
    let message = Segmented::read(path, options, &CODES).unwrap_err().to_string();
    assert!(!message.contains('\n'), "one line, please: {message}");
    message
}

#[test]
fn a_hub_dataset_has_two_picture_columns() {
    for column in ["annotation", "label", "semantic_segmentation", "anything"] {
        let folder = tempfile::tempdir().unwrap();
        let rows: Vec<_> = (0..3).map(|i| (Some(picture(3, i)), Some(grey(3, &VALUES)))).collect();
        table(&folder.path().join("data/test-00000-of-00001.parquet"), column, &rows);
        let data = read(folder.path(), &CODES).unwrap();
        assert_eq!((data.len(), data.images.height, data.images.width, data.sha256.len()), (3, 2, 3, 64));
        assert!(data.name.ends_with("/test"), "{}", data.name);
        assert_eq!((&data.images.image(2)[..3], data.label(2)), (&[2, 0, 9][..], &CLASSES[..]), "{column}");
        let options = ReadOptions { limit: Some(2), ..ReadOptions::default() };
        assert_eq!(Segmented::read(folder.path(), &options, &CODES).unwrap().label(1), CLASSES);
    }
}

#[test]
fn bad_rows_are_named() {
    let good = || (Some(picture(3, 1)), Some(grey(3, &VALUES)));
    let sixteen = png(3, 2, png::ColorType::Grayscale, png::BitDepth::Sixteen, &[0; 12]);
    let colours = png(3, 2, png::ColorType::Rgb, png::BitDepth::Eight, &(0..18).collect::<Vec<_>>());
    for (row, expected) in [
        (
            (Some(picture(3, 1)), Some(grey(3, &[0, 1, 2, 3, 7, 1]))),
            "row 1: its label image has the value 7 at row 1, column 1",
        ),
        (
            (Some(picture(3, 1)), Some(grey(2, &[0, 1, 2, 3]))),
            "row 1: its label image has 2x2 pixels (width x height), the picture 3x2",
        ),
        ((Some(picture(3, 1)), None), "row 1: the label image is null"),
        ((None, Some(grey(3, &VALUES))), "row 1: the picture is null"),
        ((Some(picture(4, 1)), Some(grey(4, &[0; 8]))), "row 1: a picture of 4x2 pixels among 3x2 ones"),
        ((Some(picture(3, 1)), Some(sixteen)), "with Sixteen bits"),
        ((Some(picture(3, 1)), Some(colours)), "a label image in colours"),
        ((Some(picture(3, 1)), Some(b"GIF89a".to_vec())), "a label image that cannot be decoded"),
        ((Some(picture(3, 1)), Some(grey(3, &VALUES)[..60].to_vec())), "a label image that cannot be decoded"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        table(&folder.path().join("test.parquet"), "annotation", &[good(), row]);
        let message = refusal(folder.path(), &ReadOptions::default());
        assert!(message.contains(expected) && message.contains("test.parquet"), "{message}");
    }
    let folder = tempfile::tempdir().unwrap();
    table(&folder.path().join("test.parquet"), "annotation", &[good()]);
    let options = ReadOptions { label_column: Some("image".into()), ..ReadOptions::default() };
    assert!(refusal(folder.path(), &options).contains("is no picture"));
}

#[test]
fn palettes_and_packed_values_are_indices() {
    use png::{BitDepth, ColorType};
    let repeated: Vec<u8> = VALUES.iter().flat_map(|v| [*v; 3]).collect();
    for (bytes, expected) in [
        (png(3, 2, ColorType::Indexed, BitDepth::Eight, &VALUES), CLASSES),
        (png(3, 2, ColorType::Rgb, BitDepth::Eight, &repeated), CLASSES),
        // 0, 1, 2 and 2, 1, 0 in two bits each, of which a row takes one byte.
        (png(3, 2, ColorType::Indexed, BitDepth::Two, &[0b00_01_10_00, 0b10_01_00_00]), [0, 1, 2, 2, 1, 0]),
        (png(3, 2, ColorType::Grayscale, BitDepth::One, &[0b0110_0000, 0b1010_0000]), [0, 1, 1, 1, 0, 1]),
        (png(3, 2, ColorType::Grayscale, BitDepth::Four, &[0x12, 0x00, 0x20, 0x10]), [1, 2, 0, 2, 0, 1]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        table(&folder.path().join("test.parquet"), "mask", &[(Some(picture(3, 1)), Some(bytes))]);
        assert_eq!(read(folder.path(), &CODES).unwrap().label(0), expected);
    }
}

/// The layouts of CamVid and NYUv2, and plain ones.
#[test]
fn pictures_and_label_images_are_found_side_by_side() {
    let one_based: Vec<u8> = VALUES.iter().map(|v| if *v == 255 { 0 } else { v + 1 }).collect();
    for (pictures, labels, values) in [
        ("test/0001TP_1.png", "testannot/0001TP_1.png", &VALUES[..]),
        ("image/test/1.png", "seg13/test/1.png", &VALUES[..]),
        ("nyu_test_rgb/nyu_rgb_0001.png", "test_labels_13/new_nyu_class13_0001.png", &one_based[..]),
        ("nyu_test_rgb/nyu_rgb_0001.png", "nyuv2_test_class13/new_nyu_class13_0001.png", &one_based[..]),
        ("images/val/a.png", "annotations/val/a.png", &VALUES[..]),
        ("test/images/a.png", "test/labels/a.png", &VALUES[..]),
        ("images/a.png", "masks/a.png", &VALUES[..]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path().join(pictures), picture(3, 5));
        put(folder.path().join(labels), grey(3, values));
        let data = read(folder.path(), &CODES).unwrap_or_else(|e| panic!("{pictures}: {e}"));
        assert_eq!((data.images.image(0)[0], data.label(0)), (5, &CLASSES[..]), "{pictures}");
    }
}

/// What has a picture of its own name is no other's, and a number that two pictures have names none.
#[test]
fn a_number_is_only_a_name_where_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    put(at("test/a_1.png"), picture(3, 5));
    put(at("testannot/x_1.png"), grey(3, &VALUES));
    assert_eq!(read(folder.path(), &CODES).unwrap().label(0), CLASSES);
    put(at("test/b_1.png"), picture(3, 6));
    let refused = |picture: &str| {
        let message = refusal(folder.path(), &ReadOptions::default());
        assert!(message.contains(&format!("{picture}: no label image for it")), "{message}");
    };
    refused("a_1.png");
    fs::rename(at("testannot/x_1.png"), at("testannot/b_1.png")).unwrap();
    refused("a_1.png");
    put(at("testannot/x_1.png"), grey(3, &[0; 6]));
    let data = read(folder.path(), &CODES).unwrap();
    assert_eq!((data.label(0), data.label(1)), (&[0; 6][..], &CLASSES[..]));
}

/// As with folders of classes.
#[test]
fn pictures_without_folders_of_splits_are_to_train_on() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path().join("images/a.png"), picture(3, 5));
    put(folder.path().join("masks/a.png"), grey(3, &VALUES));
    let of = |split: &str| ReadOptions { split: Some(split.into()), ..ReadOptions::default() };
    for split in ["train", "training"] {
        assert_eq!(Segmented::read(folder.path(), &of(split), &CODES).unwrap().label(0), CLASSES);
    }
    assert!(refusal(folder.path(), &of("test")).contains("no folder for the split `test`; leave the split out"));
}

#[test]
fn splits_pairs_and_codes_are_what_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (split, value) in [("train", 0u8), ("test", 1)] {
        for i in 0..3 {
            put(root.join(format!("{split}/{i}.png")), picture(3, i));
            put(root.join(format!("{split}annot/{i}.png")), grey(3, &[value; 6]));
        }
    }
    let test = read(root, &CODES).unwrap();
    assert_eq!((test.len(), test.label(2)), (3, &[1; 6][..]));
    let options = ReadOptions { split: Some("train".into()), limit: Some(2), ..ReadOptions::default() };
    let train = Segmented::read(root, &options, &CODES).unwrap();
    assert_eq!((train.len(), train.label(1)), (2, &[0; 6][..]));
    assert_ne!(train.sha256, test.sha256);
    assert!(refusal(root, &ReadOptions { split: Some("val".into()), ..options.clone() }).contains("no split `val`"));
    // Where 0 is void, 1 is the first class.
    let codes = LabelCodes { first: Some(1), ..CODES };
    assert_eq!(Segmented::read(root, &options, &codes).unwrap().label(0), [VOID; 6]);
    assert_eq!(read(root, &codes).unwrap().label(0), [0; 6]);
    // A value that is void is that value, and a class that is void that class, wherever classes begin.
    let none = LabelCodes { ignore: None, ..codes };
    assert_eq!((test.first, read(root, &codes).unwrap().first), (0, 1));
    assert_eq!(read(root, &LabelCodes { void: Some(1), ..none }).unwrap().label(0), [VOID; 6]);
    assert_eq!(read(root, &LabelCodes { void: Some(0), ..none }).unwrap().label(0), [0; 6]);
    assert_eq!(read(root, &LabelCodes { ignore: Some(0), ..none }).unwrap().label(0), [VOID; 6]);
    fs::remove_file(root.join("testannot/1.png")).unwrap();
    let message = refusal(root, &ReadOptions::default());
    assert!(message.contains("1.png: no label image for it"), "{message}");
    put(root.join("testannot/1.png"), grey(2, &[0; 4]));
    let message = refusal(root, &ReadOptions::default());
    assert!(message.contains("testannot/1.png: its label image has 2x2 pixels"), "{message}");
    let empty = tempfile::tempdir().unwrap();
    assert!(refusal(empty.path(), &ReadOptions::default()).contains("testannot"));
}

#[test]
fn label_images_are_resized_to_the_nearest_pixel() {
    let folder = tempfile::tempdir().unwrap();
    table(&folder.path().join("test.parquet"), "mask", &[(Some(picture(3, 1)), Some(grey(3, &VALUES)))]);
    let sized = |height, width| {
        let options = ReadOptions { framing: Some(Framing::stretched([height, width])), ..ReadOptions::default() };
        Segmented::read(folder.path(), &options, &CODES).unwrap()
    };
    assert_eq!(sized(1, 3).label(0), [VOID, VOID, 1]);
    let twice = sized(4, 6);
    assert_eq!((twice.images.height, twice.images.width), (4, 6));
    assert_eq!(twice.label(0)[..6], [0, 0, 1, 1, 2, 2]);
    assert_eq!(twice.label(0)[18..], [VOID, VOID, VOID, VOID, 1, 1]);
}

/// Counted with Pillow and numpy over all 233 label images.
#[test]
fn camvid_has_its_pixels() {
    let Some(path) = crate::data::tests::test_data("datasets/alexgkendall/camvid/160x120") else { return };
    let codes = LabelCodes { classes: 12, ignore: Some(11), void: None, first: None };
    let data = read(&path, &codes).unwrap();
    assert_eq!((data.len(), data.images.height, data.images.width), (233, 120, 160));
    let mut counts = [0usize; 256];
    data.labels.iter().for_each(|label| counts[usize::from(*label)] += 1);
    assert_eq!((counts[..12].to_vec(), counts[255]), (CAMVID_TEST.to_vec(), CAMVID_VOID));
}

const CAMVID_TEST: [usize; 12] =
    [763_457, 1_100_784, 52_429, 1_154_267, 414_732, 503_605, 45_078, 52_992, 177_583, 28_487, 8_467, 0];
const CAMVID_VOID: usize = 171_719;
