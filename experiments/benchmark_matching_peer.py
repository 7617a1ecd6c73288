"""Gradient matching in plain eager PyTorch, for benchmark_matching.py to measure beside ours: no part of the library.

Zhao et al. 2021, Algorithm 1, as in the authors' released code: a fresh ConvNet, class after class the gradient on real
images and, with `create_graph=True`, that on distilled ones, the distances summed, one step of the images.

Reads one JSON command a line from stdin and answers with one line on stdout:
{"op": "match", "path": NPZ}            loss and gradient in the images of what is in NPZ, written back beside it
{"op": "prepare", "workload": {...}}    make images
{"op": "time", "steps": N}              seconds, and seconds of processor time, of each of N outer steps
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def convnet(params, x):
    """Blocks of convolution, instance norm with scale and shift, ReLU and mean pooling, then one linear layer."""
    *blocks, weight, bias = params
    for block in range(len(blocks) // 4):
        kernel, shift, scale, offset = blocks[4 * block : 4 * block + 4]
        x = F.conv2d(x, kernel, shift, padding=3 if block == 0 and x.shape[-1] == 28 else 1)
        x = F.relu(F.group_norm(x, x.shape[1], scale, offset))
        x = F.avg_pool2d(x, 2)
    return F.linear(x.flatten(1), weight, bias)


def drawn(width, depth, size, channels):
    """The parameters of a network drawn anew, as PyTorch's layers do."""
    params, side = [], 32 if size == 28 else size
    for block in range(depth):
        layer = torch.nn.Conv2d(channels if block == 0 else width, width, 3, device=DEVICE)
        params += [*layer.parameters(), torch.ones(width, device=DEVICE), torch.zeros(width, device=DEVICE)]
        side //= 2
    last = torch.nn.Linear(width * side * side, 10, device=DEVICE)
    return [p.detach().requires_grad_() for p in (*params, *last.parameters())]


def distance(first, second):
    """Sum over the output units of weights of one minus the cosine of their gradients."""
    total = 0.0
    for a, b in zip(first, second, strict=True):
        if a.dim() > 1:
            a, b = a.flatten(1), b.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    return total


def match(params, images, real):
    """The loss for images (10, M, C, H, W) and real ones (10, B, C, H, W), class after class."""
    loss = 0.0
    for c in range(len(images)):
        goal = torch.autograd.grad(F.cross_entropy(convnet(params, real[c]), labels(real[c], c)), params)
        out = F.cross_entropy(convnet(params, images[c]), labels(images[c], c))
        found = torch.autograd.grad(out, params, create_graph=True)
        loss = loss + distance([g.detach() for g in goal], found)
    return loss


def labels(images, c):
    return torch.full((len(images),), c, device=DEVICE)


class Workload:
    """Outer steps of one workload on random data."""

    def __init__(self, width, depth, size, channels, images_per_class, batch_size):
        torch.manual_seed(0)
        self.network = width, depth, size, channels
        self.batch_size = batch_size
        self.images = torch.randn(10, images_per_class, channels, size, size, device=DEVICE, requires_grad=True)
        self.real = torch.randn(10, 800, channels, size, size, device=DEVICE)
        self.optimiser = torch.optim.SGD([self.images], lr=0.1, momentum=0.5)

    def step(self):
        index = torch.randint(0, self.real.shape[1], (10, self.batch_size), device=DEVICE)
        real = [images[i] for images, i in zip(self.real, index, strict=True)]
        loss = match(drawn(*self.network), self.images, real)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def timed(self, steps):
        return timed(self.step, steps)


def timed(step, steps):
    """Seconds on the clock, and of processor time, of each of so many steps."""
    seconds, work = [], []
    for _ in range(steps):
        started, busy = time.perf_counter(), time.process_time()
        step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - busy)
    return {"seconds": seconds, "work": work}


def check(path, _=None):
    """Loss and gradient of what is in the file, in the file's precision."""
    given = np.load(path)
    tensors = {name: torch.tensor(given[name], device=DEVICE) for name in given.files}
    params = [tensors[f"param{i}"].requires_grad_() for i in range(len(tensors) - 2)]
    images = tensors["images"].requires_grad_()
    loss = match(params, images, tensors["real"])
    (gradient,) = torch.autograd.grad(loss, images)
    np.savez(path + ".peer.npz", loss=loss.detach().cpu(), images=gradient.cpu())


def serve(make, check):
    """Answer commands. make: of a workload; check: (path, workload or None) -> None, of what is in a file."""
    workload: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "match":
            check(command["path"], command.get("workload"))
            answer = {}
        elif command["op"] == "prepare":
            torch.set_num_threads(command["threads"])
            workload = make(**command["workload"])
            answer = {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "device": DEVICE if DEVICE == "cpu" else torch.cuda.get_device_name(),
            }
        else:
            answer = workload.timed(command["steps"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(Workload, check)
