"""Asks students that were trained the same real images in synth, in ONNX Runtime and in timm, and compares their answers.

`check_students.py SYNTH ANSWERS DATASET COUNT STUDENT...`: the program, the example `answers`, a dataset, how many of its images,
and folders of students (onnxruntime, numpy, safetensors; timm and torch where they are installed). All three get the same 8-bit
pixels; each normalises them as it is told by what it loads: synth by config.json, ONNX Runtime within the graph that
`synth export --normalise` wrote, timm by the `pretrained_cfg` that it finds in the folder.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

# Largest difference of a logit, relative to how far the answers to different images lie apart.
TOLERANCE = 1e-4
BATCH = 50
HAS_TIMM = all(importlib.util.find_spec(name) for name in ("timm", "torch"))


def in_batches(ask, pixels):
    return np.concatenate([ask(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)])


def onnx_answers(synth, folder, pixels, work):
    file = work / "student.onnx"
    export = [synth, "export", folder, "--to", "onnx", "--normalise", "-o", file, "-q"]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return in_batches(lambda batch: session.run(["logits"], {"image": batch / np.float32(255)})[0], pixels)


def timm_answers(folder, pixels):
    import timm
    import torch

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(data[key]).view(1, -1, 1, 1) for key in ("mean", "std"))

    def ask(batch):
        with torch.no_grad():
            return model((torch.from_numpy(batch) / 255 - mean) / std).numpy()

    return in_batches(ask, pixels)


def check(args, folder, work):
    file = work / "answers.safetensors"
    subprocess.run([args.answers, folder, args.dataset, str(args.count), file], check=True)
    given = load_file(file)
    pixels, labels, ours = given["pixels"], given["labels"], given["logits"].astype(np.float64)
    spread = np.ptp(ours, axis=0).max()
    assert spread > 1e-3 * np.abs(ours).max(), f"{folder}: all images get the same answer, which shows nothing"
    found = {"ONNX Runtime": onnx_answers(args.synth, folder, pixels, work)}
    config = json.loads((folder / "config.json").read_text())
    if not HAS_TIMM:
        print("timm: skipped, it is not installed")
    elif "model_type" in config:
        print(f"timm: skipped, it does not know {config['architecture']}")
    else:
        found["timm"] = timm_answers(folder, pixels)
    share = lambda logits: 100 * np.mean(logits.argmax(1) == labels)
    print(f"{folder.name} ({config['architecture']}, {'x'.join(map(str, pixels.shape[1:]))}), {len(labels)} images")
    print(f"  {'synth':<12}  {share(ours):.2f} % right")
    for name, logits in found.items():
        off, same = np.abs(logits - ours).max() / spread, (logits.argmax(1) == ours.argmax(1)).sum()
        print(f"  {name:<12}  {share(logits):.2f} % right, {same} of {len(labels)} answers the same, logits off by {off:.1e}")
        assert off < TOLERANCE, f"{folder} in {name}: off by {off:.1e} of the distance between answers"
        assert same == len(labels), f"{folder} in {name}: other answers"
    said = json.loads(
        subprocess.run(
            [args.synth, "eval", folder, "--data", args.dataset, "--limit", str(args.count), "--resize",
             "--precision", "f32", "--json"],
            check=True,
            capture_output=True,
        ).stdout
    )
    assert said["correct"] == (ours.argmax(1) == labels).sum(), "`synth eval` counts otherwise"


def main():
    parser = argparse.ArgumentParser()
    for name in ("synth", "answers", "dataset"):
        parser.add_argument(name, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("count", type=int)
    parser.add_argument("students", nargs="+", type=lambda path: pathlib.Path(path).resolve())
    args = parser.parse_args()
    for folder in args.students:
        with tempfile.TemporaryDirectory() as work:
            check(args, folder, pathlib.Path(work))
    print(f"{len(args.students)} students answer alike everywhere")


sys.exit(main())
