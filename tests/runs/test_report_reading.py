"""What a report makes of older, damaged and other directories."""

import json
import re

import pytest
from made_runs import RESULTS, make_run, row

from dd_jax.errors import DataError, OptionError, RunError
from dd_jax.runs.report import write_report
from dd_jax.runs.report.read import read_run


def test_curves_of_older_runs_are_by_epoch(tmp_path):
    curve = [[0.1, 0.5, 0.9], [0.2, 0.6, 0.9]]
    run = make_run(tmp_path / "run", {"distilled": row(0.9, curve=curve)}, num_batches=3, num_epochs=2)
    assert read_run(run).rows["distilled"].curve_steps == (0, 3, 6)
    assert "from 15.0 % to 90.0 %" in write_report(run).read_text().replace("\u00a0", " ")


def test_what_a_run_did_before_it_went_back_is_not_drawn(tmp_path):
    run = make_run(tmp_path / "run", None, outer_steps=(0, 100))
    steps = [(5, 1.0), (10, 2.0), (15, 9.0), (10, 1.5), (15, 1.2)]
    lines = [{"step": step, "loss": loss, "validation": 1 / loss} for step, loss in steps]
    lines.insert(3, {"step": 15, "event": "rolled back", "text": "to step 5"})
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = read_run(run)
    assert [(row["step"], row["loss"]) for row in record.losses] == [(5, 1.0), (10, 1.5), (15, 1.2)]
    assert [row["step"] for row in record.validation] == [5, 10, 15]
    assert [row["step"] for row in record.events] == [15]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "{", "config.json is damaged"),
        ("config.json", "[1]", "config.json is damaged"),
        ("config.json", '{"config": {"method": 3}}', "'method' should be an object"),
        ("config.json", '{"config": {"method": {"num_batches": "x"}}}', "'num_batches' should be a whole number"),
        ("config.json", '{"config": {}, "provenance": 3}', "'provenance' should be an object"),
        ("metrics.jsonl", '{"step": 1}\nrubbish\n', "Line 2 of"),
        ("metrics.jsonl", "[]\n", "Line 1 of"),
        ("metrics.jsonl", '{"step": 1, "validation": "high"}\n', "'validation' should be a number"),
        ("results.json", "{", "results.json is damaged"),
        ("results.json", '{"results": {"distilled": {"mean": 1}}}', "results.json is damaged"),
        (
            "results.json",
            json.dumps({"results": {"distilled": {**RESULTS["distilled"], "per_class": [1], "n": 3}}}),
            "n 3",
        ),
        (
            "results.json",
            json.dumps(
                {"results": {"distilled": {**RESULTS["distilled"], "per_class": [1], "confusion": [[1, 0], [0, 1]]}}}
            ),
            "confusion matrix",
        ),
        (
            "results.json",
            json.dumps(
                {
                    "results": {
                        "distilled": {**RESULTS["distilled"], "per_class": [1], "curve": [[1, 2]], "curve_steps": [0]}
                    }
                }
            ),
            "curve_steps",
        ),
        ("distilled/distilled.json", "{}", "distilled.json has schema version"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, said):
    run = make_run(tmp_path / "run")
    (run / file).write_text(content)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        write_report(run)
    assert file.rpartition("/")[2] in str(caught.value)
    assert not (run / "report.html").exists()


def test_a_damaged_set_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    (npz,) = (run / "distilled").glob("*.npz")
    npz.write_bytes(npz.read_bytes()[:-9])
    with pytest.raises(DataError, match="is damaged: its SHA-256"):
        write_report(run)


def test_a_frame_that_is_no_picture_is_left_out_and_named(tmp_path):
    run = make_run(tmp_path / "run", frames=3)
    (run / "figures" / "evolution" / "step_00000020.png").write_bytes(b"no picture")
    record = read_run(run)
    assert [step for step, _ in record.frames] == [0, 40]
    assert record.notes == ("evolution/step_00000020.png is no PNG and was left out.",)
    assert record.notes[0] in write_report(run).read_text()


def test_a_line_that_a_kill_cut_short_does_no_harm(tmp_path):
    run = make_run(tmp_path / "run")
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 1')
    write_report(run)


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "There is no folder"), ("file", "is a file"), ("folder", "has no config")]
)
def test_what_is_no_run_is_refused(tmp_path, name, said):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=said):
        write_report(tmp_path / name)


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Can't write the report"):
        write_report(make_run(tmp_path / "run"), tmp_path / "file" / "report.html")


def test_nothing_to_report_on():
    with pytest.raises(OptionError, match="Name at least one run directory"):
        write_report([])
