"""Sets without an order: plain pixels, and several images out of each stored one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.transforms import to_model, to_pixels
from dd_jax.errors import DataError, OptionError
from dd_jax.synthetic import (
    MultiFormation,
    Pixels,
    initial_images,
    multi_formation,
    num_formed,
    pixels,
    soft_labels,
    step_batches,
)
from dd_jax.synthetic.multi_formation import formed, tiled

form = jax.jit(formed, static_argnums=1)


def test_pixels_are_one_batch_in_class_order():
    synthetic = pixels(3, images_per_class=2, step_size=0.05)
    learnable = Pixels(jnp.arange(24.0).reshape(6, 2, 2, 1))
    decoded = synthetic.decode(learnable)
    np.testing.assert_array_equal(decoded.images, learnable.images[None])
    np.testing.assert_array_equal(decoded.labels, [[0, 0, 1, 1, 2, 2]])
    np.testing.assert_allclose(decoded.step_sizes, [0.05])
    batch = synthetic.batch(learnable, jax.random.key(0), jnp.int32(0))
    np.testing.assert_array_equal(batch.images, decoded.images[0])
    np.testing.assert_array_equal(batch.labels, decoded.labels[0])
    assert synthetic.num_inner_steps == 1
    assert dd.storage_bytes(decoded) == 4 * (24 + 6 + 1), "images, labels and a step size"


@pytest.mark.parametrize("kind", ["noise", "real", "mean", "kmeans"])
def test_pixels_start_as_they_are_told(digits, kind):
    learnable = pixels(10, 3, kind).init(jax.random.key(0), digits)
    labels = np.repeat(np.arange(10), 3)
    np.testing.assert_array_equal(learnable.images, initial_images(jax.random.key(0), digits, labels, 1, kind)[0])
    assert learnable.images.dtype == jnp.float32
    mine = np.asarray(digits.train.images)[np.asarray(digits.train.labels) == 4]
    near = np.abs(np.asarray(learnable.images[12]) - mine).mean((1, 2, 3)).min()
    assert (near == 0) == (kind == "real")


def test_one_formation_is_the_pixels_themselves(digits):
    plain = pixels(10, 2, "real")
    formation = multi_formation(10, 2, 1, "real")
    one, other = (jax.jit(s.decode)(s.init(jax.random.key(1), digits)) for s in (plain, formation))
    np.testing.assert_allclose(one.images, other.images, atol=1e-6)
    np.testing.assert_array_equal(one.labels, other.labels)


def test_every_tile_becomes_an_image_of_the_class_of_what_is_stored():
    synthetic = multi_formation(2, images_per_class=2, factor=2)
    tiles = np.arange(16.0, dtype=np.float32).reshape(4, 2, 2)  # each tile of one value
    stored = jnp.asarray(np.repeat(np.repeat(tiles, 3, axis=1), 3, axis=2)[..., None])
    decoded = jax.jit(synthetic.decode)(MultiFormation(stored))
    assert decoded.images.shape == (1, 16, 6, 6, 1)
    expected = np.broadcast_to(np.arange(16.0)[:, None, None, None], (16, 6, 6, 1))
    np.testing.assert_allclose(decoded.images[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(decoded.labels, [np.repeat([0, 1], 8)])
    assert dd.storage_bytes(decoded) == 4 * (4 * 36 + 16 + 1), "what is stored, not what it becomes"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("side", "factor"), [(8, 2), (9, 3), (7, 2), (8, 3)])
def test_forming_is_linear_and_differentiation_gives_its_adjoint(side, factor):
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(2, side, side, 3)) for _ in range(2))
    z = generator.normal(size=(2 * factor**2, side, side, 3))

    @jax.jit
    def formed_and_pulled(x, z):
        out, pull = jax.vjp(lambda stored: formed(stored, factor), x)
        return out, pull(z)[0]

    (out, pulled), (of_y, _), (of_both, _) = (formed_and_pulled(each, z) for each in (x, y, 2 * x - 3 * y))
    np.testing.assert_allclose(of_both, 2 * np.asarray(out) - 3 * np.asarray(of_y), atol=1e-12)
    np.testing.assert_allclose(np.vdot(out, z), np.vdot(x, pulled), rtol=1e-12)


def test_enlarging_is_that_of_the_released_code():
    torch = pytest.importorskip("torch")
    stored = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype(np.float32)
    tile = torch.from_numpy(stored[:, 4:, :4].transpose(0, 3, 1, 2).copy())
    expected = torch.nn.Upsample(size=(8, 8), mode="bilinear")(tile).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(formed(jnp.asarray(stored), 2)[2:3], expected, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_what_is_tiled_is_formed_again_but_for_detail(factor):
    slopes = np.arange(2.0 * factor**2).reshape(-1, 1, 1, 1) - 3.0
    images = slopes * np.linspace(-1.0, 1.0, 24).reshape(1, 24, 1, 1) * np.ones((1, 1, 24, 1))
    stored = jax.jit(tiled, static_argnums=1)(jnp.asarray(images, jnp.float32), factor)
    assert stored.shape == (2, 24, 24, 1)
    inside = np.s_[:, 5:-5, 5:-5]  # the sides are the mean of fewer pixels
    np.testing.assert_allclose(np.asarray(form(stored, factor))[inside], images[inside], atol=1e-4)


def test_formations_start_as_smaller_real_images_of_their_class(digits):
    learnable = multi_formation(10, 2, 2, "real").init(jax.random.key(0), digits)
    assert learnable.stored.shape == (20, 8, 8, 1)
    labels = np.repeat(np.arange(10), 8)
    real = np.asarray(initial_images(jax.random.key(0), digits, labels, 1, "real")[0])
    small = real.reshape(80, 4, 2, 4, 2, 1).mean((2, 4))
    found = np.asarray(learnable.stored)[3, :4, 4:]  # the second of four tiles, of the second image of class 1
    assert np.corrcoef(found.ravel(), small[13].ravel())[0, 1] > 0.9


def test_noise_is_that_of_the_stored_pixels(digits):
    stored = multi_formation(10, 20, 2, "noise").init(jax.random.key(0), digits).stored
    np.testing.assert_allclose([stored.mean(), stored.var()], [0, 1], atol=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"images_per_class": 0}, "images_per_class must be at least 1, but is 0"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"init_images": "reel"}, "init_images 'reel'. Did you mean 'real'"),
        ({"factor": 0}, "factor must be at least 1, but is 0"),
    ],
)
def test_errors(options, words):
    for make in (multi_formation,) if "factor" in options else (multi_formation, pixels):
        with pytest.raises(OptionError, match=words):
            make(3, **options)


def test_images_too_small_for_their_tiles(digits):
    with pytest.raises(DataError, match="9 x 9 tiles"):
        multi_formation(10, 1, 9).init(jax.random.key(0), digits)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_multi_formation_of_all_scales_holds_those_of_each(factor):
    """1 + 4 + 9 images of each stored one, in the order of the factors, class after class."""
    stored = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 6, 1)), jnp.float32)
    decoded = jax.jit(multi_formation(2, 2, factor, formation="multi").decode)(MultiFormation(stored))
    count = num_formed(factor, "multi")
    assert count == [1, 5, 14][factor - 1]
    assert decoded.images.shape == (1, 4 * count, 6, 6, 1)
    np.testing.assert_array_equal(decoded.labels, [np.repeat([0, 1], 2 * count)])
    of_second = np.asarray(decoded.images)[0, count : 2 * count]
    expected = np.concatenate([np.asarray(form(stored, f))[f**2 : 2 * f**2] for f in range(1, factor + 1)])
    np.testing.assert_allclose(of_second, expected, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2])
def test_clamped_images_lie_between_black_and_white(digits, factor):
    make = pixels if factor == 1 else multi_formation
    transform = digits.transform
    synthetic = make(10, 1, clamp=True)
    start = synthetic.init(jax.random.key(0), digits)
    far = jax.tree.map(lambda leaf: 9.0 * leaf, start)
    near = synthetic.project(far, transform)
    (images,) = jax.tree.leaves(near)
    shown = np.asarray(to_pixels(transform, images))
    assert shown.min() > -1e-6
    assert shown.max() < 1 + 1e-6
    before = np.asarray(to_pixels(transform, jax.tree.leaves(far)[0]))
    np.testing.assert_allclose(shown, before.clip(0, 1), atol=1e-5)
    inside = jax.tree.map(lambda leaf: to_model(transform, jax.nn.sigmoid(leaf)), start)
    jax.tree.map(np.testing.assert_array_equal, synthetic.project(inside, transform), inside)
    free = make(10, 1).project(far, transform)
    jax.tree.map(np.testing.assert_array_equal, free, far)


def test_clamping_wants_to_know_what_pixels_are(digits):
    synthetic = pixels(10, 1, clamp=True)
    with pytest.raises(OptionError, match="transform"):
        synthetic.project(synthetic.init(jax.random.key(0), digits))


def test_soft_labels_start_as_nearly_hard_ones_and_are_a_simplex(digits):
    plain = multi_formation(10, 2, 2)
    synthetic = soft_labels(plain, 10, certainty=0.7)
    learnable = synthetic.init(jax.random.key(0), digits)
    decode = jax.jit(synthetic.decode)
    decoded, hard = jax.tree.map(np.asarray, (decode(learnable), jax.jit(plain.decode)(learnable.learnable)))
    assert decoded.labels.shape == (1, 80, 10)
    np.testing.assert_array_equal(decoded.images, hard.images)
    np.testing.assert_array_equal(decoded.labels.argmax(-1), hard.labels)
    np.testing.assert_allclose(decoded.labels.max(-1), 0.7, rtol=1e-5)
    drawn = np.random.default_rng(1).normal(size=(80, 10))
    moved = learnable._replace(label_logits=jnp.asarray(drawn, jnp.float32))
    labels = np.asarray(decode(moved).labels)
    np.testing.assert_allclose(labels.sum(-1), 1.0, rtol=1e-5)
    batch = jax.jit(synthetic.batch)(moved, jax.random.key(0), jnp.int32(0))
    np.testing.assert_array_equal(batch.labels, labels[0])
    assert dd.storage_bytes(decoded) == dd.storage_bytes(hard) + 4 * (800 - 80)


def test_soft_labels_leave_bounds_to_the_images(digits):
    synthetic = soft_labels(pixels(10, 1, clamp=True), 10)
    learnable = synthetic.init(jax.random.key(0), digits)
    far = learnable._replace(learnable=Pixels(9.0 * learnable.learnable.images))
    near = synthetic.project(far, digits.transform)
    np.testing.assert_array_equal(near.label_logits, far.label_logits)
    assert to_pixels(digits.transform, near.learnable.images).max() < 1 + 1e-6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: soft_labels(pixels(10), 10, certainty=0.05), "certainty must be above 1 / 10"),
        (lambda: soft_labels(pixels(10), 10, certainty=1.0), "certainty must be above 1 / 10"),
        (lambda: soft_labels(step_batches(10, 3), 10), "sets of one batch, but this set has 9"),
        (lambda: multi_formation(10, 1, 2, formation="multy"), "formation 'multy'. Did you mean 'multi'"),
    ],
)
def test_what_can_not_be_learnt_is_said(make, words):
    with pytest.raises(OptionError, match=words):
        make()
