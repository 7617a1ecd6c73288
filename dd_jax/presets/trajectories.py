"""Experiments of trajectory matching, on canvases too: reduced ones for two cores, and the papers'.

The papers' are those of Cazenavette et al. 2022 (*Dataset Distillation by Matching Training Trajectories*, table 1,
with the settings that DC-BENCH runs it with; the released code's for the subsets of ImageNet, which it says for one
image of each class and which are taken for ten too), of Cui et al. 2023 (TESLA: the same with the gradient to first
order) and of Guo et al. 2024 (DATM, the released settings). What differs from them: 10 % of the training images are
kept apart to choose by, in place of the best look at test; the step size is kept positive; an epoch of the experts on
CIFAR-10 has 176 minibatches, and not 196. Tiny ImageNet and the subsets of ImageNet but one are read from class
folders, such as "folder:tiny-imagenet" and "folder:imagewoof".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from dd_jax.errors import unknown_name
from dd_jax.methods import TrajectoryMatchingOptions
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.networks import FOLDER_SUBSETS

TRAJECTORY_METHODS = ("mtt", "tesla", "datm")

_PAPER_STEPS = 10_000  # the published runs; the released code's default is 5,000
_PAPER_NETS = 5


class _Cell(NamedTuple):
    """A row of the published settings. images: of each class; batch_size: None for all images of the set."""

    dataset: str
    images: int
    zca: bool
    inner_steps: int
    expert_epochs: int
    max_start: int
    learning_rate: float
    step_size_rate: float
    step_size: float
    batch_size: int | None = None


_CELLS = {
    "cifar10-ipc1": _Cell("cifar10", 1, True, 50, 2, 2, 100, 1e-7, 0.01),
    "cifar10-ipc10": _Cell("cifar10", 10, True, 30, 2, 20, 100, 1e-5, 0.001),
    "cifar10-ipc50": _Cell("cifar10", 50, False, 30, 2, 40, 1000, 1e-5, 0.001),
    "cifar100-ipc1": _Cell("cifar100", 1, True, 20, 3, 20, 1000, 1e-5, 0.01),
    "cifar100-ipc10": _Cell("cifar100", 10, False, 20, 2, 20, 1000, 1e-5, 0.01),
    "cifar100-ipc50": _Cell("cifar100", 50, True, 80, 2, 40, 1000, 1e-5, 0.01, 125),
    "tiny-imagenet-ipc1": _Cell("tiny-imagenet", 1, False, 10, 2, 10, 10_000, 1e-4, 0.01),
    "tiny-imagenet-ipc10": _Cell("tiny-imagenet", 10, False, 20, 2, 40, 10_000, 1e-4, 0.01, 200),
    "tiny-imagenet-ipc50": _Cell("tiny-imagenet", 50, False, 20, 2, 40, 10_000, 1e-4, 0.01, 300),
    **{
        f"{subset}-ipc{count}": _Cell(subset, count, False, 20, 2, 10, 1000, 1e-6, 0.01)
        for subset in ("imagenette", *FOLDER_SUBSETS)
        for count in (1, 10)
    },
}


class _Difficulty(NamedTuple):
    """What a row of DATM's settings has besides. first_max_start: None where the range of starts doesn't grow."""

    label_rate: float
    min_start: int = 0
    first_max_start: int | None = None
    growth_steps: int = 1000
    max_loss: float = 1.0
    correct: bool = True


# The released settings; a minibatch that is as large as the set, or larger, is the set.
_DATM_CELLS = {
    "cifar10-ipc1": (_Cell("cifar10", 1, True, 80, 2, 4, 100, 1e-7, 0.01), _Difficulty(5.0, max_loss=1.1)),
    "cifar10-ipc10": (_Cell("cifar10", 10, True, 80, 2, 20, 100, 1e-5, 0.01), _Difficulty(2.0, 0, 10)),
    "cifar10-ipc50": (_Cell("cifar10", 50, True, 80, 2, 40, 1000, 1e-5, 0.01), _Difficulty(2.0, 0, 20, 2000)),
    "cifar10-ipc500": (_Cell("cifar10", 500, True, 40, 2, 60, 50, 1e-5, 0.01, 1000), _Difficulty(10.0, 40)),
    "cifar10-ipc1000": (_Cell("cifar10", 1000, True, 100, 2, 60, 50, 1e-5, 0.01, 1000), _Difficulty(10.0, 40)),
    "cifar100-ipc1": (_Cell("cifar100", 1, True, 40, 3, 20, 1000, 1e-5, 0.01), _Difficulty(10.0, 0, 10)),
    "cifar100-ipc10": (_Cell("cifar100", 10, True, 80, 2, 50, 1000, 1e-5, 0.01), _Difficulty(10.0, 0, 30, 2000)),
    "cifar100-ipc50": (_Cell("cifar100", 50, True, 80, 2, 70, 1000, 1e-5, 0.01, 1000),
                       _Difficulty(10.0, 20, correct=False)),
    "cifar100-ipc100": (_Cell("cifar100", 100, True, 80, 2, 70, 50, 1e-5, 0.01, 1000), _Difficulty(10.0, 30)),
    "tiny-imagenet-ipc1": (_Cell("tiny-imagenet", 1, True, 40, 2, 20, 10_000, 1e-4, 0.01),
                           _Difficulty(10.0, 0, 15, 2000)),
    "tiny-imagenet-ipc10": (_Cell("tiny-imagenet", 10, True, 40, 2, 50, 100, 1e-4, 0.01, 500), _Difficulty(10.0, 10)),
    "tiny-imagenet-ipc50": (_Cell("tiny-imagenet", 50, True, 20, 2, 70, 100, 1e-4, 0.01, 1000), _Difficulty(10.0, 40)),
}  # fmt: skip
# How each dataset is read, and the depth of the ConvNet that is for it.
_DATASETS: dict[str, tuple[dict[str, Any], int]] = {
    "cifar10": ({"dataset": "cifar10"}, 3),
    "cifar100": ({"dataset": "cifar100"}, 3),
    "tiny-imagenet": ({"dataset": "folder:tiny-imagenet", "image_size": 64, "channels": 3}, 4),
    **{subset: ({"dataset": f"folder:{subset}", "image_size": 128, "channels": 3}, 5) for subset in FOLDER_SUBSETS},
    "imagenette": ({"dataset": "imagenette/320px", "image_size": 128, "channels": 3}, 5),
}

_SMALL_DATASETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits", "model": "mlp:hidden=(64,)", "experts": "digits-experts"},
    "mnist": {"dataset": "mnist", "model": "mlp:hidden=(64,64)", "experts": "mnist-experts"},
    "cifar10": {"dataset": "cifar10", "model": "convnet:width=32,depth=3", "experts": "cifar10-experts"},
}

# From real images, and at ten times the rate, sets of digits and of MNIST end below k-means.
_SMALL_OPTIONS: dict[str, dict[str, Any]] = {
    "digits": {"max_start": 5, "augment": "none", "learning_rate": 1.0, "schedule": "cosine", "init_step_size": 0.1,
               "step_size_learning_rate": 1e-3, "init_images": "kmeans"},
    "mnist": {"max_start": 8, "augment": "none", "learning_rate": 30.0, "schedule": "cosine", "init_step_size": 0.02,
              "step_size_learning_rate": 1e-4, "init_images": "kmeans"},
    "cifar10": {"max_start": 4, "learning_rate": 100.0, "init_step_size": 0.02},
}  # fmt: skip

# ConvNets see textures; an MLP knows each pixel by its place.
_DIGITS_CONVNET = Experiment(
    dataset="digits",
    model="convnet:width=16,depth=2",
    experts="digits-convnet-experts",
    method=TrajectoryMatchingOptions(
        num_inner_steps=10,
        expert_epochs=1,
        max_start=4,
        augment="none",
        learning_rate=100.0,
        init_step_size=0.05,
        step_size_learning_rate=1e-4,
    ),
    num_outer_steps=800,
    num_eval_nets=2,
    eval_every=400,
    num_nets=5,
)
# A ConvNet of MNIST: what an expert does in a quarter of an epoch, twenty steps on ten images can do as well.
_MNIST_CONVNET = Experiment(
    dataset="mnist",
    model="convnet:width=16,depth=3",
    experts="mnist-convnet-experts",
    method=TrajectoryMatchingOptions(
        expert_epochs=1,
        max_start=4,
        augment="dsa_no_flip",
        learning_rate=100.0,
        init_step_size=0.05,
        step_size_learning_rate=1e-4,
    ),
    num_outer_steps=400,
    num_eval_nets=2,
    eval_every=100,
    num_nets=10,
)


def trajectory_cells(method: str = "mtt", paper: bool = False) -> dict[str, Experiment]:
    """All the experiments of "mtt", "tesla" or "datm", by DATASET-ipcCOUNT; OptionError for another method."""
    if method not in TRAJECTORY_METHODS:
        raise unknown_name("method", method, TRAJECTORY_METHODS)
    gradient: Any = "first_order" if method == "tesla" else "exact"
    if paper and method == "datm":
        return {name: _paper_datm(*cell) for name, cell in _DATM_CELLS.items()}
    if paper:
        return {name: _paper(cell, gradient) for name, cell in _CELLS.items()}
    small = {
        f"{dataset}-ipc{count}": _small(dataset, count, gradient) for dataset in _SMALL_DATASETS for count in (1, 10)
    }
    if method == "mtt":
        return {**small, "mnist-convnet-ipc1": _MNIST_CONVNET}
    return {name: _small_datm(cell) for name, cell in small.items()} if method == "datm" else small


def _paper_datm(cell: _Cell, difficulty: _Difficulty) -> Experiment:
    """Experts trained towards flat optima, learnt labels, a range of starts that grows, a threshold."""
    plain = _paper(cell, "exact")
    method = dataclasses.replace(
        plain.method,
        learn_labels=True,
        init_labels="expert",
        init_correct=difficulty.correct,
        init_images="real",
        label_learning_rate=difficulty.label_rate,
        min_start=difficulty.min_start,
        first_max_start=difficulty.first_max_start,
        growth_steps=difficulty.growth_steps,
        max_loss=difficulty.max_loss,
        protocol="datm",
    )
    return dataclasses.replace(plain, method=method, experts=f"{cell.dataset}-zca-ftd-experts-paper")


def _small_datm(experiment: Experiment) -> Experiment:
    """The same for small experiments: the experts' last third is left to the end."""
    plain = experiment.method
    further = 3 if plain.init_images == "kmeans" else 1  # from real images, in place of k-means, the way is longer
    method = dataclasses.replace(
        plain,
        learning_rate=further * plain.learning_rate,
        learn_labels=True,
        init_labels="expert",
        init_correct=True,
        init_images="real",
        first_max_start=plain.max_start - plain.max_start // 3,
        growth_steps=200,
        max_loss=1.0,
        protocol="datm" if plain.augment == "dsa" else "datm-plain",
    )
    experts = str(experiment.experts).replace("-experts", "-ftd-experts")
    return dataclasses.replace(experiment, method=method, experts=experts)


