"""Networks of one's own, in Flax Linen, Flax NNX and PyTorch, on the set of a run: beside real images and class means.

Command:   python experiments/own_networks.py RUN [n]    n networks of each, 20 if not said
           the run is one of `dd-jax distill` whose set is trained on from scratch, such as of --method idc; its export
           for PyTorch is written into RUN/export
Result:    IDC on the folder of photo_folder.py, 3 stored images that become 12 (docs/guides/which_method.md), seeds 0,
           1 and 2: Linen 68.6 +- 2.0, 89.6 +- 2.7, 83.1 +- 1.7 (random real 82.9 +- 5.2, class mean 68.2 +- 2.2), NNX
           69.0 +- 2.5, 89.8 +- 1.9, 84.4 +- 2.2 (81.9 +- 6.3, 68.5 +- 3.1). Of seed 0 before its first outer step:
           Linen 94.1 +- 2.0, NNX 94.9 +- 1.8, PyTorch 96.3 +- 1.9 (86.4 +- 8.9, 72.0 +- 3.1). n=20 networks each; 85 s
           of one core of an AMD EPYC for one set, 29 November 2026
"""

import functools
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from flax import linen as nn
from flax import nnx

import dd_jax as dd
from dd_jax.cli import run_function
from dd_jax.evaluation import in_percent
from dd_jax.evaluation.coresets import mean_images, random_images
from dd_jax.runs.load_run import load_run

BASELINES = ("random real", "class mean")
_WIDTH, _SIDE = 32, 4  # units of a layer, and pixels of a patch


def patches(images):
    """Images (N, H, W, C) as their patches (N, P, 4 * 4 * C)."""
    count, height, width, channels = images.shape
    rows, columns = height // _SIDE, width // _SIDE
    cut = images.reshape(count, rows, _SIDE, columns, _SIDE, channels).swapaxes(2, 3)
    return cut.reshape(count, rows * columns, -1)


class Linen(nn.Module):
    """Two layers for each patch, and the mean over the patches: a network for textures."""

    num_classes: int

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.LayerNorm()(nn.Dense(_WIDTH)(patches(images))))
        x = nn.relu(nn.Dense(_WIDTH)(x))
        return nn.Dense(self.num_classes)(x.mean(1))


class NNX(nnx.Module):
    """The same."""

    def __init__(self, channels, num_classes, *, rngs):
        self.first = nnx.Linear(_SIDE * _SIDE * channels, _WIDTH, rngs=rngs)
        self.norm = nnx.LayerNorm(_WIDTH, rngs=rngs)
        self.second = nnx.Linear(_WIDTH, _WIDTH, rngs=rngs)
        self.out = nnx.Linear(_WIDTH, num_classes, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.norm(self.first(patches(images))))
        return self.out(nnx.relu(self.second(x)).mean(1))


class Torch(torch.nn.Module):
    """The same, as PyTorch starts it."""

    def __init__(self, channels, num_classes):
        super().__init__()
        self.patches = torch.nn.Unfold(_SIDE, stride=_SIDE)
        self.first = torch.nn.Linear(_SIDE * _SIDE * channels, _WIDTH)
        self.norm = torch.nn.LayerNorm(_WIDTH)
        self.second = torch.nn.Linear(_WIDTH, _WIDTH)
        self.out = torch.nn.Linear(_WIDTH, num_classes)

    def forward(self, images):
        """Logits of images (N, C, H, W)."""
        x = torch.relu(self.norm(self.first(self.patches(images).transpose(1, 2))))
        return self.out(torch.relu(self.second(x)).mean(1))


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
        nets = [script["train"](Torch(data.image_shape[2], data.num_classes), made(seed)) for seed in range(count)]
        yield "PyTorch", name, np.array([script["accuracy"](net, images, labels) for net in nets])


def main(run: Annotated[Path, tyro.conf.Positional], num_nets: Annotated[int, tyro.conf.Positional] = 20, /) -> None:
    """Train them, and tell.

    Args:
        run: run directory of a set that is trained on from scratch.
        num_nets: networks of each kind.
    """
    loaded = load_run(run)
    the_set, dataset = loaded[0], loaded[2]
    for measured in (of_dd_jax(the_set, dataset, num_nets), of_torch(run, dataset, num_nets)):
        for network, training_set, found in measured:
            print(f"{network:8} {training_set:12} {in_percent(found)} (n={len(found)})", flush=True)


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
