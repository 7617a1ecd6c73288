"""What a board says of a set: read from its runs, or from its audit."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, RunError
from dd_jax.evaluation import storage_bytes
from dd_jax.evaluation.lengths import Length
from dd_jax.models import MODELS
from dd_jax.outcomes.spread import NO_BREAK, Difference, Spread, difference, read_spread, spread_of
from dd_jax.runs.comparing import Group, groups_of
from dd_jax.runs.listing import find_runs, is_run
from dd_jax.runs.report import words
from dd_jax.runs.report.amounts import count
from dd_jax.runs.report.record import Measured, RunRecord
from dd_jax.storage.artefact import load_distilled
from dd_jax.storage.files import read_json
from dd_jax.types import DistilledData

TRANSFER, AUDIT = "transfer.json", "audit/results.json"  # of a set, beside it: what tells its robustness
_AUDITED = "audit/config.json"  # how an audit was asked for
_OTHER_NETWORKS, _SET = "other networks", "the set"  # of an audit


class Rival(NamedTuple):
    """The best baseline of real images by the same protocol, over its networks, those of all distillations."""

    name: str
    accuracy: Spread


class Robustness(NamedTuple):
    """Accuracy on other networks.

    Attributes:
        accuracy: over these networks, of the mean over the distillations; None where it wasn't measured.
        networks: their names.
        sets: distillations that it was measured of.
        left_out: measurements that don't count, and why.
    """

    accuracy: Spread | None
    networks: tuple[str, ...] = ()
    sets: int = 0
    left_out: tuple[str, ...] = ()


class Entry(NamedTuple):
    """A set on the board.

    Attributes:
        network: with its settings; protocol: with the number of learnt steps, or of epochs where it was changed.
        result: accuracy: over distillations where there are several, else over networks.
        networks: standard deviation over the networks of a distillation.
        num_nets: of each distillation.
        baseline: None where none was measured.
        seconds: that distilling took, the mean over distillations; None where that isn't known.
    """

    name: str
    dataset: str
    network: str
    method: str
    protocol: str
    num_examples: int
    unit: str
    num_bytes: int
    result: Spread
    networks: float
    num_nets: int
    distillations: int
    baseline: Rival | None
    robustness: Robustness
    seconds: float | None

    @property
    def gain(self) -> Difference | None:
        """What the set has over the best baseline."""
        return None if self.baseline is None else difference(self.result, self.baseline.accuracy)


def entries(paths: Sequence[str | Path]) -> list[Entry]:
    """The sets, by dataset and accuracy; runs that differ in their seed alone are one."""
    found = [Path(path).expanduser() for path in paths]
    audited = [path for path in found if not is_run(path) and (path / AUDIT).is_file()]
    runs = [path for path in found if path not in audited]
    for path in runs:
        if not is_run(path) and not any(find_runs(path)):
            if not path.exists():
                raise not_there("folder", path, "Name a run directory, a folder of runs, or the results of an audit.")
            raise DataError(
                f"{path} should be a run directory, a folder of them, or the results of an audit, but is none of them. "
                f"For a distilled set without a run, use dd-jax audit {path} first."
            )
    sets = [_of_group(group) for group in (groups_of(runs) if runs else [])] + [_of_audit(path) for path in audited]
    return sorted(sets, key=lambda one: (one.dataset, -one.result.mean))


def _of_group(group: Group) -> Entry:
    record, found = group.record, group.nested
    assert record.distilled is not None
    records = [member for _, member in group.members]
    spread = found.result if found.result.n > 1 else Spread(found.result.mean, found.networks, found.num_nets)
    took = [one.seconds for one in records if one.seconds is not None]
    return Entry(
        group.name,
        words.dataset(record),
        network(record.setting("model", default={"name": "network"})),
        str(record.setting("method", "name", default="–")),
        protocol(record.distilled),
        record.distilled.num_examples,
        record.unit,
        storage_bytes(record.distilled),
        spread,
        found.networks,
        found.num_nets,
        found.result.n,
        _best_baseline(records),
        _robustness([path for path, _ in group.members]),
        sum(took) / len(took) if took else None,
    )


def _of_audit(path: Path) -> Entry:
    """A set from elsewhere, by its audit."""
    distilled, audit = load_distilled(path), _json(path / AUDIT)
    try:
        rows = [row for row in audit["rows"] if row["part"] == audit["rows"][0]["part"]]
        own = next(row for row in rows if row["name"] == _SET)
        rivals = [row for row in rows if row["name"] not in (_SET, "full training set")]
        best = max(rivals, key=lambda row: row["mean"], default=None)
        altered = _altered(own, path) if distilled.protocol.from_scratch else ""
        return Entry(
            path.absolute().name,
            str(audit["dataset"]),
            network(audit.get("model") or {"name": own["network"]}),
            "from elsewhere",
            protocol(distilled) + (f", {altered}" if altered else ""),
            distilled.num_examples,
            distilled.unit,
            storage_bytes(distilled),
            read_spread(own),
            float(own["std"]),
            int(own["n"]),
            1,
            None if best is None else Rival(str(best["name"]), read_spread(best)),
            _robustness([path]),
            None,
        )
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        raise DataError(
            f"{path / AUDIT} is damaged: it is not an audit of a set ({error!r:.80}). Delete it and run dd-jax "
            "audit again."
        ) from error


def network(model: Mapping[str, Any]) -> str:
    """A network with its numbers, other settings where they are unusual: "convnet, width 4, depth 2"."""
    name = str(model["name"])
    usual = inspect.signature(MODELS[name]).parameters if name in MODELS else {}
    told = [
        f"{key} {_setting(value)}".replace(" ", NO_BREAK)
        for key, value in model.items()
        if key != "name" and (_is_number(value) or key not in usual or usual[key].default != value)
    ]
    return ", ".join([name, *told])


def protocol(distilled: DistilledData) -> str:
    """The protocol of a set, with what tells learnt steps from others."""
    own = distilled.protocol
    if own.from_scratch:
        return own.name
    told = [count(int(distilled.step_sizes.size), "step")]
    told += [own.rule] if own.rule != "sgd" else []
    told += ["pretrained networks"] if own.pretrained else ["one known network"] if own.init == "fixed" else []
    return ", ".join([own.name, *told])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | list | tuple) and not isinstance(value, bool)


def _setting(value: Any) -> str:
    if isinstance(value, list | tuple):
        return str(value[0]) if len(value) == 1 else f"({', '.join(map(str, value))})"
    return str(value)


def _best_baseline(records: Sequence[RunRecord]) -> Rival | None:
    """The best baseline over all runs; a measurement that several of them share counts once."""
    by_name: dict[str, dict[tuple[float, ...], Measured]] = {}
    for record in records:
        for row in words.rivals(record):
            by_name.setdefault(row.name, {})[row.values] = row
    if not by_name:
        return None

    def mean(name: str) -> float:
        return float(np.mean([words.result(records[0], row).mean for row in by_name[name].values()]))

    best = max(by_name, key=mean)
    return Rival(best, spread_of([value for values in by_name[best] for value in values]))


def _robustness(paths: Iterable[Path]) -> Robustness:
    """The accuracy on other networks, as audits or transfers beside the sets tell it."""
    by_network: dict[str, list[float]] = {}
    sets, left_out = 0, dict[str, None]()
    for path in paths:
        try:
            means, why = _on_others(path)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{AUDIT} or {TRANSFER} in {path} is damaged ({error!r:.80}). Delete it and measure the set again."
            ) from error
        sets += bool(means)
        left_out |= dict.fromkeys(why)
        for name, mean in means.items():
            by_network.setdefault(name, []).append(mean)
    if not by_network:
        return Robustness(None, left_out=tuple(left_out))
    accuracy = spread_of([float(np.mean(means)) for means in by_network.values()])
    return Robustness(accuracy, tuple(by_network), sets, tuple(left_out))


def _on_others(path: Path) -> tuple[dict[str, float], list[str]]:
    """Mean accuracies on other networks, by name; and what was left out because its trainings are not whole."""
    left_out = []
    if (path / AUDIT).is_file():
        rows = [
            row for row in _json(path / AUDIT).get("rows", []) if (row["part"], row["name"]) == (_OTHER_NETWORKS, _SET)
        ]
        altered = _altered(rows[0], path) if rows else ""
        if rows and not altered:
            return {str(row["network"]): float(row["mean"]) for row in rows}, []
        left_out += [f"audit, {altered}"] if altered else []
    if (path / TRANSFER).is_file():
        found = _json(path / TRANSFER)
        if altered := _altered(found):
            return {}, [*left_out, f"transfer, {altered}"]
        by_network = found.get("by network", {})
        means = {name: float(both["distilled"]["mean"]) for name, both in by_network.items() if "(its own)" not in name}
        return means, [] if means else left_out
    return {}, left_out


def _altered(found: Mapping[str, Any], path: Path | None = None) -> str:
    """How long networks were trained where that is not as the protocol has it, else nothing.

    Args:
        path: of the set, whose audit says how it was asked for where it is of a version that kept no lengths.
    """
    if "length" in found:
        length = Length(**found["length"])
        return str(length) if length.changed else ""
    if path is None or not (path / _AUDITED).is_file():
        return ""
    epochs = _json(path / _AUDITED).get("config", {}).get("options", {}).get("epochs")
    return "" if epochs is None else f"{count(epochs, 'epoch')} in place of the protocol's"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except RunError as error:
        raise DataError(str(error)) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: it should be an object. Put back a copy of it.")
    return found
