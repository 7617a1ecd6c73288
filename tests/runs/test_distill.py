"""The host loop: resumes to the same bits, selects on validation, and explains itself when it can't go on."""

import errno
import os
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import Forks

import dd_jax as dd
from dd_jax.runs import loop
from dd_jax.runs.directory import read_metrics
from dd_jax.runs.dispatch import Pace, first_non_finite, run_steps
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.loop import RunInterrupted

IMPORTS = """
import sys, orbax.checkpoint, sklearn.datasets
import dd_jax as dd
from dd_jax.runs import loop
"""
SCRIPT = f"""
{IMPORTS}
data = dd.load_dataset("digits")
method = dd.methods.unrolled(dd.models.mlp(data, hidden=(16,)), num_batches=2, num_epochs=2, num_inits=2, batch_size=32)
dd.distill(method, data, num_outer_steps=300, eval_every=30, num_eval_nets=2, out=sys.argv[1], seed=3)
"""


def run(method, data, out=None, **changes):
    options = {"num_outer_steps": 20, "eval_every": 5, "num_eval_nets": 2, "show_progress": False, **changes}
    return dd.distill(method, data, out=out, **options)


def assert_same_bits(a: dd.DistilledData, b: dd.DistilledData):
    jax.tree.map(np.testing.assert_array_equal, (a.images, a.labels, a.step_sizes), (b.images, b.labels, b.step_sizes))


def without_times(rows):
    return [{k: v for k, v in row.items() if k not in ("seconds", "memory")} for row in rows]


def test_the_directory_changes_nothing(method, digits, tmp_path):
    in_memory, on_disk = run(method, digits), run(method, digits, tmp_path / "run")
    assert_same_bits(in_memory.distilled, on_disk.distilled)
    assert_same_bits(on_disk.distilled, dd.load_distilled(tmp_path / "run"))
    assert without_times(in_memory.history) == without_times(on_disk.history)


def test_a_finished_run_returns_at_once(method, digits, tmp_path, monkeypatch):
    first = run(method, digits, tmp_path)
    monkeypatch.setattr(loop, "run_steps", None)
    again = run(method, digits, tmp_path)
    assert_same_bits(first.distilled, again.distilled)
    assert first.history == again.history


def test_the_best_on_validation_is_kept(method, digits, monkeypatch):
    """Whatever validation says, the set of the best one is returned, not the last."""
    scores, sets = iter([0.1, 0.9, 0.7, 0.6, 0.8]), []

    def validate(distilled, model, data, *, split, **_):
        assert split == "validation"
        sets.append(np.asarray(distilled.images))
        return dd.Evaluation(np.array([next(scores)]), np.zeros(10), np.zeros((0, 1)), split)

    monkeypatch.setattr(loop, "evaluate", validate)
    found = run(method, digits)
    np.testing.assert_array_equal(found.distilled.images, sets[1])
    assert found.validation == pytest.approx(0.9)


def test_dispatching_in_other_portions_changes_nothing(method, digits, monkeypatch):
    usual = run(method, digits)
    monkeypatch.setattr(Pace, "start", lambda self, left: min(3, left))
    assert_same_bits(usual.distilled, run(method, digits).distilled)


def test_steps_compile_once(method, digits):
    """First dispatch or second, one step or many, the same program."""
    run_steps.clear_cache()
    run(method, digits, num_outer_steps=23, eval_every=7)
    assert run_steps._cache_size() == 1


def test_the_test_split_is_never_read(method, digits):
    import dataclasses

    blind = dataclasses.replace(digits, test=dd.Batch(digits.test.images[:0], digits.test.labels[:0]))
    assert_same_bits(run(method, digits).distilled, run(method, blind).distilled)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path):
    def start(out, seconds=300.0):
        """Whether the run in `out` ended by itself within `seconds`; killed otherwise."""
        process = forks.start(out)
        errors = process.communicate(seconds)[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), errors
        return process.returncode == 0

    with Forks(SCRIPT, IMPORTS) as forks:
        assert start(tmp_path / "whole")
        began = time.monotonic()
        assert start(tmp_path / "again")  # with the programs that the first one compiled, like those that are killed
        took = time.monotonic() - began
        generator = np.random.default_rng(0)
        ended = [start(tmp_path / "killed", took * generator.uniform(0.3, 1.0)) for _ in range(10)]
        assert start(tmp_path / "killed")
    assert not all(ended)
    assert_same_bits(dd.load_distilled(tmp_path / "whole"), dd.load_distilled(tmp_path / "killed"))
    rows = [without_times(read_metrics(tmp_path / d / "metrics.jsonl")) for d in ("whole", "killed")]
    assert [r for r in rows[0] if "validation" in r] == [r for r in rows[1] if "validation" in r]


