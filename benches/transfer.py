#!/usr/bin/env python3
"""Sets from anywhere beside each other: what a student learns from each, and what `synth inspect` said of it before.

    cargo build --release
    benches/transfer.py -o out/transfer                    # all of it: many hours; call it again to go on
    benches/transfer.py -o out/try --teacher resnet20 --only leaves --steps 150 --samples 2000           # a try
    benches/transfer.py -o out/transfer --page docs/TRANSFER.md                                           # the page alone

Standard library only. Every set is made once (seed 0), with the teacher's answers recorded for some views of every image, so that
the teacher costs nothing in training; students learn from it with every seed. The rows `augmented` are the exception: their
teacher answers live, on what Frank & Davis (2025) do to images (docs/COLLECT.md, "Learning from it"). Finished rows stand in
`OUT/results.jsonl` and are not made again (those of docs/TRANSFER.md are docs/results/transfer.jsonl); collections and distillations
that were interrupted go on where they were. Accuracies are those of the last step on the whole test set.
"""

import argparse
import os
import re
import statistics

from rows import Comparison, about_result, rank_correlation

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What students learnt by in the rows that stand in docs/TRANSFER.md.
SGD = ["--set", "student.muon=0"]

ALL = ["plain", "soft", "nayak", "boundary", "preferential"]
SIMPLE = ["plain", "soft"]
# Quotas fill a set with varied copies where a source has too few images: a set of the source's own size, too, tells quotas from copies.
FINITE = ["plain", "soft", "nayak", "nayak, equal size", "boundary", "preferential", "augmented"]

# Temperature and operations of RandAugment (both networks see mixtures all the time): of photographs, and of what is drawn.
PHOTOGRAPHS, DRAWN = (2, 2), (20, 4)

