"""Gradient matching in plain eager PyTorch, for benchmark_matching.py to measure beside ours: no part of the library.

Zhao et al. 2021, Algorithm 1, as in the authors' released code: a fresh ConvNet, class after class the gradient on real
images and, with `create_graph=True`, that on distilled ones, the distances summed, one step of the images.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from benchmark_serve import serve

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


def changed(images, kind, seed):
    """Images (N, C, H, W) changed by siamese augmentation, all alike, as the seed says."""
    if kind == "none":
        return images
    draws = torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist()
    ways = ["colour", "shift", "cut out", "scale", "rotate", *(["mirror"] if kind == "dsa" else [])]
    way, size = ways[int(draws[3] * len(ways))], images.shape[-1]
    if way == "colour":
        images = images + draws[0] - 0.5
        grey = images.mean(1, keepdim=True)
        images = grey + (images - grey) * 2 * draws[1]
        mean = images.mean((1, 2, 3), keepdim=True)
        return mean + (images - mean) * (draws[2] + 0.5)
    if way == "shift":
        pad = int(size * 0.125 + 0.5)
        row, column = (int(draw * (2 * pad + 1)) for draw in draws[:2])
        return F.pad(images, (pad,) * 4)[:, :, row : row + size, column : column + size]
    if way == "cut out":
        mask = torch.ones(size, size, device=DEVICE)
        row, column = (max(0, int(draw * size) - size // 4) for draw in draws[:2])
        mask[row : row + size // 2, column : column + size // 2] = 0
        return images * mask
    if way == "mirror":
        return images.flip(3) if draws[0] < 0.5 else images
    matrix = torch.tensor([[0.83 + 0.37 * draws[0], 0.0], [0.0, 0.83 + 0.37 * draws[1]]], device=DEVICE)
    if way == "rotate":
        angle = torch.tensor((2 * draws[0] - 1) * np.pi / 12)
        matrix = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]], device=DEVICE)
    matrix = F.pad(matrix, (0, 1)).expand(len(images), 2, 3)
    return F.grid_sample(images, F.affine_grid(matrix, images.shape, align_corners=True), align_corners=True)


def match(params, images, real, kind="none"):
    """The loss for images (10, M, C, H, W) and real ones (10, B, C, H, W), class after class."""
    loss = 0.0
    for c in range(len(images)):
        seed = int(torch.randint(2**31, ()))
        mine, theirs = (changed(part[c], kind, seed) for part in (images, real))
        goal = torch.autograd.grad(F.cross_entropy(convnet(params, theirs), labels(theirs, c)), params)
        out = F.cross_entropy(convnet(params, mine), labels(mine, c))
        found = torch.autograd.grad(out, params, create_graph=True)
        loss = loss + distance([g.detach() for g in goal], found)
    return loss


def labels(images, c):
    return torch.full((len(images),), c, device=DEVICE)


class Workload:
    """Outer steps of one workload on random data."""

    def __init__(self, width, depth, size, channels, images_per_class, batch_size, augment):
        torch.manual_seed(0)
        self.network = width, depth, size, channels
        self.batch_size, self.augment = batch_size, augment
        self.images = torch.randn(10, images_per_class, channels, size, size, device=DEVICE, requires_grad=True)
        self.real = torch.randn(10, 800, channels, size, size, device=DEVICE)
        self.optimiser = torch.optim.SGD([self.images], lr=0.1, momentum=0.5)

    def drawn_real(self):
        index = torch.randint(0, self.real.shape[1], (10, self.batch_size), device=DEVICE)
        return [images[i] for images, i in zip(self.real, index, strict=True)]

    def step(self):
        loss = match(drawn(*self.network), self.images, self.drawn_real(), self.augment)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def check(path, _=None):
    """Loss and gradient of what is in the file, in the file's precision."""
    given = np.load(path)
    tensors = {name: torch.tensor(given[name], device=DEVICE) for name in given.files}
    params = [tensors[f"param{i}"].requires_grad_() for i in range(len(tensors) - 2)]
    images = tensors["images"].requires_grad_()
    loss = match(params, images, tensors["real"])
    (gradient,) = torch.autograd.grad(loss, images)
    np.savez(path + ".peer.npz", loss=loss.detach().cpu(), images=gradient.cpu())


def prepared(make):
    """For `serve`: how a workload is prepared on so many threads, and what that was made with."""

    def prepare(threads, workload):
        torch.set_num_threads(threads)
        name = DEVICE if DEVICE == "cpu" else torch.cuda.get_device_name()
        return make(**workload), {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": name}

    return prepare


def wait():
    """Until the device is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    serve(prepared(Workload), check, wait)
