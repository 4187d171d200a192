//! Sizes of networks against the published ones, and every network run at several image sizes.

use super::*;
use crate::nets::{Forward, Kind, Mode, Network, infer};
use crate::ops::mem::{tensor, view};
use crate::rng::{Streams, normal};
use crate::tape::{Tape, Var};
use std::sync::Arc;

const RGB: Shape = Shape { channels: 3, height: 32, width: 32, num_classes: 10 };
const PHOTO: Shape = Shape { channels: 3, height: 224, width: 224, num_classes: 1000 };
const GREY: Shape = Shape { channels: 1, height: 28, width: 28, num_classes: 10 };

/// Every name, with parameters and 2-d batch norms for ten classes. Sources: He et al. (2015) and its public
/// implementations (padded shortcuts), RepDistiller (projected shortcuts, x4), kuangliu's ResNet-18 and ResNet-34,
/// Zagoruyko and Komodakis's WRN, DAFL's LeNets, torchvision's documentation (1,000 classes), timm's models of the same
/// names, kuangliu's and RepDistiller's VGGs, table 2 of the DenseNet paper; the rest are the counts of the published weight
/// files.
const SIZES: &[(&str, Shape, usize, usize)] = &[
    ("resnet20", RGB, 269_722, 19),
    ("resnet32", RGB, 464_154, 31),
    ("resnet44", RGB, 658_586, 43),
    ("resnet56", RGB, 853_018, 55),
    ("resnet110", RGB, 1_727_962, 109),
    ("resnet8-b", RGB, 78_042, 9),
    ("resnet20-b", RGB, 272_474, 21),
    ("resnet32-b", RGB, 466_906, 33),
    ("resnet56-b", RGB, 855_770, 57),
    ("resnet110-b", RGB, 1_730_714, 111),
    ("resnet20-b", Shape { num_classes: 100, ..RGB }, 278_324, 21),
    ("resnet8x4", RGB, 1_210_410, 10),
    ("resnet32x4", RGB, 7_410_730, 34),
    ("resnet8x4", Shape { num_classes: 100, ..RGB }, 1_233_540, 10),
    ("resnet18", RGB, 11_173_962, 20),
    ("resnet18", Shape { num_classes: 100, ..RGB }, 11_220_132, 20),
    ("cifar-resnet18", PHOTO, 11_689_512 - 9_408 + 1_728, 20),
    ("resnet18", PHOTO, 11_689_512, 20),
    ("resnet34", PHOTO, 21_797_672, 36),
    ("resnet10", PHOTO, 5_418_792, 12),
    ("resnet26", PHOTO, 15_995_176, 29),
    ("resnet50", PHOTO, 25_557_032, 53),
    ("resnet101", PHOTO, 44_549_160, 104),
    ("wide-resnet50-2", PHOTO, 68_883_240, 53),
    ("imagenet-resnet18", RGB, 11_181_642, 20),
    ("vgg11_bn", PHOTO, 132_868_840, 8),
    ("vgg13_bn", PHOTO, 133_053_736, 10),
    ("vgg16_bn", PHOTO, 138_365_992, 13),
    ("vgg19_bn", PHOTO, 143_678_248, 16),
    ("vgg11_bn", RGB, 9_231_114, 8),
    ("vgg16_bn", RGB, 14_728_266, 13),
    ("vgg19_bn", RGB, 20_040_522, 16),
    ("vgg8_bn-avg", Shape { num_classes: 100, ..RGB }, 3_965_028, 5),
    ("vgg13_bn-avg", Shape { num_classes: 100, ..RGB }, 9_462_180, 10),
    ("densenet121", PHOTO, 7_978_856, 121),
    ("densenet161", PHOTO, 28_681_000, 161),
    ("densenet169", PHOTO, 14_149_480, 169),
    ("densenet201", PHOTO, 20_013_928, 201),
    ("densenet-bc-100-12", RGB, 769_162, 99),
    ("densenet-bc-40-12", RGB, 176_122, 39),
    ("resnet34", RGB, 21_282_122, 36),
    ("resnet34", Shape { num_classes: 200, ..RGB }, 21_379_592, 36),
    ("wrn-16-1", RGB, 175_066, 13),
    ("wrn_16_1", RGB, 175_066, 13),
    ("wrn16_2", RGB, 691_674, 13),
    ("wrn-40-1", RGB, 563_930, 37),
    ("wrn-40-2", RGB, 2_243_546, 37),
    ("wrn-40-2", Shape { num_classes: 100, ..RGB }, 2_255_156, 37),
    ("lenet5", Shape { height: 32, width: 32, ..GREY }, 61_706, 0),
    ("lenet5", GREY, 61_706, 0),
    ("lenet5-half", GREY, 15_738, 0),
    ("lenet-cifar", RGB, 62_006, 0),
    ("mnist-convnet", GREY, 21_840, 0),
    ("fashion-cnn", GREY, 421_642, 0),
    ("burn-mnist-cnn", GREY, 376_870, 1),
    ("mlperf-resnet8", RGB, 78_186, 7),
    ("vit_tiny_patch16_224", PHOTO, 5_717_416, 0),
    ("deit_small_patch16_224", PHOTO, 22_050_664, 0),
    ("vit_base_patch16_224", PHOTO, 86_567_656, 0),
    ("vit-base-patch32-224", PHOTO, 88_224_232, 0),
    ("vit_small_patch14_dinov2", Shape { height: 518, width: 518, ..PHOTO }, 22_056_192 + 385_000, 0),
    ("convnext_tiny", PHOTO, 28_589_128, 0),
    ("convnext_small", PHOTO, 50_223_688, 0),
    ("convnext_base", PHOTO, 88_591_464, 0),
    ("convnext_large", PHOTO, 197_767_336, 0),
    ("convnextv2_atto", PHOTO, 3_708_400, 0),
    ("convnextv2_tiny", PHOTO, 28_635_496, 0),
    ("mobilenetv2_100", PHOTO, 3_504_872, 52),
    ("mobilenet_v2", PHOTO, 3_504_872, 52),
    ("mobilenetv2_100", RGB, 3_504_872 - 990 * 1_281, 52),
    ("efficientnet_b0", PHOTO, 5_288_548, 49),
    ("efficientnet_b1", PHOTO, 7_794_184, 69),
    ("efficientnet_b2", PHOTO, 9_109_994, 69),
    ("efficientnet_b3", PHOTO, 12_233_232, 78),
    ("tf_efficientnet_b0", PHOTO, 5_288_548, 49),
    ("regnet_x_400mf", PHOTO, 5_495_976, 71),
    ("regnet_x_800mf", PHOTO, 7_259_656, 53),
    ("regnet_x_1_6gf", PHOTO, 9_190_136, 59),
    ("regnet_x_3_2gf", PHOTO, 15_296_552, 80),
    ("regnet_x_8gf", PHOTO, 39_572_648, 74),
    ("regnet_x_16gf", PHOTO, 54_278_536, 71),
    ("regnet_x_32gf", PHOTO, 107_811_560, 74),
    ("regnet_y_400mf", PHOTO, 4_344_144, 53),
    ("regnet_y_800mf", PHOTO, 6_432_512, 47),
    ("regnet_y_1_6gf", PHOTO, 11_202_430, 86),
    ("regnet_y_3_2gf", PHOTO, 19_436_338, 68),
    ("regnet_y_8gf", PHOTO, 39_381_472, 56),
    ("regnet_y_16gf", PHOTO, 83_590_140, 59),
    ("regnet_y_32gf", PHOTO, 145_046_770, 65),
];

