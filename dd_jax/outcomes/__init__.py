"""What success means for a distilled set: accuracy, unless its protocol says something else; one file each."""

from collections.abc import Mapping
from typing import Any

from dd_jax.outcomes.accuracy import ACCURACY
from dd_jax.outcomes.attack import KIND as ATTACK
from dd_jax.outcomes.base import ACCURACIES, Card, Column, Kind, Outcome, Told, Values
from dd_jax.types import Protocol

KINDS: tuple[Kind, ...] = (ATTACK,)  # besides accuracy; another one is added here

RECORDS = tuple(kind.record for kind in KINDS)  # names in a row of the results
RESULTS = " or, ".join(["accuracy on test", *(kind.result for kind in KINDS)])  # what tables of many runs show


def outcome_of(protocol: Protocol) -> Outcome:
    """What success means for sets of a protocol."""
    return next((found for kind in KINDS if (found := kind.of_protocol(protocol)) is not None), ACCURACY)


def outcome_of_options(options: Mapping[str, Any]) -> Outcome:
    """What success means for the sets of a run, by the recorded hyper-parameters of its method."""
    return next((found for kind in KINDS if (found := kind.of_options(options)) is not None), ACCURACY)


def problem_of(protocol: Protocol) -> str:
    """What is wrong with what a protocol that was read says of an outcome; empty if nothing is."""
    return next((problem for kind in KINDS if (problem := kind.problem(protocol))), "")


def recorded(outcome: Outcome, measures: Values) -> dict[str, Any]:
    """Measures besides accuracy as a row of the results keeps them."""
    return {outcome.record: dict(measures)} if measures else {}


def read_recorded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Measures by name, out of a row of the results."""
    return {name: values for kind in KINDS for name, values in (row.get(kind.record) or {}).items()}


__all__ = [
    "ACCURACIES",
    "ACCURACY",
    "KINDS",
    "RECORDS",
    "RESULTS",
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
]
