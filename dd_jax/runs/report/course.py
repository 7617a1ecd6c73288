"""How a run went: sections of its report, each a card, or None where the run has nothing to say on it."""

import shlex
from typing import Any

from dd_jax.runs.counted import duration_of_step
from dd_jax.runs.report import charts
from dd_jax.runs.report.amounts import count, flat, fraction, lasting, size
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, element, join, table
from dd_jax.runs.report.record import RunRecord


def learning(record: RunRecord, place: Place) -> Markup | None:
    """Accuracy on validation while the images were learnt."""
    if not record.validation or record.best is None:
        return None
    nets = record.best.get("validation_nets")
    counted = f" ({record.outcome.counted})" if record.outcome.counted else ""
    says = f"Accuracy on validation{counted}" + (f", {count(nets, 'network')} at each validation" if nets else "")
    says += f". Ring: the set that was kept, outer step {record.best['step']:,}, {fraction(record.best['validation'])}."
    drawn = charts.validation([record], [""], f"{place.prefix}-validation")
    return card(place, "Validation while learning", drawn, note(says + _events_note(record)))


def loss(record: RunRecord, place: Place) -> Markup | None:
    """The outer loss."""
    if not record.losses:
        return None
    drawn = charts.loss([record], [""], f"{place.prefix}-loss")
    says = "What the method minimises"
    if not record.from_scratch:
        says = f"Loss on real {record.unit}s after training on the distilled ones"
    says += ", averaged over a few outer steps."
    return card(place, "Outer loss", drawn, note(says + _events_note(record)))


def _events_note(record: RunRecord) -> str:
    return " Dotted vertical lines: events." if record.events else ""


def inner(record: RunRecord, place: Place) -> Markup | None:
    """Accuracy along inner training."""
    rows = [row for row in record.rows.values() if row.curve.size]
    if not rows:
        return None
    nets = len(rows[0].curve)
    says = f"Before training and along it, on {rows[0].split}, of "
    says += "one network." if nets == 1 else f"the first {nets} networks."
    return card(place, "Accuracy along inner training", charts.inner(rows[:4], f"{place.prefix}-inner"), note(says))


def step_sizes(record: RunRecord, place: Place) -> Markup | None:
    """The schedule of step sizes, where they were learnt."""
    if record.distilled is None or record.from_scratch:
        return None
    steps, epochs = record.distilled.num_batches, record.distilled.num_epochs
    through = "once" if epochs == 1 else f"{epochs} times"
    says = f"{count(steps, 'batch', 'batches')}, gone through {through}; every inner step has a learnt size."
    return card(place, "Step sizes", charts.step_sizes(record, f"{place.prefix}-steps"), note(says))


def cost(record: RunRecord, place: Place) -> Markup:
    """Time and memory."""
    seconds, done = record.seconds, record.steps_done
    device, number = record.provenance.get("device", "–"), record.provenance.get("num_devices")
    rows = [
        ("distilling", f"{lasting(seconds)}, validation included"),
        ("outer steps", f"{done:,}"),
        ("one outer step", f"{duration_of_step(seconds / done)} on average" if seconds and done else "–"),
        ("peak memory", size(record.memory) if record.memory else "not recorded"),
        ("device", str(device) + (f", {number} of them" if number and number > 1 else "")),
    ]
    return card(place, "Time and memory", _settings(("what", "how much"), rows, "Time and memory"))


def events(record: RunRecord, place: Place) -> Markup | None:
    """What happened besides learning."""
    if not record.events:
        return None
    rows = [(f"{row['step']:,}", str(row["event"]), str(row.get("text") or "")) for row in record.events]
    drawn = table(("outer step", "event", "what happened"), rows, "Events")
    return card(place, "Events", drawn)


def origin(record: RunRecord, place: Place) -> Markup:
    """Configuration and provenance, folded."""
    started, measured = dict(record.provenance), dict(record.made_with)
    argv = started.pop("argv", None)
    command = shlex.join(map(str, argv)) if isinstance(argv, list) else None
    fingerprint = record.setting("dataset", "fingerprint")
    parts = [
        element("p", "Command: ", element("code", command)) if command else None,
        element("p", "Fingerprint of the dataset: ", element("code", fingerprint)) if fingerprint else None,
        _settings(("setting", "value"), flat(record.config), "Configuration"),
        element(f"h{place.level + 1}", "Where it was made"),
        _settings(("what", "started with"), flat(started), "Provenance"),
    ]
    measured.pop("argv", None)
    if changed := {k: v for k, v in measured.items() if v != started.get(k)}:
        parts.append(note("Measured on test later, with other versions or at another time:"))
        parts.append(_settings(("what", "measured with"), flat(changed), "Provenance of the measurement"))
    details = element(
        "details", element("summary", "Show every setting, version and seed"), element("div", join(parts))
    )
    return card(place, "Configuration and provenance", details, class_="wide long")


def _settings(head: tuple[str, str], rows: Any, label: str) -> Markup:
    above = element("tr", *(element("th", cell, scope="col") for cell in head))
    lines = [element("tr", element("th", name, scope="row"), element("td", entry)) for name, entry in rows]
    return element("table", element("thead", above), element("tbody", *lines), class_="settings", aria_label=label)
