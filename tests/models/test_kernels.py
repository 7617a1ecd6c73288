"""Kernels of infinitely wide networks: closed forms, what wide networks tend to, tiles, and their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.models import Shapes, WideKernel
from dd_jax.models.infinite.kernels import arc_cosines, in_tiles, neighbours

ROOT2 = 2**0.5
POSITIONS = ("none", "same", "pairs")


def images(count, side=5, channels=2, seed=0, dtype=None):
    drawn = np.random.default_rng(seed).normal(size=(count, side, side, channels))
    return jnp.asarray(drawn, dtype or jnp.result_type(float))


def kernel(positions="none", depth=2, kind="ntk", **changes):
    return jax.jit(WideKernel(depth, positions, kind, **{"weight_std": ROOT2, "bias_std": 0.1, **changes}))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_kernels_are_symmetric_and_positive_definite(positions, kind):
    x, y = images(12), images(12, seed=1)
    k = kernel(positions, kind=kind)
    gram = k(x, x)
    np.testing.assert_allclose(gram, np.transpose(gram), rtol=1e-12)
    np.testing.assert_allclose(k(x, y), np.transpose(k(y, x)), rtol=1e-12)
    assert np.linalg.eigvalsh(gram).min() > 0
    assert jax.eval_shape(k, x, y[:7]).shape == (12, 7)


@pytest.mark.usefixtures("x64")
def test_one_layer_is_the_textbook_formula():
    x, y = images(4), images(3, seed=1)
    flat = [np.asarray(a).reshape(len(a), -1) for a in (x, y)]
    first = 2 * flat[0] @ flat[1].T / 50 + 0.01
    norms = [np.sqrt(2 * (a**2).sum(1) / 50 + 0.01) for a in flat]
    angle = np.arccos(first / np.outer(*norms))
    nngp = np.outer(*norms) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi + 0.01
    np.testing.assert_allclose(kernel(depth=1, kind="nngp")(x, y), nngp, rtol=1e-12)
    np.testing.assert_allclose(kernel(depth=1)(x, y), nngp + first * (np.pi - angle) / np.pi, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_an_image_of_one_pixel_has_no_neighbours():
    """There a convolution is a linear layer with eight ninths of its weights on zeros."""
    x, y = images(4, 1, 6), images(3, 1, 6, seed=1)
    k = kernel("same", weight_std=3 * ROOT2, bias_std=0.2)
    np.testing.assert_allclose(k(x, y), kernel("pairs", weight_std=3 * ROOT2, bias_std=0.2)(x, y), rtol=1e-12)
    # The last, linear layer has no zeros: its weights are three times too large.
    assert np.all(k(x, y) > 0)
    inner = kernel(weight_std=ROOT2, bias_std=0.2)(x, y)
    np.testing.assert_allclose((k(x, y) - 0.04) / 9, inner - 0.04, rtol=1e-12)


def finite_network(depth, width, shape, convolutional, pooled):
    """Params and function of a network in the parameterisation that the kernels are the limit of."""

    def layer(key, fan_in, units):
        weight_key, bias_key = jax.random.split(key)
        return jax.random.normal(weight_key, (*fan_in, units)), jax.random.normal(bias_key, (units,))

    def init(key):
        sizes = [shape[-1] if convolutional else int(np.prod(shape)), *[width] * depth]
        window = (3, 3) if convolutional else ()
        keys = jax.random.split(key, depth + 1)
        last = width * (1 if pooled or not convolutional else shape[0] * shape[1])
        return [
            *(layer(k, (*window, size), width) for k, size in zip(keys, sizes[:-1], strict=False)),
            layer(keys[-1], (last,), 1),
        ]

    def apply(params, x):
        x = x if convolutional else x.reshape(len(x), -1)
        names = ("NHWC", "HWIO", "NHWC")
        for weights, bias in params[:-1]:
            scale = ROOT2 / np.sqrt(np.prod(weights.shape[:-1]))
            if convolutional:
                out = jax.lax.conv_general_dilated(x, weights, (1, 1), "SAME", dimension_numbers=names)
            else:
                out = x @ weights
            x = jax.nn.relu(scale * out + 0.1 * jnp.expand_dims(bias, tuple(range(x.ndim - 1))))
        x = x.mean((1, 2)) if pooled else x.reshape(len(x), -1)
        weights, bias = params[-1]
        return (ROOT2 / np.sqrt(len(weights)) * x @ weights + 0.1 * bias[None])[:, 0]

    return init, apply


def empirical_kernel(init, apply, x, y, nets):
    @jax.jit
    def one(key):
        params = init(key)
        first, second = (jax.jacrev(apply)(params, a) for a in (x, y))
        products = jax.tree.map(lambda a, b: a.reshape(len(x), -1) @ b.reshape(len(y), -1).T, first, second)
        return sum(jax.tree.leaves(products))

    return np.mean([one(jax.random.key(i)) for i in range(nets)], 0)


def test_a_wide_network_has_the_ntk_within_three_per_cent():
    x, y = images(3), images(2, seed=1)
    init, apply = finite_network(1, 4096, (5, 5, 2), False, False)
    found = empirical_kernel(init, apply, x, y, 8)
    expected = kernel(depth=1)(x, y)
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_convolutional_network_of_many_channels_has_its_ntk(pooled):
    x, y = images(3), images(2, seed=1)
    init, apply = finite_network(2, 512, (5, 5, 2), True, pooled)
    found = empirical_kernel(init, apply, x, y, 4)
    expected = kernel("pairs" if pooled else "same")(x, y)
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("positions", "pairs"), [*(("none", pairs) for pairs in (1, 2, 5, 11)), ("same", 5), ("pairs", 11)]
)
def test_tiles_change_neither_kernel_nor_gradient(positions, pairs):
    size = {"none": 1, "same": 16, "pairs": 256}[positions] * 8 * 8
    (tiled, found), (whole, expected) = kernel_and_gradients(positions, pairs * size), kernel_and_gradients(positions)
    np.testing.assert_allclose(tiled, whole, rtol=1e-13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), found, expected)


@functools.cache
def kernel_and_gradients(positions, memory=None):
    """Of five images with four others, and of the sum of the sines of that."""
    k = kernel(positions, depth=1, **({"memory": memory} if memory else {}))

    def scalar(x, y):
        found = k(x, y)
        return jnp.sin(found).sum(), found

    gradients, found = jax.jit(jax.grad(scalar, (0, 1), has_aux=True))(images(5, 4), images(4, 4, seed=1))
    return found, gradients


def test_tiles_are_no_larger_than_asked_for():
    seen = []

    def block(x, y):
        seen.append(len(x) * len(y))
        return jnp.zeros((len(x), len(y)))

    for most in (1, 3, 10, 34, 35, 1000):
        assert in_tiles(block, jnp.zeros((7, 1)), jnp.zeros((5, 1)), most).shape == (7, 5)
        assert max(seen) <= most
        seen.clear()


@pytest.mark.slow
def test_a_convolutional_block_fits_into_four_gibibytes():
    """10,000 x 500 images of MNIST: one array of all positions of all pairs alone is 15 GB."""
    model = models.infinite_convnet(Shapes((28, 28, 1), 10))
    shapes = [jax.ShapeDtypeStruct((count, 28, 28, 1), jnp.float32) for count in (10_000, 500)]
    compiled = jax.jit(jax.value_and_grad(lambda x, y: model.kernel(x, y).sum(), 1)).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**32


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("positions", POSITIONS)
def test_gradients_are_those_of_finite_differences(positions):
    x, y = images(3, 3), images(3, 3, seed=1)
    k = kernel(positions)
    check_grads(lambda x, y: k(x, y), (x, y), 1, ["rev"], rtol=1e-5)
    check_grads(lambda x: k(x, x), (x,), 1, ["rev"], rtol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("positions", POSITIONS)
def test_gradients_are_finite_where_images_coincide(positions):
    """The kink of the NTK is symmetric: central differences see none of it, and neither does the gradient."""
    x = images(3, 3)
    x = x.at[1].set(x[0])
    k, v = kernel(positions), images(3, 3, seed=2)

    @jax.jit
    @jax.value_and_grad
    def along(t):
        return jnp.sin(k(x + t * v, x + t * v)).sum()

    slope, step = along(0.0)[1], 1e-6
    np.testing.assert_allclose(slope, (along(step)[0] - along(-step)[0]) / (2 * step), rtol=1e-3, atol=1e-5)
    unbiased = kernel(positions, bias_std=0.0)
    blank = jax.jit(jax.grad(lambda x: unbiased(x, x).sum()))(jnp.zeros((2, 3, 3, 2)))
    np.testing.assert_array_equal(blank, 0)


@pytest.mark.parametrize("positions", POSITIONS)
def test_float32_keeps_the_diagonal(positions):
    """Rounding of a cosine of one must not become an angle of 5e-4."""
    x = images(6, dtype=jnp.float32)
    k = kernel(positions)
    twice = jnp.concatenate([x, x])
    copies = np.asarray(k(twice, x))
    np.testing.assert_allclose(copies[:6], copies[6:], rtol=1e-6)
    assert np.isfinite(jax.jit(jax.grad(lambda x: k(x, x).sum()))(x)).all()
    moved = np.asarray(k(twice, x + 1e-6))[:6]
    np.testing.assert_allclose(np.diagonal(moved), np.diagonal(copies[:6]), rtol=1e-5)


@pytest.mark.slow
def test_float32_is_float64_but_for_rounding():
    x, y = images(8, 8, dtype=jnp.float32), images(6, 8, seed=1, dtype=jnp.float32)
    y = y.at[0].set(x[0])
    found = [kernel(positions, depth=3)(x, y) for positions in POSITIONS]
    jax.config.update("jax_enable_x64", True)
    try:
        x, y = x.astype(jnp.float64), y.astype(jnp.float64)
        expected = [kernel(positions, depth=3)(x, y) for positions in POSITIONS]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5)
    finally:
        jax.config.update("jax_enable_x64", False)


def test_arc_cosines_in_float32_are_those_of_float64_to_rounding():
    cosines = np.concatenate([np.linspace(-1, 1, 4001), [1 - 1e-5, 1e-5 - 1]]).astype(np.float32)
    found = jax.jit(arc_cosines)(jnp.asarray(cosines))
    angle = np.arccos(cosines.astype(np.float64))
    value = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    for out, exact in zip(found, ((np.pi - angle) / (2 * np.pi), value), strict=True):
        np.testing.assert_allclose(out, exact, atol=1e-7)


@pytest.mark.usefixtures("x64")
def test_arc_cosines_at_known_angles():
    slope, value = jax.jit(arc_cosines)(jnp.array([1.0, 0.0, -1.0, 0.5]))
    np.testing.assert_allclose(slope, [1 / 2, 1 / 4, 0, 1 / 3], atol=1e-12)
    np.testing.assert_allclose(value, [1 / 2, 1 / (2 * np.pi), 0, np.sqrt(3) / (4 * np.pi) + 1 / 6], atol=1e-12)
    draws = np.random.default_rng(0).normal(size=(2, 10**6))
    u, v = draws[0], 0.5 * draws[0] + np.sqrt(0.75) * draws[1]
    np.testing.assert_allclose(slope[3], ((u > 0) & (v > 0)).mean(), atol=2e-3)
    np.testing.assert_allclose(value[3], (np.maximum(u, 0) * np.maximum(v, 0)).mean(), atol=3e-3)


@pytest.mark.usefixtures("x64")
def test_neighbours_are_means_of_nine_of_pairs_that_move_together():
    x = np.random.default_rng(0).normal(size=(4, 3, 4, 3))
    padded = np.pad(x, 1)
    shifted = [padded[i : i + 4, j : j + 3, i : i + 4, j : j + 3] for i in range(3) for j in range(3)]
    mean = jax.jit(neighbours, static_argnums=1)
    np.testing.assert_allclose(mean(jnp.asarray(x), 0), np.sum(shifted, 0) / 9, rtol=1e-12)
    one = np.pad(x[:, :, 0, 0], 1)
    expected = np.sum([one[i : i + 4, j : j + 3] for i in range(3) for j in range(3)], 0) / 9
    np.testing.assert_allclose(mean(jnp.asarray(x[:, :, 0, 0]), 0), expected, rtol=1e-12)


def test_an_infinite_network_is_a_model(digits):
    model = models.infinite_mlp(digits, depth=2, kernel="nngp")
    params = model.init(jax.random.key(0))
    x = digits.train.images[:4]
    np.testing.assert_array_equal(model.apply(params, x), np.zeros((4, 10)))
    assert models.num_params(model) == 0
    weights = jnp.arange(30.0).reshape(3, 10)
    params = models.SetWeights(digits.train.images[4:7], weights)
    features, logits, known = jax.jit(
        lambda params: (model.features(params, x), model.apply(params, x), model.kernel(x, params.images))
    )(params)
    np.testing.assert_allclose(features, known, rtol=1e-6)
    np.testing.assert_allclose(logits, np.asarray(known) @ np.asarray(weights), rtol=1e-5)
    again = models.make(model.name, digits, **models.architecture(model))
    assert again.settings == model.settings
    assert models.with_precision(model, "float32").kernel is model.kernel
    with pytest.raises(OptionError, match="float32"):
        models.with_precision(model, "bf16")


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        ("infinite_mlp", {"depth": 0}, "depth must be at least 1"),
        ("infinite_mlp", {"kernel": "ntkk"}, "Did you mean 'ntk'"),
        ("infinite_mlp", {"weight_std": 0.0}, "weight_std must be positive"),
        ("infinite_convnet", {"bias_std": -0.1}, "bias_std at least 0"),
        ("infinite_convnet", {"pooling": "globe"}, "Did you mean 'global'"),
        ("infinite_convnet", {"tile_mib": 0}, "tile_mib must be at least 1"),
    ],
)
def test_bad_settings_say_what_is_known(digits, make, settings, words):
    with pytest.raises(OptionError, match=words):
        models.make(make, digits, **settings)
