#!/usr/bin/env python3
"""Time `synth bench step` and PyTorch on the same work, alternating in one run, and print the ratios.

    cargo build --release && pip install torch
    benches/beside_pytorch.py [--python PYTHON] [--rounds 3] [--seconds 6] [--only train] [--bf16] [--muon]

PyTorch's side is `torch_step.py` beside this file, in its faster memory layout. Each row alternates the two programs `--rounds` times; the table shows the median of
each and of the ratios, and what the machine itself would allow: the bound is the step's multiplications at 85 % of the
multiply-add rate measured in the same run, and its unavoidable bytes at the speed of a copy. The target is the larger of 0.70
of PyTorch's time and 1.25 of the bound; "of target" is the median over the rounds of our time over that round's target (up to
1.00: met), so that a machine whose speed drifts does not decide. With `--bf16` both multiply in bf16 (PyTorch by its autocast), and
the rate is that of tiles. With `--muon` the convolutions of the passes `train` and `distill` learn by Muon, PyTorch's by
`torch.optim.Muon`. Run it on a machine that does nothing else: a ratio of two times is only as quiet as the machine.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).resolve().parent

ROWS = [
    ("train", "resnet20", 128),
    ("train", "wrn-16-2", 128),
    ("train", "wrn-40-1", 128),
    ("train", "resnet18", 64),
    ("infer", "resnet20", 256),
    ("infer", "wrn-16-2", 256),
    ("invert", "resnet20", 256),
    ("invert", "wrn-16-2", 256),
    ("distill", "resnet20", 128, "resnet56"),
    ("distill", "wrn-16-1", 128, "wrn-16-2"),
]


def measured(command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout[done.stdout.index("{"):])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--torch-step", default=str(HERE / "torch_step.py"), help="another script with its options and its JSON")
    p.add_argument("--python", default="python3", help="a Python that has torch")
    p.add_argument("--synth", default=str(HERE.parent / "target/release/synth"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=6)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", help="one pass: train, infer, invert or distill")
    p.add_argument("--bf16", action="store_true", help="products in bf16 on both sides, on a processor with AMX")
    p.add_argument("--muon", action="store_true", help="students learn by Muon on both sides, and not by SGD")
    args = p.parse_args()
    print("| pass | networks | batch | synth ms | PyTorch ms | ratio (lowest to highest) | bound ms | of target |")
    print("|---|---|---|---:|---:|---|---:|---:|", flush=True)
    peaks = []
    for kind, net, batch, *teacher in ROWS:
        if args.only not in (None, kind):
            continue
        step = ["--net", net, "--batch", str(batch), "--pass", kind, "--threads", str(args.threads)]
        step += ["--seconds", str(args.seconds)] + (["--teacher", teacher[0]] if teacher else [])
        step += ["--muon"] if args.muon and kind in ("train", "distill") else []
        ours, theirs = [], []
        for _ in range(args.rounds):
            how = ["--precision", "bf16" if args.bf16 else "f32", "--bound"]
            ours.append(measured([args.synth, "bench", "step", *step, *how, "--json"]))
            theirs.append(measured([args.python, args.torch_step, *step, *(["--amp"] if args.bf16 else [])])["median_ms"])
        ratios = sorted(o["median_ms"] / t for o, t in zip(ours, theirs))
        mine, torch = statistics.median(o["median_ms"] for o in ours), statistics.median(theirs)
        names = f"{teacher[0]} -> {net}" if teacher else net
        row = f"| {kind} | {names} | {batch} | {mine:.0f} | {torch:.0f} | "
        row += f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |"
        peaks += [(o["peak_gflops"], o["copy_gbytes_per_s"]) for o in ours]
        bound = statistics.median(o["bound_ms"] for o in ours)
        targets = [max(0.70 * t, 1.25 * o["bound_ms"]) for o, t in zip(ours, theirs)]
        of_target = statistics.median(o["median_ms"] / target for o, target in zip(ours, targets))
        print(f"{row} {bound:.0f} | {of_target:.2f} |", flush=True)
    flops, copy = zip(*peaks)
    print(f"\nmultiply-adds {min(flops):.0f} to {max(flops):.0f} GFLOP/s, copies {min(copy):.0f} to {max(copy):.0f} GB/s")


if __name__ == "__main__":
    main()
