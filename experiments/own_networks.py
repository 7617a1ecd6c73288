"""Networks of one's own, in Flax Linen, Flax NNX and PyTorch, on the set of a run: beside real images and class means.

Command:   python experiments/own_networks.py RUN [n]    n networks of each, 20 if not said
The run is one of `dd-jax distill` whose set is trained on from scratch, such as of --method idc; its export for PyTorch
is written into RUN/export.
"""

import functools
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax import linen as nn
from flax import nnx

import dd_jax as dd
from dd_jax.evaluation import in_percent
from dd_jax.evaluation.coresets import mean_images, random_images
from dd_jax.runs.load_run import load_run

BASELINES = ("random real", "class mean")
_WIDTH, _GROUPS = 24, 4


class Linen(nn.Module):
    """Two convolutions, of strides 4 and 2, and the mean of each of their channels."""

    num_classes: int

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.GroupNorm(_GROUPS)(nn.Conv(_WIDTH, (5, 5), strides=4)(images)))
        x = nn.relu(nn.GroupNorm(_GROUPS)(nn.Conv(_WIDTH, (3, 3), strides=2)(x)))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


class NNX(nnx.Module):
    """The same."""

    def __init__(self, channels, num_classes, *, rngs):
        self.first = nnx.Conv(channels, _WIDTH, (5, 5), strides=4, rngs=rngs)
        self.second = nnx.Conv(_WIDTH, _WIDTH, (3, 3), strides=2, rngs=rngs)
        self.norms = nnx.List([nnx.GroupNorm(_WIDTH, num_groups=_GROUPS, rngs=rngs) for _ in range(2)])
        self.out = nnx.Linear(_WIDTH, num_classes, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norms[0](self.first(images)))
        x = nnx.relu(self.norms[1](self.second(x)))
        return self.out(x.mean((1, 2)))


def torch_network(channels: int, num_classes: int) -> torch.nn.Module:
    """The same, as PyTorch starts it."""
    first, second = torch.nn.Conv2d(channels, _WIDTH, 5, 4, 2), torch.nn.Conv2d(_WIDTH, _WIDTH, 3, 2, 1)
    layers: list[torch.nn.Module] = []
    for convolution in (first, second):
        layers += [convolution, torch.nn.GroupNorm(_GROUPS, _WIDTH), torch.nn.ReLU()]
    pooled = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, *pooled, torch.nn.Linear(_WIDTH, num_classes))


def of_dd_jax(distilled: dd.DistilledData, data: dd.Dataset, count: int) -> Iterator[tuple[str, str, Any]]:
    """(network, training set, accuracies) of the two of Flax."""
    make_nnx = functools.partial(NNX, data.image_shape[2], data.num_classes)
    for name, module in (("Linen", Linen(data.num_classes)), ("NNX", make_nnx)):
        model = dd.models.from_flax(module, data)
        yield name, "distilled", dd.evaluate(distilled, model, data, num_nets=count).accuracies
        for other, found in dd.baselines(distilled, model, data, names=BASELINES, num_nets=count).items():
            yield name, other, found.evaluation.accuracies


def of_torch(run: Path, data: dd.Dataset, count: int) -> Iterator[tuple[str, str, Any]]:
    """The same of PyTorch, by the script of the export."""
    (written,) = dd.export(run, formats=["torch"], test_file=True)
    assert written.path is not None
    script = runpy.run_path(str(written.path / "train_torch.py"))
    distilled = script["load"]()
    with np.load(written.path / "test.npz") as test:
        images, labels = script["normalise"](test["images"], distilled), test["labels"]
    per_class = distilled["labels"].numel() // data.num_classes

    def real(made: Any) -> dict[str, Any]:
        """The exported set with other images (K, per_class, H, W, C)."""
        channels_first = torch.tensor(np.moveaxis(made, -1, 2).reshape(1, -1, *distilled["images"].shape[2:]))
        classes = torch.arange(data.num_classes).repeat_interleave(per_class)[None]
        return {**distilled, "images": channels_first, "labels": classes}

    sets = {
        "distilled": lambda seed: distilled,
        "random real": lambda seed: real(random_images(data, per_class, seed)),
        "class mean": lambda seed: real(mean_images(data, per_class)),
    }
    for name, made in sets.items():
        torch.manual_seed(0)
        nets = [
            script["train"](torch_network(data.image_shape[2], data.num_classes), made(seed)) for seed in range(count)
        ]
        yield "PyTorch", name, np.array([script["accuracy"](net, images, labels) for net in nets])


if __name__ == "__main__":
    path, num_nets = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    loaded = load_run(path)
    the_set, dataset = loaded[0], loaded[2]
    for measured in (of_dd_jax(the_set, dataset, num_nets), of_torch(path, dataset, num_nets)):
        for network, training_set, found in measured:
            print(f"{network:8} {training_set:12} {in_percent(found)} % (n={len(found)})", flush=True)
