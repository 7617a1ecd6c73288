"""Experiments by name: the library's recommended settings, and those of the paper (names ending in -paper).

The paper's are those of the released code of Wang et al. 2018: 400 epochs of 1,024-image batches, Adam(0.01, b1 0.5),
halved every 40 epochs; an epoch of MNIST is 59 such batches, of CIFAR-10 49 and of USPS 8. What differs from it: 10 %
of the training images are kept apart to choose by; images and networks are drawn with replacement; every dataset is
standardised by its own mean and std, PASCAL VOC too, and its random crops are taken from images of 224 pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dd_jax.errors import OptionError, unknown_name
from dd_jax.methods import (
    DistributionMatchingOptions,
    GradientMatchingOptions,
    GraphCondensationOptions,
    UnrolledOptions,
    method_named,
    name_of,
    spec_of,
)
from dd_jax.methods.registry import METHODS, YOUR_OWN
from dd_jax.own import is_own
from dd_jax.presets.attacks import attack_presets
from dd_jax.presets.bptt import BPTT_PRESETS
from dd_jax.presets.kernels import KERNEL_PRESETS
from dd_jax.presets.matching import MATCHING_PRESETS, matching_experiment
from dd_jax.presets.teaching import TEACHING_PRESETS
from dd_jax.presets.trajectories import TRAJECTORY_PRESETS
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.naming import DEFAULT_MODEL
from dd_jax.runs.networks import smoke_networks

_FIXED: dict[str, Any] = {"num_batches": 1, "num_epochs": 3, "init": "fixed", "num_inits": 1}
_RANDOM: dict[str, Any] = {"num_batches": 10, "num_epochs": 3, "init": "random"}

_PAPER = UnrolledOptions(
    batch_size=1024,
    init_images="noise",
    init_step_size=0.02,
    init_step_decay=1.0,
    learning_rate=0.01,
    step_size_rate=1.0,
    b1=0.5,
    clip_norm=None,
    schedule="step",
    decay_every=40 * 59,
)
_CIFAR10_PAPER: dict[str, Any] = {"init_step_size": 0.001, "decay_every": 40 * 49, "augment": "crop_flip"}

# Networks that are good already and adapt: few steps, images that start as k-means centres of the new set.
_ADAPT: dict[str, Any] = {
    "num_batches": 10,
    "num_epochs": 3,
    "num_inits": 1,
    "init_images": "kmeans",
    "init_step_size": 0.02,
    "init_step_decay": 1.0,
    "learning_rate": 0.02,
    "step_size_rate": 0.1,
    "smoothing": 1.0,
}
_ADAPT_PAPER: dict[str, Any] = {"num_batches": 10, "num_epochs": 3, "num_inits": 4}

# One image of each class in each of three steps on a known AlexNet with a new, empty last layer.
_ALEXNET: dict[str, Any] = {
    "num_batches": 1,
    "num_epochs": 3,
    "init": "fixed",
    "num_inits": 1,
    "init_step_size": 0.001,
    "augment": "resized_crop_flip",
}
_ALEXNET_WEIGHTS = "nets/alexnet-owt-7be5be79.pth"

_MNIST = Experiment(dataset="mnist", model="lenet", num_outer_steps=400 * 59)
_CIFAR10 = Experiment(dataset="cifar10", model="alexcifarnet", num_outer_steps=400 * 49)

# One known network: no noise between networks, but a rugged loss, which the discount calms. The longer the better, with
# the rate as 1 / sqrt(num_outer_steps): 30,000 steps gave 93.4 % on test, 80,000 gave 95.5 %.
_OURS_FIXED: dict[str, Any] = {
    "init_images": "mean",
    "init_step_size": 0.3,
    "init_step_decay": 1.0,
    "learning_rate": 0.01,
    "step_size_rate": 1.0,
    "b2": 0.99,
    "discount": 0.5,
    "batch_size": 128,
}
# Random networks: hypergradients that are nearly all noise, so many cheap steps of one network each, smoothed and
# discounted. The images diffuse as learning_rate * sqrt(steps), and with them the inner loop towards chaos, where a
# few networks fail: scale the rate as 1 / sqrt(num_outer_steps).
_OURS_RANDOM: dict[str, Any] = {
    "num_inits": 1,
    "init_images": "kmeans",
    "init_step_size": 0.15,
    "init_step_decay": 0.1,
    "learning_rate": 0.009,
    "step_size_rate": 0.15,
    "discount": 0.9,
    "smoothing": 1.2,
}
_OURS_DIGITS: dict[str, Any] = {
    "init_images": "kmeans",
    "init_step_size": 1.0,
    "init_step_decay": 0.3,
    "step_size_rate": 0.5,
}


_DIGITS = Experiment(model="convnet:width=16,depth=2", num_eval_nets=3, eval_every=50, num_nets=20)
_DIGITS_DM = DistributionMatchingOptions(images_per_class=10, batch_size=64, augment="none")
_DIGITS_GCOND = GraphCondensationOptions(nodes_per_class=2, hidden=32, learning_rate=1e-3, edge_learning_rate=1e-2)
_GRAPH: dict[str, Any] = {
    "model": "gcn",
    "num_outer_steps": 800,
    "eval_every": 200,
    "num_eval_nets": 1,
    "num_nets": 10,
}
_GRAPH_X = _GRAPH | {"num_outer_steps": 200, "eval_every": 50}  # beyond that features drift
_DIGITS_DC = GradientMatchingOptions(images_per_class=1, batch_size=64)


def _with(experiment: Experiment, method: UnrolledOptions | None = None, **changes: Any) -> Experiment:
    """`experiment` with some of the method's options, and of its own, replaced."""
    own = {name: changes.pop(name) for name in ("num_outer_steps", "num_eval_nets") if name in changes}
    return dataclasses.replace(experiment, method=dataclasses.replace(method or UnrolledOptions(), **changes), **own)


