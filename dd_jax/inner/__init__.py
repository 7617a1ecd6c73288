"""The differentiable learner: losses, the unrolled inner loop, and where it starts."""

from typing import TYPE_CHECKING

from dd_jax.inner.augment import AUGMENTS, SMOOTH_AUGMENTS, SmoothAugment, augment, cut_mix, siamese
from dd_jax.inner.classes import ByClass, by_class, class_batches, each_class
from dd_jax.inner.distances import DISTANCES, Distance, distance_named
from dd_jax.inner.dsa import dsa
from dd_jax.inner.fit import (
    TRAINING_NUMBERS,
    FitState,
    Trainer,
    Training,
    fit,
    in_epochs,
    nets_at_once,
    rate_unit,
    steps_per_epoch,
    trainer,
)
from dd_jax.inner.init import (
    INITS,
    Init,
    InitDistribution,
    draw_network,
    draw_networks,
    fixed_init,
    init_distribution,
    keys_of,
    network_range,
    networks_of,
    pretrained_init,
    random_init,
)
from dd_jax.inner.losses import LOSSES, as_shares, batch_loss, centred, chunked_loss, cross_entropy, squared_error
from dd_jax.inner.memory import REMATS, Remat, choose_remat, remat_for, unroll_memory
from dd_jax.inner.parallel import device_mesh, map_over, mean_over, on_each, on_one, replicate
from dd_jax.inner.ridge import (
    Regression,
    check_regulariser,
    enough,
    label_solve,
    regress,
    ridge_loss,
    ridge_weights,
)
from dd_jax.inner.rules import Rule, adam, gradient_descent, momentum
from dd_jax.inner.snapshots import check_every, pass_with_snapshots
from dd_jax.inner.unroll import IntermediateLoss, Window, unroll, unroll_with_losses
from dd_jax.renamed import renamed_in

if not TYPE_CHECKING:
    __getattr__ = renamed_in(__name__, Looks="IntermediateLoss", unroll_with_looks="unroll_with_losses")

__all__ = [
    "AUGMENTS",
    "DISTANCES",
    "INITS",
    "LOSSES",
    "REMATS",
    "SMOOTH_AUGMENTS",
    "TRAINING_NUMBERS",
    "ByClass",
    "Distance",
    "FitState",
    "Init",
    "InitDistribution",
    "IntermediateLoss",
    "Regression",
    "Remat",
    "Rule",
    "SmoothAugment",
    "Trainer",
    "Training",
    "Window",
    "adam",
    "as_shares",
    "augment",
    "batch_loss",
    "by_class",
    "centred",
    "check_every",
    "check_regulariser",
    "choose_remat",
    "chunked_loss",
    "class_batches",
    "cross_entropy",
    "cut_mix",
    "device_mesh",
    "distance_named",
    "draw_network",
    "draw_networks",
    "dsa",
    "each_class",
    "enough",
    "fit",
    "fixed_init",
    "gradient_descent",
    "in_epochs",
    "init_distribution",
    "keys_of",
    "label_solve",
    "map_over",
    "mean_over",
    "momentum",
    "nets_at_once",
    "network_range",
    "networks_of",
    "on_each",
    "on_one",
    "pass_with_snapshots",
    "pretrained_init",
    "random_init",
    "rate_unit",
    "regress",
    "remat_for",
    "replicate",
    "ridge_loss",
    "ridge_weights",
    "siamese",
    "squared_error",
    "steps_per_epoch",
    "trainer",
    "unroll",
    "unroll_memory",
    "unroll_with_losses",
]
