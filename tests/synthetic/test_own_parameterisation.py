"""A parameterisation of one's own, all of it in this file: windows at random places of one canvas for each class.

It goes through a run that is cut off and resumed, artefact, evaluation, baselines, report, export and the command line,
and nothing else knows of it.
"""

import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import DataError
from dd_jax.methods import Method
from dd_jax.parameterisation import Kind, Parameterisation
from dd_jax.runs import loop
from dd_jax.storage.artefact import load_artefact
from dd_jax.synthetic import PARAMETERISATIONS
from dd_jax.types import DistilledData

MARGIN = 2  # by which a canvas is larger than an image


def windows(learnt, places, size):
    """Of each canvas (K, H, W, C) the window (size, size) at its place (K, 2), as one batch."""

    def one(canvas, place):
        return jax.lax.dynamic_slice(canvas, (place[0], place[1], 0), (size, size, canvas.shape[-1]))

    return jax.vmap(one)(learnt["canvases"], places)[None]


def decode(learnt, *, size):
    return windows(learnt, jnp.full((len(learnt["canvases"]), 2), MARGIN // 2), size)


def draw(learnt, key, *, size):
    return windows(learnt, jax.random.randint(key, (len(learnt["canvases"]), 2), 0, MARGIN + 1), size)


def check(learnt, *, size):
    shapes = [array.shape[1:3] for array in learnt.values()]
    return "" if shapes == [(size + MARGIN,) * 2] else f"canvases should be of {size} + {MARGIN}, found {shapes}"


WINDOWS = Kind("windows", decode, check, draw, layout=(("canvases", "(K, H + 2, W + 2, C) float32"),))


class State(NamedTuple):
    canvases: jax.Array


class Info(NamedTuple):
    loss: jax.Array


def windows_method(model: dd.models.Model) -> Method:
    """Windows that become like the means of the classes."""
    count, size = model.num_classes, model.image_shape[0]
    form = Parameterisation.of(WINDOWS, size=size)
    labels, sizes = jnp.arange(count, dtype=jnp.int32)[None], jnp.full(20, 0.3)

    def init(key, dataset, num_outer_steps):
        shape = (count, size + MARGIN, size + MARGIN, model.image_shape[2])
        return State(jax.random.normal(key, shape))

    def step(key, state, means):
        def loss(state):
            return jnp.square(draw({"canvases": state.canvases}, key, size=size)[0] - means).sum()

        value, gradient = jax.value_and_grad(loss)(state)
        return jax.tree.map(lambda s, g: s - 0.1 * g, state, gradient), Info(value)

    def distilled(state):
        learnt = {"canvases": state.canvases}
        return DistilledData(learnt, labels, sizes, parameterisation=form)

    def arrays(dataset):
        return dd.evaluation.coresets.class_means(dataset.train, count)

    return Method("windows", init, step, distilled, model, {"margin": MARGIN}, arrays=arrays)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The one line that a parameterisation adds elsewhere."""
    monkeypatch.setitem(PARAMETERISATIONS, "windows", WINDOWS)


@pytest.fixture(scope="module")
def made(digits_mlp, digits):
    """A set after some steps, with all that a user of it needs."""
    method = windows_method(digits_mlp)
    state, means = method.init(jax.random.key(0), digits, 1), method.arrays(digits)
    for i in range(40):
        state, _ = jax.jit(method.step)(jax.random.key(i), state, means)
    return dataclasses.replace(method.distilled(state), transform=digits.transform, class_names=digits.class_names)


def test_a_run_goes_through_everything(digits, digits_mlp, tmp_path, monkeypatch, capsys):
    out, other = tmp_path / "run", tmp_path / "other"
    options = {"num_outer_steps": 60, "eval_every": 20, "num_eval_nets": 2, "show_progress": False}
    look = loop._Loop.validate

    def stops(self, show):
        look(self, show)
        if self.step == 40:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "validate", stops)
        with pytest.raises(SystemExit):
            dd.distill(windows_method(digits_mlp), digits, out=out, **options)
    run, whole = (dd.distill(windows_method(digits_mlp), digits, out=place, **options) for place in (out, other))
    found = load_artefact(out)
    for name, array in whole.distilled.arrays.items():
        np.testing.assert_array_equal(run.distilled.arrays[name], array)
        np.testing.assert_array_equal(found.distilled.arrays[name], array)
    assert found.meta["parameterisation"] == {"name": "windows", "settings": {"size": 8}}
    assert found.distilled.parameterisation == run.distilled.parameterisation
    assert dd.storage_bytes(found.distilled) == 4 * (10 * 10 * 10 + 10 + 20)

    learnt = dd.evaluate(found.distilled, digits_mlp, digits, num_nets=3)
    compared = dd.baselines(found.distilled, digits_mlp, digits, names=("random real", "class mean"), num_nets=3)
    assert learnt.mean > 0.4
    assert set(compared) == {"random real", "class mean"}

    assert "Distilled images" in dd.report(out).read_text()
    formats = dd.export(out)
    assert all("one draw of them" in one.what for one in formats if one.path)
    exported = {one.format: one.path for one in formats}
    assert len(list((exported["images"]).glob("**/*.png"))) == 10
    layout = json.loads((exported["npz"] / "distilled.json").read_text())["layout"]
    monkeypatch.delitem(PARAMETERISATIONS, "windows")  # as for someone who has never heard of it
    plain = dd.load_distilled(exported["npz"])
    np.testing.assert_allclose(plain.images, run.distilled.images)
    assert "images" in layout

    monkeypatch.setitem(PARAMETERISATIONS, "windows", WINDOWS)
    argv = ["--dataset", "digits", "--model", "mlp:hidden=(16,)", "--num-nets", "3"]
    assert main(["train", str(out), *argv]) == 0
    assert f"{100 * learnt.mean:.1f} ±" in capsys.readouterr().out


def test_each_learnt_step_sees_other_windows(made, digits_mlp):
    """By hand: step t takes the windows that the key of the order, folded with t, draws."""
    key = jax.random.key(3)
    order = jax.random.fold_in(key, 1)
    params = digits_mlp.init(key)
    found = dd.train_on(made, digits_mlp, key, params=params)

    @jax.jit
    def step(params, images, size):
        def loss(params):
            logits = digits_mlp.apply(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, made.labels[0]).mean()

        return jax.tree.map(lambda p, g: p - size * g, params, jax.grad(loss)(params))

    seen = []
    for t, size in enumerate(made.step_sizes):
        seen.append(draw(made.learnt, jax.random.fold_in(order, t), size=8)[0])
        params = step(params, seen[-1], size)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, params)
    assert not np.array_equal(seen[0], seen[1])


def test_each_epoch_from_scratch_sees_other_windows(made, digits_mlp):
    """A training with windows at random places isn't the one on the middle of each canvas."""
    quick = dd.Training(epochs=5, batch_size=10, learning_rate=0.1, optimiser="sgd", momentum=0.0)
    middle = dd.distilled_from_arrays(made.images, made.labels, step_sizes=0.1)
    one, again, still = (
        dd.train_on(given, digits_mlp, jax.random.key(3), protocol=quick)["Dense_0"]["kernel"]
        for given in (made, made, middle)
    )
    np.testing.assert_array_equal(one, again)
    assert float(jnp.abs(one - still).max()) > 1e-3


def test_one_that_nobody_could_load_again_is_not_saved_and_not_loaded(made, tmp_path, monkeypatch):
    dd.save_distilled(tmp_path, made, {})
    monkeypatch.delitem(PARAMETERISATIONS, "windows")
    with pytest.raises(DataError, match="there is no parameterisation 'windows'; there are images, multi_f"):
        dd.load_distilled(tmp_path)
    with pytest.raises(DataError, match=r"Put its kind into dd_jax.synthetic.PARAMETERISATIONS\['windows'\] first"):
        dd.save_distilled(tmp_path / "other", made, {})
    assert not (tmp_path / "other").exists()


def test_a_check_of_its_own_is_heard(made, tmp_path):
    wrong = dataclasses.replace(made, learnt={"canvases": jnp.zeros((10, 9, 9, 1))})
    with pytest.raises(DataError, match=r"canvases should be of 8 \+ 2, found \[\(9, 9\)\]"):
        dd.save_distilled(tmp_path, wrong, {})
