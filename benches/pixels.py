#!/usr/bin/env python3
"""Students that answer for every pixel, by every route, with equal time: the tables of segmentation.

    cargo build --release
    benches/pixels.py -o out/pixels                             # CamVid at 160x120: hours on two cores; call it again to go on
    benches/pixels.py -o out/pixels --size 320x240 --model ../shared/data/models/sacmehta/espnet-camvid --student espnet-p2-q3 \\
        --batch 8 --minutes 25 --only answers ssd fast          # a larger pair, for some rows
    benches/pixels.py -o out/try --minutes 1 --epochs 1 --samples 200       # a try, in a folder of its own
    benches/pixels.py -o out/pixels --page docs/PIXELS.md       # the page alone, of all comparisons in the folder

Standard library only. A teacher is trained first (`--model` takes one that is there already). Every other row has `--minutes` of wall
time: inversion and distillation together, or distillation alone on a set that was collected before. The student on real labels has as
many updates as the one that learns the teacher's answers on the same images. Training images are those of 160x120, enlarged where the
comparison is of larger ones. Finished rows stand in `OUT/COMPARISON/results.jsonl` and are not made again; what was interrupted goes on.
Numbers are those of the last step on the test split, and so are the curves, which are measured afterwards on the weights that a run
wrote on its way.
"""

import argparse
import json
import math
import os
import shutil

from rows import Comparison, Rows, about_result, is_made

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(ROOT, "../shared/data")
CAMVID = "datasets/alexgkendall/camvid"
# The size in which there are training images.
TRAINING = "160x120"
CLASSES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
REAL, ANSWERED = "real images and labels", "real images, the teacher's answers"
SOURCES = {
    ANSWERED: f"{CAMVID}/{TRAINING}:train",
    "shaders": None,
    "CIFAR-100, enlarged": "datasets/uoft-cs/cifar100",
    "Tiny-ImageNet, enlarged": "datasets/DhanashriPalodkar/tiny-imagenet-32x32",
}
# What the published methods get here: a generator whose step costs no more than one of the student, and rounds of which a hundred
# fit into a quarter of an hour (`fast` updates its student 400 times between batches).
RECIPES = {
    "dfad": ["generator.width=32"],
    "fast": ["generator.width=32", "adversary_steps=50"],
    "ssd": [],
    "ssd with grain": ["generator.grain=true"],
}
# How often a run writes its student's weights.
SNAPSHOTS = 8


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-o", "--out", required=True, help="folder of comparisons: models, sets and results.jsonl of each")
    p.add_argument("--shared", default=SHARED, help="folder with datasets/ and models/")
    p.add_argument("--size", default=TRAINING, help="width and height of the images")
    p.add_argument("--synth", default=os.path.join(ROOT, "target/release/synth"))
    p.add_argument("--model", help="a teacher that is there, instead of one that is trained")
    p.add_argument("--teacher", default="espnet-p2-q8", help="network of the teacher that is trained")
    p.add_argument("--student", default="espnet-c-p1-q1")
    p.add_argument("--epochs", type=int, default=150, help="of the teacher")
    p.add_argument("--minutes", type=float, default=15)
    p.add_argument("--batch", type=int, default=16, help="of students and generators")
    p.add_argument("--images", type=int, default=367, help="real training images")
    p.add_argument("--samples", type=int, default=2000, help="images of a set, where its source has as many")
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    p.add_argument("--only", nargs="+", default=[""], help="only rows with one of these in their name")
    p.add_argument("--threads", type=int)
    p.add_argument("--device", default="auto")
    p.add_argument("--dry-run", action="store_true", help="say what would be done")
    p.add_argument("--page", help="write the tables to this file; without --run nothing else is done")
    p.add_argument("--run", action="store_true", help="with --page: do what is missing first")
    return p.parse_args()


def folder(*words):
    return "-".join(words).replace(" ", "-").replace(",", "").replace("'", "")


