"""Steps of several methods in plain eager PyTorch, for benchmark_published.py to measure: no part of the library.

Each as in the authors' released code: Kim et al. 2022 (IDC), Zhao & Bilen 2023 (DM), Deng & Russakovsky 2022 (bases,
with momentum), Cazenavette et al. 2022 (a minibatch of an expert's training).
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from benchmark_matching_peer import DEVICE, Workload, changed, convnet, drawn, labels, prepared, wait
from benchmark_serve import serve


def features(params, x):
    """What the last layer of the ConvNet reads."""
    width = params[-2].shape[1]
    return convnet([*params[:-2], torch.eye(width, dtype=x.dtype, device=DEVICE), x.new_zeros(width)], x)


def seeds(count):
    return torch.randint(2**31, (count,)).tolist()


def rows(count, size):
    return torch.randint(0, count, (size,), device=DEVICE)


class Dm(Workload):
    """Distribution matching: the mean features of each class, in a fresh network."""

    def __init__(self, growth, **rest):
        super().__init__(**rest)

    def step(self):
        loss = dm_loss(drawn(*self.network), self.images, self.drawn_real(), self.augment)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def dm_loss(params, images, real, augment):
    params = [p.detach() for p in params]
    loss = 0.0
    for mine, theirs, seed in zip(images, real, seeds(len(images)), strict=True):
        goal = features(params, changed(theirs, augment, seed)).mean(0).detach()
        loss = loss + ((features(params, changed(mine, augment, seed)).mean(0) - goal) ** 2).sum()
    return loss


class Idc(Workload):
    """One match and the training after it: class after class a step of the images, then real images for the network."""

    def __init__(self, factor, num_training_images, inner_batch_size, growth, **rest):
        super().__init__(**rest)
        self.factor, self.num_training_images, self.inner_batch_size = factor, num_training_images, inner_batch_size
        self.params = drawn(*self.network)
        self.training = torch.optim.SGD(self.params, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step(self):
        for c, theirs in enumerate(self.drawn_real()):
            loss = idc_loss(self.params, self.images[c], theirs, c, self.factor, self.augment)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.images.data.clamp_(-0.5, 3.0)
        chosen = rows(8000, self.num_training_images)
        images, classes = self.real.flatten(0, 1)[chosen], chosen // 800
        for x, y in zip(images.split(self.inner_batch_size), classes.split(self.inner_batch_size), strict=True):
            loss = F.cross_entropy(convnet(self.params, changed(x, self.augment, seeds(1)[0])), y)
            self.training.zero_grad()
            loss.backward()
            self.training.step()


def formed(stored, factor):
    """The tiles (N F F, C, H, W) of each stored image (N, C, H, W), enlarged."""
    size = stored.shape[-1] // factor
    places = [slice(i * size, (i + 1) * size) for i in range(factor)]
    tiles = torch.stack([stored[..., down, across] for down in places for across in places], 1).flatten(0, 1)
    return F.interpolate(tiles, size=stored.shape[-2:], mode="bilinear", align_corners=False)


def idc_loss(params, stored, real, c, factor, augment):
    """Absolute differences of the gradients of all convolutions."""
    kernels = [p for p in params if p.dim() == 4]
    seed = seeds(1)[0]
    mine, theirs = changed(formed(stored, factor), augment, seed), changed(real, augment, seed)
    goal = torch.autograd.grad(F.cross_entropy(convnet(params, theirs), labels(theirs, c)), kernels)
    out = F.cross_entropy(convnet(params, mine), labels(mine, c))
    found = torch.autograd.grad(out, kernels, create_graph=True)
    return sum((a - b.detach()).abs().sum() for a, b in zip(found, goal, strict=True))


class Bases:
    """A training with momentum on images that bases make, and real images at its end."""

    def __init__(self, width, depth, size, channels, num_bases, made_per_class, num_inner_steps, batch_size, **_):
        torch.manual_seed(0)
        self.network, self.num_inner_steps, self.batch_size = (
            (width, depth, size, channels),
            num_inner_steps,
            batch_size,
        )
        self.bases = torch.randn(num_bases, channels, size // 2, size // 2, device=DEVICE, requires_grad=True)
        self.coefficients = torch.randn(10 * made_per_class, num_bases, device=DEVICE, requires_grad=True)
        self.real = torch.randn(8000, channels, size, size, device=DEVICE)
        self.optimiser = torch.optim.Adam([self.bases, self.coefficients], lr=0.02)

    def step(self):
        chosen = rows(8000, self.batch_size)
        learnt = self.bases, self.coefficients
        loss = bases_loss(drawn(*self.network), *learnt, self.real[chosen], chosen // 800, self.num_inner_steps)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 2.0)
        self.optimiser.step()


def bases_loss(params, bases, coefficients, real, classes, num_inner_steps):
    """The loss on real images after steps of 0.01 with a momentum of 0.9."""
    size = real.shape[-2:]
    images = F.interpolate(torch.tensordot(coefficients, bases, 1), size=size, mode="bilinear", align_corners=False)
    mine = torch.arange(10, device=DEVICE).repeat_interleave(len(images) // 10)
    moments = [torch.zeros_like(p) for p in params]
    for _ in range(num_inner_steps):
        gradient = torch.autograd.grad(F.cross_entropy(convnet(params, images), mine), params, create_graph=True)
        moments = [0.9 * m + g for m, g in zip(moments, gradient, strict=True)]
        params = [p - 0.01 * m for p, m in zip(params, moments, strict=True)]
    return F.cross_entropy(convnet(params, real), classes)


class Experts:
    """A minibatch of the training of an expert, by gradient descent."""

    def __init__(self, width, depth, size, channels, batch_size, augment, **_):
        torch.manual_seed(0)
        self.params, self.augment = drawn(width, depth, size, channels), augment
        self.images = torch.randn(batch_size, channels, size, size, device=DEVICE)
        self.classes = rows(10, batch_size)
        self.optimiser = torch.optim.SGD(self.params, lr=0.01)

    def step(self):
        images = changed(self.images, self.augment, seeds(1)[0])
        loss = F.cross_entropy(convnet(self.params, images), self.classes)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


KINDS = {"dm": Dm, "idc": Idc, "bases": Bases, "experts": Experts}


def make(kind, **workload):
    return KINDS[kind](**workload)


def check(path, workload):
    """Loss and gradients of what is in the file, in the file's precision."""
    given = np.load(path)
    tensors = {name: torch.tensor(given[name], device=DEVICE) for name in given.files}
    params = [tensors[f"param{i}"].requires_grad_() for i in range(sum(name.startswith("param") for name in tensors))]
    learnt = {n: t.requires_grad_() for n, t in tensors.items() if n in ("images", "bases", "coefficients")}
    kind = workload["kind"]
    if kind == "dm":
        loss = dm_loss(params, learnt["images"], tensors["real"], "none")
    elif kind == "idc":
        loss = sum(
            idc_loss(params, mine, theirs, c, workload["factor"], "none")
            for c, (mine, theirs) in enumerate(zip(learnt["images"], tensors["real"], strict=True))
        )
    elif kind == "bases":
        loss = bases_loss(params, **learnt, real=tensors["real"], classes=tensors["classes"],
                          num_inner_steps=workload["num_inner_steps"])  # fmt: skip
    else:
        learnt = {f"param{i}": p for i, p in enumerate(params)}
        loss = F.cross_entropy(convnet(params, tensors["images"]), tensors["classes"])
    found = dict(zip(learnt, torch.autograd.grad(loss, list(learnt.values())), strict=True))
    np.savez(path + ".peer.npz", loss=loss.detach().cpu(), **{n: g.cpu() for n, g in found.items()})


if __name__ == "__main__":
    serve(prepared(make), check, wait)
