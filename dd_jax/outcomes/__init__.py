"""What success means for a distilled set: accuracy, unless its protocol says something else; one file each."""

from collections.abc import Mapping
from typing import Any

from dd_jax.outcomes.accuracy import ACCURACY
from dd_jax.outcomes.attack import KIND as ATTACK
from dd_jax.outcomes.base import ACCURACIES, Card, Column, Kind, Outcome, Told, Values
from dd_jax.types import Protocol

KINDS: dict[str, Kind] = {"attack": ATTACK}  # besides accuracy; another one is added here


def outcome_of(protocol: Protocol) -> Outcome:
    """What success means for sets of a protocol."""
    return next((found for kind in KINDS.values() if (found := kind.of_protocol(protocol)) is not None), ACCURACY)


def outcome_of_options(options: Mapping[str, Any]) -> Outcome:
    """What success means for the sets of a run, by the recorded hyper-parameters of its method."""
    return next((found for kind in KINDS.values() if (found := kind.of_options(options)) is not None), ACCURACY)


def problem_of(protocol: Protocol) -> str:
    """What is wrong with what a protocol that was read says of an outcome; empty if nothing is."""
    return next((problem for kind in KINDS.values() if (problem := kind.problem(protocol))), "")


def results_are() -> str:
    """What the results of runs are, a part of a sentence."""
    return " or, ".join(["accuracy on test", *(kind.result for kind in KINDS.values())])


def records() -> tuple[str, ...]:
    """The names under which a row of the results may have measures."""
    return tuple(kind.record for kind in KINDS.values())


def recorded(outcome: Outcome, measures: Values) -> dict[str, Any]:
    """Measures besides accuracy as a row of the results keeps them."""
    return {outcome.record: dict(measures)} if measures else {}


def read_recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Measures by name, out of a row of the results."""
    return {name: values for kind in KINDS.values() for name, values in (row.get(kind.record) or {}).items()}


__all__ = [
    "ACCURACIES",
    "ACCURACY",
    "KINDS",
    "Card",
    "Column",
    "Kind",
    "Outcome",
    "Told",
    "Values",
    "outcome_of",
    "outcome_of_options",
    "problem_of",
    "read_recorded",
    "recorded",
    "records",
    "results_are",
]
