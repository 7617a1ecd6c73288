"""What a run found, in sentences: what it means, what it is to be compared with, and what it doesn't say."""

from collections import Counter
from pathlib import PurePath

from dd_jax.evaluation.result import MEAN_OF_CLASSES
from dd_jax.outcomes import ACCURACY, Outcome, Told
from dd_jax.outcomes.spread import Spread, percent
from dd_jax.runs.report.amounts import count, fraction
from dd_jax.runs.report.record import DISTILLED, Measured, RunRecord

START, FULL, NEIGHBOURS = "no steps", "full training set", "k-NN"  # baselines of another kind; the last is a prefix
BEST_BASELINE = (
    "Best baseline: the best of networks trained in the same way on as many real images or nodes, or means of them."
)
BOTH_BASELINES = f"{BEST_BASELINE} k-NN: the best of nearest neighbours on such images, which train no network."


def is_rival(name: str) -> bool:
    """Whether a row is a network trained on as many images for as many steps as the distilled set."""
    return not name.startswith((DISTILLED, NEIGHBOURS)) and name not in (START, FULL)


def own(record: RunRecord) -> Measured | None:
    """The row of the distilled set."""
    return record.rows.get(DISTILLED)


def outcome(record: RunRecord) -> Outcome:
    """What the results of a run tell of: what its set is for or, where that wasn't measured, accuracy."""
    found = own(record)
    whole = found is not None and all(column.key in found.measures for column in record.outcome.columns)
    return record.outcome if whole else ACCURACY


def result(record: RunRecord, row: Measured) -> Spread:
    """What counts of a row: the first of the columns of its table, or else accuracy."""
    return row.measures.get(outcome(record).columns[0].key, row.accuracy)


def values(record: RunRecord, row: Measured) -> tuple[float, ...]:
    """What counts of a row, of each network or set."""
    return row.values_of.get(outcome(record).columns[0].key, row.values)


def balanced(record: RunRecord, row: Measured) -> float | None:
    """The mean of the classes where it is to stand beside accuracy, as some have far more images in the split."""
    return row.balanced if outcome(record) == ACCURACY else None


def result_in_words(record: RunRecord, row: Measured) -> str:
    """What counts of a row, and beside accuracy the mean of the classes where that tells more."""
    mean = balanced(record, row)
    return percent(result(record, row)) + ("" if mean is None else f" ({MEAN_OF_CLASSES} {fraction(mean)})")


def rivals(record: RunRecord) -> list[Measured]:
    """The baselines of as many images or nodes and steps, the one with the best result first."""
    found = [row for name, row in record.rows.items() if is_rival(name)]
    return sorted(found, key=lambda row: result(record, row).mean, reverse=True)


def neighbours(record: RunRecord) -> Measured | None:
    """The best of nearest neighbours, which are no network and so no rival; None where none were measured."""
    found = [row for name, row in record.rows.items() if name.startswith(NEIGHBOURS)]
    return max(found, key=lambda row: row.accuracy.mean, default=None)


def dataset(record: RunRecord) -> str:
    """The name of the dataset."""
    return str(record.setting("dataset", "name", default="an unnamed dataset"))


def model(record: RunRecord) -> str:
    """The name of the network."""
    return str(record.setting("model", "name", default="network"))


def pretrained(record: RunRecord) -> str | None:
    """The name of the networks that training starts from, if it does."""
    named = record.setting("source", "pretrained")
    if named is not None:
        return PurePath(str(named)).name.removesuffix(".safetensors")
    return "pretrained" if record.setting("method", "pretrained") else None


def headline(record: RunRecord) -> str:
    """One line that says what came out."""
    images = _images(record)
    if own(record) is None:
        state = "not measured yet" if _complete(record) else "not finished"
        return f"{images} of {dataset(record)}: {state}"
    return outcome(record).headline(_told(record))


def meaning(record: RunRecord) -> list[str]:
    """One or two sentences: what was measured, and how it compares."""
    return _unfinished(record) if own(record) is None else outcome(record).meaning(_told(record))


def _images(record: RunRecord) -> str:
    unit = record.unit
    return f"Distilled {unit}s" if record.num_images is None else count(record.num_images, f"distilled {unit}")


