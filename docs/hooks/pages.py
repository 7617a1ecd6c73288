"""What pages take from the library and its records while they are built, so that it can't go stale.

<!-- results NAME -->    the table of experiments/results/NAME
<!-- options NAME -->    the fields of a dataclass of options, e.g. dd_jax.methods.UnrolledOptions
<!-- commands -->        every command's options, from its own parser
<!-- presets -->         the presets of dd-jax distill
<!-- networks -->        the presets of dd-jax pretrain
<!-- protocols -->       the protocols that have names
<!-- other names -->     the public names that no reference page has

Comments for tests/docs, which runs the Python of every page from top to bottom:

<!-- run first ... -->   Python that a reader need not see
<!-- needs MODULE -->    the block below runs only where the module is installed
<!-- not run: WHY -->    it doesn't run
<!-- later: WHAT -->     what is below waits for something that isn't there yet
"""

import ast
import contextlib
import html
import inspect
import io
import itertools
import json
import os
import pydoc
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"

_MARKER = re.compile(
    r"^<!-- (results|options|commands|presets|networks|protocols|other names)(?: (\S+))? -->$", re.MULTILINE
)
_FOR_TESTS = re.compile(r"^<!-- (run first|needs|later|not run)\b.*?-->\n", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures of the results to the site, without a copy of them in the source."""
    for picture in sorted(RESULTS.glob("*/*.png")):
        path = f"assets/results/{picture.parent.name}/{picture.name}"
        files.append(File.generated(config, path, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put what a page's markers ask for in their place, and drop what is there for the tests."""
    markdown = _FOR_TESTS.sub("", markdown)
    return _MARKER.sub(lambda found: _WRITERS[found[1]](*filter(None, [found[2]])), markdown)


# Results.


def results_table(name: str) -> str:
    """What an experiment found on test, in per cent."""
    from dd_jax.outcomes import ACCURACIES, outcome_of_options, read_recorded

    rows = json.loads((RESULTS / name / "results.json").read_text())["results"]
    config = json.loads((RESULTS / name / "config.json").read_text())["config"]
    columns = outcome_of_options(config["method"]).columns
    lines = []
    for row, found in rows.items():
        measures = {ACCURACIES: found[ACCURACIES], **read_recorded(found)}
        values = [measures[column.key] for column in columns]
        bold = "**" if row == "distilled" else ""
        cells = [f"{bold}{text}{bold}" for text in (row, *map(percent, values))]
        lines.append([*cells, str(found["n"]), found["chosen"]])
    return table(["training set", *(column.head for column in columns), "n", "chosen on validation"], lines)


def percent(fractions: Sequence[float]) -> str:
    """Mean and, of more than one, standard deviation, as everywhere in the library."""
    from dd_jax.evaluation import in_percent

    return in_percent(np.asarray(fractions))


# Options and presets.


def options_table(name: str) -> str:
    """The fields of a dataclass, those it inherits first, with their defaults and docstrings."""
    kind = pydoc.locate(name)
    assert inspect.isclass(kind), name
    found = {option: row for part in reversed(kind.__mro__[:-1]) for option, row in _documented_fields(part)}
    return table(["option", "default", "what it is"], list(found.values()))


def _documented_fields(kind: type) -> Iterator[tuple[str, list[str]]]:
    """Name and row of each field in the class' own source that a docstring follows."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    for field, after in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = inspect.cleandoc(str(after.value.value))
            name, default = ast.unparse(field.target), ast.unparse(field.value) if field.value else ""
            yield name, [f"`{name}`", f"`{default}`", text]


def presets_table() -> str:
    """What the presets distil; the paper's settings are the same experiments under names ending in -paper."""
    from dd_jax.methods import METHODS, name_of
    from dd_jax.presets import PRESETS

    def row(name: str) -> list[str]:
        experiment, options = PRESETS[name], vars(PRESETS[name].method)
        method = name_of(experiment.method)
        words = list(METHODS[method].words(experiment.method))
        if experiment.pretrained:
            words.insert(0, f"`{Path(experiment.pretrained).name}`")
        if "num_epochs" in options:
            words.insert(0, f"{options['num_batches']} × {options['num_epochs']} steps")
        paper = "yes" if f"{name}-paper" in PRESETS else ""
        cells = [experiment.dataset, experiment.model or "mlp", f"`{method}`", ", ".join(words)]
        return [option_name(name), *cells, f"{experiment.num_outer_steps:,}", paper]

    columns = ["preset", "dataset", "network", "method", "what", "outer steps", "paper"]
    return table(columns, [row(name) for name in PRESETS if not name.endswith("-paper")])


def networks_table() -> str:
    """The networks that presets train beforehand."""
    from dd_jax.runs.networks import PRETRAININGS

    return table(
        ["preset", "dataset", "network", "to distil with", "held out", "epochs"],
        [
            [
                option_name(name),
                p.dataset,
                f"`{p.model}`",
                f"{p.num_nets:,}",
                "all along" if p.snapshots else str(p.num_held_out),
                str(p.training.epochs),
            ]
            for name, p in PRETRAININGS.items()
        ],
    )


def protocols_table() -> str:
    """The trainings from scratch that have names."""
    from dd_jax.evaluation import PROTOCOLS
    from dd_jax.inner import Training

    def row(name: str) -> list[str]:
        p = PROTOCOLS[name]
        if not isinstance(p, Training):
            return [option_name(name), "", "", f"in closed form, regulariser {p.regulariser}", "", "", "", ""]
        rate = "as learnt" if p.learning_rate is None else str(p.learning_rate)
        rate += " of the largest stable one" if p.relative else ""
        schedule = p.schedule
        if p.schedule == "drops":
            schedule = f"times {p.drop_factor} after {', '.join(f'{p.epochs * drop:.0f}' for drop in p.drops)}"
        changes = ", ".join(filter(None, [p.augment, "cutmix" if p.cutmix else ""]))
        return [
            option_name(name),
            str(p.epochs) if p.steps is None else f"{p.steps:,} steps",
            str(p.batch_size),
            p.optimiser + (", squared error" if p.loss == "squared" else ""),
            rate,
            schedule,
            str(p.weight_decay),
            changes,
        ]

    columns = ["protocol", "epochs", "batch", "optimiser", "rate", "schedule", "weight decay", "augmentation"]
    return table(columns, [row(name) for name in PROTOCOLS])


# The command line.


def commands() -> str:
    """A section for each command: its usage, what it is for, and tables of its options, of which none comes twice."""
    from dd_jax.cli import COMMANDS

    sections, seen = [], {}
    for name in COMMANDS:
        about, options = command(name)
        same = seen.setdefault(options, name)
        sections += [about, options if same == name else f"Options are those of [dd-jax {same}](#dd-jax-{same})."]
    return "\n\n".join(sections)


def command(name: str) -> tuple[str, str]:
    """The section of one command, and the tables of its options, out of what its --help prints."""
    text = help_text(name)
    usage, rest = re.split(r"\n(?=\n|╭)", text, maxsplit=1)
    about, *boxes = rest.split("╭")
    about = re.sub(r"\n{3,}", "\n\n", about.strip())
    about = about.replace("of a preset: dd-jax info lists them", "of a [preset](#presets): dd-jax info lists them")
    options = "\n\n".join(box_table(box) for box in boxes)
    return f"## dd-jax {name}\n\n```text\n{usage.removeprefix('usage: ')}\n```\n\n{about}", options


def help_text(name: str) -> str:
    """What `dd-jax NAME --help` prints, on a terminal too narrow for two boxes beside each other."""
    from dd_jax.cli import COMMANDS

    printed = io.TextIOWrapper(io.BytesIO(), "utf-8")  # boxes are drawn only where there is a character set for them
    wide = mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"})
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        COMMANDS[name](["--help"])
    printed.seek(0)
    return printed.read()


def box_table(box: str) -> str:
    """One of the boxes that options are printed in, as a table."""
    title, *lines = box.splitlines()
    rows = list(_options(line[2:].rstrip("│ ") for line in lines if line.startswith("│")))
    heading = title.strip("─╮ ")
    return f"**{heading[0].upper()}{heading[1:]}**\n\n{table(['option', 'what it is'], rows)}"


def _options(lines: Iterator[str]) -> Iterator[list[str]]:
    """Name and text of each option: what begins a line is a name, what is indented belongs to the one before."""
    name, text = "", ""
    for line in lines:
        if line.startswith(" "):
            text += f" {line.strip()}"
        elif re.match(r"-|\{|\[*[A-Z]+[\] ]", line):
            if name:
                yield [option_name(name), text.strip()]
            name, _, text = line.partition("  ")
    if name:
        yield [option_name(name), text.strip()]


def option_name(name: str) -> str:
    """An option as code that breaks into lines between its words only; that it may be None its default says."""
    words = html.escape(name.replace("{None}|", "")).replace("|", "&#124;").replace(",", ",<wbr>").split(" ")
    return "<code>" + " ".join(f'<span class="option">{word}</span>' for word in words) + "</code>"


# The reference.


def other_names() -> str:
    """Entries for public names that the reference pages leave out, so that a new one is there before someone writes."""
    import dd_jax

    written = "".join(page.read_text() for page in sorted((ROOT / "docs" / "reference").glob("*.md")))
    there = set(re.findall(r"^::: dd_jax\.(\w+)", written, re.MULTILINE))
    missing = [name for name in dd_jax.__all__ if name not in there and not name.startswith("__")]
    missing = [name for name in missing if not inspect.ismodule(getattr(dd_jax, name))]
    return "\n\n".join(["## Others", *(f"::: dd_jax.{name}" for name in missing)]) if missing else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; ValueError if it would be empty: what it is made from isn't what it was."""
    if not rows:
        raise ValueError(f"There is nothing to put into the table of {', '.join(header)}.")
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


_WRITERS = {
    "results": results_table,
    "options": options_table,
    "commands": commands,
    "presets": presets_table,
    "networks": networks_table,
    "protocols": protocols_table,
    "other names": other_names,
}
