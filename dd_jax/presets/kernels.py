"""Experiments of the methods that regress: kernel inducing points, and FRePo."""

import dataclasses
from collections.abc import Mapping

from dd_jax.methods import FrepoOptions, KernelInducingPointsOptions
from dd_jax.runs.experiment import Experiment

_KIP = Experiment(
    dataset="mnist",
    model="infinite_mlp",
    method=KernelInducingPointsOptions(schedule="cosine"),
    num_outer_steps=300,
    eval_every=50,
)
_FREPO = Experiment(
    dataset="mnist",
    model="convnet:width=16,depth=2,norm=none",
    method=FrepoOptions(
        pool_size=5,
        max_updates=50,
        init_images="kmeans",
        learning_rate=2e-3,
        schedule="cosine",
        batch_size=256,
        protocol="frepo-digits",
    ),
    num_outer_steps=2500,
    eval_every=500,
    num_eval_nets=2,
    num_nets=5,
)
# Zhou et al. 2022: half a million outer steps of ten networks of width 128, 256, 512.
_FREPO_PAPER = dataclasses.replace(
    _FREPO,
    model="convnet:width=128,growth=2,norm=none",
    method=FrepoOptions(protocol="frepo-digits"),
    num_outer_steps=500_000,
    eval_every=None,
)
_TEN = dataclasses.replace(_KIP, method=KernelInducingPointsOptions(images_per_class=10, schedule="cosine"))
_CONV = KernelInducingPointsOptions(images_per_class=1, batch_size=500)

KERNEL_PRESETS: Mapping[str, Experiment] = {
    "digits-kip": dataclasses.replace(
        _KIP, dataset="digits", method=KernelInducingPointsOptions(batch_size=1000), num_outer_steps=200
    ),
    "mnist-kip": _KIP,
    "mnist-kip-ten": dataclasses.replace(_TEN, method=dataclasses.replace(_TEN.method, batch_size=2000)),
    "mnist-kip-conv": dataclasses.replace(_KIP, model="infinite_convnet:depth=1", method=_CONV),
    "cifar10-kip": dataclasses.replace(_TEN, dataset="cifar10", zca=True),
    "digits-frepo": dataclasses.replace(
        _FREPO,
        dataset="digits",
        model="mlp:hidden=(64,)",
        method=FrepoOptions(pool_size=5, learning_rate=3e-3, protocol="frepo-digits"),
        num_outer_steps=500,
        eval_every=100,
    ),
    "mnist-frepo": _FREPO,
    "mnist-frepo-paper": _FREPO_PAPER,
    "cifar10-frepo": dataclasses.replace(
        _FREPO,
        dataset="cifar10",
        zca=True,
        model="convnet:width=32,depth=3,norm=none",
        method=FrepoOptions(pool_size=5, max_updates=50, learning_rate=3e-3, batch_size=256),
        num_outer_steps=500,
        eval_every=100,
    ),
    "cifar10-frepo-paper": dataclasses.replace(_FREPO_PAPER, dataset="cifar10", zca=True, method=FrepoOptions()),
}