#[test]
fn sizes_are_the_published_ones() {
    for (name, shape, parameters, norms) in SIZES {
        let (architecture, ..) = from_name(name, shape).unwrap();
        assert_eq!((architecture.parameters(), architecture.norm_layers()), (*parameters, *norms), "{name} {shape:?}");
    }
}

#[test]
fn every_listed_name_is_a_network_of_its_usual_images() {
    let names = listed();
    assert!(names.len() > 15);
    for name in names {
        let [channels, height, width] = usual_input(&name).unwrap();
        let (architecture, ..) = from_name(&name, &Shape { channels, height, width, num_classes: 10 }).unwrap();
        assert!(architecture.parameters() > 10_000, "{name}");
    }
}

#[test]
fn batch_norm_channels_are_those_of_the_literature() {
    for (name, channels) in [
        ("resnet18", 4_800),
        ("resnet34", 8_512),
        ("wrn-16-1", 464),
        ("wrn-16-2", 912),
        ("wrn-40-1", 1_360),
        ("wrn-40-2", 2_704),
    ] {
        let (architecture, ..) = from_name(name, &RGB).unwrap();
        let spatial = |kind| kind == Kind::RunningMean { spatial: true };
        let found: usize = architecture.slots.iter().filter(|slot| spatial(slot.kind)).map(|slot| slot.len()).sum();
        assert_eq!(found, channels, "{name}");
    }
}

