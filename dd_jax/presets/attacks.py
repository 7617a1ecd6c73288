"""Attacks by name: on networks that are not known, one class to be taken for another.

The paper attacks with one step; the released command leaves open with how many images: here a hundred.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dd_jax.methods import UnrolledOptions
from dd_jax.runs.experiment import Experiment

# One step: a hundred images, ten of each class.
_ONE_STEP: dict[str, Any] = {
    "num_batches": 1,
    "num_epochs": 1,
    "images_per_class": 10,
    "num_inits": 4,
    "attack_class": 0,
    "target_class": 1,
    "learning_rate": 0.02,
}
_OURS: dict[str, Any] = {
    "attack_weight": 3,
    "init_images": "kmeans",
    "init_step_size": 0.05,
    "b1": 0.5,
    "clip_norm": None,
}

_MNIST = Experiment(dataset="mnist", model="lenet", pretrained="mnist-lenet", num_outer_steps=500)
_CIFAR10 = Experiment(dataset="cifar10", model="alexcifarnet", pretrained="cifar10-alexcifarnet", num_outer_steps=3000)


def attack_presets(paper: UnrolledOptions) -> Mapping[str, Experiment]:
    """The experiments. paper: what all of the paper's have in common, for MNIST."""
    papers = dataclasses.replace(paper, **_ONE_STEP, attack_labels="own")
    cifar10 = dataclasses.replace(papers, decay_every=40 * 49, augment="crop_flip")
    ours = UnrolledOptions(**_ONE_STEP, **_OURS)
    return {
        "mnist-attack": dataclasses.replace(_MNIST, method=ours),
        "cifar10-attack": dataclasses.replace(_CIFAR10, method=ours),
        "mnist-attack-paper": _as_in_the_paper(_MNIST, papers, 400 * 59),
        "cifar10-attack-paper": _as_in_the_paper(_CIFAR10, cifar10, 400 * 49),
    }


def _as_in_the_paper(experiment: Experiment, method: UnrolledOptions, num_outer_steps: int) -> Experiment:
    networks = f"{experiment.pretrained}-paper"
    return dataclasses.replace(experiment, method=method, pretrained=networks, num_outer_steps=num_outer_steps)
