//! Encoders as transformers builds and writes them (`tests/fixtures/make_text.py`), against what it makes of the same texts.

use super::TextEncoder;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text").join(name)
}

#[test]
fn encoders_of_transformers_give_its_vectors() {
    for (name, width) in [("clip", 12), ("bert", 16)] {
        let text = fs::read_to_string(fixture(name).join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let names: Vec<String> = serde_json::from_value(expected["names"].clone()).unwrap();
        let rows: Vec<Vec<f32>> = serde_json::from_value(expected["rows"].clone()).unwrap();
        let encoder = TextEncoder::open(fixture(name)).unwrap();
        assert_eq!(encoder.width(), width);
        let found = encoder.embed(&names).unwrap();
        for ((i, row), found) in rows.iter().enumerate().zip(found.chunks_exact(width)) {
            let largest = row.iter().fold(0f32, |a, b| a.max(b.abs()));
            for (a, b) in row.iter().zip(found) {
                assert!((a - b).abs() < 1e-5 * largest.max(1.0), "{name}, {}: {b} instead of {a}", names[i]);
            }
        }
        let long = encoder.embed(&["cat ".repeat(80)]).unwrap_err().to_string();
        assert!(long.contains("tokens") && long.contains("rename the class"), "{long}");
    }
}

#[test]
fn what_is_no_encoder_is_refused_on_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(fixture("clip").join(file), folder.path().join(file)).unwrap();
    }
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let error = |file: &str, text: &str| {
        let path = folder.path().join(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let error = TextEncoder::open(folder.path()).err().expect("refused").to_string();
        fs::write(&path, before).unwrap();
        assert!(!error.contains('\n') && error.contains(file), "{error}");
        error
    };
    assert!(error("config.json", "{}").contains("take a CLIP or a BERT"));
    assert!(error("config.json", &config.replace("\"quick_gelu\"", "\"gelu\"")).contains("hidden_act"));
    assert!(error("config.json", &config.replace("\"hidden_size\": 16", "\"hidden_size\": 0")).contains("hidden_size"));
    let other = config.replace("\"vocab_size\": 33", "\"vocab_size\": 34");
    assert!(error("config.json", &other).contains("do not fit"));
    error("tokenizer.json", "{}");
    error("tokenizer.json", "nonsense");
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    assert!(TextEncoder::open(folder.path()).err().unwrap().to_string().contains("tokenizer.json"));
}
