"""dd-jax apply: what distilled sets are good for."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from dd_jax.applications import (
    ContinualOptions,
    PrivacyOptions,
    SearchOptions,
    learn_continually,
    measure_privacy,
    search_architectures,
)
from dd_jax.cli.options import parse, parse_experiment
from dd_jax.errors import OptionError, RunError, unknown_name
from dd_jax.runs.experiment import Experiment
from dd_jax.types import Dataset


@dataclasses.dataclass(frozen=True)
class Apply:
    """Use distilled sets. dd-jax apply APPLICATION --help prints an application's options."""

    application: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="APPLICATION")]
    """"continual": learn classes task by task, with distilled sets of earlier tasks as the memory. "nas": rank networks
    by what they learn from distilled sets, and find a good one. "privacy": measure what networks
    that are trained on distilled sets give away of the real images."""


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
        raise OptionError(
            "There is no run to search with. Name at least one run directory or distilled set: "
            "dd-jax apply nas RUN [RUN ...]."
        )
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
    from dd_jax.runs.progress import note, table

    options, experiment = _with_experiment(ContinualLearning, argv, "dd-jax apply continual")
    data = _real(experiment)
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(ContinualOptions)}
    found = learn_continually(data, experiment, options=ContinualOptions(**own), out=options.out)
    head, lines = lines_of(found)
    title = f"{options.num_tasks} tasks of {data.name}, {options.scenario}-incremental, {options.num_orders} orders"
    table(title, head, lines)
    for words in found.sentences():
        print(words)
    note(f"The numbers and a page are in {options.out}: open {options.out}/report.html")


def _with_experiment(kind: Any, argv: Sequence[str], prog: str) -> tuple[Any, Experiment]:
    """Options of this kind, and the experiment that all other options describe."""
    options, rest = tyro.cli(kind, prog=prog, args=list(argv), return_unknown_args=True)
    return options, parse_experiment(rest, prog, "Options of the distillation.")


def _real(experiment: Experiment) -> Dataset:
    """The real images of an experiment."""
    from dd_jax.data import load_dataset

    form = ("image_size", "channels", "zca", "skip_broken")
    return load_dataset(experiment.dataset, **{name: getattr(experiment, name) for name in form})


@dataclasses.dataclass(frozen=True)
class MembershipStudy(PrivacyOptions):
    """Guess which real images were distilled from what networks trained on the sets say, and look for copies.

    All other options are those of dd-jax distill, --preset, --method and --smoke among them: they say what is
    distilled, for which network, and how.
    """

    out: Path = Path("runs/privacy")
    """Directory for the results. The same command with the same directory continues an interrupted one."""


def privacy(argv: Sequence[str]) -> None:
    """dd-jax apply privacy: membership inference against networks trained on distilled sets."""
    from dd_jax.applications.privacy_result import HEAD, lines_of
    from dd_jax.runs.progress import note, table

    options, experiment = _with_experiment(MembershipStudy, argv, "dd-jax apply privacy")
    own = {field.name: getattr(options, field.name) for field in dataclasses.fields(PrivacyOptions)}
    found = measure_privacy(_real(experiment), experiment, options=PrivacyOptions(**own), out=options.out)
    table(f"Who was a member? {options.num_worlds} halves of {found.num_candidates:,} images", HEAD, lines_of(found))
    print(found.explanation)
    for words in found.sentences():
        print(words)
    note(f"The numbers and a page are in {options.out}: open {options.out}/report.html")


APPLICATIONS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "continual": continual,
    "nas": nas,
    "privacy": privacy,
}
