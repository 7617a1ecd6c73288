"""dd-jax apply: what distilled sets are good for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dd_jax.applications import ContinualOptions, SearchOptions, learn_continually, search_architectures
from dd_jax.cli.options import parse, parse_experiment
from dd_jax.errors import OptionError, RunError, unknown_name


@dataclasses.dataclass(frozen=True)
class Apply:
    """Use distilled sets. dd-jax apply APPLICATION --help prints an application's options."""

    application: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="APPLICATION")]
    """"continual": learn classes task by task, with distilled sets of earlier tasks as the memory. "nas": rank networks
    by what they learn from distilled sets, and find a good one."""


def apply(argv: Sequence[str]) -> None:
    """dd-jax apply APPLICATION: what distilled sets are good for."""
    if argv and argv[0] in APPLICATIONS:
        APPLICATIONS[argv[0]](argv[1:])
    elif argv and not argv[0].startswith("-"):
        raise unknown_name("application", argv[0], APPLICATIONS)
    else:
        parse(Apply, argv, "dd-jax apply")  # tells what there is, or that one must be named


@dataclasses.dataclass(frozen=True)
class Nas(SearchOptions):
    """Train many small networks on distilled sets, rank them, and measure how far the ranking can be trusted."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, or distilled sets from elsewhere. The sets of real images take as many bytes as the first
    one."""
    dataset: str | None = None
    """Real data, in place of the dataset that the first set was distilled from. Needed for sets from elsewhere."""
    out: Path = Path("runs/nas")
    """Directory for the results. The same command with the same directory continues an interrupted one."""


def nas(argv: Sequence[str]) -> None:
    """dd-jax apply nas: architecture search with distilled sets."""
    from dd_jax.applications.search_page import lines_of, random_lines
    from dd_jax.runs.load_run import load_set
    from dd_jax.runs.progress import note, table

    options = parse(Nas, argv, "dd-jax apply nas")
    if not options.runs:
        raise OptionError("Name at least one run directory or distilled set: dd-jax apply nas RUN [RUN ...].")
    loaded = [load_set(path, options.dataset, "mlp" if options.dataset else None) for path in options.runs]
    names = _names(options.runs)
    seconds = {name: found for name, path in zip(names, options.runs, strict=True) if (found := _distilling(path))}
    data = loaded[0][2]
    search = search_architectures(
        {name: distilled for name, (distilled, *_) in zip(names, loaded, strict=True)},
        data,
        SearchOptions(**{field.name: getattr(options, field.name) for field in dataclasses.fields(SearchOptions)}),
        out=options.out,
        distilling_seconds=seconds,
    )
    head, lines = lines_of(search)
    table(f"{len(search.names)} architectures ranked on {data.name}", head, lines)
    table("Random search: the best of candidates at random, trained in full", *random_lines(search))
    for words in search.sentences():
        print(words)
    note(f"The numbers, all candidates and a page are in {options.out}: open {options.out}/report.html")


def _names(paths: Sequence[Path]) -> list[str]:
    """The names of the paths; whole paths where two are the same."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _distilling(path: Path) -> float | None:
    """How long a run took to distil its set, if that is known."""
    from dd_jax.storage.files import read_json

    try:
        return float(read_json(path / "results.json")["distilling"]["seconds"])
    except (RunError, KeyError, TypeError, ValueError):
        return None


@dataclasses.dataclass(frozen=True)
class ContinualLearning(ContinualOptions):
    """Learn classes task by task, with distilled sets of earlier tasks as the memory.

    All other options are those of dd-jax distill, including --preset, --method and --smoke. They say which dataset is
    distilled, for which network, and how.
    """

    out: Path = Path("runs/continual")
    """Directory for the results. The same command with the same directory continues an interrupted one."""


def continual(argv: Sequence[str]) -> None:
    """dd-jax apply continual: continual learning with distilled memories."""
    from dd_jax.applications.continual_page import lines_of
    from dd_jax.data import load_dataset
    from dd_jax.runs.progress import note, table

    # What is not among these options belongs to the experiment.
    options, rest = tyro.cli(
        ContinualLearning, prog="dd-jax apply continual", args=list(argv), return_unknown_args=True
    )
    experiment = parse_experiment(rest, "dd-jax apply continual", "Options of the distillation.")
    data = load_dataset(
        experiment.dataset,
        image_size=experiment.image_size,
        channels=experiment.channels,
        zca=experiment.zca,
        skip_broken=experiment.skip_broken,
    )
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(ContinualOptions)}
    found = learn_continually(data, experiment, options=ContinualOptions(**own), out=options.out)
    head, lines = lines_of(found)
    title = f"{options.num_tasks} tasks of {data.name}, {options.scenario}-incremental, {options.num_orders} orders"
    table(title, head, lines)
    for words in found.sentences():
        print(words)
    note(f"The numbers and a page are in {options.out}: open {options.out}/report.html")


APPLICATIONS: Mapping[str, Callable[[Sequence[str]], None]] = {"continual": continual, "nas": nas}