def test_resuming_from_an_older_checkpoint_when_the_newest_is_damaged(method, digits, tmp_path, capsys):
    whole = run(method, digits, tmp_path)
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    victim = max((f for f in newest.rglob("*") if f.is_file() and f.name != "manifest.json"), key=os.path.getsize)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    again = run(method, digits, tmp_path)
    assert_same_bits(whole.distilled, again.distilled)
    assert without_times(whole.history) == without_times(again.history)
    assert "damaged" in capsys.readouterr().err


def test_another_configuration_is_refused_with_the_difference(method, digits, tmp_path):
    run(method, digits, tmp_path)
    with pytest.raises(dd.RunError, match=r"num_outer_steps: 20 there, 30 asked for"):
        run(method, digits, tmp_path, num_outer_steps=30)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_divergence_names_the_step_and_keeps_the_checkpoint(digits, digits_mlp, tmp_path):
    wild = dd.methods.unrolled(
        digits_mlp, num_batches=2, num_epochs=2, num_inits=2, batch_size=32, learning_rate=1e25, clip_norm=1e30
    )
    with pytest.raises(dd.DivergedError, match="not finite at outer step") as caught:
        run(wild, digits, tmp_path, eval_every=1)
    assert 1 <= caught.value.step <= 20
    assert np.isfinite(caught.value.distilled.images).all()
    assert_same_bits(caught.value.distilled, dd.load_distilled(tmp_path))
    assert "learning_rate" in str(caught.value)
    assert list((tmp_path / "checkpoints").iterdir())


def test_interrupted_it_checkpoints_and_continues(method, digits, tmp_path, monkeypatch):
    whole = run(method, digits)
    asked = iter([False, True])

    class Asked:
        def __enter__(self):
            return lambda: next(asked)

        def __exit__(self, *_):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_requests", Asked)
        patch.setattr(Pace, "start", lambda self, left: min(3, left))
        with pytest.raises(RunInterrupted, match="Stopped at outer step 3 of 20; the same command") as caught:
            run(method, digits, tmp_path)
        assert caught.value.run.distilled.images.shape == whole.distilled.images.shape
    assert_same_bits(whole.distilled, run(method, digits, tmp_path).distilled)


def test_a_signal_is_a_request():
    before = signal.getsignal(signal.SIGINT)
    with stop_requests() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_full_disk_is_explained_and_loses_nothing(method, digits, tmp_path, monkeypatch):
    whole = run(method, digits)
    real, calls = loop.checkpoint.save, []

    def save(folder, step, tree):
        calls.append(step)
        if len(calls) == 3:
            with loop.checkpoint.disk_errors(f"save the checkpoint of step {step}", folder):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(folder, step, tree)

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoint, "save", save)
        with pytest.raises(dd.RunError, match=r"no space left .* Free some space and run the same command"):
            run(method, digits, tmp_path)
    again = run(method, digits, tmp_path)
    assert_same_bits(whole.distilled, again.distilled)
    assert without_times(whole.history) == without_times(again.history)


def test_a_file_in_the_way_is_refused_before_anything_is_computed(method, digits, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(loop, "run_steps", None)
    with pytest.raises(dd.RunError, match="file"):
        run(method, digits, tmp_path / "file")


def test_no_outer_steps_gives_the_initial_set(method, digits):
    found = run(method, digits, num_outer_steps=0)
    assert len(found.history) == 1
    assert found.distilled.images.shape == (2, 10, 8, 8, 1)


def test_the_model_must_fit_the_data(digits):
    other = dd.methods.unrolled(dd.models.mlp(dd.models.Shapes((9, 9, 1), 10)))
    with pytest.raises(dd.DataError, match=r"built for images \(9, 9, 1\)"):
        run(other, digits)


@pytest.mark.parametrize("bad", [{"num_outer_steps": -1}, {"eval_every": 0}, {"num_eval_nets": 0}])
def test_senseless_counts_are_refused(method, digits, bad):
    with pytest.raises(dd.OptionError, match="at least"):
        run(method, digits, **bad)


def test_first_non_finite():
    infos = {"a": jnp.array([0.0, 1.0, jnp.nan, 0.0]), "b": jnp.array([0.0, jnp.inf, 0.0, 0.0])}
    assert first_non_finite(infos, 4) == 1
    assert first_non_finite(infos, 1) is None


def test_artefact_trains_a_network_by_itself(method, digits, digits_mlp, tmp_path):
    found = run(method, digits, tmp_path)
    params = dd.train_on(dd.load_distilled(Path(tmp_path)), digits_mlp, jax.random.key(5))
    expected = dd.train_on(found.distilled, digits_mlp, jax.random.key(5))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
