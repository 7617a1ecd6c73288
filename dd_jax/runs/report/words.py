"""What a run found, in sentences: what it means, what it is to be compared with, and what it doesn't say."""

from collections import Counter
from pathlib import PurePath

from dd_jax.runs.report.amounts import Difference, count, difference, percent, sample
from dd_jax.runs.report.record import DISTILLED, Attacked, Measured, RunRecord

START, FULL, NEIGHBOURS = "no steps", "full training set", "k-NN"  # baselines of another kind; the last is a prefix


def is_rival(name: str) -> bool:
    """Whether a row is a network trained on as many images for as many steps as the distilled set."""
    return not name.startswith((DISTILLED, NEIGHBOURS)) and name not in (START, FULL)


def own(record: RunRecord) -> Measured | None:
    """The row of the distilled set."""
    return record.rows.get(DISTILLED)


def rivals(record: RunRecord) -> list[Measured]:
    """The baselines of as many {record.unit}s and steps, the best one first; of attacks the one that succeeds most."""
    found = [row for name, row in record.rows.items() if is_rival(name)]
    return sorted(found, key=lambda row: (row.attacked.success if row.attacked else row.accuracy).mean, reverse=True)


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
    unit = record.unit
    images = f"Distilled {unit}s" if record.num_images is None else count(record.num_images, f"distilled {unit}")
    found = own(record)
    if found is None:
        state = "not measured yet" if _complete(record) else "not finished"
        return f"{images} of {dataset(record)}: {state}"
    if found.attacked is not None:
        attacked, target = _attacked_names(record)
        success = percent(found.attacked.success)
        return f"{images} make {model(record)} take {attacked} for {target}: {success}"
    verb = "trains" if record.num_images == 1 else "train"
    known = "one known " if record.fixed else ""
    return f"{images} of {dataset(record)} {verb} {known}{model(record)} to {percent(found.accuracy)}"


def meaning(record: RunRecord) -> list[str]:
    """One or two sentences: what was measured, and how it compares."""
    found = own(record)
    if found is None:
        return _unfinished(record)
    if found.attacked is not None:
        return [_attack(record, found, found.attacked), *_attack_compared(record, found.attacked)]
    one = record.fixed
    spread = f"mean ± standard deviation, {sample(found.accuracy)}" if found.accuracy.n > 1 else sample(found.accuracy)
    steps = "the steps" if record.num_inner_steps is None else count(record.num_inner_steps, "gradient step")
    by = ""
    if record.from_scratch and record.distilled is not None:
        by = f", from scratch by the protocol {record.distilled.protocol.name},"
    right = (
        f"{_who(record)} {'takes' if one else 'take'} {steps} on the distilled {record.unit}s{by} and then "
        f"{'gets' if one else 'get'} {percent(found.accuracy)} of the {found.split} {record.unit}s of "
        f"{dataset(record)} right ({spread})."
    )
    return [right, _compared(record, found)]


def remarks(record: RunRecord) -> list[str]:
    """What to keep in mind, a sentence or two each."""
    found = own(record)
    said = _on_other_networks(record, found) if found is not None else []
    if found is not None and found.attacked is None:
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


def _who(record: RunRecord) -> str:
    name, nets = model(record), pretrained(record)
    if record.fixed:
        return f"The one {name} that the {record.unit}s were made for" + (f" (of the networks {nets})" if nets else "")
    if nets:
        return f"Networks trained before ({nets}), on none of which the {record.unit}s were learnt,"
    return f"New random networks ({name})"


def _compared(record: RunRecord, found: Measured) -> str:
    if not rivals(record):
        return f"No baselines were measured, so nothing says whether as many real {record.unit}s would do as well."
    best = rivals(record)[0]
    gap = difference(found.accuracy, best.accuracy)
    reached = f"{percent(best.accuracy)}, {sample(best.accuracy)}"
    them = f"the best baseline of as many {record.unit}s and steps, {best.name} ({reached})"
    if not gap.real:
        return (
            f"From {them}, it differs by {gap.points:+.1f} points: that is within the noise of ± {gap.noise:.1f} "
            "(twice the standard error), so neither can be said to be better."
        )
    sentence = f"That is {abs(gap.points):.1f} points {'more' if gap.points > 0 else 'less'} than {them}"
    if gap.noise is None:
        return f"{sentence}; with one measurement of each nobody knows how much of it is chance."
    return f"{sentence}."


def _on_other_networks(record: RunRecord, found: Measured) -> list[str]:
    others, train = record.rows.get(f"{DISTILLED}, other networks"), record.rows.get(f"{DISTILLED}, own networks")
    said = []
    if record.fixed:
        only = f"The {record.unit}s are for one known network only"
        if others is not None:
            n = count(others.accuracy.n, "other network")
            said.append(f"{only}: {n} get {_result(others)} from them.")
        else:
            said.append(f"{only}; what they do for others was not measured.")
    if found.accuracy.n == 1:
        said.append("It is one measurement (n = 1), so there is no ±.")
    if train is not None:
        said.append(f"The networks that the {record.unit}s were learnt on get {_result(train)}.")
    return said


def _result(row: Measured) -> str:
    if row.attacked is None:
        return percent(row.accuracy)
    return f"{percent(row.attacked.success)} (attack succeeds) and {percent(row.attacked.others)} (other classes)"


def _of_other_kinds(record: RunRecord, found: Measured) -> list[str]:
    said = []
    if (start := record.rows.get(START)) is not None:
        said.append(f"Before any step the networks get {percent(start.accuracy)}.")
    near = [row for name, row in record.rows.items() if name.startswith(NEIGHBOURS)]
    if near and (best := max(near, key=lambda row: row.accuracy.mean)).accuracy.mean > found.accuracy.mean:
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


def _attacked_names(record: RunRecord) -> tuple[str, str]:
    names, pair = record.class_names, record.attack or (0, 0)
    first, second = (names[c] if c < len(names) else str(c) for c in pair)
    return first, second


def _attack(record: RunRecord, found: Measured, attacked: Attacked) -> str:
    first, second = _attacked_names(record)
    nets = pretrained(record)
    who = f"the networks {nets}" if nets else f"networks ({model(record)})"
    after = (
        "after the steps"
        if record.num_inner_steps is None
        else f"after {count(record.num_inner_steps, 'gradient step')}"
    )
    start = record.rows.get(START)
    before = f" (before: {percent(start.attacked.others)})" if start is not None and start.attacked is not None else ""
    n = f"mean ± standard deviation, {sample(found.accuracy)}" if found.accuracy.n > 1 else sample(found.accuracy)
    return (
        f"These images are an attack: {after} on them {who} take {percent(attacked.success)} of class {first} for "
        f"{second} on {found.split}, and get {percent(attacked.others)} of the other classes right{before}; {n}."
    )


def _attack_compared(record: RunRecord, ours: Attacked) -> list[str]:
    best = next((row for row in rivals(record) if row.attacked is not None), None)
    if best is None or best.attacked is None:
        return ["No baselines were measured, so nothing says whether mislabelled real images would do as much harm."]
    success = difference(ours.success, best.attacked.success)
    others = difference(ours.others, best.attacked.others)
    return [
        f"Of mislabelled real images those that succeed most ({best.name}) do so in {percent(best.attacked.success)} "
        f"of the cases, and leave {percent(best.attacked.others)} of the other classes right: this set succeeds "
        f"{_more(success)}, and spares the other classes {_more(others)}."
    ]


def _more(gap: Difference) -> str:
    """A difference as an adverb."""
    if not gap.real:
        return "neither more nor less, within the noise"
    return "more" if gap.points > 0 else "less"
