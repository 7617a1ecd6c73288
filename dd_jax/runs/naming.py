"""Names of run directories: what an experiment is, and what was changed of where it started from."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from dd_jax.errors import OptionError, RunError
from dd_jax.methods import name_of, spec_of
from dd_jax.models import parse_model
from dd_jax.own import is_own
from dd_jax.runs.networks import file_name
from dd_jax.runs.places import is_missing, resolved, whole, whole_file
from dd_jax.storage.files import plain, read_json

DEFAULT_MODEL = "mlp:hidden=(64,)"
FOLDER = Path("runs")

SWEEP = "sweep.json"  # in the folder of a sweep: its table
WITHOUT_EFFECT = ("out", "num_nets", "baselines", "devices", "tensorboard")  # on what is distilled
_LONGEST = 80  # characters that tell changes in a name; a hash tells the others
_CHANGES = "-and-"  # before the hash


def default_out(experiment: Any, start: Any = None, base: str | None = None, *also: str) -> str:
    """The run directory of an experiment that names none: the same for the same one, another for another one.

    Its name is that of what it started from and what was changed: "runs/mnist-dsa-seed1-learning_rate0.03". Where that
    one holds a run of files or code of the same names in another place, such as another folder "photos", a hash of
    where they lie is added.

    Args:
        start: the experiment that it started from, such as a preset; None for the defaults of its method.
        base: what that is called, with or without a folder; None for what `base_name` makes of the experiment itself.
        also: further words.
    """
    name = base_name(experiment) if base is None else base
    words = [word for word, told in _changes(experiment, start) if base is not None or not told]
    words += also
    words += ["x64"] if jax.dtypes.canonicalize_dtype(float) == "float64" else []
    path = Path(name + shortened(words))
    return told_apart(path if len(path.parts) > 1 else FOLDER / path, experiment)


def told_apart(path: Path, experiment: Any) -> str:
    """The directory `path` for a run or a sweep of the experiment, or one beside it where that is of other places."""
    mine = _places(experiment)
    apart = f"{path}-{hash_of_places(experiment)}"
    theirs = _recorded_places(path)
    return (
        apart if Path(apart).exists() or any(_elsewhere(mine[role], theirs.get(role)) for role in mine) else str(path)
    )


def hash_of_places(experiment: Any) -> str:
    """Of where the files of an experiment lie, and in which modules its own code is: eight characters."""
    return hashlib.sha256(json.dumps(_places(experiment), sort_keys=True).encode()).hexdigest()[:8]


def _places(experiment: Any) -> dict[str, str]:
    """What of an experiment is found by a path or in a module, by role."""
    files = {role: getattr(experiment, role) for role in ("pretrained", "experts", "start_from")}
    found = {"dataset": whole(experiment.dataset), **{role: whole_file(file) for role, file in files.items()}}
    placed = {role: resolved(place) for role, place in found.items() if place}
    return {**placed, "code": " ".join(own_names(experiment))}


def _recorded_places(path: Path) -> dict[str, str]:
    """The same of the run that a directory holds, or of the first one of the sweep; empty where it holds none."""
    try:
        if (path / SWEEP).is_file():
            path = Path(read_json(path / SWEEP)["runs"][0]["out"])
        config = read_json(path / "config.json")["config"]
        places = {**config["source"], "start_from": config.get("start_from")}
        placed = {role: resolved(str(place)) for role, place in places.items() if place}
        return {**placed, "code": " ".join(config.get("code", {}))}
    except (RunError, KeyError, IndexError, TypeError, AttributeError):
        return {}  # nothing is there, or what is there is told when it is opened


def _elsewhere(mine: str, theirs: str | None) -> bool:
    """Whether a place is another one than that of a run. What isn't where it was has moved: then it may be the same."""
    return theirs is not None and theirs != mine and not is_missing(theirs)


def base_name(experiment: Any) -> str:
    """DATASET-MODEL-INIT, or DATASET-from-NETWORKS-INIT, or with what else tells a method's runs apart."""
    network = _network_word(experiment.model)
    if experiment.pretrained is not None:
        network = f"from-{Path(experiment.pretrained).stem}"
    if experiment.experts is not None:
        network = f"experts-{Path(experiment.experts).stem}"
    words = spec_of(experiment.method).words(experiment.method)
    return "-".join([file_name(experiment.dataset), network, *words])


