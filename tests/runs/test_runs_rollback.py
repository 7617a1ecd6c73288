"""A run that goes astray goes back to where it was good, on at a smaller rate, and says so; or it stops."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.evaluation import Evaluation
from dd_jax.figures.evolution import MAX_SIDE
from dd_jax.runs import loop
from dd_jax.runs.directory import read_metrics
from dd_jax.runs.loop import RunInterrupted
from dd_jax.runs.pictures import save_frame
from dd_jax.runs.rollback import collapsed

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@functools.cache
def broken(step):
    """The step of a method that breaks; where and when comes with what it reads, so that it is compiled once."""

    def stumbling(key, state, given):
        arrays, at, below = given
        state, info = step(key, state, arrays)
        breaks = (state.outer.step == at) & (state.outer.factor > below)
        return state, info._replace(loss=jnp.where(breaks, jnp.nan, info.loss))

    return stumbling


def breaking(method, at: int, below: float = 0.0):
    """The method, whose loss is NaN at outer step `at` unless its rate has been lowered to `below` or less."""

    def given(data):
        return method.arrays(data), jnp.int32(at), jnp.float32(below)

    return method._replace(step=broken(method.step), arrays=given)


def run(method, data, out=None, **changes):
    options = {"num_outer_steps": 20, "eval_every": 5, "num_eval_nets": 1, "show_progress": False, **changes}
    return dd.distill(method, data, out=out, **options)


def events(rows):
    return [row for row in rows if "event" in row]


def same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, (a.images, a.step_sizes), (b.images, b.step_sizes))


def test_it_goes_back_and_on_at_half_the_rate(method, digits, tmp_path, capsys):
    found = run(breaking(method, at=13, below=0.25), digits, tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in events(rows)] == [10, 10]
    assert "step 13" in rows[rows.index(events(rows)[0])]["text"]
    assert "0.25 of the outer learning rate" in events(rows)[1]["text"]
    assert capsys.readouterr().err.count("back to step 10") == 2
    assert [row["step"] for row in rows if "validation" in row] == [0, 5, 10, 15, 20]
    assert all(a["step"] <= b["step"] for a, b in itertools.pairwise(rows))
    same_bits(found.distilled, dd.load_distilled(tmp_path))
    about = json.loads((tmp_path / "distilled" / "distilled.json").read_text())["provenance"]
    assert about["rollbacks"] == 2


def test_the_steps_after_it_are_those_of_a_quarter_of_the_rate(method, digits):
    """Up to step 10 as ever; from there as if its rate had been made smaller by hand."""
    from dd_jax.runs.dispatch import run_steps, start_state

    found = run(breaking(method, at=13, below=0.25), digits, num_eval_nets=1)
    init_key, key = jax.random.split(jax.random.key(0))
    state = start_state(method, init_key, digits, 20, None)
    arrays = method.arrays(digits)
    state, _ = run_steps(method.step, None, key, state, arrays, jnp.int32(0), jnp.int32(10))
    state = method.scale_learning_rate(method.scale_learning_rate(state, 0.5), 0.5)
    state, infos = run_steps(method.step, None, key, state, arrays, jnp.int32(10), jnp.int32(10))
    losses = [row["loss"] for row in found.history if row["step"] > 10 and "loss" in row]
    np.testing.assert_allclose(losses, np.asarray(infos.loss)[:10], rtol=1e-5)


def test_resumed_at_any_point_it_ends_with_the_same_bits(method, digits, tmp_path, monkeypatch):
    astray = breaking(method, at=13, below=0.5)
    whole = run(astray, digits, tmp_path / "whole")
    for stops in range(1, 8):
        asked = iter([*[False] * stops, True])

        class Asked:
            def __enter__(self, asked=asked):
                return lambda: next(asked, False)

            def __exit__(self, *_):
                pass

        out = tmp_path / str(stops)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "stop_requests", Asked)
            patch.setattr(loop.Pace, "start", lambda self, left: min(3, left))
            with pytest.raises(RunInterrupted):
                run(astray, digits, out)
        again = run(astray, digits, out)
        same_bits(whole.distilled, again.distilled)
        assert [r["step"] for r in events(again.history)] == [10]


def test_it_gives_up_after_so_many_times(method, digits, tmp_path):
    with pytest.raises(dd.DivergedError, match="after 3 rollbacks") as caught:
        run(breaking(method, at=13), digits, tmp_path, max_rollbacks=3)
    assert caught.value.step == 13
    assert len(events(read_metrics(tmp_path / "metrics.jsonl"))) == 3
    with pytest.raises(dd.DivergedError, match=r"at outer step 13\. Try"):
        run(breaking(method, at=13), digits, max_rollbacks=0)


def test_it_does_not_go_back_where_a_smaller_rate_cannot_help(method, digits):
    """The first step from a good state is the same whatever the rate."""
    with pytest.raises(dd.DivergedError, match=r"at outer step 11\. Try"):
        run(breaking(method, at=11), digits)


def test_a_collapse_on_validation_is_noticed(method, digits, monkeypatch):
    scores = iter([0.1, 0.8, 0.75, 0.3, 0.7, 0.9])

    def validate(distilled, model, data, **_):
        return Evaluation(np.array([next(scores)]), np.zeros(10), np.zeros((0, 1)), "validation")

    monkeypatch.setattr(loop, "evaluate", validate)
    found = run(method, digits)
    assert [row["step"] for row in events(found.history)] == [10]
    assert "80.0% to 30.0%" in events(found.history)[0]["text"]
    assert found.validation == pytest.approx(0.9)
    assert [row["validation"] for row in found.history if "validation" in row] == [0.1, 0.8, 0.75, 0.7, 0.9]


@pytest.mark.parametrize(
    ("score", "best", "expected"),
    [
        (0.1, -1.0, False),
        (0.1, 0.15, False),
        (0.5, 0.9, False),
        (0.49, 0.9, True),
        (0.85, 0.9, False),
        (0.1, 0.3, True),
    ],
)
def test_what_counts_as_a_collapse(score, best, expected):
    found = Evaluation(np.array([score]), np.zeros(10), np.zeros((0, 1)), "validation")
    assert collapsed(found, best, 10) == expected


def test_a_method_that_cannot_slow_down_stops(method, digits):
    with pytest.raises(dd.DivergedError, match=r"at outer step 13\. Try"):
        run(breaking(method, at=13)._replace(scale_learning_rate=None), digits)


def test_every_validation_leaves_a_picture(method, digits, tmp_path):
    run(method, digits, tmp_path)
    frames = sorted((tmp_path / "figures" / "evolution").iterdir())
    assert [frame.name for frame in frames] == [f"step_{step:08d}.png" for step in (0, 5, 10, 15, 20)]
    assert all(frame.read_bytes().startswith(b"\x89PNG") for frame in frames)


def test_pictures_of_large_images_stay_small(tmp_path):
    from PIL import Image

    images = jax.random.normal(jax.random.key(0), (2, 10, 200, 150, 3))
    save_frame(tmp_path, 7, dd.distilled_from_arrays(images, np.tile(np.arange(10), (2, 1))))
    with Image.open(tmp_path / "step_00000007.png") as picture:
        width, height = picture.size
    assert width <= 10 * (MAX_SIDE + 1)
    assert height <= 2 * (MAX_SIDE + 1)