def _paper(cell: _Cell, gradient: Any) -> Experiment:
    read, depth = _DATASETS[cell.dataset]
    options = TrajectoryMatchingOptions(
        images_per_class=cell.images,
        num_inner_steps=cell.inner_steps,
        batch_size=cell.batch_size,
        expert_epochs=cell.expert_epochs,
        max_start=cell.max_start,
        learning_rate=float(cell.learning_rate),
        step_size_learning_rate=cell.step_size_rate,
        init_step_size=cell.step_size,
        gradient=gradient,
    )
    return Experiment(
        **read,
        zca=cell.zca,
        model=f"convnet:width=128,depth={depth}",
        experts=f"{cell.dataset}{'-zca' if cell.zca else ''}-experts-paper",
        method=options,
        num_outer_steps=_PAPER_STEPS,
        num_eval_nets=1,
        num_nets=_PAPER_NETS,
    )


def wearable_cells(paper: bool = False) -> dict[str, Experiment]:
    """Canvases of 2 x 2 images (Wearable ImageNet), by DATASET-wearable: digits and CIFAR-10 in small.

    Args:
        paper: the command of the released code in their place, one canvas of 512 x 512 pixels for each of the ten
            classes of a subset of ImageNet, in class folders at "folder:imagesquawk".
    """
    if not paper:
        small = {"digits": _DIGITS_CONVNET, "cifar10": _small("cifar10", 1, "exact")}
        return {f"{dataset}-wearable": _on_canvas(experiment, 4) for dataset, experiment in small.items()}
    options = TrajectoryMatchingOptions(
        num_inner_steps=20,
        expert_epochs=2,
        max_start=10,
        learning_rate=1000.0,
        step_size_learning_rate=1e-6,
        init_step_size=0.01,
    )
    squawk = Experiment(
        dataset="folder:imagesquawk",
        image_size=256,
        channels=3,
        model="convnet:width=128,depth=5",
        experts="squawk-experts-paper",
        method=options,
        num_outer_steps=_PAPER_STEPS,
        num_eval_nets=1,
        num_nets=_PAPER_NETS,
    )
    return {"squawk-wearable": _on_canvas(squawk, 1)}


