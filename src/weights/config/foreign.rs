//! Configurations that other libraries write, in the form of [`ModelConfig`](super::ModelConfig): transformers'
//! `config.json` with its `preprocessor_config.json`, and timm's older flat form.

use super::{CHANNEL_LIMIT, CLASS_LIMIT};
use serde_json::{Map, Value, json};

/// What a configuration file becomes, or what is wrong with it.
type Translated = std::result::Result<Value, String>;

/// Brings the JSON of a `config.json` into our form; what is in it already stays as it is. `preprocessor` is the JSON of
/// `preprocessor_config.json`, if there is one.
pub(super) fn translated(config: Value, preprocessor: Option<&Value>) -> Translated {
    let Value::Object(map) = config else { return Ok(config) };
    let is_timm = map.contains_key("architecture");
    if map.contains_key("pretrained_cfg") {
        return Ok(Value::Object(wrapped(map)));
    }
    if is_timm && map.contains_key("input_size") {
        return Ok(flat(map));
    }
    if !is_timm && map.contains_key("model_type") {
        return transformers(map, preprocessor);
    }
    Ok(Value::Object(map))
}

/// timm inside transformers: the wrapper's `model_type` says nothing of the network, and no arguments are `null`.
fn wrapped(mut map: Map<String, Value>) -> Map<String, Value> {
    if map.get("model_args").is_some_and(Value::is_null) {
        map.remove("model_args");
    }
    if map.get("model_type").is_some_and(|kind| kind == "timm_wrapper") {
        map.remove("model_type");
    }
    map
}

/// timm's older form has the fields of `pretrained_cfg` beside the others.
fn flat(map: Map<String, Value>) -> Value {
    const OUTER: &[&str] = &["architecture", "num_classes", "num_features", "global_pool", "label_names", "model_args"];
    let (outer, inner): (Map<_, _>, Map<_, _>) = map.into_iter().partition(|(key, _)| OUTER.contains(&key.as_str()));
    let mut config = outer;
    config.insert("pretrained_cfg".into(), Value::Object(inner));
    Value::Object(config)
}

/// The only class of transformers for pixels that is here, and what its family is called, since its `model_type` is that of the
/// classifier.
const PIXELS: (&str, &str) = ("SegformerForSemanticSegmentation", "segformer_semantic");

/// The `problem_type` of a classifier, where it is stated; others answer for each class by itself, or with numbers.
const ONE_OF_CLASSES: &str = "single_label_classification";

/// Keys of a transformers configuration that decide no weight and no answer of a trained network; its private ones, which start
/// with `_`, do not either.
const IGNORED: &[&str] = &[
    "architectures",
    "attention_probs_dropout_prob",
    "chunk_size_feed_forward",
    "classifier_dropout_prob",
    "drop_path_rate",
    "dropout_rate",
    "dtype",
    "finetuning_task",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "num_channels",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "out_features",
    "out_indices",
    "problem_type",
    "pruned_heads",
    "reshape_last_stage",
    "return_dict",
    "semantic_loss_ignore_index",
    "stage_names",
    "tie_word_embeddings",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
];

