"""How many steps, epochs, and images in a step: random networks, LeNet on MNIST, AlexCifarNet on CIFAR-10.

Paper:     Wang, Zhu, Torralba & Efros 2018, section 4.1: accuracy by number of gradient steps (two epochs of each), by
           number of epochs (of ten steps; two are 10-steps), and 100 images in one step beside ten (1-epochs)
Command:   python experiments/steps_and_epochs.py mnist-5-steps mnist-10-steps      some; without a name all
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke to see it run
"""

import dataclasses
import sys
from typing import Any

from dd_jax.cli import run_table
from dd_jax.presets import PRESETS
from dd_jax.runs.experiment import Experiment

SHAPES: dict[str, dict[str, Any]] = {
    **{f"{steps}-steps": {"num_batches": steps, "num_epochs": 2} for steps in (1, 2, 5, 10, 20)},
    **{f"{epochs}-epochs": {"num_batches": 10, "num_epochs": epochs} for epochs in (1, 3, 5)},
    "one-step-of-100": {"num_batches": 1, "num_epochs": 1, "images_per_class": 10},
}


def sweep(suffix: str) -> dict[str, Experiment]:
    """An experiment for each shape and dataset, on the settings of DATASET-random-init."""
    return {
        f"{dataset}-{name}": dataclasses.replace(preset, method=dataclasses.replace(preset.method, **shape))
        for dataset in ("mnist", "cifar10")
        for preset in (PRESETS[f"{dataset}-random-init{suffix}"],)
        for name, shape in SHAPES.items()
    }


if __name__ == "__main__":
    sys.exit(run_table(sweep(""), paper=sweep("-paper")))
