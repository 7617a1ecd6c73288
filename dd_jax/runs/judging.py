"""The table of a run: its distilled set beside everything that it must beat."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dd_jax.evaluation import AS_DISTILLED, Baseline, Evaluation, evaluate, in_percent, iterate_baselines
from dd_jax.evaluation.baselines import SAME_BYTES, networks_to_train, same_bytes_note
from dd_jax.evaluation.measure import watched
from dd_jax.evaluation.result import MEAN_OF_CLASSES
from dd_jax.models import Model, num_params
from dd_jax.outcomes import ACCURACY, recorded
from dd_jax.runs.progress import note, progress, table
from dd_jax.types import Dataset, DistilledData, Pretrained

_STEPS_MEASURED = 100  # inner steps up to which accuracy is measured after each one, and not after each epoch, ...
_STEP_NETS = 5  # ... of so many networks ...
_CHEAP_MEASUREMENT = 10**9  # ... if their parameters times the test images are no more: LeNet on MNIST is below.
_LARGE_NETS = 2  # Of larger ones only so many are measured on the way: twenty times may take longer than the training.


class Row(NamedTuple):
    """A line of the table. chosen: what validation chose, in words."""

    name: str
    evaluation: Evaluation
    chosen: str = ""


def judge(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    num_nets: int,
    names: Sequence[str] | None = None,
    pretrained: Pretrained | None = None,
    **options: Any,
) -> list[Row]:
    """The distilled set and the baselines in `names` (None: all that make sense), printed as one table.

    Args:
        options: of `evaluate`, for the distilled set alone: baselines are measured on test, as the run was.
    """
    rows = measure_rows(distilled, model, dataset, num_nets, names, pretrained, **options)
    print_table(title_of(rows, distilled, model, dataset, pretrained), rows)
    return rows


def measure_rows(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    num_nets: int,
    names: Sequence[str] | None = None,
    pretrained: Pretrained | None = None,
    see: Callable[[list[Row]], None] | None = None,
    **options: Any,
) -> list[Row]:
    """As `judge`, without the table, so that results can be saved before they are printed.

    Args:
        see: is given the rows that there are as soon as the distilled set is measured, if baselines are to follow, and
            after each of these.
    """
    if dataset.stream is not None and names != ():
        note(f"Baselines are made of the {len(dataset.train.labels):,} training images in memory, of {dataset.size:,}.")
    protocol = options.get("protocol")
    shared: dict[str, Any] = {"names": names, "num_nets": num_nets, "pretrained": pretrained, "protocol": protocol}
    planned = networks_to_train(distilled, model, dataset, **shared)
    if any(name.endswith(SAME_BYTES) for name in planned):
        note(same_bytes_note(distilled, dataset))
    with watching(num_nets + sum(planned.values())) as about:
        about("distilled")
        rows = _distilled_rows(distilled, model, dataset, {"num_nets": num_nets, "pretrained": pretrained, **options})
        for row in rows if planned else ():
            note(f"  {row.name}: {row.evaluation}")
        if see is not None and planned:
            see(rows)
        measured = iterate_baselines(distilled, model, dataset, **shared)
        for name in planned:
            about(name)
            rows.append(baseline_row(*next(measured)))
            note(f"  {name}: {rows[-1].evaluation}")
            if see is not None:
                see(rows)
    return rows


@contextlib.contextmanager
def watching(total: int) -> Iterator[Callable[[str], None]]:
    """Show how many of `total` networks have been measured; yields what is to be told what they are for."""
    what, done = "", 0

    def about(name: str) -> None:
        nonlocal what
        what = name
        if done:  # before that it would take compiling for its pace
            show(min(done, total), measuring=what)

    def see(count: int) -> None:
        nonlocal done
        done += count
        show(min(done, total), measuring=what)

    with progress(total, unit="network") as show, watched(see):
        yield about


def title_of(
    rows: Sequence[Row], distilled: DistilledData, model: Model, dataset: Dataset, pretrained: Pretrained | None = None
) -> str:
    """What stands above the table of a set."""
    found = rows[0].evaluation
    size = f"{distilled.num_examples} {distilled.unit}s"
    steps = found.curve_steps[-1]
    title = f"{found.split.capitalize()} accuracy on {dataset.name}: {size}, {steps} gradient steps, {model.name}"
    if pretrained is not None:
        title += f", networks {pretrained.name}"
    return title + found.outcome.title(dataset.class_names)


def _distilled_rows(distilled: DistilledData, model: Model, dataset: Dataset, options: Mapping[str, Any]) -> list[Row]:
    """The distilled set on held-out networks or its one network; and on others or, of pretrained ones, on its own."""

    def measured(**changes: Any) -> Evaluation:
        return evaluate(distilled, model, dataset, **{**options, **changes})

    rows = [Row("distilled", measured(**_curve(distilled, model, dataset)))]
    if (options.get("protocol") or distilled.protocol.name) != AS_DISTILLED:
        return rows
    nets: Pretrained | None = options["pretrained"]
    held_out = None if nets is None else len(nets.accuracies["held_out"])
    if (options.get("init") or distilled.protocol.init) == "fixed":
        if held_out != 0:
            rows.append(Row("distilled, other networks", measured(init="random", num_curve_nets=0)))
    elif held_out is not None:
        count = min(options["num_nets"], held_out)  # as many: all that a run directory keeps
        rows.append(Row("distilled, own networks", measured(part="train", num_nets=count, num_curve_nets=0)))
    return rows


def _curve(distilled: DistilledData, model: Model, dataset: Dataset) -> dict[str, Any]:
    """Where along training to measure: that goes through all test images, so at every step only where that is cheap."""
    size = num_params(model) * len(dataset.test.labels)
    few = distilled.num_batches * distilled.num_epochs <= _STEPS_MEASURED
    if few and size <= _CHEAP_MEASUREMENT:
        return {"curve": "steps", "num_curve_nets": _STEP_NETS}
    return {"curve": "epochs"} | ({} if size <= _CHEAP_MEASUREMENT else {"num_curve_nets": _LARGE_NETS})


def baseline_row(name: str, baseline: Baseline) -> Row:
    """A baseline as a row of the table."""
    return Row(name, baseline.evaluation, ", ".join(f"{key} {value}" for key, value in baseline.chosen.items()))


def print_table(title: str, rows: list[Row]) -> None:
    """What the outcome of `rows`, which are of one set, shows of them, on stdout; of an unbalanced split both means."""
    first = rows[0].evaluation if rows else None
    outcome = ACCURACY if first is None else first.outcome
    balanced = [MEAN_OF_CLASSES] if first is not None and outcome == ACCURACY and first.is_unbalanced else []
    columns = outcome.columns

    def cells(e: Evaluation) -> list[str]:
        return [
            *(in_percent(e.values[column.key]) for column in columns),
            *(f"{100 * e.balanced:.1f} %" for _ in balanced),
        ]

    lines = [(name, *cells(e), str(e.n), chosen) for name, e, chosen in rows]
    table(title, ("training set", *(column.head for column in columns), *balanced, "n", "chosen on validation"), lines)


def plain_rows(rows: list[Row]) -> dict[str, Any]:
    """The table for JSON: per network and per class, by name."""
    return {
        name: {
            "mean": e.mean,
            "std": e.std,
            "n": e.n,
            "split": e.split,
            "accuracies": e.accuracies,
            "per_class": e.per_class,
            "balanced": e.balanced,
            "counts": e.counts,
            "curve": e.curve,
            "curve_steps": e.curve_steps,
            "confusion": e.confusion,
            "chosen": chosen,
            **recorded(e.outcome, e.measures),
        }
        for name, e, chosen in rows
    }
