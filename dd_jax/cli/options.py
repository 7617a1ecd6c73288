"""The words of a command line: options of experiments, presets, and those that join several processes."""

import dataclasses
import functools
import itertools
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from dd_jax.errors import OptionError, unknown_name
from dd_jax.methods.described import descriptions
from dd_jax.renamed import refuse_old_option
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.naming import WITHOUT_EFFECT, default_out, hash_of_places, shortened, told_apart, word_of
from dd_jax.runs.sweep import Cell

_WIDEST = 100  # characters in a line of help


def parse_experiment(
    argv: Sequence[str], prog: str, what: str, default: Experiment | None = None, more: str = ""
) -> Experiment:
    """The experiment that the options describe, over a preset or `default`.

    Args:
        what: the command does, for its help; more: further options of it, in a sentence that ends in a blank.
    """
    from dd_jax.methods import METHODS
    from dd_jax.presets import PAPERS, of_method, preset, smoke, with_few_networks

    name, argv = take_option(argv, "--preset")
    method, argv = take_option(argv, "--method")
    small, argv = take_flag(argv, "--smoke")
    named = preset(name) if name else default
    start = named or preset("digits") if method is None else of_method(method, named)
    start = smoke(start) if small else start  # what is said beside it holds
    description = (
        f"{what}\n\n--preset NAME starts from the defaults of a preset; dd-jax info lists the presets. --method NAME "
        f"takes a method by its name ({', '.join(METHODS)}) or by its name in papers ({', '.join(PAPERS)}), with the "
        f"defaults of its smallest preset. It also takes a method of your own, MODULE:FUNCTION. {more}--smoke makes "
        "the experiment tiny. The options and defaults below belong to the preset or method that you name before "
        "--help."
    )
    kind = type(start.method)
    for word in argv:
        if word.startswith("--"):
            refuse_old_option(_field(word), (field.name for field in dataclasses.fields(kind)), "--")
    experiment = _parse_groups(argv, prog, start, description)
    experiment = with_few_networks(experiment) if small else experiment
    if experiment.out is None or (start.out is not None and not _has(argv, "--out")):
        also = ("smoke",) if small else ()
        experiment = dataclasses.replace(experiment, out=default_out(experiment, start, start.out or name, *also))
    return experiment


def sweep_cells(argv: Sequence[str], prog: str, what: str, default: Experiment | None) -> tuple[list[Cell], Path]:
    """The experiments that --seeds and --sweep mean, every combination of their values; and the folder of their table.

    Raises:
        OptionError: for a seed or an option that is none, or without values.
    """
    seeds, argv = take_option(argv, "--seeds")
    sweeps, argv = take_options(argv, "--sweep")
    base = parse_experiment(argv, prog, what, default)
    axes = dict(_axis(sweep, base) for sweep in sweeps)
    if len(axes) < len(sweeps):
        raise OptionError(
            "An option is in --sweep twice. Give each option once, with all its values, such as "
            "learning_rate=0.01,0.03."
        )
    if seeds is not None:
        axes["seed"] = [str(seed) for seed in seed_list(seeds)]
    cells = []
    for values in itertools.product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        words = [word for name, value in settings.items() for word in _as_option(name, value, base)]
        experiment = parse_experiment([*argv, *words], prog, what, default)
        if _has(argv, "--out"):
            own = "-".join(word_of(name, value) for name, value in settings.items())
            experiment = dataclasses.replace(experiment, out=str(Path(str(base.out)) / own))
        cells.append(Cell(settings, experiment))
    if _has(argv, "--out"):
        return cells, Path(str(base.out))
    cells = _told_apart(cells)
    told = [word_of(name, ",".join(values)) for name, values in axes.items()]
    plain = str(base.out).removesuffix(f"-{hash_of_places(base)}")
    return cells, Path(told_apart(Path(plain + shortened(told) + "-sweep"), base))


