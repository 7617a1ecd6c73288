"""A clock that is set while a run goes on, or between two sessions of it, makes no difference."""

import ast
import time
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path

import pytest
from little_runs import assert_same, run

import dd_jax as dd
from dd_jax.runs import loop, provenance
from dd_jax.runs.directory import read_metrics
from dd_jax.storage import load_provenance

JUMPS = (0.0, -3600.0, 10 * 365 * 86_400.0, -20 * 365 * 86_400.0, 1e-3)  # seconds


@pytest.fixture
def jumping(monkeypatch):
    """The time of day is another one whenever it is asked for."""
    now, now_ns, jumps = time.time, time.time_ns, cycle(JUMPS)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=next(jumps))

    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + int(1e9 * next(jumps)))
    monkeypatch.setattr(provenance, "datetime", Jumping)


def seconds(out: Path) -> list[float]:
    return [row["seconds"] for row in read_metrics(out / "metrics.jsonl") if "seconds" in row]


def test_a_clock_that_jumps_changes_nothing(jumping, little, small, whole, tmp_path):
    assert 0 <= run(little, small, tmp_path).seconds < 600
    assert_same(tmp_path, whole)
    took = seconds(tmp_path)
    assert len(took) > 2
    assert took == sorted(took)
    assert 0 <= took[0] < took[-1] < 600
    assert datetime.fromisoformat(load_provenance(tmp_path)["made_with"]["started"]).tzinfo == UTC


@pytest.mark.parametrize("ahead", [-1e9, 1e9])
def test_a_machine_that_was_started_anew_counts_on(little, small, whole, tmp_path, monkeypatch, ahead):
    """The clock that durations are measured with starts at any number in every session."""
    monotonic, left = time.monotonic, [3]

    def stop(step, **_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "first_non_finite", lambda infos, count: stop(count))
        with pytest.raises(KeyboardInterrupt):
            run(little, small, tmp_path)
    before = seconds(tmp_path)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + ahead)
    run(little, small, tmp_path)
    took = seconds(tmp_path)
    assert took[: len(before)] == before
    assert took == sorted(took)
    assert took[-1] < 600
    assert_same(tmp_path, whole)


def test_no_length_of_time_is_taken_from_the_time_of_day():
    """Which may be set back: whoever subtracts two times uses monotonic clocks."""
    found = []
    for path in sorted(Path(dd.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("time.time", "time.time_ns", "datetime.now"):
                found.append((path.name, ast.unparse(node)))
    assert set(found) <= {("provenance.py", "datetime.now")}  # when a run was started
