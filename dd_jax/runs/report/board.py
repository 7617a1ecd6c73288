"""A board: sets ranked by accuracy, robustness, bytes and time, on one page that can be sorted and filtered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, RunError
from dd_jax.evaluation import storage_bytes
from dd_jax.outcomes.spread import Spread, percent
from dd_jax.runs.comparing import Group, groups_of
from dd_jax.runs.listing import find_runs, is_run
from dd_jax.runs.report import words
from dd_jax.runs.report.amounts import lasting
from dd_jax.runs.report.layout import note
from dd_jax.runs.report.markup import Markup, element, join, scroll
from dd_jax.runs.report.page import document
from dd_jax.storage.artefact import load_distilled
from dd_jax.storage.files import disk_errors, read_json, write_bytes

TRANSFER, AUDIT = "transfer.json", "audit/results.json"  # of a set, beside it: what tells its robustness
_OTHER_NETWORKS, _SET = "other networks", "the set"  # of an audit

SCRIPT = """
const table = document.querySelector(".board"), body = table.tBodies[0];
const [search, choice] = ["input", "select"].map((tag) => document.querySelector(".filters " + tag));
const says = document.querySelector(".filters output");
const value = (row, column) => row.cells[column].dataset.value;
table.querySelectorAll("thead button").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th"), column = head.cellIndex, text = head.dataset.kind === "text";
  const first = text || head.dataset.kind === "less" ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  table.querySelectorAll("thead th").forEach((one) => one.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  [...body.rows].map((row, i) => [row, i]).sort(([a, i], [b, j]) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (x === "" || y === "") return (x === "") - (y === "") || i - j;
    return sign * (text ? x.localeCompare(y) : x - y) || i - j;
  }).forEach(([row]) => body.append(row));
}));
const filter = () => {
  const wanted = search.value.toLowerCase().split(/\\s+/);
  let shown = 0;
  for (const row of body.rows) {
    const here = row.textContent.toLowerCase();
    row.hidden = !(wanted.every((word) => here.includes(word)) &&
      (choice.value === "" || row.dataset.dataset === choice.value));
    shown += !row.hidden;
  }
  says.textContent = shown + " of " + body.rows.length + " sets";
};
search.addEventListener("input", filter);
choice.addEventListener("input", filter);
document.querySelector(".filters").hidden = false;
filter();
"""

STYLE = """
.filters { display: flex; flex-wrap: wrap; gap: 0.6rem 1rem; align-items: center; margin-bottom: 0.8rem; }
.filters[hidden], .board tr[hidden] { display: none; }
.filters :is(input, select) {
  font: inherit; padding: 0.25rem 0.5rem; border-radius: 8px; border: 1px solid var(--mark); background: var(--card);
  color: var(--ink); max-width: 100%;
}
.board thead button { width: auto; padding: 0; border: 0; color: inherit; font-size: inherit; text-align: left; }
.board thead th[aria-sort="ascending"] button::after { content: " ▲"; }
.board thead th[aria-sort="descending"] button::after { content: " ▼"; }
"""


class Entry(NamedTuple):
    """A set on the board.

    Attributes:
        result: accuracy: over distillations where there are several, else over networks.
        networks: standard deviation over the networks of a distillation.
        num_nets: of each distillation.
        baseline: the best one of real images by the same protocol, and its mean; None where none was measured.
        robustness: mean accuracy on other networks, and how many these are; None where it wasn't measured.
        seconds: that distilling took, of one; None where that isn't known.
    """

    name: str
    dataset: str
    network: str
    method: str
    protocol: str
    size: str
    num_bytes: int
    result: Spread
    networks: float
    num_nets: int
    distillations: int
    baseline: tuple[str, float] | None
    robustness: tuple[float, int] | None
    seconds: float | None

    @property
    def gain(self) -> float | None:
        """What the set has over the best baseline, as a fraction."""
        return None if self.baseline is None else self.result.mean - self.baseline[1]


def write_board(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Write a board of sets into the file `out` and return its path: one self-contained page.

    Args:
        paths: run directories, folders with such in them, or sets from elsewhere that were audited.

    Raises:
        DataError: for what is neither, and for damaged files.
        RunError: if the disk refuses.
    """
    text = board(entries(paths))
    out = Path(out).expanduser()
    with disk_errors("write the board", out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, text.encode(errors="backslashreplace"))
    return out


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
    rival = words.rivals(record)[:1]
    spread = found.result if found.result.n > 1 else Spread(found.result.mean, found.networks, found.num_nets)
    return Entry(
        group.name,
        words.dataset(record),
        words.model(record),
        str(record.setting("method", "name", default="–")),
        record.distilled.protocol.name,
        f"{record.distilled.num_examples:,} {record.unit}s",
        storage_bytes(record.distilled),
        spread,
        found.networks,
        found.num_nets,
        found.result.n,
        (rival[0].name, rival[0].accuracy.mean) if rival else None,
        _robustness(group.path),
        record.seconds,
    )


