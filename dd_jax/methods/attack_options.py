"""Options of attacks: sets that make networks take one class for another (Wang et al. 2018, section 3.6)."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import OptionError, check_at_least
from dd_jax.outcomes import Outcome, outcome_of
from dd_jax.types import Batch, Protocol


@dataclasses.dataclass(frozen=True)
class AttackOptions:
    """What networks are to take for what."""

    attack_class: int | None = None
    """Class that networks should take for `target_class` after training on the set. None: teach the true classes."""
    target_class: int | None = None
    """Class that networks should take the attacked class for."""
    attack_labels: Literal["target", "own"] = "target"
    """Label of the set's images of the attacked class under an attack: "target", as real images are relabelled, or
    "own" (Wang et al. 2018)."""
    attack_weight: int = 1
    """Weight of each real image of the attacked class in the outer loss. More weight gives more success, at the price
    of the other classes."""


ATTACK_OUTSIDE = ("attack_weight",)  # of what a step depends on: the real images are repeated


def check_attack(options: AttackOptions) -> None:
    """OptionError for options that are out of range or don't go together."""
    check_at_least(1, options, "attack_weight")
    if (options.attack_class is None) != (options.target_class is None):
        raise OptionError("attack_class and target_class belong together. Give both, or neither.")


def attack_of(options: AttackOptions) -> tuple[int, int] | None:
    """The classes (K, T) that `Protocol` has for the sets; None for sets that teach what is true."""
    if options.attack_class is None or options.target_class is None:
        return None
    return options.attack_class, options.target_class


def outcome_meant(options: AttackOptions) -> Outcome:
    """What success means for the sets."""
    return outcome_of(Protocol(attack=attack_of(options)))


def relabelled(options: AttackOptions) -> tuple[int, int] | None:
    """(K, T) where the set's own images of class K are labelled T; None where each class is labelled as itself."""
    return attack_of(options) if options.attack_labels == "target" else None


def weighted(batch: Batch, options: AttackOptions) -> Batch:
    """Real images, those of the attacked class as often as they are to count."""
    if options.attack_class is None or options.attack_weight == 1:
        return batch
    again = np.tile(np.flatnonzero(np.asarray(batch.labels) == options.attack_class), options.attack_weight - 1)
    rows = jnp.asarray(np.concatenate([np.arange(len(batch.labels)), again]))
    return jax.tree.map(lambda leaf: leaf[rows], batch)
