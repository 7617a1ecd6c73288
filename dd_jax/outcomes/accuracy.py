"""Accuracy on real images: what sets that teach the truth are for."""

from collections.abc import Callable, Sequence

from dd_jax.outcomes.base import ACCURACIES, Card, Column, Outcome, Told, Values
from dd_jax.outcomes.spread import difference, percent, sample, sampled


def _headline(told: Told) -> str:
    verb = "trains" if told.single else "train"
    known = "one known " if told.fixed else ""
    return f"{told.images} of {told.dataset} {verb} {known}{told.model} to {percent(told.own[ACCURACIES])}"


def _meaning(told: Told) -> list[str]:
    own, one = told.own[ACCURACIES], told.fixed
    right = (
        f"{_who(told)} {'takes' if one else 'take'} {told.steps} on the distilled {told.unit}s{told.by} and then "
        f"{'gets' if one else 'get'} {percent(own)} of the {told.split} {told.unit}s of {told.dataset} right "
        f"({sampled(own)})."
    )
    return [right, _compared(told)]


def _who(told: Told) -> str:
    if told.fixed:
        which = f" (of the networks {told.networks})" if told.networks else ""
        return f"The one {told.model} that the {told.unit}s were made for{which}"
    if told.networks:
        return f"Networks trained before ({told.networks}), on none of which the {told.unit}s were learnt,"
    return f"New random networks ({told.model})"


def _compared(told: Told) -> str:
    if told.rival is None:
        return f"No baselines were measured, so nothing says whether as many real {told.unit}s would do as well."
    name, measures = told.rival
    best = measures[ACCURACIES]
    gap = difference(told.own[ACCURACIES], best)
    them = f"the best baseline of as many {told.unit}s and steps, {name} ({percent(best)}, {sample(best)})"
    if not gap.real:
        return (
            f"From {them}, it differs by {gap.points:+.1f} points: that is within the noise of ± {gap.noise:.1f} "
            "(twice the standard error), so neither can be said to be better."
        )
    sentence = f"That is {abs(gap.points):.1f} points {'more' if gap.points > 0 else 'less'} than {them}"
    if gap.noise is None:
        return f"{sentence}; with one measurement of each nobody knows how much of it is chance."
    return f"{sentence}."


def _card(card: Card) -> str:
    return (
        f"{card.images} in place of the real ones of {card.source}, learnt with dd_jax{card.method} such that a "
        f"network which {card.training} on them does well on real images."
    )


def _merit(found: Values, before: Callable[[], Values]) -> float:
    del before
    return float(found[ACCURACIES].mean())


def _axis(class_names: Sequence[str]) -> str:
    del class_names
    return "Accuracy"


ACCURACY = Outcome(
    name="accuracy",
    columns=(Column(ACCURACIES, "accuracy", "{split} accuracy", "", "Bar chart of the accuracies in the table."),),
    score=ACCURACIES,
    headline=_headline,
    meaning=_meaning,
    card=_card,
    merit=_merit,
    axis=_axis,
)
