"""A board: sets ranked by accuracy, robustness, bytes and time, on one page that can be sorted and filtered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dd_jax.outcomes.spread import NO_BREAK, percent, sample
from dd_jax.runs.report import words
from dd_jax.runs.report.amounts import count, lasting
from dd_jax.runs.report.board_entries import Entry, Robustness, entries
from dd_jax.runs.report.layout import note
from dd_jax.runs.report.markup import Markup, element, join, scroll, text
from dd_jax.runs.report.page import document
from dd_jax.storage.files import disk_errors, write_bytes

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
body > * { max-width: 96rem; }
.filters { display: flex; flex-wrap: wrap; gap: 0.6rem 1rem; align-items: center; margin-bottom: 0.8rem; }
.filters[hidden], .board tr[hidden] { display: none; }
.filters :is(input, select) {
  font: inherit; padding: 0.25rem 0.5rem; border-radius: 8px; border: 1px solid var(--mark); background: var(--card);
  color: var(--ink); max-width: 100%;
}
.board { border-collapse: separate; border-spacing: 0; }
.board thead th { white-space: normal; vertical-align: bottom; }
.board thead button {
  width: auto; padding: 0; border: 0; border-radius: 2px; color: inherit; font-size: inherit; text-align: left;
}
.board thead button:hover { color: var(--accent); text-decoration: underline; }
.board thead button::after { content: "\\a0\\2195"; color: var(--mark); }
.board thead th[aria-sort] button { color: var(--ink); font-weight: 650; }
.board thead th[aria-sort="ascending"] button::after { content: "\\a0▲"; color: var(--accent); }
.board thead th[aria-sort="descending"] button::after { content: "\\a0▼"; color: var(--accent); }
.board tr > :first-child {
  position: sticky; left: 0; z-index: 1; background: var(--card); min-width: 5.5rem; max-width: min(11rem, 34vw);
  box-shadow: 1px 0 var(--line);
}
.board tr > :nth-child(2) { padding-left: 0.6rem; }
.board :is(.wraps, tbody th) { white-space: normal; overflow-wrap: anywhere; max-width: 11rem; }
.board .wraps { min-width: 7rem; }
.board td small { display: block; color: var(--soft); font-size: 0.8rem; white-space: normal; min-width: 7rem; }
@media print { .board tr > :first-child { position: static; } }
"""


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


# Kinds of columns: "text", "more" is better, "less" is better.

_COLUMNS: Mapping[str, str] = {
    "set": "text",
    "dataset": "text",
    "size": "less",
    "method": "text",
    "network": "text",
    "protocol": "text",
    "accuracy": "more",
    "best baseline": "more",
    "beyond it": "more",
    "other networks": "more",
    "distillations": "more",
    "n": "more",
    "± over networks": "less",
    "bytes": "less",
    "distilling took": "less",
}

_WRAPPED = ("method", "network", "protocol")

SPREADS = (
    "± of accuracy: standard deviation over distillations where there are several, else over networks. "
    "± of the best baseline: standard deviation over its networks, those of all distillations. ± of what is beyond it: "
    "twice the standard error of the difference. ± of other networks: standard deviation over these networks, of the "
    "mean on each. Without ± there is one of them."
)


def board(sets: Sequence[Entry]) -> str:
    """An HTML page that ranks sets, whole."""
    datasets = list(dict.fromkeys(one.dataset for one in sets))
    title = f"{len(sets)} distilled set{'s' if len(sets) != 1 else ''} of {', '.join(datasets)}"
    lead = (
        "Accuracy on test. Sets of other datasets, sizes, networks or protocols are no contest: these columns say "
        "which are alike."
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
        element("th", element("button", name, type="button", title=f"Sort by {name}"), scope="col", data_kind=kind,
                aria_sort="descending" if name == "accuracy" and len(datasets) == 1 else None)
        for name, kind in _COLUMNS.items()
    ]  # fmt: skip
    lines = [element("tr", *_cells(one), data_dataset=one.dataset) for one in sets]
    inner = element("table", element("thead", element("tr", *heads)), element("tbody", *lines), class_="results board")
    says = (
        f"n: networks of each distillation. {words.BEST_BASELINE} What several distillations measured alike counts "
        "once. Other networks: from dd-jax audit or dd-jax transfer, unless their trainings were cut short; n: how "
        "many networks. Bytes: all that is stored, labels included. Distilling took: mean over distillations, "
        "compilation included. A dash: not measured."
    )
    section = element("section", filters, note(SPREADS), scroll(inner, "Board"), note(says), class_="card")
    main = element("main", section)
    foot = element("footer", "Made by dd-jax board; the page needs no network.")
    return document(f"{title} – dd_jax", join([top, main, foot]), SCRIPT, STYLE)


def _cells(one: Entry) -> list[Markup]:
    rival, gain, robust = one.baseline, one.gain, one.robustness
    shown: Mapping[str, tuple[Any, Any]] = {
        "set": (one.name, one.name),
        "dataset": (one.dataset, one.dataset),
        "size": (count(one.num_examples, one.unit).replace(" ", NO_BREAK), one.num_examples),
        "method": (_breakable(one.method), one.method),
        "network": (one.network, one.network),
        "protocol": (one.protocol, one.protocol),
        "accuracy": (percent(one.result), one.result.mean),
        "best baseline": ("–", "")
        if rival is None
        else (
            join([percent(rival.accuracy), element("small", f"{rival.name}, {sample(rival.accuracy)}")]),
            rival.accuracy.mean,
        ),
        "beyond it": ("–", "") if gain is None else (_points(gain.points, gain.noise), gain.points),
        "other networks": (_robust(robust, one.distillations), "" if robust.accuracy is None else robust.accuracy.mean),
        "distillations": (str(one.distillations), one.distillations),
        "n": (f"{one.num_nets:,}", one.num_nets),
        "± over networks": (f"{100 * one.networks:.1f}", one.networks),
        "bytes": (f"{one.num_bytes:,}", one.num_bytes),
        "distilling took": (lasting(one.seconds), "" if one.seconds is None else one.seconds),
    }
    (_, first), *rest = shown.items()
    return [
        element("th", first[0], scope="row", data_value=first[1]),
        *(
            element("td", told, data_value=value, class_="wraps" if name in _WRAPPED else None)
            for name, (told, value) in rest
        ),
    ]


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line after each of its words."""
    return Markup(text(name).replace("_", "_<wbr>"))


def _points(points: float, noise: float | None) -> str:
    return f"{points:+.1f}" + ("" if noise is None else f" ± {noise:.1f}".replace(" ", NO_BREAK))


def _robust(found: Robustness, distillations: int) -> Markup:
    """Accuracy on other networks, with how many; and what was left out."""
    told: list[Any] = ["–" if found.accuracy is None else percent(found.accuracy)]
    if found.accuracy is not None:
        of = "" if found.sets == distillations else f", {found.sets} of {distillations} sets"
        told.append(element("small", f"{sample(found.accuracy)}{of}", title=", ".join(found.networks)))
    told += [element("small", f"left out: {why}") for why in found.left_out]
    return join(told)
