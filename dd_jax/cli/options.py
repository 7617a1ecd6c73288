"""The words of a command line: options of experiments, presets, and those that join several processes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tyro

from dd_jax.errors import OptionError
from dd_jax.renamed import refuse_old_option
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.naming import default_out


def parse_experiment(argv: Sequence[str], prog: str, what: str, default: Experiment | None = None) -> Experiment:
    """The experiment that the options describe, over a preset or `default`."""
    from dd_jax.methods import METHODS
    from dd_jax.presets import PAPERS, PRESETS, of_method, preset, smoke, with_few_networks

    name, argv = take_option(argv, "--preset")
    method, argv = take_option(argv, "--method")
    small, argv = take_flag(argv, "--smoke")
    named = preset(name) if name else default
    start = named or preset("digits") if method is None else of_method(method, named)
    start = smoke(start) if small else start  # what is said beside it holds
    description = (
        f"{what}\n\n--preset NAME starts from the defaults of {', '.join(PRESETS)}. --method NAME takes a method, of "
        f"{', '.join(METHODS)}, or by what papers call it ({', '.join(PAPERS)}), with the defaults of its smallest "
        "preset. The options and defaults below are those of what is named beside --help. --smoke makes the experiment "
        "tiny."
    )
    kind = type(start.method)
    for word in argv:
        if word.startswith("--"):
            refuse_old_option(_field(word), (field.name for field in dataclasses.fields(kind)), "--")
    typed = dataclasses.make_dataclass("Experiment", [("method", kind, dataclasses.field(default=start.method))],
                                       bases=(Experiment,), frozen=True)  # fmt: skip
    flat = tyro.conf.OmitArgPrefixes[tyro.conf.AvoidSubcommands[typed]]  # type: ignore[valid-type]
    experiment = Experiment(**vars(parse(flat, argv, prog, typed(**vars(start)), description)))
    experiment = with_few_networks(experiment) if small else experiment
    if experiment.out is None or (start.out is not None and not _has(argv, "--out")):
        also = ("smoke",) if small else ()
        experiment = dataclasses.replace(experiment, out=default_out(experiment, start, start.out or name, *also))
    return experiment


def parse(kind: Any, argv: Sequence[str], prog: str, default: Any = None, description: str | None = None) -> Any:
    """A record of this kind out of options; its fields' docstrings are the help."""
    extra = {} if default is None else {"default": default}
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
        raise OptionError(f"{name} needs a value.")
    return value, rest


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
