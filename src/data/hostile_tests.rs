//! Layouts that people have, and files that are not what they claim to be.

use super::tests::refusal;
use super::*;
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StructArray};
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// A grey or RGB picture of `width` x 2 pixels, all of one value.
fn png(width: u32, value: u8, colour: bool) -> Vec<u8> {
    let picture: image::DynamicImage = match colour {
        true => image::RgbImage::from_pixel(width, 2, image::Rgb([value, 0, 0])).into(),
        false => image::GrayImage::from_pixel(width, 2, image::Luma([value])).into(),
    };
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Writes a table of pictures and labels with `classes` class names (0: none).
fn write(path: &Path, rows: &[(Option<Vec<u8>>, Option<i64>)], classes: usize) {
    let bytes = BinaryArray::from_iter(rows.iter().map(|r| r.0.as_deref()));
    let labels = Int64Array::from_iter(rows.iter().map(|r| r.1));
    let fields = Fields::from(vec![Field::new("bytes", DataType::Binary, true)]);
    let image = StructArray::new(fields.clone(), vec![Arc::new(bytes) as ArrayRef], None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("image", DataType::Struct(fields), true),
        Field::new("label", DataType::Int64, true),
    ]));
    let names: Vec<String> = (0..classes).map(|c| format!("\"c{c}\"")).collect();
    let json =
        format!(r#"{{"info":{{"features":{{"label":{{"names":[{}],"_type":"ClassLabel"}}}}}}}}"#, names.join(","));
    let pairs = (classes > 0).then(|| vec![KeyValue::new(table::FEATURES_KEY.to_string(), json)]);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs).build();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema.clone(), Some(properties)).unwrap();
    writer.write(&RecordBatch::try_new(schema, vec![Arc::new(image), Arc::new(labels)]).unwrap()).unwrap();
    writer.close().unwrap();
}

fn good() -> Vec<(Option<Vec<u8>>, Option<i64>)> {
    (0..10).map(|i| (Some(png(3, i as u8, true)), Some(i))).collect()
}

fn table_with(change: impl FnOnce(&mut Vec<(Option<Vec<u8>>, Option<i64>)>)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/test-00000-of-00001.parquet");
    let mut rows = good();
    change(&mut rows);
    write(&path, &rows, 10);
    (folder, path)
}

fn refused(change: impl FnOnce(&mut Vec<(Option<Vec<u8>>, Option<i64>)>)) -> String {
    let (folder, path) = table_with(change);
    let message = refusal(folder.path(), &ReadOptions::default());
    assert!(message.contains(&path.display().to_string()), "{message}");
    message
}

#[test]
fn a_good_table_is_read() {
    let (folder, _) = table_with(|_| {});
    let data = Labelled::read(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!(data.labels, (0..10).collect::<Vec<_>>());
    assert_eq!(data.images.image(7), [7, 0, 0].repeat(6));
    assert_eq!(data.class_names[3], "c3");
}

#[test]
fn every_bad_row_is_named() {
    for (message, expected) in [
        (refused(|r| r[4].1 = Some(10)), "row 4: label 10; labels are 0 to 9"),
        (refused(|r| r[4].1 = Some(-1)), "row 4: label -1"),
        (refused(|r| r[4].1 = None), "row 4: the label is null"),
        (refused(|r| r[4].0 = None), "row 4: the picture is null"),
        (refused(|r| r[4].0 = Some(b"no picture".to_vec())), "row 4: 10 bytes that are no picture"),
        (refused(|r| r[0].0 = Some(Vec::new())), "row 0: 0 bytes that are no picture"),
        (refused(|r| r[4].0.as_mut().unwrap().truncate(50)), "row 4: a picture that cannot be decoded"),
        (refused(|r| r[4].0 = Some(png(3, 0, false))), "row 4: a grey picture among colour ones"),
        (refused(|r| r[4].0 = Some(png(5, 0, true))), "row 4: a picture of 5x2 pixels among 3x2 ones"),
    ] {
        assert!(message.contains(expected), "{message} (expected: {expected})");
    }
}

#[test]
fn a_table_without_rows_is_refused() {
    let (folder, _) = table_with(|rows| rows.clear());
    assert!(refusal(folder.path(), &ReadOptions::default()).contains("it has no rows"));
}

/// The header of a PNG may promise any size; nothing is allocated for it.
#[test]
fn a_huge_picture_is_refused_by_its_header() {
    let mut bomb = png(3, 0, true);
    bomb[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
    let crc = crc32fast::hash(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let message = refused(|r| r[4].0 = Some(bomb));
    assert!(message.contains("row 4") && message.contains("limit"), "{message}");
}

#[test]
fn mixed_pictures_are_read_on_demand() {
    let (folder, _) = table_with(|rows| {
        rows[4].0 = Some(png(3, 9, false));
        rows[5].0 = Some(png(6, 8, true));
    });
    let options = ReadOptions { framing: Some(Framing::stretched([2, 3])), channels: Some(3), ..Default::default() };
    let data = Labelled::read(folder.path(), &options).unwrap();
    assert_eq!(data.images.image(4), [9; 18]);
    assert_eq!(data.images.image(5), [8, 0, 0].repeat(6));
}

#[test]
fn classes_are_numbered_where_the_table_names_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anything.parquet");
    write(&path, &good()[..4], 0);
    let data = Labelled::read(&path, &ReadOptions::default()).unwrap();
    assert_eq!(
        (data.name.as_str(), data.class_names),
        ("anything", vec!["0".into(), "1".into(), "2".into(), "3".into()])
    );
}

#[test]
fn splits_are_chosen_or_listed() {
    let folder = tempfile::tempdir().unwrap();
    let read = |split: Option<&str>| {
        let split = split.map(String::from);
        Labelled::read(folder.path(), &ReadOptions { split, ..Default::default() }).map(|d| d.name)
    };
    let name = folder.path().file_name().unwrap().to_str().unwrap();
    write(&folder.path().join("default/train/0000.parquet"), &good(), 10);
    assert_eq!(read(None).unwrap(), format!("{name}/train"));
    write(&folder.path().join("default/extra/0000.parquet"), &good(), 10);
    assert!(read(None).unwrap_err().to_string().contains("extra, train"));
    write(&folder.path().join("default/valid/0000.parquet"), &good(), 10);
    assert_eq!(read(None).unwrap(), format!("{name}/valid"));
    assert_eq!(read(Some("validation")).unwrap(), format!("{name}/valid"));
    assert_eq!(read(Some("train")).unwrap(), format!("{name}/train"));
    assert!(read(Some("test")).unwrap_err().to_string().contains("extra, train, valid"));
}

#[test]
fn a_missing_shard_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("data/test-00001-of-00003.parquet"), &good(), 10);
    write(&folder.path().join("data/test-00002-of-00003.parquet"), &good(), 10);
    assert!(refusal(folder.path(), &ReadOptions::default()).contains("2 of the 3 files"));
    // The first rows cannot be told without the first shard; with it, they can, as long as no shard is missing before them.
    let limited = |limit| ReadOptions { limit: Some(limit), ..Default::default() };
    assert!(refusal(folder.path(), &limited(5)).contains("2 of the 3 files"));
    fs::remove_file(folder.path().join("data/test-00001-of-00003.parquet")).unwrap();
    write(&folder.path().join("data/test-00000-of-00003.parquet"), &good(), 10);
    assert_eq!(Labelled::read(folder.path(), &limited(10)).unwrap().len(), 10);
    assert!(refusal(folder.path(), &limited(11)).contains("2 of the 3 files"));
}

