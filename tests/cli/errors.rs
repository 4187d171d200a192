//! What people get wrong, through the binary: a code other than 0, nothing on stdout, and one line on stderr that says
//! where, what and what to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use synth::model::{Model, Overrides};
use synth::nets::Network;
use synth::nets::registry::{self, Shape};
use synth::rng::Streams;
use synth::weights::{Checkpoint, RawData};
use tempfile::TempDir;

const SHAPE: Shape = Shape { channels: 1, height: 28, width: 28, num_classes: 3 };

fn synth(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synth")).args(arguments).output().unwrap()
}

/// Runs a command that must fail with `code` and gives its one line.
#[track_caller]
fn refused(code: i32, arguments: &[&str], parts: &[&str]) {
    let output = synth(arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
    assert!(err.starts_with("error: ") && err.ends_with('\n') && err.lines().count() == 1, "{arguments:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{part:?} is not in: {err}");
    }
}

/// A model with fresh weights in a folder, and pictures of `side` pixels in a folder per class beside it.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        let names = Some(["ant", "bee", "cat"].map(String::from).to_vec());
        let (arch, config) = registry::new_model("mnist-convnet", &SHAPE, names, &[0.1], &[0.3]).unwrap();
        let network = Network::init(Arc::new(arch), &mut Streams::new(0).stream("test", 0)).unwrap();
        let model = Model::made(network, config);
        std::fs::create_dir(place.at("model")).unwrap();
        model.save(place.at("model"), "card", &serde_json::json!({})).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_string()
    }

    fn weights(&self) -> PathBuf {
        self.at("model/model.safetensors")
    }

    /// Changes `config.json`.
    fn configure(&self, change: impl Fn(&mut serde_json::Value)) {
        let path = self.at("model/config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn pictures(&self, classes: &[&str], side: u32) -> String {
        for (i, class) in classes.iter().enumerate() {
            std::fs::create_dir_all(self.at("pictures").join(class)).unwrap();
            for j in 0..4 {
                let picture =
                    image::GrayImage::from_fn(side, side, |x, y| image::Luma([(x * y + 40 * j + i as u32) as u8]));
                picture.save(self.at("pictures").join(class).join(format!("{j}.png"))).unwrap();
            }
        }
        self.text("pictures")
    }
}