fn transformers(map: Map<String, Value>, preprocessor: Option<&Value>) -> Translated {
    let class = map.get("architectures").and_then(|list| list[0].as_str()).unwrap_or_default();
    let for_pixels = class == PIXELS.0;
    if !class.is_empty() && !class.ends_with("ForImageClassification") && !for_pixels {
        return Err(format!("it is a {class} of transformers, which answers with something else than classes"));
    }
    if let Some(problem) = map.get("problem_type").and_then(Value::as_str).filter(|problem| *problem != ONE_OF_CLASSES)
    {
        return Err(format!("its problem_type is {problem}: it does not choose one of its classes"));
    }
    let names = label_names(&map)?;
    // A fresh configuration of transformers has two classes and does not state them.
    let num_classes = names.as_ref().map(Vec::len).or(count(&map, "num_labels")).unwrap_or(2);
    let channels = count(&map, "num_channels").unwrap_or(3);
    if channels > CHANNEL_LIMIT {
        return Err(format!("num_channels is {channels}, expected 1 to {CHANNEL_LIMIT}"));
    }
    let images = Preprocessing { channels, image_size: count(&map, "image_size"), preprocessor };
    let mut config = json!({
        "architecture": if class.is_empty() { map["model_type"].as_str().unwrap_or_default() } else { class },
        "model_type": map["model_type"],
        "num_classes": num_classes,
        "pretrained_cfg": images.config()?,
    });
    if let Some(names) = names {
        config["label_names"] = json!(names);
    }
    if for_pixels {
        (config["model_type"], config["task"]) = (json!(PIXELS.1), json!("image-segmentation"));
        // 255, the usual value, is void anyway.
        let void = count(&map, "semantic_loss_ignore_index").filter(|class| *class < num_classes);
        void.into_iter().for_each(|class| config["pretrained_cfg"]["ignore_index"] = json!(class));
        let reduces = |key| preprocessor.is_some_and(|said| said[key] == json!(true));
        if reduces("do_reduce_labels") || reduces("reduce_labels") {
            config["pretrained_cfg"]["first_label"] = json!(1);
        }
    }
    let args = map.into_iter().filter(|(key, _)| !key.starts_with('_') && !IGNORED.contains(&key.as_str()));
    config["model_args"] = Value::Object(args.collect());
    Ok(config)
}

/// `id2label` as a list: its keys are the numbers of the classes.
fn label_names(map: &Map<String, Value>) -> std::result::Result<Option<Vec<String>>, String> {
    let Some(Value::Object(labels)) = map.get("id2label") else { return Ok(None) };
    if labels.is_empty() || labels.len() > CLASS_LIMIT {
        return Err(format!("id2label has {} classes", labels.len()));
    }
    let mut names = vec![None; labels.len()];
    for (id, label) in labels {
        let place = id.parse::<usize>().ok().and_then(|id| names.get_mut(id));
        let label = label.as_str().ok_or_else(|| format!("id2label has a class that is no text: {label}"))?;
        *place.ok_or_else(|| format!("id2label numbers {} classes and names one {id:?}", labels.len()))? =
            Some(label.to_string());
    }
    names.into_iter().collect::<Option<Vec<String>>>().map(Some).ok_or_else(|| "id2label skips a class".into())
}

fn count(map: &Map<String, Value>, key: &str) -> Option<usize> {
    map.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
}

/// What transformers says of a model's images, in two files.
struct Preprocessing<'a> {
    channels: usize,
    /// `image_size` of `config.json`.
    image_size: Option<usize>,
    preprocessor: Option<&'a Value>,
}

/// Its `include_top` is true unless it says otherwise.
const EFFICIENTNET: &str = "EfficientNetImageProcessor";

/// The side that nearly every classifier of transformers without a stated size has.
const USUAL_SIDE: usize = 224;

/// Pillow's filters, as timm calls them, by the numbers that `resample` has; and the one that is taken where it has none.
const PILLOW: [&str; 6] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];
const BILINEAR: u64 = 2;

/// ConvNeXt's processor, which ResNet and RegNet have too: `size` is that of the crop, and `crop_pct` its share of the resized
/// picture; from a side of 384 on, pictures are stretched whole.
const CONVNEXT: &str = "ConvNext";
const WHOLE_FROM: usize = 384;
const USUAL_CROP: f64 = 0.875;
/// Processors that take one number as `size` for the shorter side; the others stretch pictures to a square.
const KEEP_SHAPE: &[&str] = &[CONVNEXT, "Bit", "CLIP", "MobileNetV2"];

/// What a network sees of a picture.
struct Sight {
    /// Height and width.
    size: [usize; 2],
    /// Share of the sides that is left of a resized picture.
    share: f64,
    keeps_shape: bool,
}

