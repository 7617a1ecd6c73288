"""Runs as one small record, and records as tables."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import RESULTS, make_run, row

from dd_jax.errors import DataError, OptionError
from dd_jax.runs.compact import POINTS, About, command, compact_record
from dd_jax.runs.report.cells import (
    Change,
    baselines_table,
    cells_table,
    curves_table,
    outdated,
    sources_table,
    transfer_table,
)
from dd_jax.storage.files import write_json

CELL = About("digits, 20 images", "one core", "93.0 ± 1.0", "A 2020, table 1", "read there", 400, "With care.")


def cells_of(table, number=0):
    """A line of a table, by the heads of its columns."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return dict(zip(lines[0], lines[2 + number], strict=True))


@pytest.fixture
def seeds(tmp_path):
    """A folder with three distillations; the first has the baselines."""
    for seed, mean in enumerate((0.9, 0.92, 0.94)):
        results = {**(RESULTS if seed == 0 else {}), "distilled": row(mean, n=4)}
        make_run(tmp_path / "runs" / f"seed{seed}", results, seed=seed)
    return tmp_path / "runs"


def test_a_sweep_is_one_line(seeds):
    record = json.loads(json.dumps(compact_record([seeds], CELL)))
    assert [one["seed"] for one in record["distillations"]] == [0, 1, 2]
    assert record["distillations"][1]["accuracies"] == [0.91, 0.93] * 2
    assert set(record["baselines"]) == set(RESULTS) - {"distilled"}
    line = cells_of(cells_table([record]))
    assert line["dd_jax"] == "**92.0 ± 1.6**"
    assert line["n"] == "3 distillations of 4 networks"
    assert line["best baseline"] == "80.0 ± 2.0 class mean"
    assert line["k-NN"] == "65.0 ± 3.0 random"
    assert (line["published"], line["outer steps"], line["distilling took"]) == (
        "93.0 ± 1.0",
        "100 of 400",
        "50 s each",
    )
    assert cells_of(baselines_table([record]))["digits, 20 images"] == "**92.0 ± 1.6**"
    assert cells_of(baselines_table([record]), 3)["digits, 20 images"] == "65.0 ± 3.0 (n = 10)"
    source = cells_of(sources_table([record]))
    assert source["command"] == "`dd-jax distill --seeds 0:3` With care."
    assert source["hardware, date, revision"] == "one core, jax 0.10.2, 2026-11-21, 0123abc"
    assert source["published in, how sure"] == "A 2020, table 1; read there"


