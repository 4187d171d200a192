"""Runs what `cargo run --release --example export_all -- FOLDER` wrote in ONNX Runtime and compares with synth's logits.

Needs: onnx, onnxruntime, numpy, safetensors. Usage: check_onnx.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

# Largest difference of a logit, relative to how far the answers to different images lie apart: what a wrong operator moves is
# small beside the logits themselves if these are nearly the same for all images.
TOLERANCE = 1e-4


def check(path: Path) -> float:
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert model.producer_name == "synth" and model.producer_version, path
    expected = load_file(path.with_suffix(".safetensors"))
    inside = path.stem.endswith(".normalised")
    images = expected["image" if inside else "normalised"]
    assert about["normalisation"] == ("inside the graph" if inside else "before the graph"), about
    assert len(json.loads(about["mean"])) == len(json.loads(about["std"])) == images.shape[1], about
    assert json.loads(about["class_names"])[3] == "class 3", about
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(float)", ["batch", *images.shape[1:]]), path
    logits = expected["logits"].astype(np.float64)
    assert (answer.name, answer.type, answer.shape) == ("logits", "tensor(float)", ["batch", *logits.shape[1:]]), path
    spread = np.ptp(logits, axis=0).max()
    assert spread > 1e-3 * np.abs(logits).max(), f"{path}: all images get the same answer, which shows nothing"
    worst = 0.0
    for batch in (slice(0, 3), slice(0, 1), slice(2, 3)):
        (found,) = session.run(["logits"], {"image": images[batch]})
        assert found.shape == logits[batch].shape, path
        worst = max(worst, np.abs(found - logits[batch]).max() / spread)
    assert worst < TOLERANCE, f"{path}: off by {worst:.2e} of the distance between answers"
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    print(f"{path.stem:<32} opset {opset}  {len(model.graph.node):>4} nodes  off by {worst:.1e}")
    return worst


def main() -> None:
    files = sorted(Path(sys.argv[1]).glob("*.onnx"))
    assert files, f"no .onnx file in {sys.argv[1]}"
    worst = max(check(path) for path in files)
    print(f"{len(files)} files with ONNX Runtime {onnxruntime.__version__}: off by {worst:.1e} at most")


if __name__ == "__main__":
    main()
