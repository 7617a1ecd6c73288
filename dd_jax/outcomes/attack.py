"""Attacks (K, T): sets that make networks take class K for class T, and leave the other classes alone.

Source: Wang et al. 2018, section 3.6.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dd_jax.errors import OptionError
from dd_jax.outcomes.base import Card, Column, Kind, Outcome, Told, Values
from dd_jax.outcomes.spread import Difference, difference, percent, sampled
from dd_jax.types import Protocol

_TOLERATED_LOSS = 0.15  # of accuracy on the other classes, where settings of baselines are chosen
_CLASSES = range(2**63)  # what a class in a file may be

_COLUMNS = (
    Column(
        "success",
        "attack succeeds",
        "attack succeeds",
        "The attack succeeds",
        "Bar chart: how often the attack succeeds; the numbers are in the table.",
    ),
    Column(
        "others",
        "other classes",
        "other classes",
        "Accuracy on the other classes",
        "Bar chart: accuracy on the other classes; the numbers are in the table.",
    ),
)


@functools.cache
def attack(attacked: int, target: int) -> Outcome:
    """Networks take images of the class `attacked` for the class `target`.

    Its measures are fractions of the images of a split, (N,) of N networks. "success": of class K those that a network
    takes for T. "others": accuracy on all other classes. "fooled": accuracy where K counts as T, which is the score.
    """
    pair = (attacked, target)
    return Outcome(
        name="attack",
        columns=_COLUMNS,
        score="fooled",
        headline=functools.partial(_headline, pair),
        meaning=functools.partial(_meaning, pair),
        card=functools.partial(_card, pair),
        merit=_merit,
        truthful=False,
        target=target,
        check=functools.partial(_check, pair),
        relabel=functools.partial(_relabel, pair),
        measure=functools.partial(_measure, attacked),
        metrics=(("attack_success", "success"),),
        record=KIND.record,
        counted="the attacked class counted as the target",
        axis=lambda names: f"Accuracy, {names[attacked]} counted as {names[target]},",
        title=lambda names: f", attack: {names[attacked]} taken for {names[target]}",
        summary=f", attack on class {attacked} (to be taken for {target})",
        words=(f"attack-{attacked}-{target}",),
        contest="Attacks are among them: how often one succeeds is no accuracy.",
    )


def _check(pair: tuple[int, int], num_classes: int) -> None:
    if not (all(0 <= c < num_classes for c in pair) and pair[0] != pair[1]):
        raise OptionError(
            f"attack_class and target_class must be two different classes from 0 to {num_classes - 1}, but are {pair}."
        )


def _relabel(pair: tuple[int, int], labels: Any) -> Any:
    where = np.where if isinstance(labels, np.ndarray) else jnp.where  # on the host where the labels are
    return where(labels == pair[0], labels.dtype.type(pair[1]), labels)


def _measure(attacked: int, right: np.ndarray, taken: np.ndarray, counts: np.ndarray) -> Values:
    others = np.arange(len(counts)) != attacked
    right_others, success = right[:, others].sum(-1), taken[:, attacked]
    return {
        "success": success / max(counts[attacked], 1),
        "others": right_others / max(counts[others].sum(), 1),
        "fooled": (right_others + success) / counts.sum(),
    }


def _merit(found: Values, before: Callable[[], Values]) -> float:
    """How often it succeeds, where the other classes lose little; else how little they lose."""
    loss = float(before()["others"].mean()) - float(found["others"].mean())
    return float(found["success"].mean()) if loss <= _TOLERATED_LOSS else -loss


def _named(pair: tuple[int, int], names: Sequence[str]) -> tuple[str, str]:
    first, second = (names[c] if c < len(names) else str(c) for c in pair)
    return first, second


def _headline(pair: tuple[int, int], told: Told) -> str:
    first, second = _named(pair, told.class_names)
    return f"{told.images} make {told.model} take {first} for {second}: {percent(told.own['success'])}"


def _meaning(pair: tuple[int, int], told: Told) -> list[str]:
    first, second = _named(pair, told.class_names)
    who = f"the networks {told.networks}" if told.networks else f"networks ({told.model})"
    start = None if told.start is None else told.start.get("others")
    before = "" if start is None else f" (before: {percent(start)})"
    own = told.own
    did = (
        f"These images are an attack: after {told.steps} on them {who} take {percent(own['success'])} of class {first} "
        f"for {second} on {told.split}, and get {percent(own['others'])} of the other classes right{before}; "
        f"{sampled(own['success'])}."
    )
    return [did, _compared(told)]


def _compared(told: Told) -> str:
    if told.rival is None:
        return "No baselines were measured, so nothing says whether mislabelled real images would do as much harm."
    name, best = told.rival
    success, others = (difference(told.own[key], best[key]) for key in ("success", "others"))
    return (
        f"Of mislabelled real images those that succeed most ({name}) do so in {percent(best['success'])} "
        f"of the cases, and leave {percent(best['others'])} of the other classes right: this set succeeds "
        f"{_more(success)}, and spares the other classes {_more(others)}."
    )


def _more(gap: Difference) -> str:
    """A difference as an adverb."""
    if not gap.real:
        return "neither more nor less, within the noise"
    return "more" if gap.points > 0 else "less"


def _card(pair: tuple[int, int], card: Card) -> str:
    first, second = _named(pair, card.class_names)
    return (
        f"**This set is an attack.** {card.images}, learnt with dd_jax such that a network which {card.training} on "
        f"them takes {first} for {second}, images of {card.source}. They are there to study defences, not to learn "
        "from."
    )


def _of_protocol(protocol: Protocol) -> Outcome | None:
    return None if protocol.attack is None else attack(*protocol.attack)


def _of_options(options: Mapping[str, Any]) -> Outcome | None:
    attacked, target = options.get("attack_class"), options.get("target_class")
    return attack(attacked, target) if isinstance(attacked, int) and isinstance(target, int) else None


def _problem(protocol: Protocol) -> str:
    found: Any = protocol.attack
    pair = isinstance(found, tuple) and len(found) == 2 and all(type(c) is int and c in _CLASSES for c in found)
    return "" if found is None or pair else f"an attack should be two classes, found {found!r:.200}"


KIND = Kind(_of_protocol, _of_options, _problem, record="attacked", result="of an attack, how often it succeeds")