#[test]
fn the_generator_has_the_size_of_the_reference() {
    for (side, parameters) in [(32, 2_328_899), (64, 8_644_931)] {
        let config = super::super::GeneratorConfig::new(256, 128, 3, [side, side]);
        assert_eq!(super::super::generator(&config).unwrap().parameters(), parameters, "{side}");
    }
}

#[test]
fn a_saved_configuration_builds_the_same_network() {
    for (name, shape, ..) in SIZES {
        let (mean, std) = (vec![0.5; shape.channels], vec![0.25; shape.channels]);
        let (made, config) = new_model(name, shape, None, &mean, &std).unwrap();
        let again = from_config(&config).unwrap();
        let list = |a: &Architecture| a.slots.iter().map(|s| (s.name.clone(), s.shape.clone())).collect::<Vec<_>>();
        assert_eq!(list(&made), list(&again), "{name}");
        let last = made.slots.iter().rfind(|slot| slot.kind == Kind::LinearWeight).unwrap();
        assert_eq!(config.pretrained_cfg.extra["classifier"], last.name.trim_end_matches(".weight"), "{name}");
        assert_eq!(config.num_features, Some(last.shape[0]), "{name}");
        assert!(made.slots[0].name.starts_with(config.pretrained_cfg.extra["first_conv"].as_str().unwrap()));
    }
    let names = |n: usize| Some(vec!["a".to_string(); n]);
    assert!(new_model("resnet8", &RGB, names(10), &[0.5; 3], &[0.5; 3]).is_ok());
    assert!(new_model("resnet8", &RGB, names(9), &[0.5; 3], &[0.5; 3]).is_err());
    assert!(new_model("resnet8", &RGB, None, &[0.5; 1], &[0.5; 3]).is_err());
}

/// Forward and backward at `shape`: finite logits of the right number, a gradient for every parameter, one pair of
/// moments per 2-d batch norm.
fn runs(name: &str, shape: &Shape) {
    check(name, from_name(name, shape).unwrap().0, shape);
}

