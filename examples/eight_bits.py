"""An ONNX file in 8-bit integers, its ranges calibrated on a synthetic set: no image of the training data is needed for that either.

    synth export first/student --to onnx --normalise -o student.onnx
    python examples/eight_bits.py student.onnx first/set student.int8.onnx [--test FOLDER]

Needs onnxruntime, onnx and datasets. FOLDER is a dataset with a split `test`; with it, both files are asked its images and the
accuracies are printed, without it only how often they agree on the set's images that calibrated nothing. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time

import datasets
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BATCH = 64


class Batches(CalibrationDataReader):
    """Images `[N, C, H, W]` as ONNX Runtime's calibration asks for them."""

    def __init__(self, images):
        self.batches = in_batches(images)

    def get_next(self):
        return next(({"image": batch} for batch in self.batches), None)


def in_batches(images):
    return (images[i : i + BATCH] for i in range(0, len(images), BATCH))


def read(rows, indices, mode):
    """The images of these rows as f32 in 0..1, `[N, C, H, W]`, and their labels."""
    rows = rows.select(indices)
    image = next(name for name, kind in rows.features.items() if isinstance(kind, datasets.Image))
    pixels = np.stack([np.asarray(picture.convert(mode), np.float32) / 255 for picture in rows[image]])
    pixels = pixels.transpose(0, 3, 1, 2) if pixels.ndim == 4 else pixels[:, None]
    return np.ascontiguousarray(pixels), np.array(rows["label"])


def ask(file, images):
    """The classes that a file answers, and the milliseconds of one thread per image."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    session.run(None, {"image": images[:BATCH]})
    begun = time.perf_counter()
    answers = [session.run(None, {"image": batch})[0].argmax(1) for batch in in_batches(images)]
    return np.concatenate(answers), 1000 * (time.perf_counter() - begun) / len(images)


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("model", help="what `synth export --to onnx --normalise` wrote, of a classifier")
    words.add_argument("set", help="folder of the set that calibrates")
    words.add_argument("out", help="file to write")
    words.add_argument("--images", type=int, default=512, help="how many of the set's images calibrate")
    words.add_argument("--test", help="folder of a dataset with real images and labels, for its accuracies")
    words.add_argument(
        "--full-range",
        action="store_true",
        help="weights of 8 bits in place of 7: for processors with VNNI or of ARM; x86 without VNNI would cut sums off",
    )
    args = words.parse_args()

    about = {entry.key: entry.value for entry in onnx.load(args.model).metadata_props}
    if about.get("normalisation") != "inside the graph":
        words.error(f"{args.model}: export it with --normalise, so that it takes pixels in 0..1")
    channels = onnxruntime.InferenceSession(args.model).get_inputs()[0].shape[1]
    mode = "L" if channels == 1 else "RGB"

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(args.set, split="train")
    if len(rows) <= args.images:
        words.error(f"--images {args.images}: {args.set} has {len(rows)} images, and some must be left to compare with")
    order = np.random.default_rng(0).permutation(len(rows))
    calibration, _ = read(rows, order[: args.images], mode)
    with tempfile.TemporaryDirectory() as work:
        prepared = os.path.join(work, "prepared.onnx")
        quant_pre_process(args.model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            args.out,
            Batches(calibration),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=not args.full_range,
        )

    found = {"bytes": [os.path.getsize(file) for file in (args.model, args.out)]}
    if args.test:
        test = datasets.load_dataset(args.test, split="test")
        images, labels = read(test, range(len(test)), mode)
    else:
        images, labels = read(rows, order[args.images :][:2000], mode)
    (before, ms_before), (after, ms_after) = (ask(file, images) for file in (args.model, args.out))
    if args.test:
        found["accuracy"] = [round(100 * float((answer == labels).mean()), 2) for answer in (before, after)]
    found |= {
        "images": len(images),
        "agreement": round(100 * float((before == after).mean()), 2),
        "ms_per_image": [round(ms, 3) for ms in (ms_before, ms_after)],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