def _network_word(model: str | None) -> str:
    """The name of a network, without settings; of one's own that of its function."""
    return parse_model(model or DEFAULT_MODEL)[0].rpartition(":")[2]


def own_names(experiment: Any) -> list[str]:
    """The network and the method of an experiment, as far as they are the user's own: MODULE:FUNCTION."""
    network = parse_model(experiment.model or DEFAULT_MODEL)[0]
    return [name for name in (network, name_of(experiment.method)) if is_own(name)]


def shortened(words: Sequence[str]) -> str:
    """Words behind a name, each after a hyphen; a hash in place of those that would make it too long."""
    kept, length = [], 0
    for word in words:
        length += len(word) + 1
        if length > _LONGEST:
            break
        kept.append(word)
    rest = "" if len(kept) == len(words) else _CHANGES + hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
    return "".join(f"-{word}" for word in kept) + rest


def word_of(name: str, value: Any) -> str:
    """An option with its value, as a part of a file's name: "seed1", "learning_rate0.03", "augment-dsa", "no_zca"."""
    if isinstance(value, bool):
        return name if value else f"no_{name}"
    text = re.sub(r"[^\w.,+]+", "_", _text(value)).strip("_")
    return f"{name}{text}" if text[:1].isdigit() else f"{name}-{text}"


def _text(value: Any) -> str:
    value = plain(value)
    if isinstance(value, dict):
        return ",".join(f"{key}{_text(item)}" for key, item in value.items())
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)


def _changes(experiment: Any, start: Any) -> Iterator[tuple[str, bool]]:
    """What differs between two experiments, as words for a name; and whether `base_name` tells it already."""
    start = start or type(experiment)(method=type(experiment.method)())
    base = base_name(experiment)
    for field in dataclasses.fields(type(experiment)):
        now, then = getattr(experiment, field.name), getattr(start, field.name)
        if field.name in WITHOUT_EFFECT or now == then:
            continue
        if field.name == "method":
            then = then if type(then) is type(now) else type(now)()
            for option in dataclasses.fields(now):
                value, before = getattr(now, option.name), getattr(then, option.name)
                if value != before:
                    other = dataclasses.replace(experiment, method=dataclasses.replace(now, **{option.name: before}))
                    yield word_of(option.name, value), _told(value, before, base, _base_or_none(other))
        elif field.name == "model":
            yield from _of_model(now or DEFAULT_MODEL, then or DEFAULT_MODEL, base)
        elif field.name in ("dataset", "pretrained", "experts", "start_from") and now is not None:
            short = file_name(now) if field.name == "dataset" else Path(now).stem
            yield word_of(field.name, short), _stands(short, base)
        else:
            yield word_of(field.name, now), False


def _told(value: Any, before: Any, base: str, other: str | None) -> bool:
    """Whether a name tells the value of an option: it stands there, and the name with its value before is another."""
    if not _stands(value, base) or other == base:
        return False
    return not isinstance(value, str) or other is None or _stands(before, other)


def _base_or_none(experiment: Any) -> str | None:
    """The base name; None of options that don't go together."""
    try:
        return base_name(experiment)
    except OptionError:
        return None


def _of_model(now: str, then: str, base: str) -> Iterator[tuple[str, bool]]:
    (name, settings), (before, others) = parse_model(now), parse_model(then)
    if name != before:
        word = name.rpartition(":")[2]
        yield word_of("model", word), _stands(word, base)
        others = {}
    for key in sorted({*settings, *others}):
        if settings.get(key) != others.get(key):
            yield word_of(key, settings.get(key, "default")), False


def _stands(value: Any, base: str) -> bool:
    """Whether a value stands in a name, as a word of it or as the number at the end of a word."""
    found = re.escape(_text(value))
    return re.search(rf"(^|-)[a-z]*{found}(-|$)" if found.isdigit() else rf"(^|-){found}(-|$)", base) is not None