fn check(name: &str, architecture: Architecture, shape: &Shape) {
    let mut rng = Streams::new(1).stream("test", 0);
    let network = Network::init(Arc::new(architecture), &mut rng).unwrap();
    let dims = (3, shape.height, shape.width, shape.channels);
    let x = tensor(normal(&mut rng, 3 * shape.height * shape.width * shape.channels), dims).unwrap();
    for mode in [Mode::Train { momentum: 0.1 }, Mode::Match, Mode::Frozen] {
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &network.weights, mode);
        let input = tape.leaf(x.clone());
        let y = network.forward(&mut f, input.clone()).unwrap();
        let logits = y.tensor().unwrap();
        assert_eq!(logits.dims(), [3, shape.num_classes], "{name} {shape:?}");
        assert!(view(&logits).unwrap().iter().all(|v| v.is_finite()), "{name} {shape:?}");
        let seed = tensor(normal(&mut rng, 3 * shape.num_classes), (3, shape.num_classes)).unwrap();
        let mut grads = tape.backward([(y, seed)]).unwrap();
        assert_eq!(grads.take(&input).unwrap().dims(), x.dims(), "{name}");
        if mode == Mode::Match {
            assert_eq!(f.moments.len(), network.arch.norm_layers(), "{name}");
        }
        for (slot, grad) in network.weights.slots.iter().zip(f.gradients(&mut grads)) {
            let expected = slot.kind.trainable() && matches!(mode, Mode::Train { .. });
            assert_eq!(grad.is_some(), expected, "{name} {}", slot.name);
            if let Some(grad) = grad {
                assert_eq!(grad.dims(), slot.shape, "{name} {}", slot.name);
                assert!(view(&grad).unwrap().iter().all(|v| v.is_finite()), "{name} {}", slot.name);
            }
        }
    }
}

/// What every 2-d batch norm reads of each image of a batch is what it reads of that image alone.
#[test]
fn norms_tell_of_every_single_image() {
    for name in ["resnet8", "resnet10", "wrn-16-1", "mnist-convnet", "mobilenetv2_035", "densenet-bc-40-12"] {
        let [channels, height, width] = usual_input(name).unwrap();
        let shape = Shape { channels, height: height.min(32), width: width.min(32), num_classes: 10 };
        let mut rng = Streams::new(1).stream("test", 0);
        let network = Network::init(Arc::new(from_name(name, &shape).unwrap().0), &mut rng).unwrap();
        let dims = (3, shape.height, shape.width, channels);
        let x = tensor(normal(&mut rng, 3 * shape.height * shape.width * channels), dims).unwrap();
        let tape = Tape::new();
        let mut f = Forward::new(&tape, &network.weights, Mode::Frozen).with_each();
        let logits = network.forward(&mut f, Var::constant(x.clone())).unwrap().tensor().unwrap();
        let folded = infer(&network, &x).unwrap();
        let largest = view(&folded).unwrap().iter().fold(0f32, |m, v| m.max(v.abs()));
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * largest;
        assert!(view(&logits).unwrap().iter().zip(view(&folded).unwrap().iter()).all(same), "{name}");
        let each = f.each.unwrap();
        assert_eq!(each.len(), network.arch.norm_layers(), "{name}");
        for image in 0..3 {
            let mut f = Forward::new(&tape, &network.weights, Mode::Match);
            network.forward(&mut f, Var::constant(x.narrow(0, image, 1).unwrap())).unwrap();
            for (layer, (seen, alone)) in each.iter().zip(&f.moments).enumerate() {
                let moments = alone.moments.tensor().unwrap();
                let (sums, moments) = (view(&seen.sums).unwrap(), view(&moments).unwrap());
                let (channels, pixels) = (moments.len() / 2, seen.pixels as f32);
                let sums = &sums[image * 2 * channels..][..2 * channels];
                // Mean squares: a variance that is small beside its mean has few digits.
                let squares: Vec<f32> = (0..channels).map(|c| moments[channels + c] + moments[c].powi(2)).collect();
                let size = squares.iter().fold(1e-6f32, |m, v| m.max(*v)).sqrt();
                let off = (0..channels).fold(0f32, |off, c| {
                    let (mean, square) = (sums[c] / pixels - moments[c], sums[channels + c] / pixels - squares[c]);
                    off.max(mean.abs() / size).max(square.abs() / size.powi(2))
                });
                assert_eq!(seen.norm, alone.norm, "{name}");
                assert!(off < 1e-3, "{name}, layer {layer}, image {image}: off by {off}");
            }
        }
    }
}