fn as_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_right_works() {
    let place = Place::new();
    let (model, pictures) = (place.text("model"), place.pictures(&["ant", "bee", "cat"], 28));
    let run = |threads: &str, extra: &[&str]| -> serde_json::Value {
        let common = ["eval", &model, "--data", &pictures, "--json", "--threads", threads];
        let output = synth(&[&common, extra].concat());
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && err.is_empty(), "{err}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (one, many) = (run("1", &[]), run("3", &["--batch", "5"]));
    assert_eq!(one["count"], 12);
    assert_eq!((&one["loss"], &one["confusion"]), (&many["loss"], &many["confusion"]));
    assert!(one.get("top5").is_none() && one["top1"].is_number() && one["images_per_s"].is_number());
    assert_eq!(one["model"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(one["data"]["labels_matched"], "as-they-are");
    let text = String::from_utf8(synth(&["eval", &model, "--data", &pictures]).stdout).unwrap();
    assert!(text.contains("top-1") && text.contains("label \\ answer") && text.contains("2 cat"), "{text}");
    let text = String::from_utf8(synth(&["inspect", &model]).stdout).unwrap();
    assert!(text.contains("mnist-convnet: quickgelu_convnet") && text.contains("conv2  convolution"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&synth(&["inspect", &model, "--json"]).stdout).unwrap();
    assert_eq!(
        (&json["parameters"], &json["layers"][0]["name"]),
        (&serde_json::json!(21_483), &serde_json::json!("conv1"))
    );
}

#[test]
fn architectures() {
    let place = Place::new();
    let (model, weights) = (place.text("model"), place.weights());
    let weights = as_text(&weights);
    refused(2, &["inspect", weights, "--arch", "resnet21"], &["resnet21", "did you mean", "`synth networks` lists"]);
    refused(1, &["inspect", weights], &["a bare checkpoint", "--arch", "config.json"]);
    refused(1, &["inspect", &place.text("model/config.json")], &["JSON text, not a checkpoint"]);
    refused(1, &["inspect", weights, "--arch", "resnet20"], &["model.safetensors", "no last layer", "--num-classes"]);
    for (given, missing) in [("--mean", "--std"), ("--std", "--mean")] {
        let half = ["inspect", weights, "--arch", "mnist-convnet", given, "0.5"];
        refused(2, &half, &[&format!("{given}: there is no {missing}")]);
    }
    for counted in [&[][..], &["--num-classes", "3"]] {
        let asked = [&["inspect", weights, "--arch", "resnet18"], counted].concat();
        refused(1, &asked, &["model.safetensors", ", or take --arch cifar-resnet18"]);
    }
    refused(
        1,
        &["inspect", weights, "--arch", "fashion-cnn"],
        &["model.safetensors", "of another shape", "expected [32, 1, 3, 3]"],
    );
    refused(1, &["inspect", &model, "--num-classes", "7"], &["fc2.weight", "[3, 50], expected [7, 50]", "num_classes"]);
    refused(2, &["inspect", &model, "--input-size", "1,28"], &["--input-size", "2 numbers"]);
    refused(2, &["inspect", &model, "--input-size", "1,4,4"], &["1 channels of 4x4", "at least 16"]);
    refused(2, &["inspect", &model, "--std", "0"], &["std has the value 0"]);
    refused(2, &["inspect", &model, "--mean", "0.1,0.2"], &["2 values of mean for 1 channels"]);
}

/// The card is of the model as its folder describes it, and on this machine.
#[test]
fn cards_that_cannot_be_written() {
    let place = Place::new();
    let eval = ["eval", &place.text("model"), "--data", "nowhere", "--card"];
    refused(2, &[&eval[..], &["--mean", "0.5"]].concat(), &["--card", "another model than its folder describes"]);
    refused(2, &[&eval[..], &["--limit", "5"]].concat(), &["--card", "a part of the split", "leave out --limit"]);
    std::fs::remove_file(place.at("model/README.md")).unwrap();
    refused(1, &eval, &["README.md", "the folder has no card"]);
}

#[test]
fn configurations() {
    let place = Place::new();
    let model = place.text("model");
    place.configure(|config| config["num_classes"] = 4.into());
    refused(1, &["inspect", &model], &["config.json", "3 label_names for num_classes 4"]);
    place.configure(|config| config["label_names"] = serde_json::Value::Null);
    refused(1, &["inspect", &model], &["model.safetensors", "fc2.weight", "expected [4, 50]"]);
    place.configure(|config| config["num_classes"] = 3.into());
    place.configure(|config| config["model_args"]["batch_norm"] = true.into());
    refused(2, &["inspect", &model], &["batch_norm of quickgelu_convnet", "only false"]);
    place.configure(|config| config["model_type"] = "inception".into());
    refused(2, &["inspect", &model], &["inception", "`synth networks` lists"]);
    place.configure(|config| config["model_type"] = serde_json::Value::Null);
    refused(2, &["inspect", &model], &["no `model_type`", "--arch NAME"]);
    std::fs::write(place.at("model/config.json"), "{").unwrap();
    refused(1, &["inspect", &model], &["config.json", "timm"]);
}

#[test]
fn weights_files() {
    let place = Place::new();
    let (model, weights) = (place.text("model"), place.weights());
    let good = std::fs::read(&weights).unwrap();
    let mut checkpoint = Checkpoint::read(&weights).unwrap();
    if let Some(RawData::F32(values)) = checkpoint.tensors.get_mut("fc1.bias").map(|tensor| &mut tensor.data) {
        values[7] = f32::NAN;
    }
    Checkpoint::write_safetensors(&weights, &checkpoint.tensors, &checkpoint.metadata).unwrap();
    refused(
        1,
        &["inspect", &model],
        &["model.safetensors", "`fc1.bias` has 1 of 50 values not finite", "another checkpoint"],
    );
    std::fs::write(&weights, &good[..good.len() - 100]).unwrap();
    refused(1, &["inspect", &model], &["model.safetensors"]);
    std::fs::write(&weights, [&u64::MAX.to_le_bytes(), &good[8..]].concat()).unwrap();
    refused(1, &["inspect", &model], &["model.safetensors"]);
    let text = String::from_utf8_lossy(&good[8..200]).into_owned();
    let at = 8 + text.find("[10,1,5,5]").expect("the first tensor's shape");
    let mut lying = good.clone();
    lying[at + 1] = b'9';
    std::fs::write(&weights, lying).unwrap();
    refused(1, &["inspect", &model], &["model.safetensors", "invalid shape, data type, or offset"]);
    std::fs::write(&weights, "").unwrap();
    refused(1, &["inspect", &model], &["model.safetensors", "empty"]);
    std::fs::remove_file(&weights).unwrap();
    refused(1, &["inspect", &model], &["without weights", "expected model.safetensors"]);
}

#[test]
fn paths() {
    let place = Place::new();
    let (model, empty) = (place.text("model"), place.text("empty"));
    std::fs::create_dir(&empty).unwrap();
    refused(1, &["inspect", &empty], &["empty", "without config.json"]);
    refused(1, &["inspect", &place.text("nowhere")], &["nowhere", "no such file or folder"]);
    // No name on the Hub begins like this.
    refused(1, &["inspect", "models/nowhere"], &["models/nowhere", "no such file or folder"]);
    refused(1, &["eval", &model, "--data", &place.text("nowhere")], &["nowhere", "No such file"]);
    refused(1, &["distill", &place.text("nowhere"), "-o", &place.text("x")], &["nowhere: no such folder"]);
    refused(1, &["push", &place.text("nowhere"), "--to", "me/x", "--dry-run"], &["nowhere: no such folder"]);
    refused(1, &["eval", &model, "--data", &empty], &["empty"]);
}

#[test]
fn datasets() {
    let place = Place::new();
    let model = place.text("model");
    let small = place.pictures(&["ant", "bee", "cat"], 20);
    refused(2, &["eval", &model, "--data", &small], &["20x20 grey, the model reads 28x28 grey", "--resize"]);
    let resized = |how: &str| synth(&["eval", &model, "--data", &small, how]);
    let text = |how: &str| String::from_utf8(resized(how).stdout).unwrap();
    assert!(text("--resize").contains("pictures  stretched to 28x28 (bilinear)\n"), "{}", text("--resize"));
    let config = place.at("model/config.json");
    let plain = std::fs::read_to_string(&config).unwrap();
    let framed =
        |fields: &str| std::fs::write(&config, plain.replace("\"mean\"", &format!("{fields}, \"mean\""))).unwrap();
    framed("\"crop_pct\": 0.875, \"interpolation\": \"bicubic\"");
    assert!(
        text("--resize").contains("pictures  shorter side to 32 (bicubic), the middle 28x28\n"),
        "{}",
        text("--resize")
    );
    assert!(text("--resize=stretch").contains("stretched to 28x28 (bilinear)"), "{}", text("--resize=stretch"));
    refused(2, &["eval", &model, "--data", &small, "--resize=crop"], &["--resize[=<HOW>]", "published, stretch"]);
    framed("\"crop_mode\": \"border\"");
    refused(1, &["eval", &model, "--data", &small, "--resize"], &["crop_mode is \"border\"", "--resize=stretch"]);
    assert!(resized("--resize=stretch").status.success());
    std::fs::write(&config, plain).unwrap();
    place.pictures(&["dog"], 20);
    refused(2, &["eval", &model, "--data", &small, "--resize"], &["4 classes, the model has 3"]);
    refused(1, &["eval", &model, "--data", &small, "--split", "validation"], &["split `validation`"]);
    refused(2, &["eval", &model, "--data", &small, "--limit", "0"], &["limit", "at least one"]);
    // `pq.write_table(pa.table({"image": [b""], "label": [0]}), "tests/fixtures/zstd.parquet", compression="zstd")`
    refused(1, &["eval", &model, "--data", "tests/fixtures/zstd.parquet"], &["compressed with ZSTD", "snappy"]);
    let broken = place.at("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("a.png"), "no picture").unwrap();
    let collect = ["collect", &model, "-o", &place.text("set"), "--from", as_text(&broken), "--samples", "5"];
    refused(1, &collect, &["none of the images could be read (", ": 1)"]);
}

/// What has no part in what is to be done is not passed over.
#[test]
fn options_without_a_part() {
    let place = Place::new();
    let (model, set, out) = (place.text("model"), place.text("set"), place.text("out"));
    let collect = ["collect", &model, "-o", &set, "--from", "shaders", "--samples", "12", "--balance", "none", "-q"];
    let output = synth(&collect);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    refused(2, &["inspect", &model, "--teacher", &model], &["--teacher", "only sets"]);
    refused(2, &["inspect", &set, "--arch", "mnist-convnet"], &["this is a set", "--arch"]);
    let stored = ["distill", &set, "-o", &out, "--answers", "stored", "--teacher", &model];
    refused(2, &stored, &["--teacher", "recorded answers", "--answers live"]);
    let run = |more: &[&'static str]| [&["run", "-o", &out, "--student", "resnet14"][..], more].concat();
    refused(2, &run(&["--set", "student.steps=5"]), &["--set student.steps", "finish_steps", "--init scratch"]);
    refused(2, &run(&["--set", "student.schedule=constant"]), &["--set student.schedule", "--on-the-fly"]);
    let scratch = ["--init", "scratch", "--set", "finish_steps=5"];
    refused(2, &run(&scratch), &["--set finish_steps", "starts anew", "student.steps"]);
    refused(2, &run(&["--init", "adversary", "--set", "blocks_share=0.1"]), &["--set blocks_share", "teacher-blocks"]);
    for (recipe, value, part) in [
        ("deepinversion", "generator.inner_steps=9", "generator.warmup_steps"),
        ("deepinversion", "generator.lr=0.1", "generator.lr_latent"),
        ("dafl", "generator.warmup_steps=9", "generator.inner_steps"),
        ("dafl", "generator.lr_latent=0.1", "say generator.lr"),
    ] {
        refused(2, &run(&["--recipe", recipe, "--set", value]), &[value.split('=').next().unwrap(), part]);
    }
    let fly = ["--on-the-fly", "--set", "finish_steps=5"];
    refused(2, &run(&fly), &["--set finish_steps", "--on-the-fly"]);
    refused(2, &run(&["--recipe", "fast", "--set", "student.rand_augment=2"]), &["--set student.rand_augment"]);
    refused(
        2,
        &run(&["--recipe", "adi", "--set", "student.signal.logits=0.2"]),
        &["--set student.signal", "on_the_fly = false"],
    );
    refused(2, &run(&["--recipe", "dafl", "--set", "student.batch=32"]), &["--set student.batch", "say batch, or"]);
    for (value, part, command) in [
        ("finish_steps=5", "does without", "`synth run`"),
        ("student.steps=5", "does without", "`synth distill`"),
        ("student.schedule=constant", "a constant rate", "`synth distill`"),
    ] {
        refused(2, &["invert", &model, "-o", &out, "--set", value], &["--set", part, command]);
    }
    let few = ["rounds=1", "batches=1", "batch=4", "adversary_steps=1", "generator.width=8"];
    let few: Vec<&str> = few.into_iter().flat_map(|value| ["--set", value]).collect();
    let small = place.text("small");
    let asked = ["invert", &model, "-o", &small, "--recipe", "dafl", "--adversary", "mnist-convnet", "--samples", "50"];
    let told = String::from_utf8(synth(&[&asked[..], &few].concat()).stderr).unwrap();
    assert!(told.contains("the set has 4 of the 50 images of --samples"), "{told}");
    refused(2, &run(&["--recipe", "deepinversion", "--on-the-fly"]), &["on_the_fly", "no update", "adversary_steps"]);
    let file = place.text("set/data/train-00000-of-00001.parquet");
    refused(1, &["eval", &model, "--data", &file, "--split", "test"], &["split `train`, not `test`"]);
    let other = place.text("other.parquet");
    std::fs::copy(&file, &other).unwrap();
    refused(1, &["eval", &model, "--data", &other, "--split", "test"], &["no split `test`"]);
    for whole in [&["--data", &file, "--split", "train"][..], &["--data", &other]] {
        let output = synth(&[&["eval", &model], whole].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let folder = place.pictures(&["ant", "bee", "cat"], 28);
    refused(1, &["eval", &model, "--data", &folder, "--label-column", "y"], &["no column `y`"]);
    assert!(!place.at("out").exists());

    // What is read is not replaced, nor is what holds it.
    for (force, input) in [(&set, &set), (&model, &model), (&set, &file)] {
        refused(2, &["collect", &model, "-o", force, "--from", input, "--force"], &["is read", "another folder"]);
    }
    refused(2, &["distill", &set, "-o", &set, "--force"], &["set is read"]);
    refused(2, &["distill", &set, "-o", &model, "--force"], &["model is read"]);
}

/// Grey pictures among colour ones are read as one kind where that is asked for; a licence stands where others look for it.
#[test]
fn training_on_mixed_pictures() {
    let place = Place::new();
    let (data, out) = (place.pictures(&["ant", "bee"], 28), place.text("out"));
    image::RgbImage::new(28, 28).save(place.at("pictures/bee/colour.png")).unwrap();
    let train = ["train", "mnist-convnet", "--data", &data, "-o", &out, "--epochs", "1", "--set", "batch=4"];
    refused(1, &train, &["a colour picture among grey ones", "--channels"]);
    let output = synth(&[&train[..], &["--channels", "1", "--license", "MIT"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let card = std::fs::read_to_string(place.at("out/README.md")).unwrap();
    assert!(card.starts_with("---\nlicense: \"mit\"\n") && card.contains("## Licence\n\nmit.\n"), "{card}");
    let config = std::fs::read_to_string(place.at("out/config.json")).unwrap();
    assert!(config.contains("\"license\": \"mit\""), "{config}");
}

/// A network of the size that is asked for, from pictures of whatever size.
#[test]
fn training_on_pictures_of_several_sizes() {
    let place = Place::new();
    let (data, out) = (place.pictures(&["ant", "bee"], 28), place.text("out"));
    image::GrayImage::new(40, 30).save(place.at("pictures/bee/wide.png")).unwrap();
    let train = ["train", "resnet8", "--data", &data, "-o", &out, "--epochs", "1", "--set", "batch=4"];
    refused(1, &train, &["wide.png", "40x30 pixels among 28x28", "--size"]);
    let output = synth(&[&train[..], &["--size", "24x16"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let model = Model::load(place.at("out"), None, &Overrides::default()).unwrap();
    assert_eq!(model.config.pretrained_cfg.input_size, [1, 16, 24]);
    refused(1, &["eval", &out, "--data", &data], &["--resize"]);
    let output = synth(&["eval", &out, "--data", &data, "--resize", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((found["count"].as_u64(), found["data"]["framing"].is_object()), (Some(9), true), "{found}");
}

/// Numbers of another instruction set than the named one would be taken for its own.
#[test]
fn instruction_sets() {
    let with =
        |name: &str| Command::new(env!("CARGO_BIN_EXE_synth")).arg("recipes").env("SYNTH_SIMD", name).output().unwrap();
    assert!(["portable", ""].into_iter().all(|name| with(name).status.success()));
    for wrong in ["AVX2", "avx3"] {
        let output = with(wrong);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("SYNTH_SIMD") && said.contains(wrong) && said.contains("one of portable"), "{said}");
    }
}

/// A recipe is printed as it is for teachers of either task.
#[test]
fn recipes() {
    let printed = |words: &[&str]| -> toml::Table {
        let output = synth(&[&["recipes"], words].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}");
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    };
    let of = |task: &str| printed(&["ssd", "--task", task]);
    assert_eq!(printed(&["ssd"]), of("image-classification"));
    let (images, pixels) = (printed(&["ssd"]), of("image-segmentation"));
    assert_eq!(of("semantic-segmentation"), pixels);
    assert_eq!((images["views"].as_integer(), pixels["views"].as_integer()), (Some(8), Some(0)));
    refused(2, &["recipes", "ssd", "--task", "pixels"], &["--task", "image-segmentation"]);
    refused(2, &["recipes", "--task", "image-segmentation"], &["NAME"]);
    refused(2, &["recipes", "sdd"], &["sdd", "ssd"]);
}

#[test]
fn usage() {
    refused(2, &["eval", "x"], &["--data <DATASET>", "--help"]);
    refused(2, &["evil"], &["evil", "'eval'"]);
    refused(2, &["inspect", "x", "--threads", "0"], &["--threads", "1..=1024"]);
    refused(2, &["inspect", "x", "-q", "-v"], &["cannot be used with"]);
    for (pass, seconds) in [("step", "-1"), ("step", "nan"), ("ops", "inf"), ("ops", "1e300")] {
        refused(2, &["bench", pass, &format!("--seconds={seconds}")], &["--seconds", "0 to 86400"]);
    }
    refused(2, &["bench", "step", "--pass", "invert", "--muon"], &["--muon", "--pass train or distill"]);
    refused(2, &["bench", "step", "--pass", "train", "--teacher", "resnet20"], &["--teacher", "--pass distill"]);
    refused(2, &["bench", "step", "--generator-width", "64"], &["--generator-width", "--pass invert"]);
    for command in ["run", "invert"] {
        refused(2, &[command, "x", "-o", "y", "--samples", "0"], &["--samples", "2..="]);
        refused(2, &[command, "x", "-o", "y", "--samples", "-5"], &["--samples", "2..="]);
        refused(2, &[command, "x", "-o", "y", "--minutes", "-1"], &["--minutes", "give minutes above 0"]);
    }
    refused(2, &[], &["subcommand"]);
    assert!(synth(&["--help"]).status.success());
    assert!(String::from_utf8(synth(&["--version"]).stdout).unwrap().starts_with("synth "));
}
