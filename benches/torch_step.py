#!/usr/bin/env python3
"""One step of PyTorch on the work of `synth bench step`: what this program is measured beside.

    pip install torch
    benches/torch_step.py --net resnet20 --batch 128 --pass train
    benches/torch_step.py --net resnet34 --batch 256 --pass invert --device cuda --amp
    benches/torch_step.py --net resnet18 --batch 256 --device cuda --amp --compile reduce-overhead

Networks are those for images of 32 pixels a side: resnet8, 20, 32, ... (He et al., 2016), wrn-D-K (Zagoruyko & Komodakis, 2016), and
resnet18 and resnet34 with a 3x3 stem. Passes: a training step on labels (`train`), a frozen pass (`infer`), a training step on a
teacher's answers at temperature 20 (`distill`), and a step of a generator and its latents by the statistics of the teacher's batch norms
and a label (`invert`). Both memory layouts are timed, behind torch.compile channels-last alone; one JSON line has the median of each
and `median_ms`, the faster one.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 10


def conv(inputs, outputs, stride=1, side=3):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


class Narrowed(nn.Module):
    """A shortcut without weights: every second pixel, and channels of zeros on both sides."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.beside = (outputs - inputs) // 2

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.beside, self.beside))


class PostActivated(nn.Module):
    """The block of a ResNet: activations behind the sum."""

    def __init__(self, inputs, outputs, stride, weighted):
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(),
                                  conv(outputs, outputs), nn.BatchNorm2d(outputs))
        if inputs == outputs:
            self.shortcut = nn.Identity()
        elif weighted:
            self.shortcut = nn.Sequential(conv(inputs, outputs, stride, side=1), nn.BatchNorm2d(outputs))
        else:
            self.shortcut = Narrowed(inputs, outputs)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x))


class PreActivated(nn.Module):
    """The block of a wide ResNet: activations in front of the convolutions."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.ready = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(conv(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(), conv(outputs, outputs))
        self.shortcut = conv(inputs, outputs, stride, side=1) if inputs != outputs else None

    def forward(self, x):
        ready = self.ready(x)
        return self.body(ready) + (x if self.shortcut is None else self.shortcut(ready))


class Pooled(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def stages(block, widths, blocks):
    """Stages of blocks; all but the first halve the image."""
    inputs, layers = widths[0], []
    for stage, (outputs, count) in enumerate(zip(widths[1:], blocks)):
        for i in range(count):
            layers.append(block(inputs, outputs, 2 if stage and i == 0 else 1))
            inputs = outputs
    return layers


def network(name):
    if name.startswith("wrn-"):
        depth, factor = (int(part) for part in name[4:].split("-"))
        widths = [16, 16 * factor, 32 * factor, 64 * factor]
        layers = [conv(3, 16), *stages(PreActivated, widths, [(depth - 4) // 6] * 3), nn.BatchNorm2d(widths[-1]), nn.ReLU()]
    else:
        wide = {"resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3]}.get(name)
        widths = [64, 64, 128, 256, 512] if wide else [16, 16, 32, 64]
        blocks = wide or [(int(name.removeprefix("resnet")) - 2) // 6] * 3
        first = [conv(3, widths[0]), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        layers = [*first, *stages(lambda *shape: PostActivated(*shape, weighted=bool(wide)), widths, blocks)]
    return nn.Sequential(*layers, Pooled(), nn.Linear(widths[-1], CLASSES))


def generator():
    """Latents of 256 values to images of 32 pixels a side, in two enlargements."""
    def enlarged(inputs, outputs):
        return [nn.Upsample(scale_factor=2), conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]

    return nn.Sequential(nn.Linear(256, 128 * 8 * 8), nn.Unflatten(1, (128, 8, 8)), nn.BatchNorm2d(128), *enlarged(128, 128),
                         *enlarged(128, 64), nn.Conv2d(64, 3, 3, padding=1), nn.Sigmoid())


class Work:
    """The networks of a pass in one memory layout, and its step."""

    def __init__(self, args, layout):
        self.args, self.layout = args, layout
        self.images = torch.randn(args.batch, 3, 32, 32, device=args.device).to(memory_format=layout)
        self.labels = torch.randint(0, CLASSES, (args.batch,), device=args.device)
        self.net = self.teacher(args.net) if args.kind in ("infer", "invert") else self.placed(network(args.net))
        self.step = getattr(self, args.kind)()

    def placed(self, net):
        net = net.to(self.args.device).to(memory_format=self.layout)
        return torch.compile(net, mode=self.args.compile) if self.args.compile else net

    def teacher(self, name):
        """A frozen network; its batch norms have the statistics of the images, as those of a trained one have its data's."""
        net = network(name).to(self.args.device)
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = 1.0
        with torch.no_grad():
            net.train()(self.images)
        return self.placed(net.eval().requires_grad_(False))

    def amp(self):
        return torch.autocast(self.args.device, torch.bfloat16, enabled=self.args.amp)

    def learning(self, optimizer, loss):
        """A step down the gradient of what `loss` gives."""
        def step():
            value = loss()
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        return step

    def student(self):
        def sgd(parameters):
            return torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1e-4)
        return Muon(self.net, sgd) if self.args.muon else sgd(self.net.parameters())

    def answers(self, net, x):
        with self.amp():
            return net(x).float()

    def infer(self):
        return torch.no_grad()(lambda: self.answers(self.net, self.images))

    def train(self):
        return self.learning(self.student(), lambda: F.cross_entropy(self.answers(self.net, self.images), self.labels))

    def distill(self):
        teacher = self.teacher(self.args.teacher)

        def loss():
            with torch.no_grad():
                wanted = F.softmax(self.answers(teacher, self.images) / 20, 1)
            found = F.log_softmax(self.answers(self.net, self.images) / 20, 1)
            return 400 * F.kl_div(found, wanted, reduction="batchmean")
        return self.learning(self.student(), loss)

    def invert(self):
        made, apart = self.placed(generator()), []

        def compare(norm, inputs, _):
            variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), unbiased=False)
            apart.append((mean - norm.running_mean).norm() + (variance - norm.running_var).norm())

        for norm in self.net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.register_forward_hook(compare)
        latents = torch.randn(self.args.batch, 256, device=self.args.device, requires_grad=True)
        groups = [{"params": made.parameters(), "lr": 3e-3}, {"params": [latents], "lr": 1e-2}]

        def loss():
            apart.clear()
            with self.amp():
                logits = self.net(made(latents)).float()
            return 10 * sum(apart) + 0.5 * F.cross_entropy(logits, self.labels)
        return self.learning(torch.optim.Adam(groups, betas=(0.5, 0.999)), loss)