# Of every teacher: its folder, the student, the test set, and the sources with their variants. Paths are below --data.
TEACHERS = {
    "resnet20": {
        "model": "models/akamaster/resnet20-cifar10",
        "student": "resnet8",
        "test": "datasets/uoft-cs/cifar10",
        "sources": {
            "original": (["datasets/uoft-cs/cifar10:train"], ["plain"]),
            "CIFAR-100": (["datasets/uoft-cs/cifar100"], FINITE),
            "Tiny-ImageNet": (["datasets/DhanashriPalodkar/tiny-imagenet-32x32"], FINITE),
            "shaders": (["shaders"], [*ALL, "augmented"]),
            "leaves": (["leaves"], ALL),
            "noise": (["noise"], ALL),
            "inverted": (["INVERTED"], ["plain", "soft", "boundary"]),
            "inverted + shaders": (["INVERTED", "shaders=4"], ["plain", "soft", "nayak", "boundary"]),
        },
        "seeds": [0, 1],
    },
    "wrn-16-2": {
        "model": "models/COMP6248/wrn-16-2-cifar10",
        "student": "wrn-16-1",
        "test": "datasets/uoft-cs/cifar10",
        "sources": {
            "original": (["datasets/uoft-cs/cifar10:train"], ["plain"]),
            "CIFAR-100": (["datasets/uoft-cs/cifar100"], SIMPLE),
            "shaders": (["shaders"], SIMPLE),
            "leaves": (["leaves"], SIMPLE),
            "noise": (["noise"], SIMPLE),
        },
    },
    "mnist": {
        "model": "models/tracel-ai/mnist-cnn",
        "student": "resnet8",
        "test": "datasets/ylecun/mnist",
        "sources": {
            "Omniglot": (["datasets/brendenlake/omniglot-background-small"], SIMPLE),
            "shaders": (["shaders"], SIMPLE),
            "leaves": (["leaves"], SIMPLE),
            "noise": (["noise"], SIMPLE),
        },
    },
    "fashion-mnist": {
        "model": "models/saharshasamudrala05/fashion-mnist-cnn",
        "student": "resnet8",
        "test": "datasets/zalando-datasets/fashion_mnist",
        "sources": {
            "MNIST": (["datasets/ylecun/mnist"], SIMPLE),
            "shaders": (["shaders"], SIMPLE),
            "leaves": (["leaves"], SIMPLE),
            "noise": (["noise"], SIMPLE),
        },
    },
    "cifar100": {
        "model": "models/chenyaofo/cifar100_resnet20",
        "student": "resnet8",
        "test": "datasets/uoft-cs/cifar100",
        "sources": {
            "CIFAR-10": (["datasets/uoft-cs/cifar10:train"], SIMPLE),
            "Tiny-ImageNet": (["datasets/DhanashriPalodkar/tiny-imagenet-32x32"], SIMPLE),
            "shaders": (["shaders"], SIMPLE),
            "leaves": (["leaves"], SIMPLE),
            "noise": (["noise"], SIMPLE),
        },
    },
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-o", "--out", required=True, help="folder of sets, students and results.jsonl")
    p.add_argument("--data", default=os.path.join(ROOT, "../shared/data"), help="folder with datasets/ and models/")
    p.add_argument("--synth", default=os.path.join(ROOT, "target/release/synth"))
    p.add_argument("--threads", type=int)
    p.add_argument("--steps", type=int, default=15_000)
    p.add_argument("--samples", type=int, default=50_000, help="images of a set, where its source has as many")
    p.add_argument("--views", type=int, default=16, help="recorded answers per image")
    p.add_argument("--seeds", type=int, nargs="+", help="[default: 0, and 1 for the first teacher]")
    p.add_argument("--teacher", choices=TEACHERS, action="append", help="only these")
    p.add_argument("--only", default="", help="only rows whose `SOURCE, VARIANT` this regular expression finds something in")
    p.add_argument("--invert", default="", help="more options of `synth invert` for the inverted set")
    p.add_argument("--dry-run", action="store_true", help="say what would be done")
    p.add_argument("--page", help="write the table to this file; without --run nothing else is done")
    p.add_argument("--run", action="store_true", help="with --page: do what is missing first")
    p.add_argument("--machine", default="", help="with --page: what computed it, as a sentence of the page")
    return p.parse_args()


def plan(args):
    """All sets: teacher, source, variant, in the order of the table."""
    for name in args.teacher or TEACHERS:
        for source, (parts, variants) in TEACHERS[name]["sources"].items():
            for variant in variants:
                if re.search(args.only, f"{source}, {variant}"):
                    yield name, source, parts, variant


def folder(*words):
    return "-".join(words).replace(" ", "").replace("+", "-with-").replace(",", "-")


class Transfer(Comparison):
    def __init__(self, args):
        super().__init__(args, ["steps", "samples", "views", "invert"])
        self.said = {}

    def teacher(self, name):
        return os.path.join(self.args.data, TEACHERS[name]["model"])

    def options(self, variant):
        quarter = str(self.args.samples // 4)
        return {
            "nayak, equal size": ["--balance", "nayak"],
            "plain": ["--balance", "none"],
            "soft": ["--balance", "soft"],
            "nayak": ["--balance", "nayak"],
            "boundary": ["--balance", "soft", "--boundary", quarter],
            "preferential": ["--balance", "none", "--related"],
        }[variant]

    def inverted(self, name):
        """The inverted set of a teacher."""
        output = self.path("sets", folder(name, "inverted-itself"))
        self.synth("invert", self.teacher(name), "-o", output, "--views", self.args.views, "--resume", *SGD,
                   *self.args.invert.split())
        return output

    def set(self, name, source, parts, variant):
        """Makes a set, unless it is there: with --resume, the program looks whether it is the same one."""
        if parts == ["INVERTED"] and variant == "plain":
            return self.inverted(name)
        if variant == "augmented":
            return self.set(name, source, parts, "soft")
        sources, samples = [], self.args.samples
        for part in parts:
            is_path = part.startswith("datasets/")
            own = self.inverted(name) if part == "INVERTED" else part
            sources += ["--from", os.path.join(self.args.data, own) if is_path else own]
        if variant == "nayak, equal size":
            samples = min(samples, self.inspected(name, self.set(name, source, parts, "plain")).get("count", samples))
        output = self.path("sets", folder(name, source, variant, str(samples)))
        mixed = ["--distinct"] if len(parts) > 1 else []
        self.synth("collect", self.teacher(name), "-o", output, *sources, "--samples", samples,
                   "--views", self.args.views, *self.options(variant), *mixed, "--resume")
        return output

    def inspected(self, name, images):
        """What `inspect` says of a set; once, for all seeds."""
        if images not in self.said:
            self.said[images] = self.synth("inspect", images, "--teacher", self.teacher(name))
        return self.said[images]

    def answers(self, source, variant):
        """Options of `distill`."""
        if variant != "augmented":
            return ["--answers", "stored"]
        temperature, operations = DRAWN if source == "shaders" else PHOTOGRAPHS
        return ["--answers", "live", "--set", f"student.matching.kl.temperature={temperature}",
                "--set", f"student.rand_augment={operations}", "--set", "student.mixup_until=1"]

    def row(self, name, source, parts, variant, seed):
        about = TEACHERS[name]
        identity = f"{name}, {source}, {variant}, seed {seed}, {self.args.steps} steps, {self.args.samples} samples"
        if identity in self.rows:
            return
        images = self.set(name, source, parts, variant)
        output = self.path("students", folder(name, source, variant, str(seed), str(self.args.steps), str(self.args.samples)))
        made = self.synth("distill", images, "-o", output, "--student", about["student"], *self.answers(source, variant),
                          *SGD, "--steps", self.args.steps, "--seed", seed, "--resume")
        found = self.synth("eval", output, "--data", os.path.join(self.args.data, about["test"]))
        said = self.inspected(name, images)
        if self.args.dry_run:
            return
        criteria, set_of = said["criteria"], about_result(images)
        metrics, student = set_of.get("metrics", {}), about_result(output)
        self.rows.add({
            "id": identity, "teacher": name, "student": about["student"], "source": source, "variant": variant,
            "seed": seed, "steps": self.args.steps, "samples": self.args.samples, "images": said["count"],
            "views": self.args.views, "copies": metrics.get("varied_copies", 0), "boundary": metrics.get("boundary", 0),
            "device": student.get("device"), "precision": student.get("precision"),
            "collection_seconds": set_of.get("wall_seconds"), "peak_memory_mib": student.get("peak_memory_mib"),
            "score": criteria["score"]["value"], "verdict": criteria["score"]["verdict"],
            "relative_entropy": criteria["relative_entropy"], "top1": found["top1"],
            "held_out_agreement": made["metrics"]["held_out_agreement"],
            "distillation_seconds": made["wall_seconds"]["distillation"],
        })

    def all(self):
        rows = list(plan(self.args))
        for seed in self.args.seeds or [0, 1]:
            for row in rows:
                if self.args.seeds or seed in TEACHERS[row[0]].get("seeds", [0]):
                    self.row(*row, seed)

    def page(self):
        return page(list(self.rows.all.values()), self.args.steps, self.args.samples, self.args.machine)


def page(rows, steps, samples, machine):
    """The table as Markdown: one part per teacher, rows with the mean over seeds."""
    text = [
        "# What a student learns from which images", "",
        f"Students after {steps:,} steps of 128, last step, whole test set, in percent: mean over the seeds (lowest to highest).",
        "Written by `benches/transfer.py`. Sources are those of [COLLECT.md](COLLECT.md); `original` is the training set, `inverted` the",
        "set that `synth invert` makes with its defaults. Variants: `plain` is `--balance none`, `soft` and `nayak` are that balance,",
        f"`nayak, equal size` has as many images as the source, `boundary` is soft with `--boundary {samples // 4}`,",
        "`preferential` plain with `--related`, and `augmented` the soft set with live answers, RandAugment and mixtures all the time.", "",
        "The score is that of `synth inspect`, before any training; \"balance\" is its main part, the entropy of the teacher's decisions.",
        "Images \"of which made\" are varied copies of `nayak` and those from borders.", "", *([machine, ""] if machine else []),
    ]
    for name in TEACHERS:
        groups = {(source, variant): [] for source, (_, variants) in TEACHERS[name]["sources"].items() for variant in variants}
        for row in rows:
            budget = (row["steps"], row.get("samples", samples))
            if row["teacher"] == name and budget == (steps, samples) and (row["source"], row["variant"]) in groups:
                group = groups[row["source"], row["variant"]]
                group[:] = [other for other in group if other["seed"] != row["seed"]] + [row]
        groups = {key: group for key, group in groups.items() if group}
        if not groups:
            continue
        means = {key: statistics.mean(row["top1"] for row in group) for key, group in groups.items()}
        whole = means.get(("original", "plain"))
        first = next(iter(groups.values()))[0]
        where = sorted({f"{row['device']}, {row['precision']}" for group in groups.values() for row in group if row.get("device")})
        text += [f"## {name} to {first['student']}", "", *([f"Computed on: {'; '.join(where)}.", ""] if where else []),
                 "| source | variant | images | of which made | balance | score | accuracy | of original |",
                 "|---|---|---:|---:|---:|---:|---:|---:|"]
        for (source, variant), group in groups.items():
            found = [100 * row["top1"] for row in group]
            share = f"{100 * means[source, variant] / whole:.0f} %" if whole else ""
            spread = f" ({min(found):.1f} to {max(found):.1f})" if len(found) > 1 else ""
            made = group[0].get("copies", 0) + group[0].get("boundary", 0)
            text.append(f"| {source} | {variant} | {group[0]['images']:,} | {made:,} | {group[0]['relative_entropy']:.2f} | "
                        f"{group[0]['score']:.2f} | {statistics.mean(found):.1f}{spread} | {share} |")
        # The rows `augmented` learn from sets that are counted already.
        keys = [key for key in groups if key[1] != "augmented"]
        for what in ("score", "relative_entropy"):
            found = rank_correlation([groups[key][0][what] for key in keys], [means[key] for key in keys])
            if found is not None:
                called = {"score": "score", "relative_entropy": "balance"}[what]
                text += ["", f"Rank correlation (Spearman) of {called} and accuracy over {len(keys)} sets: {found:.2f}."]
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    Transfer(arguments()).carry_out()