_USPS = Experiment(dataset="usps", model="lenet", pretrained="mnist-lenet", num_outer_steps=3000)
_FROM_USPS = Experiment(dataset="mnist", model="lenet", pretrained="usps-lenet", num_outer_steps=3000)
_FROM_SVHN = Experiment(
    dataset="mnist", channels=3, image_size=28, model="lenet", pretrained="svhn-lenet", num_outer_steps=3000
)
_VOC = Experiment(dataset="voc2007", image_size=224, channels=3, model="alexnet", pretrained=_ALEXNET_WEIGHTS)
_CUB = dataclasses.replace(_VOC, dataset="cub200")


def _adaptations(name: str, experiment: Experiment, epoch: int) -> dict[str, Experiment]:
    """An adaptation to networks that are not known and to one that is, with our settings and with the paper's.

    Args:
        epoch: outer steps in an epoch of 1,024-image batches.
    """
    paper = dataclasses.replace(experiment, num_outer_steps=400 * epoch, pretrained=f"{experiment.pretrained}-paper")
    fixed = {"init": "fixed", "num_inits": 1}
    return {
        name: _with(experiment, **_ADAPT),
        f"{name}-fixed": _with(experiment, **_ADAPT | fixed),
        f"{name}-paper": _with(paper, _PAPER, **_ADAPT_PAPER, decay_every=40 * epoch),
        f"{name}-fixed-paper": _with(paper, _PAPER, **_ADAPT_PAPER | fixed, decay_every=40 * epoch),
    }


def _alexnet_paper(experiment: Experiment, epoch: int) -> Experiment:
    experiment = dataclasses.replace(experiment, num_outer_steps=200 * epoch)
    return _with(experiment, _PAPER, **_ALEXNET | {"decay_every": 30 * epoch})


PRESETS: Mapping[str, Experiment] = {
    "digits": _with(Experiment(num_outer_steps=1000), num_batches=1, num_epochs=10, **_OURS_DIGITS),
    "digits-dm": dataclasses.replace(_DIGITS, method=_DIGITS_DM, num_outer_steps=300),
    "digits-dc": dataclasses.replace(_DIGITS, method=_DIGITS_DC, num_outer_steps=200),
    "digits-gcond": Experiment(
        dataset="digits-graph",
        model="gcn:hidden=32",
        method=_DIGITS_GCOND,
        num_outer_steps=400,
        eval_every=100,
        num_eval_nets=3,
        num_nets=10,
    ),
    "cora-gcond": Experiment("cora", method=GraphCondensationOptions(), **_GRAPH),
    "cora-gcond-x": Experiment("cora", method=GraphCondensationOptions(structure=False), **_GRAPH_X),
    "cora-doscond": Experiment("cora", method=GraphCondensationOptions(one_step=True), **_GRAPH),
    "citeseer-gcond": Experiment("citeseer", method=GraphCondensationOptions(), **_GRAPH | {"num_outer_steps": 600}),
    "citeseer-gcond-x": Experiment("citeseer", method=GraphCondensationOptions(structure=False), **_GRAPH_X),
    **MATCHING_PRESETS,
    **KERNEL_PRESETS,
    **TRAJECTORY_PRESETS,
    **BPTT_PRESETS,
    **TEACHING_PRESETS,
    "mnist-fixed-init": _with(_MNIST, **_FIXED, **_OURS_FIXED, num_outer_steps=80_000),
    "mnist-random-init": _with(_MNIST, **_RANDOM, **_OURS_RANDOM, num_outer_steps=5_000, num_eval_nets=50),
    "cifar10-fixed-init": _with(_CIFAR10, **_FIXED | {"num_batches": 10}, **_OURS_FIXED | {"init_step_size": 0.02}),
    "cifar10-random-init": _with(
        _CIFAR10, **_RANDOM, **_OURS_RANDOM | {"init_step_size": 0.05, "learning_rate": 0.0045}
    ),
    "mnist-fixed-init-paper": _with(_MNIST, _PAPER, **_FIXED),
    "mnist-random-init-paper": _with(_MNIST, _PAPER, **_RANDOM),
    "cifar10-fixed-init-paper": _with(_CIFAR10, _PAPER, **_FIXED | {"num_batches": 10}, **_CIFAR10_PAPER),
    "cifar10-random-init-paper": _with(_CIFAR10, _PAPER, **_RANDOM, **_CIFAR10_PAPER),
    **_adaptations("mnist-to-usps", _USPS, 8),
    **_adaptations("usps-to-mnist", _FROM_USPS, 59),
    **_adaptations("svhn-to-mnist", _FROM_SVHN, 59),
    "voc-alexnet": _with(_VOC, **_ALEXNET, init_images="mean", num_outer_steps=1000),
    "cub200-alexnet": _with(_CUB, **_ALEXNET, init_images="mean", num_outer_steps=1000),
    "voc-alexnet-paper": _alexnet_paper(_VOC, 16),
    "cub200-alexnet-paper": _alexnet_paper(_CUB, 6),
    **attack_presets(_PAPER),
}