def test_the_script_writes_a_record(seeds, tmp_path, monkeypatch):
    experiments = Path(__file__).parents[2] / "experiments"
    options = ["--name", "cell", "--title", "digits", "--hardware", "one", "--no-pages", "--folder"]
    monkeypatch.syspath_prepend(str(experiments))
    monkeypatch.setattr(sys, "argv", ["record.py", str(seeds), *options, str(tmp_path / "cells")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(experiments / "record.py"), run_name="__main__")
    assert end.value.code == 0
    found = json.loads((tmp_path / "cells" / "cell.json").read_text())
    assert found == json.loads(json.dumps(compact_record([seeds], About("digits", "one"))))


def test_a_run_that_was_stopped_shows_its_course(tmp_path):
    record = compact_record([make_run(tmp_path / "run", None, outer_steps=(60, 100))], CELL)
    line = cells_of(cells_table([record]))
    assert line["dd_jax"].endswith("on validation")
    assert line["outer steps"] == "60 of 400"
    curve = cells_of(curves_table([record]))
    assert curve["share of the published steps"] == "15 %"
    points = dict(point.split(": ") for point in list(curve.values())[2].split(" · "))
    assert list(points) == ["0", "20", "40", "60"]
    assert float(points["60"]) == pytest.approx(91 * (1 - 0.6 * np.exp(-60 / 25)), abs=0.05)
    whole = compact_record([tmp_path / "run"], About("the same", "one core"))
    assert curves_table([whole]) == ""


def test_a_baseline_that_was_measured_elsewhere(tmp_path):
    run = make_run(tmp_path / "run", {"distilled": row(0.9)})
    above, below = (compact_record([run], About("digits", "one core", baseline=f"{x} k-means")) for x in (89.9, 90.1))
    assert cells_of(cells_table([above]))["dd_jax"] == "**90.0 ± 1.0**"
    assert cells_of(cells_table([below]))["best baseline"] == "**90.1 k-means**"
    alone = cells_of(cells_table([compact_record([run], About("digits", "one core"))]))
    assert (alone["dd_jax"], alone["best baseline"]) == ("90.0 ± 1.0", "–")


def test_a_long_curve_is_thinned_from_end_to_end(tmp_path):
    record = compact_record([make_run(tmp_path / "run", outer_steps=(2000, 2000))], CELL)
    steps = [step for step, _ in record["distillations"][0]["curve"]]
    assert (steps[0], steps[-1], len(steps)) == (0, 2000, POINTS)
    assert steps == sorted(steps)


def test_what_is_no_single_cell_is_refused(tmp_path, seeds):
    make_run(tmp_path / "other", num_epochs=3)
    with pytest.raises(OptionError, match=r"other differs from .*seed0 in more|seed0 differs from .*other in more"):
        compact_record([seeds, tmp_path / "other"], CELL)
    make_run(tmp_path / "again", seed=1)
    with pytest.raises(OptionError, match="same seed"):
        compact_record([seeds, tmp_path / "again"], CELL)
    with pytest.raises(OptionError, match="how sure it is"):
        compact_record([seeds], About("digits", "one core", "93.0"))
    with pytest.raises(DataError, match=r"There is no folder .*none"):
        compact_record([tmp_path / "none"], CELL)


def test_older_numbers_are_marked_where_a_change_concerns_them(tmp_path):
    record = compact_record([make_run(tmp_path / "run")], CELL)  # of 21 November, `unrolled`, an mlp
    later = "2026-11-22T00:00:00+00:00"
    concerned = Change(later, "Measured before.", ["unrolled"], ["mlp"])
    others = [Change(later, "No.", ["frepo"]), Change(later, "No.", (), ["convnet"]), Change("2026-11-20", "No.")]
    assert outdated(record, [*others, concerned]) == [concerned]
    marked = cells_table([record], [*others, concerned])
    assert cells_of(marked)["cell"] == "digits, 20 images †"
    assert marked.endswith("† Measured before.")
    assert "†" not in cells_table([record], others)
    assert cells_of(cells_table([record], [concerned._replace(mark="‡")]))["cell"] == "digits, 20 images ‡"
    assert not outdated(record, [concerned._replace(datasets=["mnist"])])
    wide = {**record, "config": {**record["config"], "model": {"name": "convnet", "width": 16}}}
    assert not outdated(wide, [Change(later, "No.", width=64)])
    assert outdated(wide, [Change(later, "Yes.", width=16)])


def test_other_networks_are_a_table_over_distillations(seeds):
    for seed in range(2):
        both = {kind: {"mean": mean, "std": 0.03, "n": 3, "balanced": mean}
                for kind, mean in (("distilled", 0.7 + 0.02 * seed), ("random real", 0.5))}  # fmt: skip
        write_json(seeds / f"seed{seed}" / "transfer.json", {"by network": {"gcn": both, "mlp": both}})
    found = transfer_table([compact_record([seeds], CELL)])
    assert cells_of(found)["gcn"] == "71.0 ± 1.0"
    assert cells_of(found)["distillations"] == "2"
    assert cells_of(found, 1)["mlp"] == "50.0 ± 3.0"  # the same images: over networks
    alone = transfer_table([compact_record([seeds / "seed0"], CELL)])
    assert cells_of(alone)["gcn"] == "70.0 ± 3.0"  # over its networks


@pytest.mark.parametrize(
    ("argv", "seeds", "expected"),
    [
        (["/a/bin/dd-jax", "distill", "--preset", "x", "--out", "/tmp/y"], [0], "dd-jax distill --preset x"),
        (["/a/dd_jax/cli/__main__.py", "distill", "--seed=3"], [3], "dd-jax distill --seeds 3"),
        (["/a/experiments/gtn.py", "pixels", "--devices", "1"], [1, 2], "python experiments/gtn.py pixels --seeds 1:3"),
        (["dd-jax", "distill", "--experts", "/tmp/a/nets"], [0, 2], "dd-jax distill --experts nets --seeds 0,2"),
    ],
)
def test_a_command_without_what_belongs_to_a_machine(argv, seeds, expected):
    assert command(argv, seeds) == expected
