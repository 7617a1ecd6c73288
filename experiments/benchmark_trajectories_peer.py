"""Trajectory matching in plain eager PyTorch, for benchmark_trajectories.py to measure: no part of the library.

Cazenavette et al. 2022, algorithm 1, as in the authors' released code: inner steps with `create_graph=True` from an
expert's snapshot, the squared distance from a later one as a share of that between the two, one step of the images and
of the step size by gradient descent with momentum.
"""

import itertools

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from benchmark_matching_peer import DEVICE, convnet, drawn, prepared, wait
from benchmark_serve import serve


def mlp(params, x):
    """Linear layers with ReLU between them."""
    x = x.flatten(1)
    for weight, bias in zip(params[0::2], params[1::2], strict=True):
        x = F.linear(x, weight, bias)
        if weight is not params[-2]:
            x = F.relu(x)
    return x


def match(apply, start, target, images, step_size, num_inner_steps):
    """The loss for images (10 M, C, H, W), class after class."""
    labels = torch.arange(10, device=DEVICE).repeat_interleave(len(images) // 10)
    params = [p.detach().requires_grad_() for p in start]
    for _ in range(num_inner_steps):
        loss = F.cross_entropy(apply(params, images), labels)
        gradient = torch.autograd.grad(loss, params, create_graph=True)
        params = [p - step_size * g for p, g in zip(params, gradient, strict=True)]
    return distance(params, target) / distance(start, target)


def distance(first, second):
    return sum(((a - b) ** 2).sum() for a, b in zip(first, second, strict=True))


def snapshot(kind, settings, size, channels):
    """The parameters of a network drawn anew."""
    if kind == "convnet":
        return [p.detach() for p in drawn(settings["width"], settings["depth"], size, channels)]
    sizes = [size * size * channels, *settings["hidden"], 10]
    layers = [torch.nn.Linear(a, b, device=DEVICE) for a, b in itertools.pairwise(sizes)]
    return [p.detach() for layer in layers for p in layer.parameters()]


class Workload:
    """Outer steps of one workload on random data."""

    def __init__(self, kind, settings, size, channels, images_per_class, num_inner_steps, step_size):
        torch.manual_seed(0)
        self.apply, self.num_inner_steps = APPLY[kind], num_inner_steps
        self.start, self.target = (snapshot(kind, settings, size, channels) for _ in range(2))
        count = 10 * images_per_class
        self.images = torch.randn(count, channels, size, size, device=DEVICE, requires_grad=True)
        self.step_size = torch.tensor(step_size, device=DEVICE, requires_grad=True)
        self.optimisers = [
            torch.optim.SGD([self.images], lr=1.0, momentum=0.5),
            torch.optim.SGD([self.step_size], lr=1e-7, momentum=0.5),
        ]

    def step(self):
        loss = match(self.apply, self.start, self.target, self.images, self.step_size, self.num_inner_steps)
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()


APPLY = {"convnet": convnet, "mlp": mlp}


def check(path, workload):
    """Loss and gradients of what is in the file, in the file's precision."""
    given = np.load(path)
    tensors = {name: torch.tensor(given[name], device=DEVICE) for name in given.files}
    count = sum(name.startswith("start_") for name in tensors)
    start, target = ([tensors[f"{part}_param{i}"] for i in range(count)] for part in ("start", "target"))
    images, step_size = tensors["images"].requires_grad_(), tensors["step_size"].requires_grad_()
    loss = match(APPLY[workload["kind"]], start, target, images, step_size, workload["num_inner_steps"])
    of_images, of_step = torch.autograd.grad(loss, (images, step_size))
    np.savez(path + ".peer.npz", loss=loss.detach().cpu(), images=of_images.cpu(), step_size=of_step.cpu())


if __name__ == "__main__":
    serve(prepared(Workload), check, wait)
