"""Numbers that pages quote from audits, released graphs and studies of privacy stand in the records of these."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dd_jax.applications.ranking import Interval
from dd_jax.outcomes.nested import compare_values, nested
from dd_jax.outcomes.spread import percent
from dd_jax.runs.report.published import published as of_paper

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "experiments" / "results"
PAGES = {
    "guides/released_sets.md": (
        "released-graphs.json", "audit-released-cora-0.json", "audit-digits.json", "cells/cora-gcond-35.json",
        "cells/citeseer-gcond-30.json",
    ),
    "applications/privacy.md": (
        "privacy-mnist-dm.json", "privacy-mnist-dm-noise.json", "privacy-mnist-dc.json", "privacy-cifar10-dm.json",
        "privacy-cifar10-dc.json", "privacy-mnist-bptt.json", "privacy-cifar10-bptt.json",
    ),
}  # fmt: skip

_SPREAD = re.compile(r"\d+\.\d ± \d+\.\d")
_AUC = re.compile(r"\b\d\.\d\d \[\d\.\d\d, \d\.\d\d\]")
_RATE = re.compile(r"\d+\.\d % \[\d+\.\d, \d+\.\d\]")


def entries(found: Any) -> Iterator[dict[str, Any]]:
    """All objects in a record."""
    if isinstance(found, dict):
        yield found
    for part in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from entries(part)


def spreads(found: Any) -> Iterator[str]:
    """Mean and standard deviation of every list of accuracies; in objects of them also over the means of each group.

    Also those of an attack, those that an application has in its results, and those in its sentences.
    """
    for entry in entries(found):
        given = entry.get("accuracies", [])
        groups = [] if isinstance(given, list) else [list(part.values()) for part in given.values()]
        lists = [given] if isinstance(given, list) else [values for group in groups for values in group]
        lists += [[float(np.mean(values)) for values in group] for group in groups]
        lists += [entry.get(name, []) for name in ("success", "others")]
        several = entry.get("distillations", [])
        lists.append([float(np.mean(one["accuracies"])) for one in several if one.get("accuracies")])
        tables = [one["transfer"]["by network"] for one in several if one.get("transfer")]
        lists += [[table[name][kind]["mean"] for table in tables if name in table]
                  for name in (tables[0] if tables else ()) for kind in ("distilled", "random real")]  # fmt: skip
        for values in lists:
            if values and not isinstance(values[0], list):
                yield f"{100 * np.mean(values):.1f} ± {100 * np.std(values):.1f}"
        if {"mean", "std"} <= set(entry):
            yield f"{100 * entry['mean']:.1f} ± {100 * entry['std']:.1f}"
        for sentence in entry.get("says", []):
            yield from _SPREAD.findall(sentence.replace("\u00a0", " "))


def intervals(found: Any) -> Iterator[str]:
    """Of AUCs, and of rates in per cent."""
    for entry in entries(found):
        if set(entry) == {"value", "low", "high"}:
            value, low, high = (entry[name] for name in ("value", "low", "high"))
            yield str(Interval(value, low, high))
            yield f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_quotes_is_in_its_records(page):
    text = (ROOT / "docs" / page).read_text()
    records = [json.loads((RECORDS / name).read_text()) for name in PAGES[page]]
    known = {one for record in records for one in spreads(record)}
    known |= set(_SPREAD.findall((ROOT / "docs" / "results.md").read_text()))
    quoted = set(_SPREAD.findall(text))
    assert len(quoted) > 5
    assert not quoted - known
    of_records = {one for record in records for one in intervals(record)}
    assert not {*_AUC.findall(text), *_RATE.findall(text)} - of_records


def measured(name: str) -> list[list[float]]:
    """The accuracies of a compact record, of the networks of each distillation."""
    record = json.loads((RECORDS / "cells" / f"{name}.json").read_text())
    return [one["accuracies"] for one in record["distillations"]]


def test_the_guide_to_several_distillations_prints_what_its_records_give():
    """Its table, its F statistics, and the correlation of the networks that all distillations share."""
    text = (ROOT / "docs" / "guides" / "several_distillations.md").read_text()
    for name in ("dc", "dm"):
        values = np.array(measured(f"digits-{name}"))
        found = nested(values)
        told = f"{100 * found.networks:.1f} +{100 * found.between:.1f} +10"
        assert re.search(rf" {name} +5 +{percent(found.result)} +{told}".replace("\u00a0", " "), text)
        effects = values.mean(1, keepdims=True) + values.mean(0) - values.mean()
        ratio = 10 * values.mean(1).var(ddof=1) / (((values - effects) ** 2).sum() / 36)
        assert f"F(4, 36) = {ratio:.2f}" in text
    both = [np.array(measured(f"digits-{name}")) for name in ("dc", "dm")]
    assert f"by {np.corrcoef(both[0])[np.triu_indices(5, 1)].mean():.2f} on average" in text
    gaps = 100 * (both[0] - both[1]).mean(1)
    assert f"from {gaps.max():.1f} to {gaps.min():.1f} points" in text
    assert compare_values(*both).sentence("dc", "dm").split("(")[0].replace("\u00a0", " ") in text
    alone = [100 * nested(measured(name)).between for name in ("digits-unrolled", "digits-unrolled-slower")]
    assert "of distillations alone it is {:.1f} and {:.1f} points".format(*alone) in text


@pytest.fixture(scope="module")
def quoted():
    """What was transcribed by hand from pages, as the runs are gone; and what papers report."""
    return json.loads((RECORDS / "quoted.json").read_text())


@pytest.fixture(scope="module")
def recorded():
    """Every mean and deviation that a record gives."""
    return {one for path in RECORDS.rglob("*.json") for one in spreads(json.loads(path.read_text()))}


def test_every_mean_and_deviation_has_a_record(recorded, quoted):
    """A measured one, one that was transcribed from the page that measured it, or a paper's."""
    known = recorded | {one["value"] for one in quoted["published"]}
    known |= {value for page in quoted["measured"] for value in page["values"].values()}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").glob("*.py")]
    strangers = {
        f"{page.name}: {found}"
        for page in pages
        for found in _SPREAD.findall(page.read_text().replace(" +- ", " ± "))
        if found not in known
    }
    assert len(recorded) > 100
    assert not strangers, "measure them, and make a record with experiments/record.py"


