//! Models of timm, torchvision and transformers: their files load as the libraries write them, and answer alike.

#[path = "../common/libraries.rs"]
mod rebuilt;
use rayon::prelude::*;
use rebuilt::{Row, rows};
use std::collections::BTreeSet;

/// Relative to the largest logit.
const TOLERANCE: f32 = 1e-4;

fn row(library: &str, name: &str) -> Row {
    rows().into_iter().find(|row| row.library == library && row.name == name).unwrap()
}

#[test]
fn logits_are_those_of_the_libraries() {
    let rows = rows();
    assert!(rows.len() >= 16);
    rows.into_par_iter().for_each(|row| {
        let model = row.load(&row.tensors()).unwrap_or_else(|e| panic!("{}: {e}", row.title()));
        assert_eq!(row.full_size(&model), row.parameters, "{}", row.title());
        let error = row.error(&model);
        println!("{}: {error:.1e}", row.title());
        assert!(error <= TOLERANCE, "{}: {error:.1e}", row.title());
    });
}

/// The comparison sees what it is there for: two tensors exchanged, one transposed, one value in 37 thousand.
#[test]
fn a_wrong_tensor_is_noticed() {
    let row = row("timm", "resnet18");
    let right = row.tensors();
    assert!(row.error(&row.load(&right).unwrap()) <= TOLERANCE);
    let values = |name: &str| right[name].as_f32().unwrap().to_vec();
    let (a, b) = ("layer1.0.conv1.weight", "layer1.0.conv2.weight");
    let with = |changed: &[(&str, Vec<f32>)]| {
        let mut tensors = right.clone();
        for (name, values) in changed {
            tensors.get_mut(*name).unwrap().data = synth::weights::RawData::F32(values.clone());
        }
        row.error(&row.load(&tensors).unwrap())
    };
    assert!(with(&[(a, values(b)), (b, values(a))]) > 10.0 * TOLERANCE);
    let mirrored: Vec<f32> = values(a).chunks_exact(3).flat_map(|line| line.iter().rev().copied()).collect();
    assert!(with(&[(a, mirrored)]) > 10.0 * TOLERANCE);
    let mut one = values(a);
    one[1234] += 1.0;
    assert!(with(&[(a, one)]) > TOLERANCE);
}

#[test]
fn the_table_of_models_lists_what_is_tested() {
    let page = include_str!("../../docs/MODELS.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: BTreeSet<String> = cells
        .map(|line| {
            let parts: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            format!("{} {}", parts[1], parts[0])
        })
        .collect();
    let tested: BTreeSet<String> = rows().iter().map(Row::title).collect();
    assert_eq!(listed, tested, "write the table anew: cargo run --release --example model_table");
}
