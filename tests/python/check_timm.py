"""Opens the students that `examples/write_students.rs` wrote with timm, torchvision and transformers, and compares answers.

`check_timm.py FOLDER` (timm, torch, safetensors; torchvision and transformers where they are installed). Nothing is renamed
or converted: what the libraries load is the folder, or the file, as it is.
"""
import importlib.util
import json
import pathlib
import sys

import timm
import torch
from safetensors.torch import load_file

TOLERANCE = 1e-4


def compare(what, model, expected):
    with torch.no_grad():
        found = model.eval()(expected["images"])
    found = getattr(found, "logits", found)
    off = ((found - expected["logits"]).abs().max() / expected["logits"].abs().max()).item()
    assert off <= TOLERANCE, f"{what}: off by {off:.1e} of the largest logit"
    print(f"{what}: {off:.1e}")


def has(name):
    return importlib.util.find_spec(name) is not None


def check(folder):
    expected = load_file(folder.with_name(folder.name + ".expected.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    name, classes = config["architecture"], config["num_classes"]
    assert expected["logits"].std() > 0.01
    compare(f"timm {folder.name}", timm.create_model(f"local-dir:{folder}", pretrained=True), expected)
    if has("torchvision") and not config.get("model_args"):
        import torchvision

        # torchvision calls EfficientNet's tensors otherwise.
        if name in torchvision.models.list_models() and not name.startswith("efficientnet"):
            model = torchvision.models.get_model(name, num_classes=classes)
            state = torchvision_names(name, load_file(folder / "model.safetensors"))
            assert set(state) == set(model.state_dict()), f"torchvision {folder.name}: other names"
            model.load_state_dict(state, strict=True)
            compare(f"torchvision {folder.name}", model, expected)
    if has("transformers"):
        from transformers import AutoModelForImageClassification

        model, report = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            assert not report[kind], f"transformers {folder.name}: {kind} {sorted(report[kind])[:3]}"
        compare(f"transformers {folder.name}", model, expected)
        assert list(model.config.id2label.values()) == config["label_names"]


def torchvision_names(name, tensors):
    """torchvision's VGG flattens the map that timm's convolves; its other networks have timm's names."""
    if not name.startswith("vgg"):
        return tensors
    heads = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        flat = tensor.flatten(1) if layer in heads and part == "weight" else tensor
        renamed[f"{heads.get(layer, layer)}.{part}"] = flat
    return renamed


folders = sorted(path for path in pathlib.Path(sys.argv[1]).resolve().iterdir() if path.is_dir())
assert folders, "no students"
for folder in folders:
    check(folder)
print(f"{len(folders)} students of timm's families load in timm {timm.__version__}")
