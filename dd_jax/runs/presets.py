"""Experiments by name: the library's recommended settings, and those of the paper (names ending in -paper).

The paper's are those of the released code of Wang et al. 2018: 400 epochs of 1,024-image batches, Adam(0.01, b1 0.5),
halved every 40 epochs; an epoch of MNIST is 59 such batches and of CIFAR-10 49.
"""

import dataclasses
from collections.abc import Mapping

from dd_jax.errors import unknown_name
from dd_jax.methods import UnrolledOptions
from dd_jax.runs.experiment import Experiment

_PAPER = UnrolledOptions(
    batch_size=1024,
    init_images="noise",
    init_step_size=0.02,
    learning_rate=0.01,
    b1=0.5,
    clip_norm=None,
    schedule="step",
    decay_every=40 * 59,
)
_FIXED = UnrolledOptions(num_steps=1, num_epochs=3, init="fixed", num_inits=1)
_RANDOM = UnrolledOptions(num_steps=10, num_epochs=3)


def _paper(options: UnrolledOptions, **changes) -> UnrolledOptions:
    shape = {name: getattr(options, name) for name in ("num_steps", "num_epochs", "init", "num_inits")}
    return dataclasses.replace(_PAPER, **{**shape, **changes})


_MNIST = Experiment(dataset="mnist", model="lenet")
_CIFAR10 = Experiment(dataset="cifar10", model="alexcifarnet")
_CIFAR10_PAPER = {"init_step_size": 0.001, "decay_every": 40 * 49}

PRESETS: Mapping[str, Experiment] = {
    "digits": Experiment(method=UnrolledOptions(num_steps=1, num_epochs=10, init_step_size=0.05), num_outer_steps=1500),
    "mnist-fixed-init": dataclasses.replace(
        _MNIST,
        method=dataclasses.replace(_FIXED, init_images="mean", init_step_size=0.3, learning_rate=0.015, b2=0.99),
        num_outer_steps=50000,
    ),
    "mnist-random-init": dataclasses.replace(_MNIST, method=_RANDOM, num_outer_steps=4000),
    "cifar10-fixed-init": dataclasses.replace(
        _CIFAR10, method=dataclasses.replace(_FIXED, num_steps=10, init_step_size=0.01), num_outer_steps=20000
    ),
    "cifar10-random-init": dataclasses.replace(
        _CIFAR10, method=dataclasses.replace(_RANDOM, init_step_size=0.01), num_outer_steps=20000
    ),
    "mnist-fixed-init-paper": dataclasses.replace(_MNIST, method=_paper(_FIXED), num_outer_steps=400 * 59),
    "mnist-random-init-paper": dataclasses.replace(_MNIST, method=_paper(_RANDOM), num_outer_steps=400 * 59),
    "cifar10-fixed-init-paper": dataclasses.replace(
        _CIFAR10, method=_paper(_FIXED, num_steps=10, **_CIFAR10_PAPER), num_outer_steps=400 * 49
    ),
    "cifar10-random-init-paper": dataclasses.replace(
        _CIFAR10, method=_paper(_RANDOM, **_CIFAR10_PAPER), num_outer_steps=400 * 49
    ),
}


def preset(name: str) -> Experiment:
    """The experiment called `name`; OptionError for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment in small: a few outer steps and networks, to see that everything works."""
    method = dataclasses.replace(experiment.method, num_inits=1, batch_size=64)
    return dataclasses.replace(
        experiment, method=method, num_outer_steps=4, eval_every=2, num_eval_nets=2, num_nets=4, baselines=False
    )