#[test]
fn every_network_runs_at_other_sizes() {
    let wide = Shape { channels: 3, height: 64, width: 64, num_classes: 7 };
    let odd = Shape { channels: 3, height: 33, width: 29, num_classes: 5 };
    for name in [
        "resnet8",
        "resnet8-b",
        "resnet8x4",
        "wrn-16-1",
        "mlperf-resnet8",
        "lenet5",
        "lenet5-half",
        "lenet-cifar",
        "mnist-convnet",
        "fashion-cnn",
        "burn-mnist-cnn",
        "vgg8_bn-avg",
        "densenet-bc-22-8",
    ] {
        for shape in [GREY, wide, odd] {
            runs(name, &shape);
        }
    }
    for name in ["imagenet-mobilenetv2_035", "cifar-mobilenetv2_035", "efficientnet_b0", "regnetx_002", "regnety_002"] {
        for shape in [GREY, wide, odd] {
            runs(name, &shape);
        }
    }
    runs("tf_efficientnet_b0", &odd);
    runs("resnet18", &GREY);
    runs("imagenet-resnet50", &odd);
    runs("cifar-vgg11_bn", &wide);
    runs("densenet121", &odd);
    let narrow = |shape: &Shape| super::super::Vgg {
        convs: [1, 1, 2, 1, 1],
        hidden: 24,
        in_channels: shape.channels,
        num_classes: shape.num_classes,
        head: "head.fc",
    };
    // Maps of 1x1, 2x2 and 8x7 in front of the head.
    for (height, width) in [(32, 32), (65, 64), (256, 224)] {
        let shape = Shape { height, width, ..RGB };
        check("vgg", Architecture::new(|b| narrow(&shape).build(b)), &shape);
    }
    runs("wrn-16-2", &Shape { height: 8, width: 8, ..RGB });
}

#[test]
fn what_cannot_be_built_is_said_on_one_line() {
    let message = |name: &str, shape: &Shape| from_name(name, shape).err().unwrap().to_string();
    for (name, part) in [
        ("resent20", "did you mean resnet20?"),
        ("lenet5-hlaf", "did you mean lenet5-half?"),
        ("resnet19", "did you mean resnet1"),
        ("vision-transformer-giant", "there are ResNet, VGG, DenseNet"),
        ("inception_v3", "`synth networks` lists their names"),
        ("wrn-17-1", "it is 6n + 4"),
        ("wrn-16-0", "from 1 to 64"),
        ("wrn-16-02", "there is no such network"),
        ("", "there is no such network"),
    ] {
        let message = message(name, &RGB);
        assert!(message.contains(part) && !message.contains('\n') && message.len() < 280, "{message}");
    }
    assert!(message("resnet20", &Shape { height: 7, ..RGB }).contains("sides of at least 8"));
    assert!(message("lenet5", &Shape { width: 27, ..RGB }).contains("sides of at least 28"));
    assert!(message("resnet20", &Shape { num_classes: 0, ..RGB }).contains("nothing may be 0"));
}