def _of_audit(path: Path) -> Entry:
    """A set from elsewhere, by its audit."""
    distilled, audit = load_distilled(path), _json(path / AUDIT)
    try:
        rows = [row for row in audit["rows"] if row["part"] == audit["rows"][0]["part"]]
        own = next(row for row in rows if row["name"] == _SET)
        rivals = [row for row in rows if row["name"] not in (_SET, "full training set")]
        best = max(rivals, key=lambda row: row["mean"], default=None)
        return Entry(
            path.absolute().name,
            str(audit["dataset"]),
            str(own["network"]),
            "from elsewhere",
            distilled.protocol.name,
            str(audit["set"]["size"]),
            storage_bytes(distilled),
            Spread(float(own["mean"]), float(own["std"]), int(own["n"])),
            float(own["std"]),
            int(own["n"]),
            1,
            None if best is None else (str(best["name"]), float(best["mean"])),
            _robustness(path),
            None,
        )
    except (KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
        raise DataError(
            f"{path / AUDIT} is damaged: it is not an audit of a set ({error!r:.80}). Delete it and run dd-jax "
            "audit again."
        ) from error


def _robustness(path: Path) -> tuple[float, int] | None:
    """The mean accuracy on other networks, as an audit or a transfer beside the set tells it."""
    if (path / AUDIT).is_file():
        rows = _json(path / AUDIT).get("rows", [])
        means = [float(row["mean"]) for row in rows if (row["part"], row["name"]) == (_OTHER_NETWORKS, _SET)]
        return (sum(means) / len(means), len(means)) if means else None
    if (path / TRANSFER).is_file():
        by_network = _json(path / TRANSFER).get("by network", {})
        means = [float(both["distilled"]["mean"]) for name, both in by_network.items() if "(its own)" not in name]
        return (sum(means) / len(means), len(means)) if means else None
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except RunError as error:
        raise DataError(str(error)) from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: it should be an object. Put back a copy of it.")
    return found


# The page. Kinds of columns: "text", "more" is better, "less" is better.

_COLUMNS: Mapping[str, str] = {
    "set": "text",
    "dataset": "text",
    "accuracy": "more",
    "± over networks": "less",
    "n": "more",
    "distillations": "more",
    "best baseline": "more",
    "beyond it": "more",
    "other networks": "more",
    "bytes": "less",
    "distilling took": "less",
    "size": "text",
    "network": "text",
    "method": "text",
    "protocol": "text",
}


def board(sets: Sequence[Entry]) -> str:
    """An HTML page that ranks sets, whole."""
    datasets = list(dict.fromkeys(one.dataset for one in sets))
    title = f"{len(sets)} distilled set{'s' if len(sets) != 1 else ''} of {', '.join(datasets)}"
    lead = (
        "Accuracy on test: mean ± standard deviation over distillations where there are several, else over networks. "
        "Sets of other datasets, networks, sizes or protocols are no contest: the columns say which are alike."
    )
    top = element(
        "header",
        element("p", "Board of distilled sets, made with dd_jax", class_="kind"),
        element("h1", title),
        element("p", lead, class_="lead"),
    )
    options = [element("option", "all datasets", value=""), *(element("option", d, value=d) for d in datasets)]
    filters = element(
        "div",
        element("input", type="search", placeholder="Filter by words", aria_label="Filter by words"),
        element("select", *options, aria_label="Dataset"),
        element("output", aria_live="polite"),
        class_="filters",
        hidden=True,
    )
    heads = [
        element("th", element("button", name, type="button"), scope="col", data_kind=kind,
                aria_sort="descending" if name == "accuracy" and len(datasets) == 1 else None)
        for name, kind in _COLUMNS.items()
    ]  # fmt: skip
    lines = [element("tr", *_cells(one), data_dataset=one.dataset) for one in sets]
    inner = element("table", element("thead", element("tr", *heads)), element("tbody", *lines), class_="results board")
    says = (
        f"n: networks of each distillation. {words.BEST_BASELINE} "
        "Other networks: mean accuracy on them (how many), from dd-jax audit or dd-jax transfer. "
        "Bytes: all that is stored, labels included. A dash: not measured."
    )
    main = element("main", element("section", filters, scroll(inner, "Board"), note(says), class_="card"))
    foot = element("footer", "Made by dd-jax board; the page needs no network.")
    return document(f"{title} – dd_jax", join([top, main, foot]), SCRIPT, STYLE)


def _cells(one: Entry) -> list[Markup]:
    rival = (
        ("–", "") if one.baseline is None else (f"{100 * one.baseline[1]:.1f} %, {one.baseline[0]}", one.baseline[1])
    )
    gain = ("–", "") if one.gain is None else (f"{100 * one.gain:+.1f}", one.gain)
    robust = ("–", "") if one.robustness is None else (
        f"{100 * one.robustness[0]:.1f} % ({one.robustness[1]})", one.robustness[0]
    )  # fmt: skip
    took = (lasting(one.seconds), "" if one.seconds is None else one.seconds)
    shown: list[tuple[str, Any]] = [
        (one.name, one.name),
        (one.dataset, one.dataset),
        (percent(one.result), one.result.mean),
        (f"{100 * one.networks:.1f}", one.networks),
        (f"{one.num_nets:,}", one.num_nets),
        (str(one.distillations), one.distillations),
        rival,
        gain,
        robust,
        (f"{one.num_bytes:,}", one.num_bytes),
        took,
        (one.size, one.size),
        (one.network, one.network),
        (one.method, one.method),
        (one.protocol, one.protocol),
    ]
    first, *rest = shown
    return [
        element("th", first[0], scope="row", data_value=first[1]),
        *(element("td", words, data_value=value) for words, value in rest),
    ]