impl Preprocessing<'_> {
    fn config(&self) -> Translated {
        let none = Value::Null;
        let said = self.preprocessor.unwrap_or(&none);
        let normalises = said["do_normalize"].as_bool().unwrap_or(self.preprocessor.is_some());
        let (mean, std) = match normalises {
            true => (self.per_channel(&said["image_mean"], 0.5)?, self.per_channel(&said["image_std"], 0.5)?),
            false => (vec![0.0; self.channels], vec![1.0; self.channels]),
        };
        let factor = said["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0);
        if (factor * 255.0 - 1.0).abs() > 1e-3 || said["do_rescale"] == json!(false) {
            return Err("its images are not scaled to 0..1 before they are normalised, which is not supported".into());
        }
        if said["rescale_offset"] == json!(true) {
            return Err("its images are shifted before they are normalised, which is not supported".into());
        }
        // EfficientNet's processor then divides by the deviation once more.
        let again = normalises && said["include_top"].as_bool().unwrap_or(said["image_processor_type"] == EFFICIENTNET);
        let std: Vec<f64> = std.into_iter().map(|std| if again { std * std } else { std }).collect();
        let Sight { size: [height, width], share, keeps_shape } = self.sight(said);
        let mut config = json!({ "input_size": [self.channels, height, width], "mean": mean, "std": std });
        if self.preprocessor.is_some() && said["do_resize"] != json!(false) {
            let number = said["resample"].as_u64().unwrap_or(BILINEAR);
            let filter = usize::try_from(number).ok().and_then(|number| PILLOW.get(number));
            config["interpolation"] = filter.map_or_else(|| json!(number.to_string()), |name| json!(name));
            config["crop_pct"] = json!(share);
            config["crop_mode"] = json!(if keeps_shape { "center" } else { "squash" });
        }
        Ok(config)
    }

    /// One value for each channel, given as a list or as one number for all.
    fn per_channel(&self, value: &Value, default: f64) -> std::result::Result<Vec<f64>, String> {
        match value {
            Value::Null => Ok(vec![default; self.channels]),
            Value::Number(number) => Ok(vec![number.as_f64().unwrap_or(f64::NAN); self.channels]),
            list => {
                serde_json::from_value(list.clone()).map_err(|_| format!("expected one number per channel: {list}"))
            }
        }
    }

    /// What the network sees: the crop, else the resized image.
    fn sight(&self, said: &Value) -> Sight {
        let number = |value: &Value| value.as_u64().and_then(|side| usize::try_from(side).ok());
        let sides = |value: &Value| match (number(&value["height"]), number(&value["width"])) {
            (Some(height), Some(width)) => Some([height, width]),
            _ => number(value).or(number(&value["shortest_edge"])).map(|side| [side, side]),
        };
        let processor = ["image_processor_type", "feature_extractor_type"].iter().find_map(|key| said[*key].as_str());
        let is_one_of = |kinds: &[&str]| processor.is_some_and(|name| kinds.iter().any(|kind| name.starts_with(kind)));
        let (shorter, one) = (number(&said["size"]["shortest_edge"]), number(&said["size"]));
        let keeps_shape = shorter.is_some() || (one.is_some() && is_one_of(KEEP_SHAPE));
        let side = self.image_size.unwrap_or(USUAL_SIDE);
        let resized = sides(&said["size"]).unwrap_or([side, side]);
        if let Some(side) = shorter.or(one).filter(|_| is_one_of(&[CONVNEXT])) {
            return match side < WHOLE_FROM {
                true => Sight { size: resized, share: said["crop_pct"].as_f64().unwrap_or(USUAL_CROP), keeps_shape },
                false => Sight { size: resized, share: 1.0, keeps_shape: false },
            };
        }
        let crops = said["do_center_crop"] != json!(false);
        let size = sides(&said["crop_size"]).filter(|_| crops).unwrap_or(resized);
        Sight { size, share: size[0] as f64 / resized[0].max(1) as f64, keeps_shape }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_keys(mut config: Value, more: Value) -> Value {
        let (Value::Object(all), Value::Object(more)) = (&mut config, more) else { unreachable!() };
        all.extend(more);
        config
    }

    #[test]
    fn a_configuration_of_transformers_is_translated() {
        let config = json!({
            "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "depths": [2, 2, 2, 2],
            "id2label": {"1": "dog", "0": "cat", "2": "owl"}, "label2id": {"cat": 0}, "num_channels": 3,
            "transformers_version": "5.0.0", "hidden_act": "relu", "_attn_implementation_autoset": true,
        });
        let preprocessor = json!({
            "do_normalize": true, "image_mean": [0.485, 0.456, 0.406], "image_std": 0.25, "size": {"shortest_edge": 256},
            "crop_size": {"height": 224, "width": 192},
        });
        let found = translated(config.clone(), Some(&preprocessor)).unwrap();
        assert_eq!(found["architecture"], "ResNetForImageClassification");
        assert_eq!(found["num_classes"], 3);
        assert_eq!(found["label_names"], json!(["cat", "dog", "owl"]));
        assert_eq!(found["model_args"], json!({"depths": [2, 2, 2, 2], "hidden_act": "relu"}));
        assert_eq!(found["pretrained_cfg"]["input_size"], json!([3, 224, 192]));
        assert_eq!(found["pretrained_cfg"]["std"], json!([0.25, 0.25, 0.25]));
        let twice = json!({"image_processor_type": EFFICIENTNET, "image_std": 0.5});
        let found = translated(config.clone(), Some(&twice)).unwrap();
        assert_eq!(found["pretrained_cfg"]["std"], json!([0.25, 0.25, 0.25]));
        let once = json!({"image_processor_type": EFFICIENTNET, "include_top": false, "image_std": 0.5});
        assert_eq!(translated(config.clone(), Some(&once)).unwrap()["pretrained_cfg"]["std"], json!([0.5, 0.5, 0.5]));
        let bare = translated(config.clone(), None).unwrap();
        assert_eq!(bare["pretrained_cfg"]["mean"], json!([0.0, 0.0, 0.0]));
        let with = |key: &str, value: Value| {
            let mut changed = config.clone();
            changed[key] = value;
            translated(changed, Some(&preprocessor)).unwrap_err()
        };
        assert!(with("id2label", json!({"0": "a", "2": "b"})).contains("numbers 2 classes"));
        assert!(with("id2label", json!({"0": "a", "00": "b"})).contains("skips a class"));
        assert!(with("architectures", json!(["ResNetBackbone"])).contains("ResNetBackbone"));
        let pixels = json!({"model_type": "segformer", "architectures": [PIXELS.0], "num_labels": 19,
            "semantic_loss_ignore_index": 255, "decoder_hidden_size": 64});
        let found = translated(pixels.clone(), None).unwrap();
        assert_eq!((&found["model_type"], &found["task"]), (&json!(PIXELS.1), &json!("image-segmentation")));
        assert_eq!(found["model_args"], json!({"decoder_hidden_size": 64}));
        assert!(found["pretrained_cfg"].get("ignore_index").is_none());
        let void = json!({"semantic_loss_ignore_index": 18});
        let found = translated(with_keys(pixels.clone(), void), None).unwrap();
        assert_eq!(found["pretrained_cfg"]["ignore_index"], json!(18));
        assert!(found["pretrained_cfg"].get("first_label").is_none());
        for key in ["do_reduce_labels", "reduce_labels"] {
            let reduced = translated(pixels.clone(), Some(&json!({key: true}))).unwrap();
            assert_eq!(reduced["pretrained_cfg"]["first_label"], json!(1));
        }
        let raw = translated(config, Some(&json!({"do_rescale": false}))).unwrap_err();
        assert!(raw.contains("not scaled"), "{raw}");
    }

    #[test]
    fn older_and_wrapped_forms_of_timm_are_recognised() {
        let old = json!({"architecture": "resnet18", "num_classes": 10, "input_size": [3, 224, 224], "mean": [0, 0, 0],
            "std": [1, 1, 1], "classifier": "fc"});
        let found = translated(old, None).unwrap();
        assert_eq!((&found["num_classes"], &found["pretrained_cfg"]["classifier"]), (&json!(10), &json!("fc")));
        let wrapped = json!({"architecture": "resnet18", "model_type": "timm_wrapper", "model_args": null,
            "pretrained_cfg": {}});
        let found = translated(wrapped, None).unwrap();
        assert!(found.get("model_type").is_none() && found.get("model_args").is_none());
    }
}
