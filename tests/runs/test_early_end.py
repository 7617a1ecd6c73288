"""Runs that end before their last outer step: for want of a better set, or because a callback says so."""

import dataclasses

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.runs.report.read import read_run
from dd_jax.storage.artefact import load_provenance
from dd_jax.types import Batch

STEPS = {"num_outer_steps": 12, "eval_every": 2, "num_eval_nets": 1, "show_progress": False}


def standing_still(method):
    """The method, whose steps change nothing: no set is better than the first one."""
    return method._replace(step=Still(method.step))


@dataclasses.dataclass(frozen=True)
class Still:
    step: object

    def __call__(self, key, state, arrays):
        return state, self.step(key, state, arrays)[1]


class Untold(Still):
    def __call__(self, key, state, arrays):
        state, info = self.step(key, state, arrays)
        return state, info._asdict()


def test_an_info_is_a_named_tuple(method, digits):
    untold = method._replace(step=Untold(method.step))
    with pytest.raises(OptionError, match=r"info is a NamedTuple of scalars.*but info is a dict"):
        dd.distill(untold, digits, **STEPS)


def test_a_callback_sees_every_validation(method, digits):
    seen = []
    run = dd.distill(method, digits, **STEPS, callback=seen.append)
    assert [one.step for one in seen] == [0, 2, 4, 6, 8, 10, 12]
    assert seen[0].info == {}
    losses = [row["loss"] for row in run.history if "loss" in row]
    assert seen[-1].info["loss"] == pytest.approx(losses[-1])
    scores = [row["validation"] for row in run.history if "validation" in row]
    np.testing.assert_allclose([one.validation for one in seen], scores, rtol=1e-6)
    assert [one.best for one in seen] == pytest.approx(np.maximum.accumulate(scores))
    assert seen[-1].distilled.class_names == digits.class_names


def test_a_callback_ends_a_run_which_the_same_call_goes_on_with(method, digits, tmp_path):
    ended = dd.distill(method, digits, **STEPS, out=tmp_path / "run", callback=lambda seen: seen.step == 4)
    assert ended.history[-1]["step"] == 4
    run = dd.distill(method, digits, **STEPS, out=tmp_path / "run")
    whole = dd.distill(method, digits, **STEPS)
    np.testing.assert_array_equal(run.distilled.images, whole.distilled.images)


def test_patience_ends_a_run_for_good(method, digits, tmp_path, capsys):
    """Two validations without a better set: the run is over, also for the same call once more."""
    still = standing_still(method)
    for _ in range(2):
        run = dd.distill(still, digits, **STEPS, out=tmp_path / "run", patience=2)
        assert run.history[-1]["step"] == 4
    assert "Ended at outer step 4: the last 2 validations found no better set." in capsys.readouterr().err
    assert dd.distill(still, digits, **STEPS).history[-1]["step"] == 12
    with pytest.raises(dd.RunError, match="patience"):
        dd.distill(still, digits, **STEPS, out=tmp_path / "run", patience=3)
    with pytest.raises(OptionError, match="patience must be at least 1, but is 0"):
        dd.distill(still, digits, **STEPS, patience=0)


def test_among_sets_that_are_as_good_the_last_one_is_kept(method, digits, tmp_path):
    run = dd.distill(standing_still(method), digits, **STEPS, out=tmp_path / "run")
    kept = load_provenance(tmp_path / "run")["validation"]
    assert len({row["validation"] for row in run.history if "validation" in row}) == 1
    assert kept["step"] == 12
    assert kept["accuracy"] == pytest.approx(run.validation)
    assert read_run(tmp_path / "run").best["step"] == 12


@pytest.mark.parametrize(
    ("images", "told"), [(10, "has 10 images, so an accuracy on it is only known to ± 32 points"), (100, "")]
)
def test_a_validation_split_that_is_too_small_to_choose_by_is_told(method, digits, images, told, capsys):
    few = Batch(digits.validation.images[:images], digits.validation.labels[:images])
    dataset = dataclasses.replace(digits, validation=few)
    dd.distill(standing_still(method), dataset, num_outer_steps=1, num_eval_nets=1, show_progress=False)
    said = capsys.readouterr().err
    assert ("Note: The validation split" in said) == bool(told)
    assert told in said
