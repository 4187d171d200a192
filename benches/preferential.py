#!/usr/bin/env python3
"""Preferential sampling against an even draw, on a pool of which nine tenths have nothing to do with the teacher's task.

    cargo build --release
    benches/preferential.py -o out/preferential
    benches/preferential.py -o out/try --steps 100 --pool 1000 --snapshots 5                # a try, in a folder of its own

Standard library only. One pool of training images of CIFAR-10 (a tenth) and drawn ones and foreign letters is collected twice, all
of it, once with `--related`: the weights are all that differs. Students learn from both with the same seeds, and are measured on the
test set at some snapshots. Rows go to `OUT/results.jsonl`, the curves to `OUT/curves.svg`; what is there is not made again.
"""

import argparse
import json
import os
import shutil
import tempfile

from rows import Program, Rows, is_made

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELATED = ["datasets/uoft-cs/cifar10:train=1"]
UNRELATED = ["noise=3", "leaves=3", "datasets/brendenlake/omniglot-background-small=1", "noise:uniform=2"]
WAYS = {"uniform": [], "preferential": ["--related"]}
COLOURS = {"uniform": "#888888", "preferential": "#c0392b"}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("-o", "--out", required=True)
    p.add_argument("--data", default=os.path.join(ROOT, "../shared/data"), help="folder with datasets/ and models/")
    p.add_argument("--synth", default=os.path.join(ROOT, "target/release/synth"))
    p.add_argument("--teacher", default="models/akamaster/resnet20-cifar10")
    p.add_argument("--student", default="resnet8")
    p.add_argument("--test", default="datasets/uoft-cs/cifar10")
    p.add_argument("--threads", type=int)
    p.add_argument("--pool", type=int, default=40_000)
    p.add_argument("--steps", type=int, default=6_000)
    p.add_argument("--snapshots", type=int, default=30)
    p.add_argument("--views", type=int, default=16, help="recorded answers per image; 0 lets the teacher answer live")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    return p.parse_args()


def source(args, text):
    return os.path.join(args.data, text) if text.startswith("datasets/") else text


def collected(args, synth, way):
    output = os.path.join(args.out, f"set-{way}")
    if not is_made(output):
        sources = [word for text in RELATED + UNRELATED for word in ("--from", source(args, text))]
        synth("collect", os.path.join(args.data, args.teacher), "-o", output, *sources, "--samples", args.pool,
              "--balance", "none", "--views", args.views, *WAYS[way], "--resume")
    return output


def curve(args, synth, rows, way, seed):
    """Accuracy at every snapshot of one run."""
    output = os.path.join(args.out, f"student-{way}-{seed}-{args.steps}")
    images = collected(args, synth, way)
    synth("distill", images, "-o", output, "--student", args.student, "--steps", args.steps, "--seed", seed,
          "--answers", "stored" if args.views else "live", "--snapshots", args.snapshots, "--resume",
          # As in the rows that are published.
          "--set", "student.muon=0")
    snapshots = os.path.join(output, "snapshots")
    with open(os.path.join(snapshots, "index.jsonl"), encoding="utf-8") as lines:
        taken = [json.loads(line) for line in lines]
    for snapshot in taken:
        identity = f"{way}, seed {seed}, {snapshot['updates']} of {args.steps} steps"
        if identity in rows:
            continue
        with tempfile.TemporaryDirectory() as model:
            shutil.copy(os.path.join(output, "config.json"), model)
            shutil.copy(os.path.join(snapshots, snapshot["file"]), os.path.join(model, "model.safetensors"))
            found = synth("eval", model, "--data", os.path.join(args.data, args.test))
        rows.add({"id": identity, "way": way, "seed": seed, "steps": args.steps, "updates": snapshot["updates"],
                  "top1": found["top1"]})


def curves(args, rows):
    """Of every way: updates and mean accuracy over the seeds."""
    found = {}
    for way in WAYS:
        points = {}
        for row in rows.all.values():
            if (row["way"], row["steps"]) == (way, args.steps) and row["seed"] in args.seeds:
                points.setdefault(row["updates"], []).append(row["top1"])
        found[way] = sorted((updates, sum(v) / len(v)) for updates, v in points.items() if len(v) == len(args.seeds))
    return found


def steps_to(points, target):
    """The first step at which a curve reaches an accuracy, between two snapshots along a line."""
    before = (0, 0.0)
    for updates, accuracy in points:
        if accuracy >= target:
            share = (target - before[1]) / max(accuracy - before[1], 1e-9)
            return before[0] + share * (updates - before[0])
        before = (updates, accuracy)
    return None


def table(found):
    best = min(max((accuracy for _, accuracy in points), default=0) for points in found.values())
    lines = ["| accuracy | uniform: steps | preferential: steps | ratio |", "|---:|---:|---:|---:|"]
    for target in [t / 100 for t in range(20, 100, 5) if t / 100 <= best] + [best]:
        even, preferred = (steps_to(found[way], target) for way in ("uniform", "preferential"))
        if even and preferred:
            lines.append(f"| {100 * target:.1f} % | {even:.0f} | {preferred:.0f} | {preferred / even:.2f} |")
    return "\n".join(lines)


def svg(args, found):
    """The curves as a picture."""
    width, height, left, below = 720, 420, 60, 50
    x = lambda updates: left + (width - left - 20) * updates / args.steps
    y = lambda accuracy: height - below - (height - below - 20) * accuracy
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for tenth in range(0, 11, 2):
        at = y(tenth / 10)
        lines.append(f'<line x1="{left}" x2="{width - 20}" y1="{at:.1f}" y2="{at:.1f}" stroke="#dddddd"/>'
                     f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10 * tenth} %</text>')
    for quarter in range(5):
        at = args.steps * quarter / 4
        lines.append(f'<text x="{x(at):.1f}" y="{height - below + 20}" text-anchor="middle">{at:.0f}</text>')
    lines.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">updates</text>')
    for place, (way, points) in enumerate(found.items()):
        path = " ".join(f"{x(updates):.1f},{y(accuracy):.1f}" for updates, accuracy in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"/>'
                     f'<text x="{left + 20}" y="{40 + 18 * place}" fill="{COLOURS[way]}">{way}</text>')
    return "\n".join(lines + ["</svg>\n"])


def main():
    args = arguments()
    os.makedirs(args.out, exist_ok=True)
    synth, rows = Program(args.synth, args.threads), Rows(os.path.join(args.out, "results.jsonl"))
    for seed in args.seeds:
        for way in WAYS:
            curve(args, synth, rows, way, seed)
    found = curves(args, rows)
    with open(os.path.join(args.out, "curves.svg"), "w", encoding="utf-8") as file:
        file.write(svg(args, found))
    print(table(found))


if __name__ == "__main__":
    main()
