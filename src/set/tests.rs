//! What is written comes back bit by bit, and what was tampered with does not come back.

use super::*;
use crate::loss::confidence;
use proptest::prelude::*;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// A set with pixels and numbers that are all different, from a small counter-based generator.
fn sample(n: usize, classes: usize, (channels, height, width): (usize, usize, usize), views: usize) -> SyntheticSet {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (n * 31 + classes) as u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let pixels: Vec<u8> = (0..n * channels * height * width).map(|_| next() as u8).collect();
    let mut floats = |count: usize| (0..count).map(|_| next() as f32 / 1e8 - 10.0).collect::<Vec<_>>();
    let logits = floats(n * classes);
    let priority = floats(n).into_iter().map(f32::abs).collect();
    let list = (0..views).map(|v| View { dy: v as i8 - 4, dx: 4 - v as i8, flip: v % 2 == 1 }).collect();
    let views = (views > 0).then(|| Views { list, logits: floats(n * views * classes).into() });
    SyntheticSet {
        images: Images::new(pixels, channels, height, width).unwrap().into(),
        labels: (0..n).map(|i| (i % classes) as u32).collect(),
        logits: logits.into(),
        priority,
        class_names: (0..classes).map(|c| format!("class \"{c}\": é|'\n")).collect(),
        views,
        provenance: json!({
            "teacher": {"id": "a/b", "revision": "main", "sha256": "00"}, "recipe": {"name": "ssd"}, "seed": 7
        }),
    }
}

/// Writes, reads and compares everything; returns the folder.
fn round_trip(set: &SyntheticSet, shard_bytes: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    folder::write(set, folder.path(), shard_bytes).unwrap();
    let back = SyntheticSet::read(folder.path()).unwrap();
    assert_eq!(back.images, set.images);
    assert_eq!(back.labels, set.labels);
    assert_eq!(back.class_names, set.class_names);
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back.logits), bits(&set.logits));
    assert_eq!(bits(&back.priority), bits(&set.priority));
    assert_eq!(back.views, set.views);
    for (key, value) in set.provenance.as_object().unwrap() {
        assert!(key == "set" || back.provenance[key] == *value, "{key}");
    }
    assert_eq!(back.provenance["set"]["count"], set.len());
    folder
}

