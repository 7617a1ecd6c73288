"""What a report knows of a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dd_jax.evaluation.result import unbalanced
from dd_jax.outcomes import Outcome, outcome_of, outcome_of_options
from dd_jax.outcomes.spread import Spread, Spreads
from dd_jax.types import DistilledData

DISTILLED = "distilled"  # the row of the results that is the run's own


@dataclasses.dataclass(frozen=True)
class Measured:
    """A row of the results.

    Attributes:
        accuracy: over networks or, of nearest neighbours, over sets.
        per_class: (K,).
        chosen: what validation chose.
        measures: all that was measured, accuracy among it, by the names that outcomes have for it.
        curve: (M, P) accuracies of M networks along training, curve_steps: (P,) after how many inner steps; both may be
            empty.
        confusion: (K, K), row: true class, column: answer, or None.
        counts: (K,) images of each class in the split, or None where that wasn't recorded.
        values: accuracy of each network, or set.
        values_of: the same of the other measures, by name.
    """

    name: str
    accuracy: Spread
    split: str
    per_class: np.ndarray
    curve: np.ndarray
    curve_steps: tuple[int, ...]
    confusion: np.ndarray | None
    chosen: str
    measures: Spreads
    counts: np.ndarray | None = None
    values: tuple[float, ...] = ()
    values_of: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    @property
    def balanced(self) -> float | None:
        """The mean of the accuracies on the classes, where the split has far more images of some than of others."""
        if self.counts is None or not unbalanced(self.counts):
            return None
        return float(np.nanmean(self.per_class))


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run as it is on the disk.

    Attributes:
        config, provenance: as it was started.
        about: the provenance of its distilled set, empty if there is none.
        metrics: rows as they were written.
        rows: the results, by name, empty if nothing was measured on test.
        distilling: "seconds", "validation", "memory", where known.
        made_with: versions and device of the measurement.
        frames: (outer step, PNG) of how the images evolved.
        notes: what could not be shown, one sentence each.
    """

    name: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    about: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    distilled: DistilledData | None
    rows: Mapping[str, Measured]
    distilling: Mapping[str, Any]
    made_with: Mapping[str, Any]
    frames: Sequence[tuple[int, bytes]]
    notes: tuple[str, ...]

    def setting(self, *names: str, default: Any = None) -> Any:
        """What the configuration says under these names, one within the other, e.g. "method", "num_batches"."""
        value: Any = self.config
        for name in names:
            if not isinstance(value, Mapping) or value.get(name) is None:
                return default
            value = value[name]
        return value

    @property
    def validation(self) -> list[Mapping[str, Any]]:
        """The validations, each with "step" and "validation"."""
        return _lasting([row for row in self.metrics if row.get("validation") is not None])

    @property
    def losses(self) -> list[Mapping[str, Any]]:
        """Rows with "step" and "loss"."""
        return _lasting([row for row in self.metrics if row.get("loss") is not None])

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """Rows that tell of something unusual, each with "step" and "event"."""
        return [row for row in self.metrics if row.get("event")]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The validation whose set was kept: as the set says, or else the last with the highest accuracy."""
        kept = self.about.get("validation")
        step = kept.get("step") if isinstance(kept, Mapping) else None
        found = next((row for row in self.validation if row["step"] == step), None)
        return found or max(self.validation, key=lambda row: (row["validation"], row["step"]), default=None)

    @property
    def steps_done(self) -> int:
        """Outer steps that are done."""
        done = int(self.about.get("outer_steps_done") or 0)
        return max([done, *(row["step"] for row in self.metrics)])

    @property
    def num_outer_steps(self) -> int | None:
        """Outer steps that were asked for."""
        return self.setting("num_outer_steps")

    @property
    def outcome(self) -> Outcome:
        """What success means for its set."""
        if self.distilled is not None:
            return outcome_of(self.distilled.protocol)
        return outcome_of_options(self.setting("method", default={}))

    @property
    def fixed(self) -> bool:
        """Whether the set is for one known network only."""
        init = self.setting("method", "init") if self.distilled is None else self.distilled.protocol.init
        return init == "fixed"

    @property
    def unit(self) -> str:
        """What the set has several of, in a word: "image" or "node"."""
        return "image" if self.distilled is None else self.distilled.unit

    @property
    def from_scratch(self) -> bool:
        """Whether networks are trained on the set as on any other data."""
        return self.distilled is not None and self.distilled.protocol.from_scratch

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, or their numbers."""
        if self.distilled is not None and self.distilled.class_names:
            return tuple(self.distilled.class_names)
        count = max((len(row.per_class) for row in self.rows.values()), default=0)
        return tuple(map(str, range(count)))

    @property
    def num_images(self) -> int | None:
        """Distilled images."""
        if self.distilled is not None:
            return self.distilled.num_examples
        steps, per_class = (self.setting("method", name) for name in ("num_batches", "images_per_class"))
        if isinstance(per_class, list):
            return steps * sum(per_class) if steps else None
        return steps * per_class * len(self.class_names) if steps and per_class and self.class_names else None

    @property
    def num_inner_steps(self) -> int | None:
        """Gradient steps of a network that is trained on the images as its protocol says."""
        if self.from_scratch:
            row = self.rows.get(DISTILLED)
            return row.curve_steps[-1] if row is not None and row.curve_steps else None
        if self.distilled is not None:
            return len(self.distilled.step_sizes)
        steps, epochs = (self.setting("method", name) for name in ("num_batches", "num_epochs"))
        return steps * epochs if steps and epochs else None

    @property
    def seconds(self) -> float | None:
        """Spent distilling, validation included."""
        last = max((row["seconds"] for row in self.metrics if row.get("seconds") is not None), default=None)
        return self.distilling.get("seconds", last)

    @property
    def memory(self) -> float | None:
        """Peak bytes, where they were recorded."""
        last = max((row["memory"] for row in self.metrics if row.get("memory") is not None), default=None)
        return self.distilling.get("memory") or last


def _lasting(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows in the order of their steps: where the run went back, what it had done beyond that is left out."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        while kept and kept[-1]["step"] >= row["step"]:
            kept.pop()
        kept.append(row)
    return kept
