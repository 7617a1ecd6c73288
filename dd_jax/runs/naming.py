"""Names of run directories: what an experiment is, and what was changed of where it started from."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from dd_jax.errors import OptionError
from dd_jax.methods import spec_of
from dd_jax.models import parse_model
from dd_jax.runs.networks import file_name
from dd_jax.storage.files import plain

DEFAULT_MODEL = "mlp:hidden=(64,)"
FOLDER = Path("runs")

WITHOUT_EFFECT = ("out", "num_nets", "baselines", "devices", "tensorboard")  # on what is distilled
_LONGEST = 80  # characters that tell changes in a name; a hash tells the others
_CHANGES = "-and-"  # before the hash


def default_out(experiment: Any, start: Any = None, base: str | None = None, *also: str) -> str:
    """The run directory of an experiment that names none: the same for the same one, another for another one.

    Its name is that of what it started from and what was changed: "runs/mnist-dsa-seed1-learning_rate0.03".

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
    return str(path if len(path.parts) > 1 else FOLDER / path)


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
        elif field.name in ("dataset", "pretrained", "experts") and now is not None:
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