#[test]
fn a_set_comes_back_and_can_be_written_again() {
    let set = sample(2500, 10, (3, 8, 6), 3);
    let folder = round_trip(&set, usize::MAX);
    let back = SyntheticSet::read(folder.path()).unwrap();
    let again = SyntheticSet::read(round_trip(&back, usize::MAX).path()).unwrap();
    assert_eq!(again, back);
    for file in ["README.md", "synth.json", "preview.png", "data/train-00000-of-00001.parquet"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    assert!(set.write(folder.path()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn shards_are_put_together_in_order() {
    let set = sample(25, 3, (1, 5, 5), 0);
    let folder = round_trip(&set, 25 * 10);
    assert!(folder.path().join("data/train-00002-of-00003.parquet").is_file());
    fs::remove_file(folder.path().join("data/train-00001-of-00003.parquet")).unwrap();
    assert!(refusal(folder.path()).contains("2 of the 3 files"));
}

#[test]
fn the_table_is_an_ordinary_labelled_dataset() {
    let set = sample(20, 4, (3, 8, 8), 0);
    let folder = round_trip(&set, usize::MAX);
    let data = crate::data::Labelled::read(folder.path(), &Default::default()).unwrap();
    assert_eq!((Arc::new(data.images), data.labels, data.class_names), (set.images, set.labels, set.class_names));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_shape_comes_back(
        n in 1usize..40, classes in 1usize..30, grey: bool, height in 1usize..20, width in 1usize..20, views in 0usize..4,
    ) {
        round_trip(&sample(n, classes, (if grey { 1 } else { 3 }, height, width), views), 1 + n * 100);
    }
}

#[test]
fn extreme_numbers_keep_their_bits() {
    let mut set = sample(3, 2, (1, 1, 1), 0);
    set.logits = vec![f32::MIN_POSITIVE, -0.0, f32::MAX, f32::MIN, 1e-45, 0.0].into();
    set.priority = vec![0.0, f32::MAX, 1e-45];
    round_trip(&set, usize::MAX);
}

/// `softmax([1, 2, 3])[2]`, and no overflow far from 0.
#[test]
fn confidence_is_the_highest_probability() {
    assert!((confidence(&[1.0, 3.0, 2.0]) - 0.665_240_94).abs() < 1e-7);
    assert_eq!(confidence(&[3e38, -3e38]), 1.0);
    assert_eq!(confidence(&[5.0]), 1.0);
}

#[test]
fn parts_that_do_not_fit_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut SyntheticSet)| {
        let mut set = sample(6, 3, (3, 4, 4), 2);
        change(&mut set);
        let message = set.write(folder.path().join("s")).unwrap_err().to_string();
        assert!(!message.contains('\n') && !folder.path().join("s").exists(), "{message}");
        message
    };
    assert!(refused(&|s| s.labels.truncate(5)).contains("images: 6 instead of 5"));
    assert!(refused(&|s| s.logits = s.logits[..17].to_vec().into()).contains("logits: 17 instead of 18"));
    assert!(refused(&|s| s.views.as_mut().unwrap().list.clear()).contains("view logits"));
    assert!(refused(&|s| s.labels[2] = 3).contains("image 2: label 3 of 3 classes"));
    assert!(refused(&|s| s.logits[2] = f32::NAN).contains("finite"));
    assert!(refused(&|s| s.priority[2] = -1.0).contains("below 0"));
    assert!(refused(&|s| Arc::get_mut(&mut s.images).unwrap().height = 0).contains("[0, 4, 3]"));
    assert!(refused(&|s| s.provenance = json!([1])).contains("no JSON object"));
}

#[test]
fn a_long_provenance_is_written_on_one_line_or_not_at_all() {
    let mut set = sample(4, 2, (1, 3, 3), 0);
    set.provenance["long"] = json!(vec![0; 700_000]);
    round_trip(&set, usize::MAX);
    set.provenance["long"] = json!(vec![0; 2_200_000]);
    let folder = tempfile::tempdir().unwrap();
    let message = set.write(folder.path().join("s")).unwrap_err().to_string();
    assert!(message.contains("synth.json: ") && message.contains("more than the 4194304 that are read"), "{message}");
    assert!(!folder.path().join("s").exists());
}

fn refusal(folder: &Path) -> String {
    let message = SyntheticSet::read(folder).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// A good folder, of which the table comes from another set.
fn with_table_of(change: impl Fn(&mut SyntheticSet)) -> String {
    let good = round_trip(&sample(6, 3, (3, 4, 4), 2), usize::MAX);
    let mut other = sample(6, 3, (3, 4, 4), 2);
    change(&mut other);
    let path = |folder: &Path| -> PathBuf { folder.join("data/train-00000-of-00001.parquet") };
    rows::write(&other, 0..other.len(), &path(good.path())).unwrap();
    refusal(good.path())
}

#[test]
fn a_table_that_disagrees_with_its_description_is_refused() {
    for (message, expected) in [
        (with_table_of(|s| *s = sample(5, 3, (3, 4, 4), 2)), "5 images; synth.json says 6"),
        (with_table_of(|s| *s = sample(7, 3, (3, 4, 4), 2)), "7 rows"),
        (with_table_of(|s| *s = sample(6, 2, (3, 4, 4), 2)), "2 class names"),
        (with_table_of(|s| *s = sample(6, 3, (3, 4, 5), 2)), "row 0: a picture of 5x4 pixels among 4x4 ones"),
        (with_table_of(|s| *s = sample(6, 3, (1, 4, 4), 2)), "row 0: a grey picture"),
        (with_table_of(|s| *s = sample(6, 3, (3, 4, 4), 1)), "row 0: `view_logits` has 3 numbers"),
        (with_table_of(|s| *s = sample(6, 3, (3, 4, 4), 0)), "no column `view_logits`"),
        (with_table_of(|s| s.labels[4] = 3), "row 4: label 3; labels are 0 to 2"),
        (with_table_of(|s| s.logits[4] = f32::NAN), "row 1: `teacher_logits` holds NaN"),
        (with_table_of(|s| s.priority[5] = f32::INFINITY), "row 5: `priority` is inf"),
        (with_table_of(|s| s.priority[5] = -1.0), "row 5: priority -1"),
    ] {
        assert!(message.contains(expected) && message.contains("data"), "{message} (expected: {expected})");
    }
}

#[test]
fn a_folder_without_a_sound_description_is_refused() {
    let folder = round_trip(&sample(6, 3, (3, 4, 4), 0), usize::MAX);
    let json = folder.path().join("synth.json");
    let text = fs::read_to_string(&json).unwrap();
    for (from, to, expected) in [
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"count\": 6", "\"count\": 1e99", "cannot be used"),
        ("\"count\": 6", "\"count\": 9999999999999", "too much to read"),
        ("\"height\": 4", "\"height\": 0", "images of [0, 4, 3]"),
        ("\"set\"", "\"sets\"", "no entry `set`"),
        ("{", "", "broken JSON"),
    ] {
        assert!(text.contains(from));
        fs::write(&json, text.replacen(from, to, 1)).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains(expected) && message.contains("synth.json"), "{message}");
    }
    fs::remove_file(&json).unwrap();
    assert!(refusal(folder.path()).contains("no finished set"));
    fs::write(&json, text).unwrap();
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    refusal(folder.path());
}