def preset(name: str) -> Experiment:
    """The experiment called `name`; OptionError for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS, "dd-jax info lists them.")
    return PRESETS[name]


# What papers call the methods, with the method, and the small experiment that is theirs.
PAPERS: Mapping[str, Experiment] = {
    "dd": PRESETS["digits"],
    "dc": PRESETS["digits-dc"],
    **{
        name: dataclasses.replace(matching_experiment(name, "mnist", 1), dataset="digits")
        for name in ("dsa", "dcc", "idc")
    },
    "dm": PRESETS["digits-dm"],
    "mtt": PRESETS["digits-mtt"],
    "tesla": PRESETS["digits-tesla"],
    "datm": PRESETS["digits-datm"],
    "rtp": PRESETS["digits-rtp"],
    "rat-bptt": PRESETS["digits-rat-bptt"],
    "kip": PRESETS["digits-kip"],
    "gtn": PRESETS["digits-gtn"],
    "gcond": PRESETS["digits-gcond"],
}


def told(name: str, experiment: Experiment) -> str:
    """What a preset is, in a line: dataset, network, method and outer steps, and whose settings."""
    method = spec_of(experiment.method)
    words = ", ".join(method.words(experiment.method))
    model = experiment.model or DEFAULT_MODEL
    start = "".join(f", {role} {networks}" for role in ("pretrained", "experts")
                    if (networks := getattr(experiment, role)) is not None)  # fmt: skip
    paper = ", as in the paper" if name.endswith("-paper") else ""
    return f"{experiment.dataset}: {method.name} ({words}), {model}{start}, {experiment.num_outer_steps:,} steps{paper}"


def of_method(name: str, experiment: Experiment | None = None) -> Experiment:
    """`experiment`, which must be of the method called `name`; without one a small experiment of that method.

    A method also has the names that papers give it, see `PAPERS`; without an experiment such a name means theirs.

    Raises:
        OptionError: for an unknown name, or an experiment of another method.
    """
    paper = PAPERS.get(name.lower())
    if paper is None and not is_own(name) and name.replace("-", "_") not in METHODS:
        raise unknown_name("method", name, (*METHODS, *PAPERS), YOUR_OWN)
    wanted = method_named(name if paper is None else name_of(paper.method))
    if experiment is None:
        if paper is not None:
            return paper
        presets = (one for one in PRESETS.values() if type(one.method) is wanted.options)
        return next(presets, Experiment(method=wanted.options()))
    if type(experiment.method) is not wanted.options:
        raise OptionError(
            f"The experiment is for the method {name_of(experiment.method)}, but --method is "
            f"{name}. Leave out --method, or name a preset of that method."
        )
    return experiment


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment in small: a few outer steps and networks, to see that everything works."""
    method = dataclasses.replace(experiment.method, **spec_of(experiment.method).small)
    counts: dict[str, Any] = {"num_outer_steps": 4, "eval_every": 4, "num_eval_nets": 1, "num_nets": 1}
    return with_few_networks(dataclasses.replace(experiment, method=method, baselines=False, **counts))


def with_few_networks(experiment: Experiment) -> Experiment:
    """The same experiment with a few networks in place of those of a preset of networks."""
    few = {name: smoke_networks(getattr(experiment, name)) for name in ("pretrained", "experts")}
    return dataclasses.replace(experiment, pretrained=few["pretrained"], experts=few["experts"])
