"""Backpropagation through trainings: its gradient by finite differences, its windows, and what sets it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from steps import assert_gradient_is_that_of_finite_differences, one_step

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner import batch_loss, by_class, random_init
from dd_jax.methods import BpttOptions, bptt
from dd_jax.methods.bptt_loss import bptt_loss, class_minibatch, inner_batches
from dd_jax.methods.bptt_options import images_of, protocol_of, window_lengths
from dd_jax.methods.outer import clip_by_running_norm
from dd_jax.types import Batch

OPTIONS = BpttOptions(num_inner_steps=4, images_per_class=2, batch_size=12, inner_learning_rate=0.1, remat="steps")
CLASSES = jnp.arange(3)


def generic(learnable, dtype):
    draw = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape) / 2, dtype), learnable)


@pytest.fixture(scope="module")
def real(tiny):
    return Batch(tiny.train.images[:12], tiny.train.labels[:12])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"images": "bases", "made_per_class": 4, "num_bases": 3, "coefficient_l1": 0.1, "coefficient_l2": 0.1},
        {"inner_optimiser": "adam", "inner_learning_rate": 0.01, "learn_labels": True, "inner_per_class": 1},
        {"factor": 2, "inner_per_class": 3, "augment": "flip_rotate", "learn_labels": True},
        {"canvas_size": 2, "inner_per_class": 1, "remat": "nested"},
    ],
    ids=["pixels", "bases", "Adam, labels, minibatches", "formation and flips", "canvases"],
)
def test_the_hypergradient_is_that_of_finite_differences(model, tiny, real, changes):
    """Of every array that is learnt, in a direction of its own."""
    options = dataclasses.replace(OPTIONS, **changes)
    synthetic = images_of(model, options)
    learnable = generic(synthetic.init(jax.random.key(0), tiny), np.float64)
    batch = Batch(real.images.astype(np.float64), real.labels)
    loss = jax.jit(lambda x: bptt_loss(model, synthetic, options)(x, jax.random.key(3), batch, CLASSES, 4))
    assert_gradient_is_that_of_finite_differences(loss, learnable)


@pytest.mark.parametrize("changes", [{}, {"inner_optimiser": "adam", "inner_learning_rate": 0.01}])
def test_a_window_of_all_steps_is_the_plain_unroll_to_the_last_bit(model, tiny, real, changes):
    options = dataclasses.replace(OPTIONS, **changes)
    synthetic = images_of(model, options)
    learnable = generic(synthetic.init(jax.random.key(0), tiny), np.float32)
    plain, window = (
        jax.jit(jax.value_and_grad(bptt_loss(model, synthetic, options, length)))(
            learnable, jax.random.key(3), real, CLASSES, 4
        )
        for length in (None, 4)
    )
    jax.tree.map(np.testing.assert_array_equal, plain, window)
    assert optax.global_norm(plain[1]) > 0


def test_windows_end_at_every_step_up_to_the_horizon_and_differentiate_the_last_steps(model, tiny, real):
    """Each is a shorter training, whose first steps count as they are."""
    synthetic = images_of(model, OPTIONS)
    learnable = generic(synthetic.init(jax.random.key(0), tiny), np.float32)
    window = jax.jit(jax.value_and_grad(bptt_loss(model, synthetic, OPTIONS, 2)))

    @functools.partial(jax.jit, static_argnums=1)
    def by_hand(key, end):
        init_key, inner_key, _ = jax.random.split(key, 3)

        def trained(learnable, params, velocity, steps):
            batch_of = inner_batches(synthetic, learnable, inner_key, CLASSES, 3, OPTIONS)
            for t in steps:
                gradient = jax.grad(batch_loss(model.apply))(params, batch_of(jnp.int32(t)))
                velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
                params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
            return params, velocity

        params = random_init(model)(init_key)
        before = trained(learnable, params, jax.tree.map(jnp.zeros_like, params), range(end - 2))
        return jax.value_and_grad(
            lambda learnable: batch_loss(model.apply)(trained(learnable, *before, range(end - 2, end))[0], real)
        )(learnable)

    ends = set()
    for seed in range(20):
        key = jax.random.key(seed)
        found = window(learnable, key, real, CLASSES, 4)
        expected = {end: by_hand(key, end) for end in (2, 3, 4)}
        end = min(expected, key=lambda end: abs(float(expected[end][0] - found[0])))
        np.testing.assert_allclose(found[0], expected[end][0], rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found[1], expected[end][1])
        ends.add(end)
        early = window(learnable, key, real, CLASSES, 2)
        np.testing.assert_allclose(early[0], expected[2][0], rtol=1e-5, err_msg="a horizon of the window alone")
    assert ends == {2, 3, 4}


def test_minibatches_hold_as_many_of_each_class_and_every_image_once_in_a_pass(model, tiny):
    options = dataclasses.replace(OPTIONS, images_per_class=4, inner_per_class=2)
    synthetic = images_of(model, options)
    learnable = synthetic.init(jax.random.key(0), tiny)
    numbers = jnp.broadcast_to(jnp.arange(12.0)[:, None, None, None], learnable.images.shape)
    batch_of = inner_batches(synthetic, learnable._replace(images=numbers), jax.random.key(0), CLASSES[::2], 3, options)
    steps = [batch_of(jnp.int32(t)) for t in range(8)]
    for one, other in zip(steps[::2], steps[1::2], strict=True):
        np.testing.assert_array_equal(one.labels, [0, 0, 2, 2])
        both = np.concatenate([one.images, other.images])[:, 0, 0, 0]
        assert sorted(both) == [0, 1, 2, 3, 8, 9, 10, 11]
    orders = {tuple(np.asarray(one.images[:, 0, 0, 0])) for one in steps[::2]}
    assert len(orders) > 1, "each pass has an order of its own"


def test_real_batches_are_balanced_and_their_shares_make_up_the_whole(tiny):
    table, classes = by_class(tiny.train, 3), jnp.asarray([2, 0])
    for change in ("none", "flip_rotate"):
        whole = class_minibatch(jax.random.key(0), table, 6, classes, change)
        np.testing.assert_array_equal(np.bincount(whole.labels), [6, 0, 6])
        shares = [class_minibatch(jax.random.key(0), table, 6, classes, change, part, 4) for part in range(4)]
        np.testing.assert_allclose(np.concatenate([share.images for share in shares]), whole.images, atol=1e-6)
        np.testing.assert_array_equal(np.concatenate([share.labels for share in shares]), whole.labels)


def test_an_outer_step_about_some_classes_leaves_the_images_of_others_as_they_are(model, tiny):
    method = bptt(model, OPTIONS, classes_per_step=2)
    state = method.init(jax.random.key(0), tiny, 5)
    seen = set()
    for seed in range(8):
        after, _ = one_step(method.step, jax.random.key(seed), state, method.arrays(tiny))
        moved = np.abs(after.learnable.images - state.learnable.images).max((1, 2, 3)) > 0
        of_class = moved.reshape(3, 2)
        assert of_class.all(1).sum() == 2
        assert of_class.any(1).sum() == 2
        seen.add(int(np.argmin(of_class[:, 0])))
    assert seen == {0, 1, 2}


def test_windows_double_over_the_run_and_the_last_one_is_reached():
    grown = dataclasses.replace(OPTIONS, num_inner_steps=60, window=50, first_window=10)
    assert window_lengths(grown) == (10, 20, 40, 50)
    assert window_lengths(dataclasses.replace(grown, window=40)) == (10, 20, 40)
    assert window_lengths(dataclasses.replace(grown, first_window=None)) == (50,)
    assert window_lengths(OPTIONS) == (None,)


def test_a_growing_window_is_the_one_of_its_time(model, tiny):
    """Beside a run with a window that is always as long."""
    grown = {"window": 2, "first_window": 1, "growth_steps": 2}
    method = bptt(model, OPTIONS, **grown)
    state, arrays = method.init(jax.random.key(0), tiny, 6), method.arrays(tiny)
    for step, length in enumerate((1, 2, 2)):
        state = state._replace(outer=state.outer._replace(step=jnp.int32(step)))
        found = one_step(method.step, jax.random.key(step), state, arrays)
        other = bptt(model, OPTIONS, window=length)
        expected = one_step(other.step, jax.random.key(step), state, other.arrays(tiny))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found[1], expected[1])


def test_a_horizon_grows_from_its_first_to_the_inner_steps(model, tiny):
    """In the beginning each training is as short as the window, whatever is drawn."""
    method = bptt(model, OPTIONS, window=1, first_horizon=1, growth_steps=10)
    state, arrays = method.init(jax.random.key(0), tiny, 6), method.arrays(tiny)
    short = bptt(model, OPTIONS, window=1, num_inner_steps=1)
    late = state._replace(outer=state.outer._replace(step=jnp.int32(10)))
    differ = 0
    for seed in range(6):
        key = jax.random.key(seed)
        expected = one_step(short.step, key, state, short.arrays(tiny))[1].loss
        np.testing.assert_allclose(one_step(method.step, key, state, arrays)[1].loss, expected, rtol=1e-5)
        differ += abs(float(one_step(method.step, key, late, arrays)[1].loss - expected)) > 1e-4
    assert differ > 2


def test_norms_are_clipped_to_a_multiple_of_their_running_mean():
    clip = clip_by_running_norm(2.0, 0.9)
    state, mean, bounds = clip.init(None), 0.0, []
    for norm in (3.0, 4.0, 1000.0, 1.0, 5.0, 0.0):
        gradient = {"a": jnp.asarray([0.6 * norm]), "b": jnp.asarray([0.8 * norm])}
        found, state = clip.update(gradient, state)
        bound = 2 * mean if mean else norm
        clipped = min(norm, bound)
        bounds.append(norm > bound)
        mean = 0.9 * mean + 0.1 * clipped if mean else clipped
        np.testing.assert_allclose(found["a"], 0.6 * clipped, rtol=1e-5)
        np.testing.assert_allclose(found["b"], 0.8 * clipped, rtol=1e-5)
        np.testing.assert_allclose(state.mean, mean, rtol=1e-5)
    assert bounds == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 5}, "window must be from 1 to the 4 inner steps, but is 5"),
        ({"first_window": 2}, "first_window makes a window grow"),
        ({"window": 2, "first_window": 3}, "first_window must be from 1 to the window, 2"),
        ({"window": 2, "first_horizon": 1}, "first_horizon must be from the window, 2, to the 4 inner steps"),
        ({"classes_per_step": 4}, "classes_per_step must be from 1 to 3"),
        ({"batch_size": 2}, "draws real images of each of 3 classes"),
        ({"inner_per_class": 3}, "inner_per_class must be from 1 to 2, the number of images of each class"),
        ({"canvas_samples": 2}, "Set canvas_size to 2 or more"),
        ({"images": "bases", "factor": 2}, "not tiled, cropped or clamped"),
        ({"downscale": 3}, 'downscale=3: options that need images="bases"'),
        ({"inner_momentum": 1.0}, "inner_momentum must be at least 0 and below 1"),
        ({"inner_learning_rate": 0.0}, "inner_learning_rate must be positive"),
        ({"coefficient_l1": -1.0}, "coefficient_l1 must be at least 0"),
        ({"clip_factor": 0.0}, "clip_factor must be positive"),
        ({"images": "bases", "made_per_class": 200}, "but a single one takes"),
        ({"made_per_class": 2}, "=2: options that need .* sets them, give their defaults: made_per_class=4"),
        ({"made_per_class": 2, "downscale": 1}, "=2, downscale=1: .* defaults: made_per_class=4, downscale=2"),
    ],
)
def test_options_that_are_wrong_are_refused(model, options, message):
    with pytest.raises(OptionError, match=message):
        bptt(model, OPTIONS, **options)


def test_protocols_follow_the_inner_optimiser_and_the_augmentation():
    def of(**changes):
        return protocol_of(dataclasses.replace(OPTIONS, **changes)).name

    assert of() == "rtp-plain"
    assert of(augment="flip_rotate") == "rtp"
    assert of(inner_optimiser="adam") == "rat-bptt-plain"
    assert of(inner_optimiser="adam", augment="flip_rotate") == "rat-bptt"
    assert of(protocol="dc") == "dc"
    assert {of(), of(augment="flip_rotate"), "rat-bptt", "rat-bptt-plain"} <= set(dd.PROTOCOLS)


@pytest.mark.usefixtures("optimised")
def test_bases_learn_digits_better_than_the_images_that_take_as_much_room(digits, digits_mlp, tmp_path):
    """From noise, in few steps; and what they make is saved, shown, evaluated and exported as any set is."""
    small = {"num_inner_steps": 20, "inner_learning_rate": 0.1, "batch_size": 100, "init_images": "noise"}
    training = dd.Training(epochs=20, optimiser="sgd", learning_rate=0.1, schedule="constant", drop_last=False)
    found = {}
    for images in ("stored", "bases"):
        method = bptt(digits_mlp, images=images, **small, made_per_class=2 if images == "bases" else 4)
        run = dd.distill(method, digits, num_outer_steps=100, eval_every=100, num_eval_nets=1, show_progress=False,
                         out=tmp_path / images)  # fmt: skip
        loaded = dd.load_distilled(tmp_path / images)
        assert loaded.parameterisation == run.distilled.parameterisation
        floats = sum(array.size for array in loaded.learnt.values())
        assert floats <= 640
        found[images] = dd.evaluate(loaded, digits_mlp, digits, num_nets=3, protocol=training).mean
    assert found["bases"] > found["stored"] + 0.02
    assert loaded.images.shape == (1, 20, 8, 8, 1)
    assert dd.report(tmp_path / "bases").is_file()
    assert dd.export(tmp_path / "bases", formats=["npz", "images"])[1].num_files >= 20


def test_shared_bases_stay_to_the_last_bit_while_own_ones_are_learnt(model, tiny):
    shared = jnp.asarray(np.random.default_rng(0).normal(size=(2, *small_shape(model))), jnp.float32)
    method = bptt(model, OPTIONS, images="bases", made_per_class=2, num_bases=2, shared=shared)
    assert method.hyperparameters["shared_bases"] == 2
    first = method.init(jax.random.key(0), tiny, 2)
    after, _ = one_step(method.step, jax.random.key(1), first, method.arrays(tiny))
    np.testing.assert_array_equal(after.learnable.shared, shared)
    assert not np.array_equal(after.learnable.own.bases, first.learnable.own.bases)
    assert not np.array_equal(after.learnable.own.coefficients[:, :2], first.learnable.own.coefficients[:, :2])
    np.testing.assert_array_equal(method.distilled(after).learnt["bases"][:2], shared)
    with pytest.raises(OptionError, match='Shared bases need images="bases"'):
        bptt(model, OPTIONS, shared=shared)


def small_shape(model):
    height, width, channels = model.image_shape
    return -(-height // 2), -(-width // 2), channels