#[test]
fn folders_of_pictures_are_read_in_name_order() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("pets");
    for (class, value) in [("dog", 2), ("cat", 1)] {
        for split in ["train", "test"] {
            fs::create_dir_all(root.join(split).join(class)).unwrap();
            for i in 0..3 {
                let path = root.join(split).join(class).join(format!("{i}.PNG"));
                fs::write(path, png(3, value * 10 + i, false)).unwrap();
            }
            fs::write(root.join(split).join(class).join("notes.txt"), "not a picture").unwrap();
        }
    }
    let data = Labelled::read(&root, &ReadOptions::default()).unwrap();
    assert_eq!((data.name.as_str(), data.class_names), ("pets/test", vec!["cat".into(), "dog".into()]));
    assert_eq!(data.labels, [0, 0, 0, 1, 1, 1]);
    let firsts: Vec<u8> = (0..6).map(|i| data.images.image(i)[0]).collect();
    assert_eq!(firsts, [10, 11, 12, 20, 21, 22]);
    let some = Labelled::read(root.join("train"), &ReadOptions { limit: Some(3), ..Default::default() }).unwrap();
    assert_eq!(some.labels, [0, 0, 1], "a limit is spread over the classes");
    let train = ReadOptions { split: Some("train".into()), ..Default::default() };
    assert_eq!(Labelled::read(root.join("train"), &train).unwrap().len(), 6, "it needs no split inside");
    fs::create_dir(root.join("train/test")).unwrap();
    fs::write(root.join("train/test/0.png"), png(3, 9, false)).unwrap();
    let classes = Labelled::read(root.join("train"), &train).unwrap().class_names;
    assert_eq!(classes, ["cat", "dog", "test"], "a class may be called as a split");
    fs::write(root.join("test/dog/1.PNG"), "hello").unwrap();
    let message = refusal(&root, &ReadOptions::default());
    assert!(message.contains("1.PNG: 5 bytes that are no picture"), "{message}");
}

#[test]
fn what_is_no_dataset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = ReadOptions::default();
    assert!(refusal(folder.path(), &options).contains("one folder of pictures per class"));
    assert!(refusal(&folder.path().join("nowhere"), &options).contains("cannot open"));
    fs::create_dir(folder.path().join("a")).unwrap();
    assert!(refusal(folder.path(), &options).contains("no picture"));
    fs::write(folder.path().join("x.parquet"), "PAR1 and so on").unwrap();
    assert!(refusal(folder.path(), &options).contains("cannot be read as parquet"));
    for options in [
        ReadOptions { channels: Some(2), ..Default::default() },
        ReadOptions { framing: Some(Framing::stretched([0, 4])), ..Default::default() },
        ReadOptions { framing: Some(Framing::stretched([4, 5000])), ..Default::default() },
        ReadOptions { limit: Some(0), ..Default::default() },
    ] {
        refusal(folder.path(), &options);
    }
}

/// Every prefix and many single-byte changes of a good file give rows or one line, never a panic.
#[test]
fn damaged_tables_are_refused() {
    let (_folder, path) = table_with(|_| {});
    let whole = fs::read(&path).unwrap();
    let damaged = path.with_file_name("damaged.parquet");
    for len in (0..whole.len()).step_by(7) {
        fs::write(&damaged, &whole[..len]).unwrap();
        refusal(&damaged, &ReadOptions::default());
    }
    for i in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[i] ^= 1 << (i % 8);
        fs::write(&damaged, &bytes).unwrap();
        if let Err(e) = Labelled::read(&damaged, &ReadOptions::default()) {
            assert!(!e.to_string().contains('\n'), "byte {i}: {e}");
        }
    }
}