def _told_apart(cells: Sequence[Cell]) -> list[Cell]:
    """Cells of which those with one directory, but files of that name in several places, have a hash of the place."""
    places: dict[str, set[str]] = {}
    for _, experiment in cells:
        places.setdefault(str(experiment.out), set()).add(hash_of_places(experiment))
    return [
        Cell(settings, dataclasses.replace(one, out=f"{one.out}-{hash_of_places(one)}"))
        if len(places[str(one.out)]) > 1
        else Cell(settings, one)
        for settings, one in cells
    ]


def seed_list(text: str) -> list[int]:
    """The seeds in "0:5", which are those from 0 to 4, or "0,3,7", or both; OptionError for anything else."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.strip().partition(":")
        if not (first.isdigit() and (last.isdigit() or not colon)):
            raise OptionError(
                f"--seeds should be a range such as 0:5 (seeds 0 to 4) or a list such as 0,3,7, but is {text!r}."
            )
        found += range(int(first), int(last)) if colon else [int(first)]
    if not found:
        raise OptionError(
            f"--seeds {text} is an empty range. Give the first seed and the one after the last: 0:5 means 0,1,2,3,4."
        )
    return found


def _axis(text: str, base: Experiment) -> tuple[str, list[str]]:
    """An option and its values, out of "learning_rate=0.01,0.03"; those with commas in them are apart by semicolons."""
    name, _, values = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    found = re.split(";" if ";" in values else r",(?![^(\[]*[)\]])", values)
    if not name or not all(value.strip() for value in found):
        raise OptionError(f"--sweep should be like learning_rate=0.01,0.03, but is {text!r}.")
    known = [field.name for part in (base, base.method) for field in dataclasses.fields(part)]
    if name in ("method", "out") or name not in known:
        raise unknown_name(
            "option to sweep",
            name,
            [one for one in known if one not in ("method", "out")],
            "dd-jax distill --help lists them.",
        )
    if name in WITHOUT_EFFECT:
        raise OptionError(
            f"{name} doesn't change what is distilled, so every run of the sweep would be the same. "
            "Sweep over another option."
        )
    return name, [value.strip() for value in found]


def _as_option(name: str, value: str, base: Experiment) -> list[str]:
    """The words of the command line that give an option a value."""
    now = getattr(base, name) if hasattr(base, name) else getattr(base.method, name)
    flag = name.replace("_", "-")
    if isinstance(now, bool):
        if value.lower() not in ("true", "false"):
            raise OptionError(f"{name} is either true or false, but --sweep gives {value!r}.")
        return [f"--{flag}" if value.lower() == "true" else f"--no-{flag}"]
    return [f"--{flag}", *value.split()] if " " in value and "(" not in value else [f"--{flag}", value]


# The options of an experiment, under headings; those that are not named come last.
_GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "common": ("The dataset, the network, the length of the run, and the place for its results.",
               ("dataset", "model", "num_outer_steps", "seed", "out", "num_nets", "baselines")),
    "data": ("The real images, and the number of distilled ones.",
             ("image_size", "channels", "zca", "num_images", "class_shares", "resident_images", "skip_broken")),
    "network": ("Networks that were trained before, and the precision of arithmetic.",
                ("pretrained", "experts", "precision")),
    "method": ("Hyper-parameters of the method.", ()),
    "run": ("Validation, devices, and the end of the run.", ()),
}  # fmt: skip


def _parse_groups(argv: Sequence[str], prog: str, start: Experiment, description: str) -> Experiment:
    """The experiment that the options over `start` describe, their help in groups."""
    known = [field.name for field in dataclasses.fields(Experiment) if field.name != "method"]
    named = [name for _, names in _GROUPS.values() for name in names]
    parts = []
    for title, (about, names) in _GROUPS.items():
        names = tuple(name for name in known if name not in named) if title == "run" else names
        kind, values = (type(start.method), start.method) if title == "method" else (Experiment, start)
        part = _told(kind, names or [field.name for field in dataclasses.fields(kind)], values, about)
        parts.append((title, part, dataclasses.field(default_factory=part)))
    options = dataclasses.make_dataclass("Options", parts)
    flat = tyro.conf.OmitArgPrefixes[tyro.conf.AvoidSubcommands[options]]  # type: ignore[valid-type]
    found = vars(parse(flat, argv, prog, description=description))
    method = type(start.method)(**vars(found.pop("method")))
    return Experiment(**{name: value for part in found.values() for name, value in vars(part).items()}, method=method)


def _told(kind: Any, names: Sequence[str], defaults: Any, about: str) -> Any:
    """A dataclass of some of the fields of another one, with the help that stands there, in lines of any length."""
    hints, told = get_type_hints(kind, include_extras=True), descriptions(kind)
    fields: list[Any] = []
    for name in names:
        help_of = tyro.conf.arg(help=" ".join(told[name].split())) if name in told else None
        typed = hints[name] if help_of is None else Annotated[hints[name], help_of]
        fields.append((name, typed, dataclasses.field(default=getattr(defaults, name))))
    made = dataclasses.make_dataclass(kind.__name__, fields, frozen=True)
    made.__doc__ = about
    return made


def parse(kind: Any, argv: Sequence[str], prog: str, default: Any = None, description: str | None = None) -> Any:
    """A record of this kind out of options; its fields' docstrings are the help."""
    extra = {} if default is None else {"default": default}
    if description is not None:
        width = min(_WIDEST, shutil.get_terminal_size().columns)
        first, *parts = description.split("\n\n")
        wrap = functools.partial(textwrap.fill, width=width, initial_indent=" ", subsequent_indent=" ")  # or tyro joins
        description = "\n\n".join([first, *map(wrap, parts)])
    return tyro.cli(kind, prog=prog, args=list(argv), description=description, **extra)