class Pixels(Comparison):
    def __init__(self, args):
        self.all_of_them = args.out
        args.out = os.path.join(args.out, folder(args.size, args.student, f"{args.minutes:g} minutes"))
        super().__init__(args, ["model", "teacher", "epochs", "batch", "images", "samples"])

    def compute(self, *words):
        return self.synth(*words, "--device", self.args.device)

    def input_size(self):
        """The size as an option of a command that asks the teacher."""
        width, height = self.args.size.split("x")
        return ["--input-size", f"3,{height},{width}"]

    def train(self, network, epochs, seed, output, *options):
        if not is_made(output):
            self.compute("train", network, "--data", os.path.join(self.args.shared, CAMVID, TRAINING), "--size", self.args.size,
                         "--void", len(CLASSES), "--num-classes", len(CLASSES), "--epochs", epochs, "--seed", seed, "-o", output, "--resume", *options)
        return output

    def teacher(self):
        return self.args.model or self.train(self.args.teacher, self.args.epochs, 0, self.path("teacher"))

    def measured(self, model, *options):
        """Measures of a model on the test split."""
        found = self.compute("eval", model, "--data", os.path.join(self.args.shared, CAMVID, self.args.size), *options)
        return {key: found.get(key) for key in ["miou", "pixel_accuracy", "iou"]}

    def set(self, source):
        output = self.path("sets", folder(source, str(self.args.samples)))
        if not is_made(output):
            place = SOURCES[source]
            self.compute("collect", self.teacher(), "-o", output, "--from", os.path.join(self.args.shared, place) if place else source,
                         "--samples", self.args.samples, *self.input_size(), "--resume")
        return output

    def student(self, name, seed):
        """The folder of a row's run, and that of the student in it."""
        output = self.path("students", folder(name, str(seed)))
        time = ["--minutes", self.args.minutes, "--seed", seed, "-o", output, "--set", f"student.batch={self.args.batch}",
                "--snapshots", SNAPSHOTS, "--resume"]
        if name in RECIPES:
            # Published batches are for images of 32 pixels a side.
            choices = [word for choice in RECIPES[name] for word in ("--set", choice)]
            if not is_made(output):
                self.compute("run", self.teacher(), "--student", self.args.student, "--init", "adversary", "--recipe", name.split()[0],
                             *self.input_size(), *time, "--set", f"batch={self.args.batch}", *choices)
            return output, os.path.join(output, "student")
        if name == REAL:
            answered = self.row(ANSWERED, seed)
            epochs = max(1, math.ceil(answered.get("updates", 0) * self.args.batch / self.args.images))
            self.train(self.args.student, epochs, seed, output, "--set", f"batch={self.args.batch}")
        elif not is_made(output):
            self.compute("distill", self.set(name), "--teacher", self.teacher(), "--answers", "live", "--student",
                         self.args.student, "--init", "scratch", *time)
        return output, output

    def curve(self, run, student):
        """Minutes and mIoU of what a run wrote on its way."""
        index = os.path.join(run, "snapshots", "index.jsonl")
        if not os.path.exists(index):
            return []
        with open(index, encoding="utf-8") as lines:
            snapshots = [json.loads(line) for line in lines]
        model = self.path("snapshot")
        os.makedirs(model, exist_ok=True)
        shutil.copy(os.path.join(student, "config.json"), model)
        curve = []
        for snapshot in snapshots:
            shutil.copy(os.path.join(run, "snapshots", snapshot["file"]), os.path.join(model, "model.safetensors"))
            curve.append([round(snapshot["seconds"] / 60, 2), self.measured(model)["miou"]])
        shutil.rmtree(model)
        return curve

    def updates(self, run, model):
        """All of a student: the adversary that it was in the rounds of an inversion, and of labels as many as its epochs had."""
        made = about_result(model)
        if "steps" not in made:
            return made["recipe"]["epochs"] * math.ceil(self.args.images / made["recipe"]["batch"])
        second_stage = run != model and not made.get("on_the_fly")
        before = about_result(os.path.join(run, "set"))["metrics"]["adversary_updates"] if second_stage else 0
        return before + made["steps"]

    def row(self, name, seed):
        identity = f"{name}, seed {seed}"
        if identity not in self.rows:
            run, model = self.student(name, seed)
            found = self.measured(model, "--overlays", self.path("overlays", folder(name, str(seed))), "--force")
            if self.args.dry_run:
                return {}
            self.rows.add({"id": identity, "name": name, "seed": seed, "updates": self.updates(run, model), **found,
                           "curve": self.curve(run, model)})
        return self.rows.all[identity]

    def all(self):
        args = self.args
        if "teacher" not in self.rows:
            found = self.measured(self.teacher(), "--overlays", self.path("overlays", "teacher"), "--force")
            if not args.dry_run:
                self.rows.add({
                    "id": "teacher", "name": "teacher", "size": args.size, "minutes": args.minutes, "student": args.student,
                    "teacher": os.path.basename(args.model.rstrip("/")) if args.model else args.teacher, "batch": args.batch, **found,
                })
        for seed in args.seeds:
            for name in [REAL, *SOURCES, *RECIPES]:
                if any(part in name for part in args.only):
                    self.row(name, seed)

    def page(self):
        return page(self.all_of_them)

    def is_empty(self):
        return not comparisons(self.all_of_them)


