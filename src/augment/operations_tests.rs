//! Every operation against torchvision (tests/fixtures/make_augment.py).

use super::Operation;
use safetensors::SafeTensors;

/// The operation of a name such as `ShearX -0.09`.
fn operation(name: &str) -> Operation {
    let (name, value) = name.split_once(' ').unwrap_or((name, "0"));
    let value: f64 = value.parse().unwrap();
    match name {
        "Identity" => Operation::Identity,
        "ShearX" => Operation::ShearX(value as f32),
        "ShearY" => Operation::ShearY(value as f32),
        "TranslateX" => Operation::TranslateX(value as i32),
        "TranslateY" => Operation::TranslateY(value as i32),
        "Rotate" => Operation::Rotate(value as f32),
        "Brightness" => Operation::Brightness(value),
        "Colour" => Operation::Colour(value),
        "Contrast" => Operation::Contrast(value),
        "Sharpness" => Operation::Sharpness(value),
        "Posterize" => Operation::Posterize(value as u32),
        "Solarize" => Operation::Solarize(value as f32),
        "AutoContrast" => Operation::AutoContrast,
        "Equalize" => Operation::Equalize,
        other => panic!("{other} is none of the operations"),
    }
}

#[test]
fn images_are_those_of_torchvision() {
    let file = SafeTensors::deserialize(include_bytes!("../../tests/fixtures/augment.safetensors")).unwrap();
    let (mut compared, mut differ) = (0, Vec::new());
    for suffix in ["", "-grey"] {
        let source = file.tensor(&format!("image{suffix}")).unwrap();
        let &[height, width, channels] = source.shape() else { panic!("{:?}", source.shape()) };
        for (name, expected) in file.tensors() {
            let of_this = name.ends_with("-grey") == (suffix == "-grey") && !name.starts_with("image");
            if !of_this {
                continue;
            }
            let found = operation(name.trim_end_matches("-grey")).apply(source.data(), [height, width, channels]);
            let wrong = found.iter().zip(expected.data()).filter(|(a, b)| a != b).count();
            if wrong > 0 {
                differ.push(format!("{name}: {wrong} of {} values", found.len()));
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 2 * 32);
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn flat_and_tiny_images_stay_images() {
    for dims in [[1, 1, 3], [2, 2, 1], [1, 7, 3]] {
        let image = vec![90; dims.iter().product()];
        for name in ["AutoContrast", "Equalize", "Sharpness 1.9", "Contrast 0.73", "Colour 0.73", "Rotate 0"] {
            // Shares of what is all the same may be cut off to the value below.
            let found = operation(name).apply(&image, dims);
            assert!(found.iter().all(|v| (89..=90).contains(v)), "{name} of {dims:?}: {found:?}");
        }
        assert!(operation("TranslateX 9").apply(&image, dims).iter().all(|v| *v == 0));
    }
}