#[test]
fn arguments_are_checked() {
    let (_, good) = new_model("resnet20", &RGB, None, &[0.5; 3], &[0.5; 3]).unwrap();
    for (model_type, args, part) in [
        ("cifar_resnet", json!({"depth": 21}), "found 21; it is 6n + 2"),
        ("cifar_resnet", json!({}), "depth of cifar_resnet: found nothing"),
        ("cifar_resnet", json!({"depth": 20, "shortcut": "C"}), "found C"),
        ("cifar_resnet", json!({"depth": 20, "widths": [16, 32]}), "found [16, 32]"),
        ("cifar_resnet", json!({"depth": 20, "widths": [64, 32, 16]}), "do not shrink"),
        ("cifar_resnet", json!({"depth": 20, "widths": [16, 32, -1]}), "whole numbers"),
        ("cifar_resnet", json!({"depth": 20, "bn_eps": 0}), "bn_eps"),
        ("cifar_resnet", json!({"depth": 20, "dropout": 0.1}), "unknown argument \"dropout\""),
        ("cifar_resnet", json!({"depth": 1e12}), "whole number from 8 to 1202"),
        ("wide_resnet", json!({"depth": 16, "widen_factor": 1_000_000}), "from 1 to 64"),
        ("cifar_mobilenetv2", json!({"channel_multiplier": "wide"}), "a number from 0.05 to 8"),
        ("cifar_mobilenetv2", json!({"strides": [1, 1]}), "there are eight"),
        ("cifar_mobilenetv2", json!({"strides": [1, 1, 1, 4, 2, 1, 2, 1]}), "from 1 to 2"),
        ("cifar_mobilenetv2", json!({"pad_type": "valid"}), "empty, same or end"),
        ("mobilenet_v2", json!({"expand_ratio": 4}), "only 6 is supported"),
        ("efficientnet", json!({"kernel_sizes": [3, 3, 3]}), "only [3,3,5,3,5,5,3] is supported"),
        ("efficientnet", json!({"width_coefficient": 1.0, "hidden_dim": 640}), "1280 times"),
        ("regnet", json!({"hidden_sizes": [30, 60, 90, 120], "groups_width": 8}), "a stage has 30 channels"),
        ("regnet", json!({"layer_type": "z"}), "it is x or y"),
        ("lenet_cifar", json!({"batch_norm": true}), "only false is supported"),
        ("mlperf_tiny_resnet8", json!({"padding": "same"}), "only \"tensorflow-same\" is supported"),
        ("resnet", json!({"downsample_in_bottleneck": true}), "only false is supported"),
        ("resnet", json!({"downsample_in_first_stage": true}), "only false is supported"),
        ("resnet", json!({"embedding_size": 32}), "only 64 is supported"),
        ("resnet", json!({"hidden_sizes": [254, 512, 1024, 2048]}), "multiples of 4"),
        ("resnet", json!({"use_bias": true}), "unknown argument \"use_bias\""),
        ("cifar_vgg", json!({"depth": 12}), "it is 8, 11, 13, 16 or 19"),
        ("cifar_densenet_bc", json!({"depth": 50, "growth_rate": 12}), "it is 6n + 4"),
        ("inception", json!({}), "`synth networks` lists"),
        ("espnet", json!({}), "p of espnet: found nothing"),
        ("dinov2", json!({"image_size": 4_294_967_296_u64}), "each from 1 to 4096"),
    ] {
        let Value::Object(model_args) = args else { unreachable!() };
        let config = ModelConfig { model_type: Some(model_type.into()), model_args, ..good.clone() };
        let message = from_config(&config).err().unwrap().to_string();
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
    let unnamed = ModelConfig { model_type: None, ..good };
    assert!(from_config(&unnamed).err().unwrap().to_string().contains("--arch NAME"));
}

/// What has no way back says so, and what has one does not.
#[test]
fn networks_know_whether_they_train() {
    let trains = |name: &str| {
        let [channels, height, width] = usual_input(name).unwrap();
        from_name(name, &Shape { channels, height, width, num_classes: 10 }).unwrap().0.trains()
    };
    let answering: Vec<String> = listed().into_iter().filter(|name| !trains(name)).collect();
    assert!(answering.len() >= 20 && trains("lenet5"), "{answering:?}");
    let known = |name: &String| ["vit_", "deit_", "convnext"].iter().any(|start| name.starts_with(start));
    assert!(answering.iter().all(known), "{answering:?}");
}

#[test]
fn a_name_of_two_families_is_the_one_for_the_image_size() {
    let stem = |name: &str, side: usize| {
        let (architecture, _) = from_name(name, &Shape { height: side, width: side, ..RGB }).unwrap();
        architecture.slots[0].shape[0]
    };
    assert_eq!([32, 64, 84, 85, 112, 224].map(|side| stem("resnet18", side)), [3, 3, 3, 7, 7, 7]);
    assert_eq!((stem("cifar-resnet18", 224), stem("imagenet-resnet18", 32)), (3, 7));
    assert_eq!(usual_input("resnet18").unwrap(), [3, 224, 224]);
    assert_eq!(usual_input("cifar-resnet18").unwrap(), [3, 32, 32]);
    assert_eq!(small_twin("resnet18", None).as_deref(), Some("cifar-resnet18"));
    assert_eq!(small_twin("resnet18", Some([32, 32])), None);
    for name in ["cifar-resnet18", "imagenet-resnet18", "resnet20", "resent18"] {
        assert_eq!(small_twin(name, None), None, "{name}");
    }
}

#[test]
fn timms_configuration_needs_no_model_type_and_its_arguments_count() {
    let (_, config) = new_model("wide_resnet50_2", &PHOTO, None, &[0.5; 3], &[0.5; 3]).unwrap();
    assert_eq!((config.architecture.as_str(), &config.model_type), ("wide_resnet50_2", &None));
    assert!(config.model_args.is_empty());
    let grey = Shape { channels: 1, ..PHOTO };
    let (_, config) = new_model("ResNet18", &grey, None, &[0.5], &[0.5]).unwrap();
    assert_eq!((config.architecture.as_str(), &config.model_args["in_chans"]), ("resnet18", &json!(1)));
    let (_, ten) = new_model("resnet10", &grey, None, &[0.5], &[0.5]).unwrap();
    assert_eq!((ten.architecture.as_str(), &ten.model_args["layers"]), ("resnet18", &json!([1, 1, 1, 1])));
    let mut small = config.clone();
    small.model_args.extend([("layers".to_string(), json!([1, 1, 1, 1]))]);
    assert_eq!(from_config(&small).unwrap().norm_layers(), 12);
    // What timm itself writes beside them, and what only training reads.
    small.model_args.extend([("num_classes".to_string(), json!(1000)), ("global_pool".to_string(), json!("avg"))]);
    small.model_args.extend(["drop_rate", "drop_path_rate"].map(|key| (key.to_string(), json!(0.1))));
    assert_eq!(from_config(&small).unwrap().norm_layers(), 12);
    for (key, value, part) in [("num_classes", json!(7), "has 1000"), ("global_pool", json!("max"), "only \"avg\"")] {
        let mut other = small.clone();
        other.model_args.insert(key.to_string(), value);
        assert!(from_config(&other).err().unwrap().to_string().contains(part));
    }
    small.model_args.extend([("in_chans".to_string(), json!(3))]);
    assert!(from_config(&small).err().unwrap().to_string().contains("the images have 1"));
}

#[test]
fn a_layer_without_channels_is_refused() {
    let (_, mut config) = new_model("resnet50", &PHOTO, None, &[0.5; 3], &[0.5; 3]).unwrap();
    config.model_args.insert("channels".to_string(), json!([32, 64, 128, 256]));
    config.model_args.insert("base_width".to_string(), json!(1));
    let message = from_config(&config).err().unwrap().to_string();
    assert!(message.contains("layer1.0.conv1.weight, whose shape is [0, 64, 1, 1]"), "{message}");
}

#[test]
fn naming_tables_have_the_same_wildcards_on_both_sides() {
    for (pattern, replacement) in FAMILIES.iter().flat_map(|family| family.schemes).flat_map(|scheme| scheme.renames) {
        let wildcards = |text: &str| text.replace("**", "R").matches(['*', 'R', '#']).count();
        // An empty name: the tensor is passed over.
        assert!(replacement.is_empty() || wildcards(pattern) == wildcards(replacement), "{pattern}");
        assert!(pattern.find("**").is_none_or(|at| at + 2 == pattern.len()), "{pattern}");
    }
}
