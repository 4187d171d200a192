#!/usr/bin/env python3
"""Students that answer for every pixel, by every route, with equal time: the table of segmentation.

    cargo build --release
    benches/pixels.py -o out/pixels                             # all of it: hours on two cores; call it again to go on
    benches/pixels.py -o out/try --minutes 1 --epochs 1 --samples 200       # a try, in a folder of its own
    benches/pixels.py -o out/pixels --page docs/PIXELS.md       # the page alone

Standard library only. A teacher is trained on CamVid at 160x120 first (`--model` takes one that is there already, with `--data` of its
size). Every other row has `--minutes` of wall time: inversion and distillation together, or distillation alone on a set that was
collected before. The student on real images has as many updates as the one that learns the teacher's answers on them. Finished rows
stand in `OUT/results.jsonl` and are not made again; what was interrupted goes on. Numbers are those of the last step on the test split.
"""

import argparse
import math
import os

from rows import Comparison, about_result, is_made

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REAL, ANSWERED = "real images and labels", "real images, the teacher's answers"
SOURCES = {
    ANSWERED: ["{data}:train"],
    "shaders": ["shaders"],
    "CIFAR-100, enlarged": ["{shared}/datasets/uoft-cs/cifar100"],
    "Tiny-ImageNet, enlarged": ["{shared}/datasets/DhanashriPalodkar/tiny-imagenet-32x32"],
}
# What the published methods get here: a generator whose step costs no more than one of the student, and rounds of which a hundred
# fit into a quarter of an hour (`fast` updates its student 400 times between batches).
RECIPES = {
    "dfad": ["generator.width=32"],
    "fast": ["generator.width=32", "adversary_steps=50"],
    "ssd": [],
    "synth": [],
}


def arguments():
    shared = os.path.join(ROOT, "../shared/data")
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-o", "--out", required=True, help="folder of models, sets and results.jsonl")
    p.add_argument("--shared", default=shared, help="folder with datasets/ and models/")
    p.add_argument("--data", help="images with label images [default: CamVid at 160x120]")
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
    p.add_argument("--only", default="", help="only rows with this in their name")
    p.add_argument("--threads", type=int)
    p.add_argument("--device", default="auto")
    p.add_argument("--dry-run", action="store_true", help="say what would be done")
    p.add_argument("--page", help="write the table to this file; without --run nothing else is done")
    p.add_argument("--run", action="store_true", help="with --page: do what is missing first")
    args = p.parse_args()
    args.data = args.data or os.path.join(args.shared, "datasets/alexgkendall/camvid/160x120")
    return args


def folder(*words):
    return "-".join(words).replace(" ", "-").replace(",", "").replace("'", "")


class Pixels(Comparison):
    def compute(self, *words):
        return self.synth(*words, "--device", self.args.device)

    def train(self, network, epochs, seed, output):
        if not is_made(output):
            self.compute("train", network, "--data", self.args.data, "--void", 11, "--num-classes", 11, "--epochs", epochs,
                         "--seed", seed, "-o", output, "--resume")
        return output

    def teacher(self):
        return self.args.model or self.train(self.args.teacher, self.args.epochs, 0, self.path("teacher"))

    def measured(self, model, overlays=()):
        return self.compute("eval", model, "--data", self.args.data, *overlays)

    def set(self, source):
        output = self.path("sets", folder(source, str(self.args.samples)))
        if not is_made(output):
            parts = [part.format(data=self.args.data, shared=self.args.shared) for part in SOURCES[source]]
            words = [word for part in parts for word in ("--from", part)]
            self.compute("collect", self.teacher(), "-o", output, *words, "--samples", self.args.samples, "--resume")
        return output

    def student(self, name, seed):
        """The folder of a row's student."""
        output = self.path("students", folder(name, str(seed), f"{self.args.minutes:g} minutes"))
        time = ["--minutes", self.args.minutes, "--seed", seed, "-o", output, "--set", f"student.batch={self.args.batch}"]
        if name in RECIPES:
            # Published batches are for images of 32 pixels a side.
            choices = [word for choice in RECIPES[name] for word in ("--set", choice)]
            self.compute("run", self.teacher(), "--student", self.args.student, "--init", "adversary", "--recipe", name,
                         *time, "--set", f"batch={self.args.batch}", *choices, "--snapshots", 8, "--resume")
            return os.path.join(output, "student")
        if name == REAL:
            answered = self.row(ANSWERED, seed)
            epochs = max(1, math.ceil(answered.get("updates", 0) * self.args.batch / self.args.images))
            return self.train(self.args.student, epochs, seed, output)
        self.compute("distill", self.set(name), "--teacher", self.teacher(), "--answers", "live", "--student",
                     self.args.student, "--init", "scratch", *time, "--resume")
        return output

    def row(self, name, seed):
        identity = f"{name}, seed {seed}, {self.args.minutes:g} minutes"
        if identity not in self.rows:
            model = self.student(name, seed)
            found = self.measured(model, ["--overlays", self.path("overlays", folder(name, str(seed))), "--force"])
            if self.args.dry_run:
                return {}
            made = about_result(model)
            self.rows.add({
                "id": identity, "name": name, "seed": seed, "student": self.args.student, "minutes": self.args.minutes,
                "updates": made.get("steps"), "seconds": made.get("wall_seconds"), "miou": found["miou"],
                "pixel_accuracy": found["pixel_accuracy"],
            })
        return self.rows.all[identity]

    def all(self):
        if "teacher" not in self.rows:
            found = self.measured(self.teacher(), ["--overlays", self.path("overlays", "teacher"), "--force"])
            if not self.args.dry_run:
                self.rows.add({"id": "teacher", "name": "teacher", "miou": found["miou"],
                               "pixel_accuracy": found["pixel_accuracy"]})
        for seed in self.args.seeds:
            for name in [REAL, *SOURCES, *RECIPES]:
                if self.args.only in name:
                    self.row(name, seed)

    def page(self):
        return page(list(self.rows.all.values()), self.args)


def page(rows, args):
    """The table as Markdown."""
    rows = [row for row in rows if row["name"] == "teacher" or row["minutes"] == args.minutes]
    best = max((row["miou"] for row in rows if row["name"] == ANSWERED), default=None)
    text = ["# Students that answer for every pixel", "",
            f"CamVid (11 classes, void left out) at {os.path.basename(args.data.rstrip('/'))}, teacher "
            f"`{os.path.basename(args.model.rstrip('/')) if args.model else args.teacher}`, student `{args.student}`, test split, last",
            f"step; {args.minutes:g} minutes for every row, and for the student on real labels as many updates as that gave with the",
            "teacher's answers. Written by `benches/pixels.py`, which says what a row is.", "",
            "| images | seed | mIoU | of the teacher's answers on real images | pixels right |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        share = f"{100 * row['miou'] / best:.0f} %" if best and row["name"] != "teacher" else ""
        text.append(f"| {row['name']} | {row.get('seed', '')} | {100 * row['miou']:.1f} | {share} | {100 * row['pixel_accuracy']:.1f} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    Pixels(arguments()).carry_out()