class Muon:
    """PyTorch's Muon for the weights of convolutions, as matrices, and SGD for the rest."""

    def __init__(self, net, sgd):
        kernels = [p for p in net.parameters() if p.dim() == 4 and p.shape[2] > 1]
        # The values of a matrix are those of its kernel, not a copy.
        self.matrices = [(p, nn.Parameter(self.flat(p, p.detach()))) for p in kernels]
        assert all(kernel.data_ptr() == matrix.data_ptr() for kernel, matrix in self.matrices)
        self.rest = sgd([p for p in net.parameters() if all(p is not kernel for kernel in kernels)])
        self.turned = torch.optim.Muon([matrix for _, matrix in self.matrices], lr=0.02, weight_decay=0.0)

    @staticmethod
    def flat(kernel, values):
        """Values of a kernel as a matrix, in the order in which the kernel's own lie."""
        return (values if kernel.is_contiguous() else values.permute(0, 2, 3, 1)).flatten(1)

    def zero_grad(self, **how):
        for kernel, _ in self.matrices:
            kernel.grad = None
        self.rest.zero_grad(**how)

    def step(self):
        for kernel, matrix in self.matrices:
            matrix.grad = self.flat(kernel, kernel.grad)
        self.turned.step()
        self.rest.step()


def median_ms(step, args):
    """Of the steps within `--seconds`, five at least, after some that are not counted."""
    def timed():
        start = time.perf_counter()
        step()
        if args.device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - start)

    for _ in range(3):
        timed()
    times, end = [], time.perf_counter() + args.seconds
    while len(times) < 5 or time.perf_counter() < end:
        times.append(timed())
    return round(statistics.median(times), 3)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--net", default="resnet20")
    p.add_argument("--teacher", default="resnet56", help="of --pass distill")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--pass", dest="kind", choices=["train", "infer", "distill", "invert"], default="train")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seconds", type=float, default=10, help="for each memory layout")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--amp", action="store_true", help="bf16 autocast")
    p.add_argument("--muon", action="store_true", help="in passes train and distill: PyTorch's Muon for the convolutions")
    p.add_argument("--compile", metavar="MODE", help="mode of torch.compile; reduce-overhead records CUDA graphs")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    layouts = {"channels_last_ms": torch.channels_last}
    if not args.compile:
        layouts["nchw_ms"] = torch.contiguous_format
    times = {name: median_ms(Work(args, layout).step, args) for name, layout in layouts.items()}
    print(json.dumps({"net": args.net, "batch": args.batch, "pass": args.kind, "threads": args.threads, "device": args.device,
                      "amp": args.amp, "compile": args.compile, "median_ms": min(times.values()), **times,
                      "torch": torch.__version__}))


if __name__ == "__main__":
    main()
