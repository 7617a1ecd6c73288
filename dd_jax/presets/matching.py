"""Experiments of the methods that match gradients or features: reduced ones for two cores, and the papers'.

The papers' networks are ConvNets of depth 3 and width 128. What differs from them: 10 % of the training images are kept
apart to choose by; real images are drawn with replacement. IDC's rate is one of pixels: divided by the variance of the
pixels it is ours, of model space; its change while matching is one of colour, crop and cut-out, here siamese
augmentation; it carries the momentum of networks from match to match. Lee et al. leave the rate of a collective match
open: here it is that of Zhao et al. times the number of classes, as the loss is one and not a sum over them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dd_jax.data.characters import of_characters
from dd_jax.errors import unknown_name
from dd_jax.methods import DistributionMatchingOptions, GradientMatchingOptions
from dd_jax.runs.experiment import Experiment

MATCHING_DATASETS = ("mnist", "fashion_mnist", "svhn", "cifar10", "cifar100")
MATCHING_METHODS = ("dc", "dsa", "dm", "dcc", "idc")
COUNTS = (1, 10, 50)  # images of each class

_NETWORKS = 1000  # that Zhao et al. match, one after another, each as often as there are images of a class
# Outer rates of Kim et al. in pixels, and the standard deviation of the pixels that makes them ours.
_IDC_RATES = {"mnist": 1e-4, "fashion_mnist": 1e-4, "svhn": 5e-3, "cifar10": 5e-3, "cifar100": 5e-3}
_STD = {"mnist": 0.308, "fashion_mnist": 0.353, "svhn": 0.2, "cifar10": 0.25, "cifar100": 0.27}
_IDC: dict[str, Any] = {
    "factor": 2,
    "clamp": True,
    "layers": "convolutions",
    "image_steps": "per_class",
    "train_on": "real",
    "inner_epochs": 1,
    "inner_momentum": 0.9,
    "inner_weight_decay": 5e-4,
    "inner_batch_size": 64,
    "batch_size": 64,
}


def matching_experiment(method: str, dataset: str, images_per_class: int, paper: bool = False) -> Experiment:
    """One cell of the papers' tables: in small, or with the paper's settings.

    Args:
        method, dataset: of `MATCHING_METHODS` and `MATCHING_DATASETS`, OptionError for others.
    """
    if method not in MATCHING_METHODS:
        raise unknown_name("method", method, MATCHING_METHODS)
    if dataset not in MATCHING_DATASETS:
        raise unknown_name("dataset", dataset, MATCHING_DATASETS)
    make = _paper if paper else _small
    return make(method, dataset, images_per_class)


def cells(method: str, paper: bool = False) -> dict[str, Experiment]:
    """All the experiments of a method: DATASET-ipcCOUNT."""
    return {
        f"{dataset}-ipc{count}": matching_experiment(method, dataset, count, paper)
        for dataset in MATCHING_DATASETS
        for count in COUNTS
    }


def _paper(method: str, dataset: str, count: int) -> Experiment:
    change: Any = "dsa_no_flip" if of_characters(dataset) else "dsa"
    classes = 100 if dataset == "cifar100" else 10
    base = Experiment(dataset=dataset, model="convnet:width=128,depth=3", num_eval_nets=3, eval_every=None, num_nets=20)
    if method == "dm":
        features = DistributionMatchingOptions(images_per_class=count, augment=change)
        return dataclasses.replace(base, method=features, num_outer_steps=20_000)
    gradient = GradientMatchingOptions(images_per_class=count)
    if method == "idc":
        digits = dataset == "mnist"
        real: dict[str, Any] = {
            **_IDC,
            "distance": "l1" if "mnist" in dataset else "mse",
            "learning_rate": round(_IDC_RATES[dataset] / _STD[dataset] ** 2, 5),
            "rate_by_count": True,
            "num_matches": 100,
            "num_training_images": 2000 if dataset.startswith("cifar") else 500,
            "match_images": 128,
            "augment": change,
            "inner_cutmix": not digits,
            "protocol": "idc-digits" if of_characters(dataset) else "idc",
        }
        return dataclasses.replace(base, method=dataclasses.replace(gradient, **real), num_outer_steps=200_000)
    changes: dict[str, Any] = {"augment": change} if method == "dsa" else {}
    if method == "dcc":
        changes = {"collective": True, "warmup_networks": 250, "learning_rate": 0.1 * classes}
    return dataclasses.replace(base, method=dataclasses.replace(gradient, **changes), num_outer_steps=_NETWORKS * count)


def _small(method: str, dataset: str, count: int) -> Experiment:
    """A narrow network, fewer real images, larger steps of the images, and the evaluation without augmentation."""
    colour = dataset in ("svhn", "cifar10", "cifar100")
    classes = 100 if dataset == "cifar100" else 10
    base = Experiment(
        dataset=dataset,
        model="convnet:width=32,depth=3" if colour else "convnet:width=16,depth=2",
        num_eval_nets=3,
        eval_every=100,
        num_nets=10,
        num_outer_steps=200,
    )
    change: Any = "dsa_no_flip" if of_characters(dataset) else "dsa"
    shared: dict[str, Any] = {"images_per_class": count, "batch_size": 64, "protocol": "dc"}
    if method == "dm":
        return dataclasses.replace(base, method=DistributionMatchingOptions(**shared, augment="none"))
    gradient = GradientMatchingOptions(**shared, learning_rate=0.5)
    if count > 1:
        gradient = dataclasses.replace(gradient, num_matches=10, inner_epochs=10)
    if method == "idc":
        own = {"layers": "all", "learning_rate": 0.4, "schedule": "cosine", "num_matches": 4, "num_training_images": 64}
        idc = dataclasses.replace(gradient, **{**_IDC, **own})
        return dataclasses.replace(base, method=idc, eval_every=120, num_outer_steps=720)
    changes: dict[str, Any] = {"augment": change} if method == "dsa" else {}
    if method == "dcc":
        changes = {"collective": True, "learning_rate": 0.5 * classes, "schedule": "cosine"}
        base = dataclasses.replace(base, eval_every=200, num_outer_steps=600)
    return dataclasses.replace(base, method=dataclasses.replace(gradient, **changes))


MATCHING_PRESETS: Mapping[str, Experiment] = {
    f"{dataset}-{method}{suffix}": matching_experiment(method, dataset, 10 if method == "dm" else count, bool(suffix))
    for dataset, count in (("mnist", 1), ("cifar10", 10))
    for method in MATCHING_METHODS
    for suffix in ("", "-paper")
}
