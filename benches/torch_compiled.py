#!/usr/bin/env python3
"""A step of PyTorch behind `torch.compile`, in channels-last: the rows that `gpu.sh` sets beside eager PyTorch.

    torch_compiled.py TORCH_STEP.PY --net resnet18 --batch 256 [--pass train] [--mode reduce-overhead] [--seconds 3]

The networks and the step are those of torch_step.py; only the networks are compiled. Prints one JSON line.
"""
import argparse
import importlib.util
import json

import torch


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("torch_step", help="path of torch_step.py")
    p.add_argument("--net", default="resnet18")
    p.add_argument("--teacher", default="resnet56")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--pass", dest="pass_", choices=["train", "infer", "distill"], default="train")
    p.add_argument("--mode", default="default", help="of torch.compile; reduce-overhead records CUDA graphs")
    p.add_argument("--seconds", type=float, default=3.0)
    p.add_argument("--device", default="cuda")
    p.add_argument("--amp", action="store_true", help="bf16 autocast")
    args = p.parse_args()
    spec = importlib.util.spec_from_file_location("torch_step", args.torch_step)
    steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(steps)
    plain = steps.net
    steps.net = lambda *given: torch.compile(plain(*given), mode=args.mode)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    found = steps.median_ms(steps.build(args, torch.channels_last), args)
    print(json.dumps({"net": args.net, "batch": args.batch, "pass": args.pass_, "mode": args.mode, "amp": args.amp,
                      "median_ms": round(found, 3), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
