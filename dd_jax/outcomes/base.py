"""What success means for a distilled set, as a value.

A set's protocol says which outcome it has. Methods ask the outcome for the labels that are to be learnt; evaluation for
what is measured and what sets are chosen by; metrics, tables, report and export for columns and sentences. None of them
knows an outcome by its name: each has a file in this folder.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from dd_jax.outcomes.spread import Spreads
from dd_jax.types import Protocol

ACCURACIES = "accuracies"  # the measure that every outcome has

Values: TypeAlias = Mapping[str, Float[np.ndarray, " nets"]]  # fractions, one of each network, by name of the measure


class Column(NamedTuple):
    """A measure as it is shown.

    Attributes:
        key: its name among the measures.
        head: above a column of a table.
        tile: its name among the key numbers of a report, with {split} where the split is to stand.
        title: above its chart; empty where there is one chart alone.
        chart: what that shows, for who can't see it.
    """

    key: str
    head: str
    tile: str
    title: str
    chart: str


class Told(NamedTuple):
    """What the sentences on a run are made of.

    Attributes:
        images: how many, e.g. "10 distilled images".
        single: whether there is one.
        unit: what they are, such as "image".
        model: the name of the network.
        networks: that of the pretrained ones, if there are any.
        fixed: for a known one.
        steps: e.g. "4 gradient steps".
        by: how a training from scratch goes, a part of a sentence.
        own, start: measures of the set, and of networks before any step.
        rival: the best baseline by name.
    """

    images: str
    single: bool
    unit: str
    model: str
    networks: str | None
    fixed: bool
    steps: str
    by: str
    dataset: str
    split: str
    class_names: Sequence[str]
    own: Spreads
    start: Spreads | None
    rival: tuple[str, Spreads] | None


class Card(NamedTuple):
    """What the first sentence of a dataset card is made of: parts of it, all formatted."""

    images: str
    source: str
    method: str
    training: str
    class_names: Sequence[str]


def _nothing(num_classes: int) -> None:
    del num_classes


def _same(labels: Any) -> Any:
    return labels


def _no_more(right: np.ndarray, taken: np.ndarray, counts: np.ndarray) -> Values:
    del right, taken, counts
    return {}


def _no_words(class_names: Sequence[str]) -> str:
    del class_names
    return ""


class Outcome(NamedTuple):
    """What success means for a distilled set.

    Attributes:
        columns: what is shown, the result itself first.
        score: the measure that validation selects on.
        headline, meaning: of a run, in one line and in one or two sentences.
        card: the first sentence of a dataset card.
        merit: what settings of baselines are chosen by: (measures, a function for those before any step) -> a number.
        truthful: whether a set teaches what is true, so that nearest neighbours and accuracy on each class tell its
            worth.
        target: the class for which it is counted how often it is answered; -1 for none.
        check: raises OptionError where so many classes don't suit it.
        relabel: true labels, an array of integers of JAX or NumPy -> those that networks are to learn.
        measure: (images that each network gets right, (N, K) by class; those it takes for the target; images there are)
            -> measures besides accuracy, (N,) each.
        metrics: (name in the metrics of a run, measure) of what validation records besides the score.
        record: the name under which results keep the measures.
        counted: what a score counts as right, a part of a sentence.
        axis: the same as the name of an axis.
        title: what the title of a table adds.
        summary: what the summary of a method adds.
        words: for names of runs.
        contest: why results are no contest, a sentence; empty where they are one.
    """

    name: str
    columns: tuple[Column, ...]
    score: str
    headline: Callable[[Told], str]
    meaning: Callable[[Told], list[str]]
    card: Callable[[Card], str]
    merit: Callable[[Values, Callable[[], Values]], float]
    truthful: bool = True
    target: int = -1
    check: Callable[[int], None] = _nothing
    relabel: Callable[[Any], Any] = _same
    measure: Callable[[Int[np.ndarray, "nets classes"], Int[np.ndarray, "nets classes"], np.ndarray], Values] = _no_more
    metrics: tuple[tuple[str, str], ...] = ()
    record: str = ""
    counted: str = ""
    axis: Callable[[Sequence[str]], str] = _no_words
    title: Callable[[Sequence[str]], str] = _no_words
    summary: str = ""
    words: tuple[str, ...] = ()
    contest: str = ""


class Kind(NamedTuple):
    """A kind of outcome as records know it.

    Attributes:
        of_protocol, of_options: the outcome that a protocol, or the recorded hyper-parameters of a method, ask for;
            None where they ask for another.
        problem: what is wrong with what a protocol says of it, a part of a sentence; empty if nothing is.
        record: the name under which results keep its measures.
        result: what its results are, a part of a sentence.
    """

    of_protocol: Callable[[Protocol], Outcome | None]
    of_options: Callable[[Mapping[str, Any]], Outcome | None]
    problem: Callable[[Protocol], str]
    record: str
    result: str
