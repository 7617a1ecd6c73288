"""Experiments of generative teaching: reduced ones for two cores, and the paper's.

The paper's are those of Such et al. 2020 on MNIST, with the settings of the released code. What differs from them: 10 %
of the training images are kept apart to choose by; learners are ConvNets of depth 2 with instance normalisation, of one
width drawn from five, in place of two layers of separate widths with weight normalisation; the generator normalises
each image, and not the batch; the outer rate falls to zero, and not to a tenth.
"""

import dataclasses
from collections.abc import Mapping

from dd_jax.methods import GenerativeTeachingOptions
from dd_jax.methods.generative_teaching_options import TEACHERS
from dd_jax.runs.experiment import Experiment

_DIGITS = GenerativeTeachingOptions(
    num_inner_steps=8, images_per_step=20, latent_size=16, hidden=64, filters=16, init_step_size=0.3, learning_rate=0.01
)
_MLP = GenerativeTeachingOptions(init_step_size=0.1, learning_rate=0.003)
_CONV = GenerativeTeachingOptions(
    num_inner_steps=32,
    images_per_step=20,
    init_step_size=0.1,
    learning_rate=0.005,
    loss_every=16,
    batch_size=128,
    widths=(8, 12, 16),
)
_PAPER = GenerativeTeachingOptions(
    num_inner_steps=64,
    images_per_step=128,
    latent_size=128,
    hidden=1024,
    filters=128,
    init_step_size=0.02,
    init_momentum=0.5,
    learning_rate=0.02,
    clip_norm=None,
    batch_size=128,
    loss_every=1,
    widths=(32, 48, 64, 96, 128),
)

_MNIST = Experiment(
    dataset="mnist", model="mlp:hidden=(128,128)", method=_MLP, num_outer_steps=700, eval_every=350, num_eval_nets=5,
    num_nets=20,
)  # fmt: skip
_CONVNETS = dataclasses.replace(
    _MNIST, model="convnet:width=16,depth=2", method=_CONV, num_outer_steps=320, eval_every=160, num_eval_nets=1,
    num_nets=10,
)  # fmt: skip


def teacher_experiment(network: str, teacher: str, paper: bool = False) -> Experiment:
    """MNIST with one of `TEACHERS`, for an "mlp" or for "convnets" of random width.

    Args:
        paper: with the published settings, which are those of ConvNets.
    """
    base = _MNIST if network == "mlp" else _CONVNETS
    if paper:
        base = dataclasses.replace(base, method=_PAPER, num_outer_steps=2000, eval_every=200, num_eval_nets=5)
        if network == "convnets":
            base = dataclasses.replace(base, model="convnet:width=64,depth=2")
    changes: dict[str, float] = {}
    if teacher == "pixels" and not paper:  # which bear larger steps, and cost a fraction
        changes = {"learning_rate": 0.01}
        if network == "convnets":
            changes = {"learning_rate": 0.02, "init_step_size": 0.2}
            base = dataclasses.replace(base, num_outer_steps=1200, eval_every=300)
    method = dataclasses.replace(base.method, teacher=teacher, **changes)
    if network == "mlp" and paper:
        method = dataclasses.replace(method, widths=(64, 128, 256))
    return dataclasses.replace(base, method=method)


def teacher_cells(paper: bool = False) -> dict[str, Experiment]:
    """All of them: NETWORK-TEACHER."""
    return {
        f"{network}-{teacher}": teacher_experiment(network, teacher, paper)
        for network in ("mlp", "convnets")
        for teacher in TEACHERS
    }


TEACHING_PRESETS: Mapping[str, Experiment] = {
    "digits-gtn": Experiment(
        model="mlp:hidden=(64,)", method=_DIGITS, num_outer_steps=300, eval_every=100, num_eval_nets=5, num_nets=20
    ),
    "mnist-gtn": teacher_experiment("mlp", "curriculum"),
    "mnist-gtn-convnets": teacher_experiment("convnets", "curriculum"),
    "mnist-gtn-paper": teacher_experiment("convnets", "curriculum", paper=True),
}
