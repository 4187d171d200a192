"""Opens a set folder the way its users will: with the `datasets` library.

    python tests/python/check_set.py FOLDER [EXPECTED]

EXPECTED is an .npy file of uint8 pixels [N, H, W, C], or a JSON file with any of: pixels_sha256 (of these bytes), count,
shape ([H, W, C]), class_names, labels. Exits with 1 and a line on stderr at the first mismatch. Needs datasets, pillow
and numpy; no network.
"""

import hashlib
import json
import os
import sys
import tempfile

os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"

COLUMNS = ["image", "label", "teacher_logits", "teacher_confidence", "priority"]


class Mismatch(Exception):
    pass


def require(condition, message):
    if not condition:
        raise Mismatch(message)


def load(folder, cache):
    import datasets

    splits = datasets.load_dataset(folder, cache_dir=cache)
    require(list(splits) == ["train"], f"splits {list(splits)} instead of ['train']")
    rows = splits["train"]
    described = json.load(open(os.path.join(folder, "synth.json"), encoding="utf-8"))["set"]
    views = described.get("views", [])
    expected = COLUMNS + (["view_logits"] if views else [])
    require(rows.column_names == expected, f"columns {rows.column_names} instead of {expected}")
    require(isinstance(rows.features["image"], datasets.Image), "`image` is no Image feature")
    require(isinstance(rows.features["label"], datasets.ClassLabel), "`label` is no ClassLabel feature")
    return rows, described, len(views)


def check_images(rows, described):
    import numpy

    height, width, channels = (described[k] for k in ("height", "width", "channels"))
    mode = {1: "L", 3: "RGB"}[channels]
    pixels = numpy.empty((len(rows), height, width, channels), dtype=numpy.uint8)
    for i, row in enumerate(rows.select_columns(["image"])):
        image = row["image"]
        require(image.format == "PNG", f"row {i}: {image.format} instead of PNG")
        require(image.mode == mode, f"row {i}: mode {image.mode} instead of {mode}")
        require(image.size == (width, height), f"row {i}: size {image.size} instead of {(width, height)}")
        pixels[i] = numpy.asarray(image).reshape(height, width, channels)
    return pixels


def check_numbers(rows, described, views):
    import numpy

    classes = described["classes"]
    names = rows.features["label"].names
    require(len(rows) == described["count"], f"{len(rows)} rows instead of {described['count']}")
    require(len(names) == classes, f"{len(names)} class names instead of {classes}")
    numbers = rows.select_columns([c for c in rows.column_names if c != "image"]).to_dict()
    labels = numpy.array(numbers["label"])
    require(((labels >= 0) & (labels < classes)).all(), f"labels from {labels.min()} to {labels.max()}")
    for column, length in [("teacher_logits", classes)] + ([("view_logits", views * classes)] if views else []):
        for i, values in enumerate(numbers[column]):
            require(len(values) == length, f"row {i}: {len(values)} {column} instead of {length}")
        require(numpy.isfinite(numbers[column]).all(), f"{column} are not all finite")
    logits = numpy.array(numbers["teacher_logits"], dtype=numpy.float64)
    powers = numpy.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    off = numpy.abs(confidence - numbers["teacher_confidence"]).max()
    require(off < 1e-5, f"teacher_confidence is off by up to {off}")
    priority = numpy.array(numbers["priority"])
    require((numpy.isfinite(priority) & (priority >= 0)).all(), "priorities are not all finite and at least 0")
    return labels, (logits.argmax(axis=1) == labels).mean()


def compare(path, rows, labels, pixels):
    if path.endswith(".npy"):
        import numpy

        expected = numpy.load(path)
        require(expected.shape == pixels.shape, f"pixels {pixels.shape} instead of {expected.shape}")
        require((expected == pixels).all(), f"{(expected != pixels).sum()} pixels differ")
        return
    found = {
        "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "count": len(rows),
        "shape": list(pixels.shape[1:]),
        "class_names": rows.features["label"].names,
        "labels": labels.tolist(),
    }
    for key, value in json.load(open(path, encoding="utf-8")).items():
        require(key in found, f"{path} asks for `{key}`, which is not checked here")
        require(found[key] == value, f"{key}: {str(found[key])[:80]} instead of {str(value)[:80]}")


def main(arguments):
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as cache:
        try:
            rows, described, views = load(arguments[0], cache)
            labels, agreement = check_numbers(rows, described, views)
            pixels = check_images(rows, described)
            if len(arguments) == 2:
                compare(arguments[1], rows, labels, pixels)
        except Exception as problem:  # A crash of the library is a mismatch too.
            print(f"{arguments[0]}: {' '.join(f'{type(problem).__name__}: {problem}'.split())}", file=sys.stderr)
            return 1
    print(f"{arguments[0]}: {len(rows)} images of {pixels.shape[1:]}, {described['classes']} classes, {views} views")
    print(f"argmax agreement of teacher_logits with label: {agreement:.4f}")
    print(f"pixels sha256: {hashlib.sha256(pixels.tobytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