def test_what_was_transcribed_says_where_from_and_why(quoted):
    for one in quoted["published"]:
        assert one["source"]
        assert one["sure"]
    for page in quoted["measured"]:
        assert page["transcribed"] is True
        for entry in ("why", "hardware", "commands"):
            assert page[entry], (page["page"], entry)
        assert re.match(r"2026-\d\d-\d\d", page["date"])
        text = (ROOT / page["page"]).read_text().replace(" +- ", " ± ")
        for what, value in page["values"].items():
            assert value in text, f"{page['page']} has no longer {value} ({what}): take it out"


def test_values_of_papers_are_those_of_the_reports(quoted):
    checked = 0
    for one in quoted["published"]:
        if named := re.fullmatch(r"(MNIST|CIFAR-10) (\d+) (\w+)", one["name"]):
            dataset, count, label = named.groups()
            known = of_paper(dataset.replace("-", "").lower(), label.lower(), int(count))
            assert known in (None, float(one["value"].split()[0])), one["name"]
            checked += known is not None
    assert checked > 3


@pytest.fixture(scope="module")
def published():
    """The script that writes the tables."""
    return runpy.run_path(str(ROOT / "experiments" / "published.py"))


def test_the_tables_of_the_pages_are_what_the_records_give(published):
    assert published["write_pages"](check=True) == [], "python experiments/published.py writes them anew"


def test_a_table_that_is_not_what_the_records_give_is_found(published):
    text = (ROOT / "docs" / "results.md").read_text()
    generated, (number, *_) = published["generated"], _SPREAD.findall(text.partition("<!-- records cells -->")[2])
    before, marker, table = text.partition("<!-- records cells -->")
    assert generated(before + marker + table.replace(number, "12.3 ± 4.5", 1)) == generated(text)
    assert "12.3 ± 4.5" not in generated(text)


def test_a_page_takes_a_value_from_its_record(published, tmp_path, monkeypatch):
    run = tmp_path / "mnist-x"
    run.mkdir()
    (run / "results.json").write_text(json.dumps({"results": {"distilled": {"accuracies": [0.5, 0.7]}}}))
    attacked = {"results": {"distilled": {"accuracies": [0.5], "attacked": {"success": [0.25, 0.75]}}}}
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "results.json").write_text(json.dumps(attacked))
    times = {"median": 0.25, "min": 0.2, "max": 0.3, "n": 7}
    (tmp_path / "bench.json").write_text(
        json.dumps({"workloads": {"A, 2 nets": {"1 device": times, "speedup": times}}})
    )
    (tmp_path / "quoted.json").write_text((RECORDS / "quoted.json").read_text())
    monkeypatch.setitem(published["value"].__globals__, "RESULTS", tmp_path)
    found = {name: published["value"](name) for name in (
        "mnist-x: distilled", "attack: distilled: success", "bench: A, 2 nets: 1 device", "bench: A, 2 nets: speedup",
        "bench: A, 2 nets: rounds", "published: MNIST random init",
    )}  # fmt: skip
    expected = ["60.0 ± 10.0", "50.0 ± 25.0", "250 ms", "**0.2** (0.2–0.3)", "7", "79.5 ± 8.1"]
    assert list(found.values()) == expected
    with pytest.raises(KeyError):
        published["value"]("mnist-x: herding")


@pytest.mark.parametrize("path", sorted((RECORDS / "cells").glob("*.json")), ids=lambda path: path.stem)
def test_a_record_says_what_it_is_and_names_no_place(path):
    text = path.read_text()
    record = json.loads(text)
    assert len(text) < 30_000
    assert record["title"]
    assert record["command"].startswith(("dd-jax ", "python experiments/"))
    assert not record.get("published") or (record["source"] and record["sure"])
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work)/", text)


def test_a_number_without_a_record_is_found():
    record = {
        "rows": [{"accuracies": [0.5, 0.7]}],
        "graphs": {"accuracies": {"cora": {"0": [0.8, 0.8], "1": [0.9, 0.9]}}},
    }
    assert set(spreads(record)) == {"60.0 ± 10.0", "80.0 ± 0.0", "90.0 ± 0.0", "85.0 ± 5.0"}
    assert "0.57 [0.56, 0.58]" in set(intervals({"auc": {"value": 0.571, "low": 0.56, "high": 0.58}}))