def _field(word: str) -> str:
    """The field that an option such as --num-batches or --num-batches=3 is for."""
    return word.removeprefix("--").partition("=")[0].replace("-", "_")


def _has(argv: Sequence[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in argv)


def take_option(argv: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of `name VALUE` or `name=VALUE`, and the rest."""
    rest, value, words = [], None, iter(argv)
    for word in words:
        if word == name:
            value = next(words, "")
        elif word.startswith(name + "="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    if value == "":
        raise OptionError(f"{name} needs a value after it.")
    return value, rest


def take_options(argv: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """The values of all `name VALUE` or `name=VALUE`, and the rest."""
    values: list[str] = []
    while True:
        count = len(argv)
        first = next((i for i, word in enumerate(argv) if word == name or word.startswith(f"{name}=")), count)
        until = first + (2 if argv[first:] and argv[first] == name else 1)
        value, rest = take_option(argv[first:until], name)
        if value is None:
            return values, list(argv)
        values.append(value)
        argv = [*argv[:first], *rest, *argv[until:]]


def take_flag(argv: Sequence[str], name: str) -> tuple[bool, list[str]]:
    """Whether the word `name` is there, and the rest."""
    return name in argv, [word for word in argv if word != name]


def join(argv: Sequence[str]) -> tuple[bool, list[str]]:
    """Join other processes if the options say so; whether they did, and the other options."""
    from dd_jax.runs.processes import join_processes

    launched, argv = take_flag(argv, "--distributed")
    coordinator, argv = take_option(argv, "--coordinator")
    count, argv = take_option(argv, "--num-processes")
    number, argv = take_option(argv, "--process-id")
    for name, value in (("--num-processes", count), ("--process-id", number)):
        if value is not None and not value.isdigit():
            raise OptionError(f"{name} must be a whole number, but is {value!r}.")
    if not launched and coordinator is None and count is None and number is None:
        return False, argv
    join_processes(coordinator, *(None if value is None else int(value) for value in (count, number)))
    return True, argv