def table(head, rows):
    """A table as Markdown, its first column words, the others numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines] + [""]


def per_cent(value):
    return f"{100 * value:.1f}"


def section(rows):
    """What one comparison found."""
    about, rows = rows["teacher"], list(rows.values())
    students = rows[1:]
    best = max((row["miou"] for row in students if row["name"] == ANSWERED), default=None)
    title = {id(row): row["name"] + (f", seed {row['seed']}" if row.get("seed") else "") for row in rows}
    share = {id(row): f"{100 * row['miou'] / best:.0f} %" if best else "" for row in students}
    text = [f"## {about['size']}: `{about['teacher']}` to `{about['student']}`, {about['minutes']:g} minutes", "",
            f"Batches of {about['batch']} images.", ""]
    text += table(["images", "updates", "mIoU", "of the answers on real images", "pixels right"],
                  [[title[id(row)], row.get("updates", ""), per_cent(row["miou"]), share.get(id(row), ""),
                    per_cent(row["pixel_accuracy"])] for row in rows])
    text += ["IoU of every class:", ""]
    text += table(["images", *CLASSES], [[title[id(row)], *(f"{100 * value:.0f}" for value in row["iou"] if value is not None)] for row in rows])
    curves = [row for row in students if row["curve"]]
    if curves:
        text += [f"mIoU on the way, in parts of the {about['minutes']:g} minutes:", ""]
        most = max(len(row["curve"]) for row in curves)
        text += table(["images", *(f"{i + 1}/{SNAPSHOTS}" for i in range(most)), "end"],
                      [[title[id(row)], *(per_cent(miou) for _, miou in row["curve"]), *[""] * (most - len(row["curve"])),
                        per_cent(row["miou"])] for row in curves])
    return text


def comparisons(out):
    """The rows of each comparison in a folder."""
    names = sorted(os.listdir(out)) if os.path.isdir(out) else []
    found = [Rows(os.path.join(out, name, "results.jsonl")) for name in names]
    return [rows.all for rows in found if "teacher" in rows]


def page(out):
    """All comparisons of a folder as Markdown."""
    text = ["# Students that answer for every pixel", "",
            "CamVid (11 classes, void left out), test split, last step. Every row has the same time; the student on real labels has as",
            "many updates as the one that learns the teacher's answers on the same images. For pixels `synth` is `ssd`; grain is",
            "`generator.grain`. Written by `benches/pixels.py`, which says what a row is.", "",
            "Inversions (`dfad`, `fast`, `ssd`) are `synth run --init adversary`: without it, a student starts from those of the teacher's",
            "blocks that fit. `fast` has `generator.width=32` and `adversary_steps=50`, `dfad` has `generator.width=32`; `batch` and",
            "`student.batch` are what a section says.", ""]
    for rows in comparisons(out):
        text += section(rows)
    return "\n".join(text)


if __name__ == "__main__":
    Pixels(arguments()).carry_out()
