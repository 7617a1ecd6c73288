"""Several seeds and a plain sweep: one process, one table, and runs that are those of single commands."""

import csv
import json

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.cli.options import seed_list, sweep_cells, take_options
from dd_jax.errors import OptionError
from dd_jax.outcomes.nested import nested
from dd_jax.runs.report.distillations import distillations
from dd_jax.runs.report.read import read_run

TINY = ["--smoke", "--model", "mlp:hidden=(6,)", "--num-nets", "2", "--num-batches", "1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with four runs: two seeds of two learning rates."""
    out = tmp_path_factory.mktemp("swept")
    argv = ["distill", *TINY, "--seeds", "0:2", "--sweep", "learning_rate=0.01,0.3", "--out", str(out)]
    assert main(argv) == 0
    return out, argv


def names_of(cells):
    return [cell.experiment.out for cell in cells]


def test_every_combination_has_its_own_directory():
    argv = ["--seeds", "0,3", "--sweep", "learning_rate=0.01,0.03", "--sweep=model=mlp:hidden=(4,2),lenet"]
    cells, folder = sweep_cells(argv, "dd-jax distill", "", None)
    assert len(set(names_of(cells))) == 8
    assert {(cell.experiment.seed, cell.experiment.method.learning_rate) for cell in cells} == {
        (0, 0.01), (0, 0.03), (3, 0.01), (3, 0.03),
    }  # fmt: skip
    assert {cell.experiment.model for cell in cells} == {"mlp:hidden=(4,2)", "lenet"}
    assert str(folder) not in names_of(cells)
    single, _ = sweep_cells(["--seeds", "3"], "dd-jax distill", "", None)
    assert names_of(single) == ["runs/digits-mlp-random-seed3"]
    flags, _ = sweep_cells(["--sweep", "zca=true,false", "--out", "here"], "dd-jax distill", "", None)
    assert names_of(flags) == ["here/zca-true", "here/zca-false"]
    assert [cell.experiment.zca for cell in flags] == [True, False]


def test_values_with_commas_are_apart_by_semicolons():
    cells, _ = sweep_cells(["--sweep", "model=convnet:width=8,depth=2;mlp"], "", "", None)
    assert [cell.experiment.model for cell in cells] == ["convnet:width=8,depth=2", "mlp"]
    counts = " ".join(["2"] * 9 + ["1"])
    cells, _ = sweep_cells(["--sweep", f"images_per_class=1;{counts}"], "", "", None)
    assert [cell.experiment.method.images_per_class for cell in cells] == [1, (2,) * 9 + (1,)]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds", "5:5"], "is an empty range"),
        (["--seeds", "a"], "0:5"),
        (["--seeds", "1,1"], "Two runs of the sweep would be the same"),
        (["--sweep", "learning_rat=1,2"], "Did you mean 'learning_rate'"),
        (["--sweep", "learning_rate="], "should be like learning_rate=0.01,0.03"),
        (["--sweep", "num_nets=1,2"], "doesn't change what is distilled"),
        (["--sweep", "zca=yes"], "true or false"),
        (["--sweep", "seed=1", "--sweep", "seed=2"], "Give each option once"),
    ],
)
def test_mistakes_are_told(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *argv]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_seeds_and_options_that_come_several_times():
    assert seed_list("0:3,7, 9") == [0, 1, 2, 7, 9]
    with pytest.raises(OptionError):
        seed_list("1:x")
    assert take_options(["--sweep", "a=1", "b", "--sweep=c=2"], "--sweep") == (["a=1", "c=2"], ["b"])


def test_the_table_is_that_of_the_runs(swept):
    out, _ = swept
    found = json.loads((out / "sweep.json").read_text())
    lines = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    assert len(found["runs"]) == len(lines) == 4
    for run, line in zip(found["runs"], lines, strict=True):
        values = json.loads((out.parent / run["out"] / "results.json").read_text())["results"]["distilled"]
        assert run["mean"] == pytest.approx(np.mean(values["accuracies"]))
        assert float(line["std"]) == pytest.approx(np.std(values["accuracies"]))
        assert int(line["n"]) == 2
    assert len(found["settings"]) == 2
    for group in found["settings"]:
        mine = [run for run in found["runs"] if run["learning_rate"] == group["learning_rate"]]
        assert group["seeds"] == [0, 1]
        assert group["mean"] == pytest.approx(np.mean([run["mean"] for run in mine]))
        assert group["std_over_distillations"] == pytest.approx(np.std([run["mean"] for run in mine]))
        assert group["std_over_networks"] == pytest.approx(np.mean([run["std"] for run in mine]))
        rows = [json.loads((out.parent / run["out"] / "results.json").read_text())["results"] for run in mine]
        alone = nested([row["distilled"]["accuracies"] for row in rows]).between
        assert group["std_of_distillations_alone"] == pytest.approx(alone)
        assert group["best_baseline"] is None
        assert group["best_neighbours"] is None
    assert "Over distillations" in (out / "report.html").read_text()


def test_a_second_time_nothing_runs(swept, capsys, compilations):
    out, argv = swept
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/**/*.json*")}
    compilations.clear()
    assert main(argv) == 0
    told = capsys.readouterr()
    assert told.err.count("is finished already") == 4
    assert "learning_rate" in told.out
    assert "jit(run_steps)" not in compilations
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/**/*.json*")} == before


def test_other_seeds_and_numbers_compile_nothing(swept, compilations):
    _, argv = swept
    rest = argv[: argv.index("--seeds")]
    compilations.clear()
    assert main([*rest, "--seeds", "2", "--sweep", "learning_rate=0.2", "--out", str(swept[0] / "more")]) == 0
    assert "jit(run_steps)" not in compilations


def test_one_that_fails_leaves_the_others_and_is_told_at_the_end(tmp_path, capsys):
    argv = ["distill", *TINY, "--sweep", "num_epochs=0,1", "--out", str(tmp_path)]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert "1 of 2 runs failed" in told.err
    assert "num_epochs must be at least 1" in told.err
    assert len(json.loads((tmp_path / "sweep.json").read_text())["runs"]) == 1


def test_runs_are_together_where_only_their_seeds_differ(swept):
    out, _ = swept
    names = sorted(path.parent for path in out.glob("*/config.json"))
    records = [read_run(name) for name in names]
    found = distillations(records)
    assert [len(group.members) for group in found] == [2, 2]
    assert {records[number].setting("method", "learning_rate") for number in found[0].members} == {0.01}


def test_several_seeds_from_python(tmp_path, digits, digits_mlp):
    method = dd.methods.unrolled(digits_mlp, num_batches=1, num_epochs=1, num_inits=1, batch_size=16)
    options = {"num_outer_steps": 3, "num_eval_nets": 1, "show_progress": False}
    runs = dd.distill_many(method, digits, seeds=[4, 5], out=tmp_path, **options)
    for seed, run in zip((4, 5), runs, strict=True):
        alone = dd.distill(method, digits, seed=seed, **options)
        assert np.array_equal(run.distilled.images, alone.distilled.images)
        assert run.out == tmp_path / f"seed{seed}"
    assert not np.array_equal(runs[0].distilled.images, runs[1].distilled.images)
    with pytest.raises(OptionError, match="should differ, but are 4, 4"):
        dd.distill_many(method, digits, seeds=[4, 4], **options)
