"""dd-jax runs: what lies in a folder, best first if wanted, and what some runs differ in."""

import json
import shutil

import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.runs.listing import DEPTH, differences, find_runs
from dd_jax.runs.report.read import read_run


@pytest.fixture(scope="module")
def folder(digits, method, tmp_path_factory):
    """Two runs of two and four outer steps, one of them measured on test; one in a folder of its own."""
    folder = tmp_path_factory.mktemp("runs")
    for place, steps in (("a", 2), ("deeper/b", 4)):
        dd.distill(method, digits, num_outer_steps=steps, num_eval_nets=1, out=folder / place, show_progress=False)
    row = {"mean": 0.5, "std": 0.1, "n": 2, "split": "test", "accuracies": [0.4, 0.6], "per_class": [0.5] * 10}
    rival = {**row, "mean": 0.3, "accuracies": [0.2, 0.4]}
    near = {**row, "mean": 0.7, "accuracies": [0.7, 0.7], "std": 0.0}
    results = {
        "results": {"distilled": row, "class mean": rival, "k-NN random": near},
        "distilling": {},
        "made_with": {},
    }
    (folder / "deeper" / "b" / "results.json").write_text(json.dumps(results))
    (folder / "notes").mkdir()
    return folder


def lines(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if line.strip()]


def test_all_runs_in_a_folder_are_listed(folder, capsys):
    assert main(["runs", str(folder)]) == 0
    printed = lines(capsys)
    (a,) = [line for line in printed if line.strip().startswith("a ")]
    (b,) = [line for line in printed if line.strip().startswith("b ")]
    assert "not measured" in a
    assert "2 of 2" in a
    assert "50.0 ± 10.0" in b.replace("\u00a0", " ")
    assert "30.0 ± 10.0 % class mean" in b.replace("\u00a0", " "), "the best network"
    assert "70.0 ± 0.0 % k-NN random" in b.replace("\u00a0", " "), "better, but no network"
    assert "differ" not in "".join(printed)


@pytest.mark.parametrize(("sort", "first"), [("name", "a"), ("result", "b"), ("started", "a")])
def test_in_an_order(folder, capsys, sort, first):
    assert main(["runs", str(folder), "--sort", sort]) == 0
    rows = [line.split()[0] for line in lines(capsys) if "mlp" in line]
    assert rows == sorted(["a", "b"], key=lambda name: name != first)


def test_runs_that_are_named_are_compared(folder, capsys):
    assert main(["runs", str(folder / "a"), str(folder / "deeper" / "b")]) == 0
    printed = lines(capsys)
    (line,) = [line for line in printed if "num_outer_steps" in line]
    assert line.split() == ["num_outer_steps", "2", "4"]
    assert not any("learning_rate" in line for line in printed), "what is the same isn't shown"


def test_differences_are_those_of_the_configurations(folder):
    records = [read_run(folder / "a"), read_run(folder / "deeper" / "b")]
    assert differences(records) == {"num_outer_steps": ["2", "4"]}
    assert differences(records[:1] * 2) == {}


def test_a_damaged_run_is_left_out_and_named(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "runs")
    (tmp_path / "runs" / "a" / "config.json").write_text("{")
    assert main(["runs", str(tmp_path / "runs")]) == 0
    captured = capsys.readouterr()
    assert "config.json" in captured.err
    assert "4 of 4" in captured.out


def test_no_runs_is_a_mistake_with_a_message(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 2
    assert "dd-jax distill" in capsys.readouterr().err
    assert main(["runs", str(tmp_path), "--sort", "reslut"]) == 2
    assert "result" in capsys.readouterr().err


def test_the_search_ends(folder, tmp_path):
    deep = tmp_path
    for _ in range(DEPTH + 2):
        deep = deep / "x"
    shutil.copytree(folder / "a", deep)
    assert list(find_runs(tmp_path)) == []
    assert len(list(find_runs(folder))) == 2


def test_a_report_on_a_folder_is_on_all_runs_in_it(folder, tmp_path, capsys):
    assert main(["report", str(folder), "--out", str(tmp_path / "all.html")]) == 0
    assert "2 runs side by side" in (tmp_path / "all.html").read_text(encoding="utf-8")
    assert main(["report", str(folder / "deeper"), "--out", str(tmp_path / "one.html")]) == 0
    assert "runs side by side" not in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert main(["report", str(folder / "notes")]) == 2
    assert "notes is not a run directory: it has no config.json" in capsys.readouterr().err