def _on_canvas(experiment: Experiment, samples: int) -> Experiment:
    """From noise, as real images side by side have seams that take long to go."""
    method = dataclasses.replace(experiment.method, canvas_size=2, canvas_samples=samples, init_images="noise")
    return dataclasses.replace(experiment, method=method)


def _small(dataset: str, count: int, gradient: Any) -> Experiment:
    """Few experts of few epochs: an MLP learns digits from them in a minute."""
    options = TrajectoryMatchingOptions(images_per_class=count, gradient=gradient, **_SMALL_OPTIONS[dataset])
    if gradient == "first_order":  # which is longer than the exact gradient
        options = dataclasses.replace(options, learning_rate=0.3 * options.learning_rate)
    return Experiment(**_SMALL_DATASETS[dataset], method=options, num_outer_steps=800 if dataset == "mnist" else 400,
                      num_eval_nets=2, eval_every=100, num_nets=10)  # fmt: skip


TRAJECTORY_PRESETS: Mapping[str, Experiment] = {
    **{
        f"{dataset}-{method}": trajectory_cells(method)[f"{dataset}-ipc{count}"]
        for method in TRAJECTORY_METHODS
        for dataset, count in (("digits", 1), ("mnist", 10), ("cifar10", 1))
    },
    **wearable_cells(),
    **{f"cifar10-{method}-paper": trajectory_cells(method, True)["cifar10-ipc10"] for method in TRAJECTORY_METHODS},
}