def _told(record: RunRecord) -> Told:
    """What the sentences on a run that was measured are made of."""
    found, start, keys = own(record), record.rows.get(START), {column.key for column in outcome(record).columns}
    best = [row for row in rivals(record) if keys <= set(row.measures)][:1]
    assert found is not None
    by = ""
    if record.from_scratch and record.distilled is not None:
        by = f", from scratch by the protocol {record.distilled.protocol.name},"
    return Told(
        images=_images(record),
        single=record.num_images == 1,
        unit=record.unit,
        model=model(record),
        networks=pretrained(record),
        fixed=record.fixed,
        steps="the steps" if record.num_inner_steps is None else count(record.num_inner_steps, "gradient step"),
        by=by,
        dataset=dataset(record),
        split=found.split,
        class_names=record.class_names,
        own=found.measures,
        start=None if start is None else start.measures,
        rival=(best[0].name, best[0].measures) if best else None,
    )


def remarks(record: RunRecord) -> list[str]:
    """What to keep in mind, a sentence or two each."""
    found = own(record)
    said = _on_other_networks(record, found) if found is not None else []
    if found is not None and outcome(record).truthful:
        said += _of_other_kinds(record, found)
    if found is not None:
        said.append(_one_seed(record))
    if record.events:
        kinds = Counter(str(row["event"]) for row in record.events)
        listed = ", ".join(f"{kind} ({count(number, 'time')})" for kind, number in kinds.items())
        said.append(f"Not all went smoothly while the {record.unit}s were learnt, see the events: {listed}.")
    if found is not None and not _complete(record) and record.num_outer_steps is not None:
        said.append(f"The run now stands at outer step {record.steps_done:,} of {record.num_outer_steps:,}.")
    return said + list(record.notes)


def _complete(record: RunRecord) -> bool:
    return record.num_outer_steps is not None and record.steps_done >= record.num_outer_steps


def _unfinished(record: RunRecord) -> list[str]:
    done, asked = record.steps_done, record.num_outer_steps
    by_command = record.setting("source") is not None
    if _complete(record):
        how = "the same command does it" if by_command else "dd.evaluate and dd.baselines do it"
        said = [f"All {count(done, 'outer step')} are done, but nothing was measured on test yet: {how}."]
    else:
        steps = f"{done:,}" if asked is None else f"{done:,} of {count(asked, 'outer step')}"
        how = "the same command" if by_command else "the same call of dd.distill"
        said = [f"The run was stopped, or still goes on: {steps} are done, and {how} continues it."]
    if record.best is not None:
        best = f"{100 * record.best['validation']:.1f} %"
        said.append(
            f"The best set so far reaches {best} on validation (outer step {record.best['step']:,}); it was chosen "
            "there, so expect less on test."
        )
    return said


def _on_other_networks(record: RunRecord, found: Measured) -> list[str]:
    others, train = record.rows.get(f"{DISTILLED}, other networks"), record.rows.get(f"{DISTILLED}, own networks")
    said = []
    if record.fixed:
        only = f"The {record.unit}s are for one known network only"
        if others is not None:
            n = count(others.accuracy.n, "other network")
            said.append(f"{only}: {n} get {_result(record, others)} from them.")
        else:
            said.append(f"{only}; what they do for others was not measured.")
    if found.accuracy.n == 1:
        said.append("It is one measurement (n = 1), so there is no ±.")
    if train is not None:
        said.append(f"The networks that the {record.unit}s were learnt on get {_result(record, train)}.")
    return said


def _result(record: RunRecord, row: Measured) -> str:
    """All that counts of a row, with names where that is several numbers."""
    columns = [column for column in outcome(record).columns if column.key in row.measures]
    if len(columns) < 2:
        return percent(result(record, row))
    return " and ".join(f"{percent(row.measures[column.key])} ({column.head})" for column in columns)


def _of_other_kinds(record: RunRecord, found: Measured) -> list[str]:
    said = []
    if (start := record.rows.get(START)) is not None:
        said.append(f"Before any step the networks get {percent(start.accuracy)}.")
    if (best := neighbours(record)) is not None and best.accuracy.mean > found.accuracy.mean:
        said.append(
            f"Nearest neighbours on as many real {record.unit}s ({best.name}), which train no network, get "
            f"{percent(best.accuracy)}: more than this."
        )
    if (full := record.rows.get(FULL)) is not None:
        said.append(f"Trained on all the real {record.unit}s the networks get {percent(full.accuracy)}.")
    return said


def _one_seed(record: RunRecord) -> str:
    seed = record.setting("seed")
    which = "" if seed is None else f" (seed {seed})"
    return f"One distillation{which}: how far another seed would differ is not in any ± here."
