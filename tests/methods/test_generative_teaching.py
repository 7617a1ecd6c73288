"""Generative teaching: its hypergradient by finite differences, its learners, its teachers, its resumed runs."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from cut_runs import cut_and_whole
from steps import arrays_of, one_step

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import cross_entropy
from dd_jax.methods import GenerativeTeachingOptions, generative_teaching
from dd_jax.methods.generative_teaching import outer_losses
from dd_jax.methods.generative_teaching_options import set_of
from dd_jax.models import variants
from dd_jax.types import Batch, Protocol

SMALL = {
    "num_inner_steps": 4, "images_per_step": 7, "latent_size": 3, "hidden": 5, "filters": 2, "batch_size": 12,
    "init_step_size": 0.1,
}  # fmt: skip
KEY = jax.random.key(0)


def doubled(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [
        {"loss_every": 2, "learn_labels": True},
        {"rule": "rmsprop", "teacher": "noise"},
        {"rule": "adam", "teacher": "shuffled"},
    ],
)
def test_its_hypergradient_is_that_of_finite_differences(model, tiny, options):
    """Of weights, latents, labels, step sizes and momenta, each by itself."""
    opts = GenerativeTeachingOptions(**SMALL, **options)
    synthetic = set_of(model, opts)
    learnable = doubled(synthetic.init(KEY, tiny))
    real = doubled(Batch(tiny.train.images[:12], tiny.train.labels[:12]))
    smooth = model._replace(  # a kink of a ReLU has no derivative to compare with
        init=lambda key: doubled(model.init(key)), apply=lambda params, images: jnp.tanh(_linear(params, images))
    )
    objective = outer_losses(smooth, synthetic, opts)
    draw = np.random.default_rng(0)
    directions = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape)), learnable)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(learnable)]

    @jax.jit
    def along(t, shares):
        leaves, structure = jax.tree.flatten(learnable)
        moved = [a + t * s * d for a, s, d in zip(leaves, shares, jax.tree.leaves(directions), strict=True)]
        return objective(jax.tree.unflatten(structure, moved), KEY, real)[0]

    slope, seen = jax.jit(jax.grad(along)), {}
    for i, path in enumerate(paths):
        shares, step = jnp.eye(len(paths), dtype=jnp.float64)[i], 1e-7
        if "middle" in path or "reach" in path:  # which are not learnt
            assert slope(0.0, shares) == 0
            continue
        seen[path] = (along(step, shares) - along(-step, shares)) / (2 * step)
        np.testing.assert_allclose(slope(0.0, shares), seen[path], rtol=2e-4, atol=1e-7, err_msg=path)
    assert all(abs(value) > 1e-5 for path, value in seen.items() if "step_sizes" in path or "latents" in path)
    assert ("momenta" in str(seen)) == (opts.rule == "momentum")


def _linear(params, images):
    x = images.reshape(images.shape[0], -1)
    for layer in ("Dense_0", "Dense_1"):
        x = jnp.sin(x @ params[layer]["kernel"] + params[layer]["bias"][None])
    return x


def test_the_loss_along_the_way_is_the_mean_of_what_shorter_trainings_reach(model, tiny):
    opts = GenerativeTeachingOptions(**SMALL, loss_every=2)
    synthetic = set_of(model, opts)
    learnable, real = synthetic.init(KEY, tiny), Batch(tiny.train.images[:12], tiny.train.labels[:12])
    found, last = jax.jit(outer_losses(model, synthetic, opts))(learnable, KEY, real)
    params, losses = model.init(jax.random.split(KEY)[0]), []
    velocity = jax.tree.map(jnp.zeros_like, params)
    gradient = jax.jit(jax.grad(lambda p, batch: cross_entropy(model.apply(p, batch.images), batch.labels)))
    for t in range(4):
        slope = gradient(params, synthetic.batch(learnable, KEY, jnp.int32(t)))
        velocity = jax.tree.map(lambda v, g, t=t: learnable.momenta[t] * v + g, velocity, slope)
        params = jax.tree.map(lambda p, v, t=t: p - learnable.step_sizes[t] * v, params, velocity)
        losses.append(float(cross_entropy(model.apply(params, real.images), real.labels)))
    np.testing.assert_allclose(found, (losses[1] + losses[3]) / 2, rtol=1e-4)
    np.testing.assert_allclose(last, losses[3], rtol=1e-4)


def test_architectures_are_drawn_in_every_step_and_compiled_once(model, tiny):
    method = generative_teaching(model, widths=(3, 5), num_inits=2, **SMALL)
    alone = {
        str(one.settings["hidden"]): generative_teaching(model, learners=(one,), num_inits=2, **SMALL)
        for one in variants(model, (3, 5))
    }
    assert len(alone) == 2
    state, arrays = method.init(KEY, tiny, 10), method.arrays(tiny)
    programs, drawn = one_step._cache_size(), []
    after = [one_step(method.step, jax.random.key(i), state, arrays) for i in range(8)]
    assert one_step._cache_size() <= programs + 1
    for i, (_, info) in enumerate(after):
        same = [
            name for name, one in alone.items()
            if np.allclose(one_step(one.step, jax.random.key(i), state, arrays)[1].loss, info.loss, rtol=1e-5)
        ]  # fmt: skip
        assert len(same) == 1, "the step of one architecture and no other"
        drawn += same
    assert len(set(drawn)) == 2


def test_learners_of_ones_own_are_recorded_and_must_fit(model, tiny, digits):
    others = (model, dd.models.mlp(tiny, hidden=(4, 4)))
    method = generative_teaching(model, learners=others, **SMALL)
    assert [one["settings"]["hidden"] for one in method.hyperparameters["learners"]] == [[5], [4, 4]]
    assert "2 architectures" in method.summary
    with pytest.raises(OptionError, match=r"Learners should be for images \(4, 4, 1\)"):
        generative_teaching(model, learners=(dd.models.mlp(digits),), **SMALL)
    with pytest.raises(OptionError, match="at least one network"):
        generative_teaching(model, learners=(), **SMALL)
    with pytest.raises(OptionError, match="Leave out widths"):
        generative_teaching(model, learners=others, widths=(3,), **SMALL)


def test_variants_change_width_and_depth_and_nothing_else(digits):
    shapes = dd.models.Shapes((8, 8, 1), 10)
    net = dd.models.with_precision(dd.models.convnet(shapes, width=4, depth=2, norm="group"), "bf16")
    assert variants(net) == (net,)
    found = variants(net, (8, 12), (1,))
    assert [one.settings for one in found] == [{**net.settings, "width": w, "depth": 1} for w in (8, 12)]
    mlp = dd.models.mlp(shapes, hidden=(6, 6))
    assert [one.settings["hidden"] for one in variants(mlp, depths=(1, 3))] == [[6], [6, 6, 6]]
    assert [one.settings["hidden"] for one in variants(mlp, widths=(7,))] == [[7, 7]]
    for network, sizes, words in (
        (dd.models.mlp(shapes, hidden=(6, 7)), {"depths": (2,)}, "Give widths with depths"),
        (dd.models.lenet(dd.models.Shapes((28, 28, 1), 10)), {"widths": (2,)}, "no setting 'width'"),
        (mlp._replace(name="my own"), {"widths": (2,)}, "my own is another one"),
    ):
        with pytest.raises(OptionError, match=words):
            variants(network, **sizes)


@pytest.mark.parametrize("teacher", ["shuffled", "noise", "pixels", "real"])
def test_every_teacher_resumes_is_kept_and_taught_with(model, tiny, tmp_path, teacher):
    several = {"widths": (3, 5)} if teacher == "shuffled" else {}
    method = generative_teaching(model, teacher=teacher, **several, **SMALL)
    options = {"num_outer_steps": 4, "eval_every": 2, "num_eval_nets": 2, "show_progress": False}
    cut, whole = cut_and_whole(method, tiny, tmp_path, 2, **options)
    for field, array in whole.distilled.arrays.items():
        np.testing.assert_array_equal(cut.distilled.arrays[field], array)
    loaded = dd.load_distilled(tmp_path / "cut")
    assert loaded.protocol == Protocol(order="random" if teacher == "shuffled" else "fixed", rule="momentum")
    np.testing.assert_array_equal(loaded.images, cut.distilled.images)
    one, again = (dd.evaluate(s, model, tiny, num_nets=3, num_curve_nets=0) for s in (loaded, cut.distilled))
    np.testing.assert_array_equal(one.accuracies, again.accuracies)


def test_it_teaches_better_than_real_images_under_learnt_steps(digits, digits_mlp, optimised):
    options = {"num_inner_steps": 8, "images_per_step": 10, "latent_size": 16, "hidden": 32, "filters": 8,
               "batch_size": 128, "init_step_size": 0.3, "learning_rate": 0.01}  # fmt: skip
    found = {}
    for teacher in ("curriculum", "real"):
        method = generative_teaching(digits_mlp, teacher=teacher, **options)
        run = dd.distill(method, digits, num_outer_steps=150, num_eval_nets=5, eval_every=75, show_progress=False)
        found[teacher] = dd.evaluate(run.distilled, digits_mlp, digits, num_nets=10, num_curve_nets=0).mean
        if teacher == "real":
            start = method.distilled(method.init(jax.random.split(jax.random.key(0))[0], digits, 150))
            np.testing.assert_array_equal(start.images, run.distilled.images)
    assert found["curriculum"] > found["real"] + 0.05
    compared = dd.baselines(run.distilled, digits_mlp, digits, names=("random real",), num_nets=4, num_sets=2)
    assert compared["random real"].chosen.keys() == {"step_size", "momentum"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_inner_steps": 0}, "num_inner_steps must be at least 1"),
        ({"images_per_step": 0}, "images_per_step must be at least 1"),
        ({"loss_every": 3}, "must divide the 4 inner steps"),
        ({"loss_every": -1}, "loss_every must be at least 0"),
        ({"teacher": "pixel"}, "Did you mean 'pixels'"),
        ({"rule": "adams"}, "Did you mean 'adam'"),
        ({"learn_labels": True, "teacher": "noise"}, "learn_labels needs generated images"),
        ({"init_step_size": 0.0}, "init_step_size must be positive"),
        ({"init_momentum": 1.0}, "init_momentum must be above 0"),
        ({"latent_size": 0}, "latent_size must be at least 1"),
        ({"steps_rate": -1.0}, "steps_rate must be at least 0"),
    ],
)
def test_bad_options_say_what_is_known(model, options, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        generative_teaching(model, **{**SMALL, **options})


def test_an_estimate_and_a_smaller_rate(model, tiny):
    method = generative_teaching(model, **SMALL)
    state, arrays = method.init(KEY, tiny, 5), arrays_of(method, tiny)
    moves = [
        one_step(method.step, jax.random.key(1), s, arrays)[0].learnable.raw_step_sizes - s.learnable.raw_step_sizes
        for s in (state, method.scale_learning_rate(state, 0.5))
    ]
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-2, atol=1e-6)
    assert dd.estimate(method, tiny, num_outer_steps=3).seconds_per_step > 0
    assert dataclasses.asdict(GenerativeTeachingOptions()).keys() == method.hyperparameters.keys()
