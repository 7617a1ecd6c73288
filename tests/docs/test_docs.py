"""What the pages say can be done: their Python runs, in small, their commands parse, their numbers have a source."""

import dataclasses
import functools
import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tyro
from blocks import blocks as little_graph

import dd_jax as dd
import dd_jax.cli
from dd_jax.cli import COMMANDS, options
from dd_jax.data import load_dataset
from dd_jax.methods.registry import METHODS
from dd_jax.models import mlp
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.networks import Pretraining

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
RECORDS = (Experiment, Pretraining, dd.Training, *(method.options for method in METHODS.values()))  # of options
OF_OTHER_PROGRAMS = ("--logdir",)
MOST_LEFT_OUT = 3  # blocks that can't run here; more of them, and the pages aren't tested

_BLOCK = re.compile(
    r"^<!-- run first\n(?P<hidden>.*?)^-->$|(?:^<!-- (?P<note>[^\n]*) -->\n\n?)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INDENTED = re.compile(r" {4}((?:dd-jax|make|pip|python|\.venv/bin/python) .*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
_SPREAD = re.compile(r"\d+\.\d ± \d+\.\d")


class Block(NamedTuple):
    """Code on a page. note: the comment above it, e.g. "needs torch" or "later: what it waits for"."""

    language: str
    text: str
    line: int
    note: str


def blocks(page: Path) -> Iterator[Block]:
    source = page.read_text()
    for found in _BLOCK.finditer(source):
        group = "text" if found["hidden"] is None else "hidden"
        line = source[: found.start(group)].count("\n")
        yield Block(found["language"] or "python", found[group], line, found["note"] or "")


def left_out(block: Block) -> bool:
    """Whether a block can't run here, or waits for something."""
    if block.note.startswith("needs "):
        return importlib.util.find_spec(block.note.removeprefix("needs ")) is None
    return block.note.startswith(("later", "not run"))


def python_of(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


# Python.


def in_small(function: Callable[..., Any], **most: int | None) -> Callable[..., Any]:
    """`function` with these arguments at most so large, whether they were given or not; None for None."""

    @functools.wraps(function)
    def small(*args: Any, **kwargs: Any) -> Any:
        given = {name: limit if limit is None else min(kwargs.get(name, limit), limit) for name, limit in most.items()}
        return function(*args, **{**kwargs, **given})

    return small


def evaluate_in_small(*args: Any, **kwargs: Any) -> Any:
    if "protocol" in kwargs:  # hundreds of epochs
        kwargs["num_epochs"] = 2
    return in_small(dd.evaluation.evaluate, num_nets=2, num_curve_nets=1)(*args, **kwargs)


def baselines_in_small(distilled: Any, *args: Any, **kwargs: Any) -> Any:
    compare_all = distilled.parameterisation.kind.compare_all
    first = dd.evaluation.baseline_names(distilled.protocol, kwargs.get("pretrained"), compare_all)[:3]
    few = in_small(dd.evaluation.baselines, num_nets=2, num_sets=1, num_candidates=2)
    return few(distilled, *args, **{"names": first, **kwargs})


def pretrain_in_small(*args: Any, **kwargs: Any) -> Any:
    kwargs = {**kwargs, "training": dd.Training(epochs=1), "show_progress": False}
    return in_small(dd.runs.pretrain, num_nets=3, num_held_out=2)(*args, **kwargs)


def experts_in_small(*args: Any, **kwargs: Any) -> Any:
    training = dd.Training(epochs=1, optimiser="sgd", learning_rate=0.1, momentum=0.0)
    kwargs = {**kwargs, "training": training, "show_progress": False}
    return in_small(dd.runs.pretrain_experts, num_experts=2)(*args, **kwargs)


def mlp_in_small(data: Any, *, hidden: tuple[int, ...] = (8, 8), **settings: Any) -> Any:
    return mlp(data, hidden=tuple(min(units, 8) for units in hidden), **settings)


def load_in_small(name: str, **options: Any) -> Any:
    """The dataset; in place of a large graph one of sixty nodes."""
    return little_graph() if name == "digits-graph" else load_dataset(name, **options)


# Networks and trainings of a few sizes only, so that the pages share what is compiled.
SMALL_METHODS = {name: dict(method.small) for name, method in METHODS.items()}
SMALL_METHODS["bptt"] = {"num_inner_steps": 2, "batch_size": 100}
SMALL_METHODS["unrolled"] |= {"num_batches": 2, "num_epochs": 2}


# Pages with programs that no other page has.
SLOW_PAGES = {"README", "protocols", "scores", "network", "pretrained", "bptt", "frepo", "gradient_matching",
              "graph_condensation", "kernel_inducing_points", "trajectory_matching", "architecture_search",
              "continual_learning", "generative_teaching", "privacy"}  # fmt: skip


def page_of(path: Path) -> Any:
    """A page as a case of a test."""
    marks = [pytest.mark.slow] if path.stem in SLOW_PAGES else []
    return pytest.param(path, id=id_of(path), marks=marks)


def id_of(path: Path) -> str:
    """A page in the name of a test."""
    return path.relative_to(ROOT).as_posix().removeprefix("docs/")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A temporary directory to run in, and a library whose long functions are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dd, "distill", in_small(dd.distill, num_outer_steps=4, num_eval_nets=1, show_progress=False))
    monkeypatch.setattr(dd, "evaluate", evaluate_in_small)
    monkeypatch.setattr(dd, "baselines", baselines_in_small)
    monkeypatch.setattr(dd, "pretrain", pretrain_in_small)
    monkeypatch.setattr(dd, "pretrain_experts", experts_in_small)
    monkeypatch.setattr(dd, "estimate", in_small(dd.estimate, num_outer_steps=2))
    monkeypatch.setattr(dd, "load_dataset", load_in_small)
    monkeypatch.setattr(dd.models, "mlp", mlp_in_small)
    monkeypatch.setattr(dd.models, "gcn", in_small(dd.models.gcn, hidden=4))
    for name, most in SMALL_METHODS.items():
        monkeypatch.setattr(dd.methods, name, in_small(getattr(dd.methods, name), **most))


@pytest.mark.filterwarnings("ignore::dd_jax.evaluation.ProtocolWarning")
@pytest.mark.parametrize("page", [page_of(p) for p in PAGES if python_of(p)])
def test_the_python_of_a_page_runs_from_top_to_bottom(page, small):
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in python_of(page):
        if not left_out(block):
            exec(compile("\n" * block.line + block.text, page, "exec"), namespace)


def test_few_blocks_are_left_out():
    found = [
        block for page in PAGES for block in python_of(page) if block.note.startswith(("needs ", "later", "not run"))
    ]
    assert len(found) <= MOST_LEFT_OUT
    assert sum(len(python_of(page)) for page in PAGES) > 40


def test_a_block_that_fails_fails_the_test(small, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("Text.\n\n```python\nimport dd_jax as dd\nassert dd.__version__ == 'none'\n```\n")
    (block,) = python_of(page)
    with pytest.raises(AssertionError) as caught:
        exec(compile("\n" * block.line + block.text, page, "exec"), {})
    assert caught.traceback[-1].lineno == 4  # counted from 0: the line of the page


# Commands.


class ParsedError(Exception):
    """A command line that was understood."""


def typed(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of every line in the console and shell blocks of a page, and of what is indented in it."""
    for block in blocks(page):
        if block.language not in ("console", "sh") or left_out(block):
            continue
        lines = block.text.replace("\\\n", "")  # a command may go on in the next line
        for number, line in enumerate(lines.splitlines(), start=block.line + 1):
            yield number, shlex.split(line.removeprefix("$ "), comments=True)
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if found := _INDENTED.fullmatch(line):
            yield number, shlex.split(found[1], comments=True)


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, words after `dd-jax`) of every command of a page."""
    for number, words in typed(page):
        if "dd-jax" in words and "COMMAND" not in words:
            yield number, words[words.index("dd-jax") + 1 :]


def parse(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse a command line as `dd-jax` does, and stop there."""
    understood = tyro.cli

    def cli(*args: Any, **kwargs: Any) -> None:
        understood(*args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", cli)
    monkeypatch.setattr("dd_jax.runs.processes.join_processes", lambda *_: None)
    assert words[0] in COMMANDS, words
    rest = options.join(words[1:])[1]
    with pytest.raises(ParsedError):
        COMMANDS[words[0]](rest)


@pytest.mark.parametrize("page", [p for p in PAGES if list(commands(p))], ids=id_of)
def test_the_commands_of_a_page_parse(page, monkeypatch):
    for _, words in commands(page):
        parse(words, monkeypatch)


@pytest.mark.parametrize(
    "line", ["distil", "distill --datasets digits", "distill --preset mnist", "evaluate runs/x --nets 3"]
)
def test_a_mistake_in_a_command_is_found(line, monkeypatch):
    with pytest.raises((AssertionError, SystemExit, dd.OptionError)):
        parse(shlex.split(line), monkeypatch)


def test_scripts_and_targets_that_are_called_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    pages = [*PAGES, ROOT / "CONTRIBUTING.md"]
    made = [words[1] for page in pages for _, words in typed(page) if words[:1] == ["make"]]
    scripts = [(page.name, name) for page in pages for name in re.findall(r"experiments/\w+\.py", page.read_text())]
    assert {"demo", "test"} <= {*made} <= {*targets}
    assert len(scripts) > 10
    assert [name for name in scripts if not (ROOT / name[1]).is_file()] == []


def test_options_that_pages_name_exist():
    records = {*RECORDS, *(kind for module in vars(dd_jax.cli).values() for kind in _dataclasses(module))}
    fields = {field.name for kind in records for field in dataclasses.fields(kind)}
    known = {f"--{name.replace('_', '-')}" for name in fields} | set(OF_OTHER_PROGRAMS)
    for file in (
        *(ROOT / "dd_jax" / "cli").glob("*.py"),
        *(ROOT / "experiments").glob("*.py"),
        *ROOT.glob("tests/*.py"),
    ):
        known |= set(_OPTION.findall(file.read_text()))
        fields = re.findall(r"^ {4}(\w+): .* = ", file.read_text(), re.MULTILINE)
        known |= {f"--{name.replace('_', '-')}" for name in fields}
    strangers = {
        f"{page.name}: {option}"
        for page in (*PAGES, ROOT / "CONTRIBUTING.md")
        for option in _OPTION.findall(page.read_text())
        if not {option, option.replace("--no-", "--", 1)} & known
    }
    assert not strangers
    assert len(known) > 100


def _dataclasses(module: Any) -> list[type]:
    return [
        one
        for one in getattr(module, "__dict__", {}).values()
        if inspect.isclass(one) and dataclasses.is_dataclass(one)
    ]


# Numbers.

_MEASURED = re.compile(r"^## Measured\b.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)  # a section of its own records


RESULTS = ROOT / "docs" / "results.md"


def test_every_mean_and_deviation_stands_among_the_results():
    """Whatever page it is quoted on, the README included; sections of their own records apart."""
    known = set(_SPREAD.findall(RESULTS.read_text()))
    strangers = {
        f"{page.name}: {found}"
        for page in [ROOT / "README.md", *PAGES]
        for found in _SPREAD.findall(_MEASURED.sub("", page.read_text()))
        if found not in known
    }
    assert len(known) > 50
    assert not strangers


def test_what_a_page_measures_itself_names_its_command_number_of_networks_machine_and_date():
    sections = [found for page in PAGES for found in _MEASURED.findall(page.read_text())]
    assert sections
    for section in sections:
        assert _SPREAD.search(section)
        for pattern in (
            r"Command:|`(python experiments/|dd-jax )",
            r"\bn ?= ?\d|of \d+ (sets|networks)",
            "AMD EPYC",
            r"jax 0\.",
            " 2026",
        ):
            assert re.search(pattern, section), pattern
