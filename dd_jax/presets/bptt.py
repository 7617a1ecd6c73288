"""Experiments of backpropagation through trainings (RememberThePast, RaT-BPTT): for two cores, and the papers'.

The papers' are those of Deng & Russakovsky 2022 (*Remember the Past*, with addressing) and of Feng et al. 2024
(*Embarrassingly Simple Dataset Distillation*), in the settings of their released code. What differs from them: 10 % of
the training images are kept apart to choose by; real images are drawn with replacement, as many of each class. Deng &
Russakovsky release the settings of CIFAR-10 at one image of each class (16 bases): here other sets have as many bases
for each image, and 50 classes at a time where there are more. Feng et al. release those of ten images of each class
and of CIFAR-100 at one: all other counts, and that one, have those of ten here. Learnt labels start as 90 % certain and
stay probabilities, and the clipping is by the mean of norms as they were clipped. Tiny ImageNet is read from class
folders, "folder:tiny-imagenet".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dd_jax.errors import unknown_name
from dd_jax.methods import BpttOptions
from dd_jax.runs.experiment import Experiment

BPTT_METHODS = ("rtp", "rat-bptt")

_BASES_PER_IMAGE = 1.6  # 16 bases at one image of each of ten classes
_MOST_CLASSES = 50  # at a time

# How each dataset is read, its image shape, its classes, and the depth of the ConvNet that is for it.
_DATASETS: dict[str, tuple[dict[str, Any], tuple[int, int, int], int, int]] = {
    "mnist": ({"dataset": "mnist"}, (28, 28, 1), 10, 3),
    "svhn": ({"dataset": "svhn"}, (32, 32, 3), 10, 3),
    "cifar10": ({"dataset": "cifar10"}, (32, 32, 3), 10, 3),
    "cifar100": ({"dataset": "cifar100"}, (32, 32, 3), 100, 3),
    "tiny-imagenet": (
        {"dataset": "folder:tiny-imagenet", "image_size": 64, "channels": 3}, (64, 64, 3), 200, 4
    ),
}  # fmt: skip
_COUNTS = (1, 10, 50)  # images of each class
_CELLS: dict[str, dict[str, tuple[int, ...]]] = {
    "rtp": {**dict.fromkeys(("mnist", "svhn", "cifar10"), _COUNTS), "cifar100": (1, 10), "tiny-imagenet": (1,)},
    "rat-bptt": dict.fromkeys(("cifar10", "cifar100", "tiny-imagenet"), _COUNTS),
}
_RAT_STEPS = {"cifar10": (60, 200), "cifar100": (100, 300), "tiny-imagenet": (100, 300)}  # window, inner steps

_RTP_PAPER = BpttOptions(
    images="bases",
    init_images="noise",
    num_inner_steps=150,
    inner_per_class=32,
    outer_optimiser="sgd",
    learning_rate=0.1,
    momentum=0.5,
    clip_norm=2.0,
    schedule="constant",
    coefficient_l2=1e-4,
)
_RAT_PAPER = BpttOptions(
    init_images="real",
    inner_optimiser="adam",
    inner_learning_rate=1e-3,
    batch_size=5000,
    augment="flip_rotate",
    learning_rate=1e-3,
    label_learning_rate=1e-3,
    clip_norm=None,
    clip_factor=2.0,
    schedule="constant",
)

_SMALL_DATASETS: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits", "model": "mlp:hidden=(64,)", "num_outer_steps": 300},
    "mnist": {"dataset": "mnist", "model": "mlp:hidden=(64,64)", "num_outer_steps": 600},
    "mnist-convnet": {"dataset": "mnist", "model": "convnet:width=16,depth=2", "num_outer_steps": 600},
    "cifar10": {"dataset": "cifar10", "model": "convnet:width=32,depth=3", "num_outer_steps": 600},
}
_RTP_SMALL: dict[str, dict[str, Any]] = {
    # Images of 8 x 8 pixels have no half resolution.
    "digits": {"num_inner_steps": 60, "inner_learning_rate": 0.05, "made_per_class": 2, "downscale": 1},
    "mnist": {"num_inner_steps": 50},
    # Convolutions bear a larger rate, and a training of a few long steps costs a fraction of one of many short ones.
    "mnist-convnet": {
        "num_inner_steps": 15,
        "inner_learning_rate": 0.05,
        "batch_size": 160,
        "learning_rate": 0.03,
    },
    "cifar10": {"num_inner_steps": 15, "inner_learning_rate": 0.05, "batch_size": 160, "made_per_class": 8},
}
_RTP_RUNS: dict[str, dict[str, Any]] = {  # as measured
    "mnist-convnet": {"num_outer_steps": 700, "eval_every": 350, "num_eval_nets": 1}
}
_RAT_SHARED: dict[str, Any] = {
    "inner_optimiser": "adam",
    "inner_learning_rate": 1e-3,
    "clip_norm": None,
    "clip_factor": 2.0,
}
_RAT_SMALL: dict[str, dict[str, Any]] = {
    "digits": {"num_inner_steps": 60, "window": 15, "inner_learning_rate": 3e-3},
    "mnist": {"num_inner_steps": 100, "window": 20},
    "mnist-convnet": {"num_inner_steps": 30, "window": 8, "inner_learning_rate": 3e-3, "batch_size": 160},
    "cifar10": {"num_inner_steps": 30, "window": 8, "inner_learning_rate": 3e-3, "batch_size": 160},
}


def bptt_cells(method: str = "rtp", paper: bool = False) -> dict[str, Experiment]:
    """All the experiments of "rtp" or "rat-bptt", by DATASET-ipcCOUNT; OptionError for another method."""
    if method not in BPTT_METHODS:
        raise unknown_name("method", method, BPTT_METHODS)
    if not paper:
        both = [(dataset, count) for dataset in _SMALL_DATASETS for count in (1, 10)]
        return {f"{dataset}-ipc{count}": _small(method, dataset, count) for dataset, count in both}
    make = _rtp_paper if method == "rtp" else _rat_paper
    return {
        f"{dataset}-ipc{count}": make(dataset, count) for dataset, counts in _CELLS[method].items() for count in counts
    }


def _small(method: str, dataset: str, count: int) -> Experiment:
    """Adam on the set from k-means centres; narrow networks, and fewer and longer inner steps where they convolve."""
    options = BpttOptions(images_per_class=count)
    steps = _SMALL_DATASETS[dataset]["num_outer_steps"]
    run = {**_SMALL_DATASETS[dataset], "num_eval_nets": 2, "eval_every": steps // 3}
    if method == "rtp":
        run |= _RTP_RUNS.get(dataset, {})
        options = dataclasses.replace(options, images="bases", **_RTP_SMALL[dataset])
        if count > 1:
            options = dataclasses.replace(options, made_per_class=4 * count, inner_per_class=options.made_per_class)
    else:
        options = dataclasses.replace(options, **_RAT_SHARED | _RAT_SMALL[dataset])
        if count > 1:
            options = dataclasses.replace(options, inner_per_class=2)
    return Experiment(**run, method=options, num_nets=10)


def _rtp_paper(dataset: str, count: int) -> Experiment:
    read, shape, classes, depth = _DATASETS[dataset]
    height, width, channels = shape
    num_bases = round(_BASES_PER_IMAGE * classes * count)
    room = count * classes * height * width * channels // num_bases
    made = (room - height * width * channels // 4) // classes
    at_a_time = min(classes, _MOST_CLASSES)
    options = dataclasses.replace(
        _RTP_PAPER,
        images_per_class=count,
        num_bases=num_bases,
        made_per_class=made,
        inner_per_class=min(made, 32),
        classes_per_step=None if at_a_time == classes else at_a_time,
        batch_size=64 * at_a_time,
    )
    return Experiment(**read, model=f"convnet:width=128,depth={depth}", method=options, num_outer_steps=500_000,
                      num_eval_nets=1, num_nets=10)  # fmt: skip


def _rat_paper(dataset: str, count: int) -> Experiment:
    read, _, classes, depth = _DATASETS[dataset]
    tiny = dataset == "tiny-imagenet"
    window, total = _RAT_STEPS[dataset]
    options = dataclasses.replace(
        _RAT_PAPER,
        images_per_class=count,
        num_inner_steps=total,
        window=window,
        learn_labels=classes > 10,
        inner_per_class=min(count, 10) if classes == 10 else 1,
        classes_per_step=_MOST_CLASSES if tiny else None,
        batch_size=1000 if tiny else 5000,
    )
    if tiny:
        options = dataclasses.replace(options, learning_rate=3e-4, label_learning_rate=3e-4)
    return Experiment(
        **read,
        zca=not tiny,
        model=f"convnet:width=128,depth={depth}",
        method=options,
        num_outer_steps=600_000,  # 60,000 epochs of ten batches
        num_eval_nets=1,
        num_nets=8,
    )


BPTT_PRESETS: Mapping[str, Experiment] = {
    **{
        f"{dataset}-{method}": bptt_cells(method)[f"{dataset}-ipc1"]
        for method in BPTT_METHODS
        for dataset in _SMALL_DATASETS
    },
    "cifar10-rtp-paper": bptt_cells("rtp", True)["cifar10-ipc1"],
    "cifar10-rat-bptt-paper": bptt_cells("rat-bptt", True)["cifar10-ipc10"],
}
