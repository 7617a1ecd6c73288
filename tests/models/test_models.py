"""Networks are what the papers say: sizes, forward passes, initialisers, and errors that help."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dd_jax import models
from dd_jax.errors import DataError, OptionError
from dd_jax.inner import chunked_loss, cross_entropy
from dd_jax.models import Shapes, check_fits
from dd_jax.models.initialisers import KERNELS, bias_initialiser, kernel_initialiser
from dd_jax.models.layers import NORMS
from dd_jax.types import Batch

MNIST, CIFAR = Shapes((28, 28, 1), 10), Shapes((32, 32, 3), 10)
SHAPES = [(28, 28, 1), (28, 28, 3), (32, 32, 1), (32, 32, 3)]
SMALL = {"convnet": {"width": 8, "depth": 2}, "mlp": {"hidden": (7, 5)}, "lenet": {}, "alexcifarnet": {}}


def small(name: str, shape: tuple[int, int, int], num_classes: int = 10, **settings) -> models.Model:
    return models.MODELS[name](Shapes(shape, num_classes), **SMALL[name] | settings)


def images_for(model: models.Model, count: int = 3) -> jax.Array:
    return jnp.asarray(np.random.default_rng(9).normal(size=(count, *model.image_shape)), jnp.result_type(float))


def generic_params(model: models.Model):
    """Parameters of a sensible size without a zero or a one among them, so that no bias or scale goes untested."""
    generator = np.random.default_rng(1)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = leaf.size / leaf.shape[-1] if leaf.ndim > 1 else 4
        return jnp.asarray(generator.normal(size=leaf.shape) / fan_in**0.5, jnp.result_type(float))

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0)))


@functools.cache
def forward(apply, features):
    """Logits and features in one program, the same one for networks that are alike."""
    return jax.jit(lambda *given: (apply(*given), features(*given)))


def outputs(name: str, shape: tuple[int, int, int], **settings):
    """Parameters, images, logits and features of a generic network."""
    model = small(name, shape, **settings)
    params, images = generic_params(model), images_for(model)
    return params, np.asarray(images), *map(np.asarray, forward(model.apply, model.features)(params, images))


def last_layer(params):
    return params[max((name for name in params if name.startswith("Dense")), key=lambda name: int(name[6:]))]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (models.lenet(MNIST), 61_706),  # LeNet-5 as everyone counts it
        (models.alexcifarnet(CIFAR), 1_756_426),
        (models.mlp(MNIST), 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10),
        (models.mlp(MNIST, hidden=()), 7850),
        (models.convnet(CIFAR), 320_010),  # the number usually quoted for the field's ConvNet
        # 3 x 3 from 3 to 128, 256 and 512 channels, and 16 x 512 features to 10 classes, each with its biases
        (models.convnet(CIFAR, growth=2, norm="none"), 9 * (3 * 128 + 128 * 256 + 256 * 512) + 896 + 10 * 8192 + 10),
    ],
    ids=["lenet", "alexcifarnet", "mlp", "linear", "convnet", "growing convnet"],
)
def test_number_of_parameters(model, expected):
    assert models.num_params(model) == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_shapes_and_dtypes(name, shape):
    if name == "alexcifarnet" and shape[0] != 32:
        pytest.skip("AlexCifarNet is for 32 pixels")
    model = small(name, shape, num_classes=4)
    params = jax.eval_shape(model.init, jax.random.key(0))
    images = jnp.zeros((3, *shape), jnp.float32)
    logits, features = (jax.eval_shape(f, params, images) for f in (model.apply, model.features))
    width = last_layer(params)["kernel"].shape[0]
    assert (logits.shape, features.shape) == ((3, 4), (3, width))
    assert logits.dtype == features.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    assert (model.name, model.image_shape, model.num_classes) == (name, shape, 4)


@pytest.mark.parametrize("name", SMALL)
def test_params_are_plain_dicts_of_arrays(name):
    def plain(tree):
        return isinstance(tree, jax.ShapeDtypeStruct) or (type(tree) is dict and all(map(plain, tree.values())))

    assert plain(jax.eval_shape(small(name, (32, 32, 3)).init, jax.random.key(0)))


@pytest.mark.parametrize("name", ["lenet", "convnet", "mlp"])
def test_apply_takes_its_dtype_from_params_and_images(name, x64):
    model = small(name, (28, 28, 1))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), shapes)
    assert jax.eval_shape(model.apply, params, images_for(model)).dtype == jnp.float64


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SMALL)
def test_logits_are_the_last_layer_of_the_features(name):
    params, _, logits, features = outputs(name, (32, 32, 3))
    last = last_layer(params)
    expected = features @ np.asarray(last["kernel"]) + np.asarray(last["bias"])[None]
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "shape", "settings"),
    [
        ("lenet", (28, 28, 1), {}),
        ("lenet", (32, 32, 3), {}),
        ("alexcifarnet", (32, 32, 3), {}),
        ("convnet", (28, 28, 1), {"norm": "instance"}),
        ("convnet", (10, 9, 3), {"norm": "group", "pooling": "max"}),
        ("convnet", (10, 9, 3), {"norm": "layer", "pooling": "none"}),
        ("convnet", (10, 9, 3), {"norm": "none"}),
        ("convnet", (10, 9, 3), {"norm": "batch"}),
    ],
)
def test_layouts_give_the_same_network(name, shape, settings):
    one, other = (outputs(name, shape, layout=layout, **settings)[2] for layout in ("NHWC", "CHWN"))
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("norm", ["instance", "group", "layer", "none"])
def test_images_do_not_see_each_other(norm):
    model = small("convnet", (8, 8, 2), norm=norm)
    params, images, apply = generic_params(model), images_for(model, 4), jax.jit(model.apply)
    alone = np.concatenate([apply(params, images[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(apply(params, images), alone, rtol=1e-12, atol=1e-12)


def test_a_minibatch_is_not_gone_through_in_parts_where_images_see_each_other():
    """Batch normalisation is of all forty images, where a loss goes through others in chunks, and keeps no state."""
    model = models.convnet(Shapes((8, 8, 1), 4), width=8, depth=1, norm="batch")
    images = jnp.concatenate([images_for(model, 20), 3 * images_for(model, 20) + 1])
    params, batch = jax.jit(model.init)(jax.random.key(0)), Batch(images, jnp.arange(40) % 4)
    assert set(params) == {"Conv_0", "Dense_0", "GroupNorm_0"}
    assert set(params["GroupNorm_0"]) == {"scale", "bias"}

    @jax.jit
    def losses(params, batch):
        halves = (jax.tree.map(lambda leaf, i=i: leaf[20 * i : 20 * i + 20], batch) for i in range(2))
        whole = cross_entropy(model.apply(params, batch.images), batch.labels)
        in_parts = sum(cross_entropy(model.apply(params, half.images), half.labels) for half in halves) / 2
        return chunked_loss(model.apply, chunk=20)(params, batch), whole, in_parts

    found, whole, in_parts = losses(params, batch)
    np.testing.assert_allclose(found, whole, rtol=1e-6)
    assert abs(in_parts - whole) > 1e-3


def conv(x, layer, padding, groups=None):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    kernel = np.asarray(layer["kernel"])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))
    return np.einsum("nijcab,abco->nijo", windows, kernel) + np.asarray(layer["bias"])


def pool(x, window, stride, padding=0):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(x, (window, window), (1, 2))
    return windows[:, ::stride, ::stride].max((-2, -1))


def respond(x):
    """PyTorch's LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1)."""
    out = np.empty_like(x)
    for c in range(x.shape[-1]):
        out[..., c] = x[..., c] / (1 + 0.001 / 9 * (x[..., max(c - 2, 0) : c + 2] ** 2).sum(-1) / 4) ** 0.75
    return out


def classify(x, params):
    x = x.reshape(len(x), -1)
    for i in range(3):
        x = x @ np.asarray(params[f"Dense_{i}"]["kernel"]) + np.asarray(params[f"Dense_{i}"]["bias"])
        x = np.maximum(x, 0) if i < 2 else x
    return x


def lenet_by_hand(params, x, padding):
    x = pool(np.maximum(conv(x, params["Conv_0"], padding), 0), 2, 2)
    x = pool(np.maximum(conv(x, params["Conv_1"], 0), 0), 2, 2)
    assert x.shape[1:] == (5, 5, 16)
    return classify(x, params)


def alexcifarnet_by_hand(params, x):
    x = respond(pool(np.maximum(conv(x, params["Conv_0"], 2), 0), 3, 2, 1))
    x = pool(respond(np.maximum(conv(x, params["Conv_1"], 2), 0)), 3, 2, 1)
    assert x.shape[1:] == (8, 8, 64)
    return classify(x, params)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "shape", "by_hand"),
    [
        ("lenet", (28, 28, 1), functools.partial(lenet_by_hand, padding=2)),
        ("lenet", (32, 32, 3), functools.partial(lenet_by_hand, padding=0)),
        ("alexcifarnet", (32, 32, 3), alexcifarnet_by_hand),
    ],
)
def test_forward_pass_is_the_papers(name, shape, by_hand):
    params, images, logits, _ = outputs(name, shape)
    np.testing.assert_allclose(logits, by_hand(params, images), rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_convnet_by_hand():
    """One block with instance norm: (x - mean) / sqrt(variance + 1e-5) per image and channel, then scale and shift."""
    params, images, logits, _ = outputs("convnet", (6, 6, 2), width=4, depth=1)
    x = conv(images, params["Conv_0"], 1)
    x = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    x = np.maximum(x * np.asarray(params["GroupNorm_0"]["scale"]) + np.asarray(params["GroupNorm_0"]["bias"]), 0)
    x = x.reshape(3, 3, 2, 3, 2, 4).mean((2, 4)).reshape(3, -1)
    expected = x @ np.asarray(params["Dense_0"]["kernel"]) + np.asarray(params["Dense_0"]["bias"])
    np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_group_norm_normalises_each_group_of_each_image():
    from dd_jax.models.layers import GroupNorm

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 8)))
    found, _ = jax.jit(GroupNorm(groups=2).init_with_output)(jax.random.key(1), x)
    grouped = np.asarray(x).reshape(2, 3, 5, 2, 4)
    centred = grouped - grouped.mean((1, 2, 4), keepdims=True)
    expected = centred / np.sqrt(grouped.var((1, 2, 4), keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, expected.reshape(x.shape), rtol=1e-10, atol=1e-12)


FAN_IN, FAN_OUT = 5 * 5 * 24, 5 * 5 * 40
VARIANCES = {  # of a 5x5 convolution of 24 channels into 40
    "xavier": 2 / (FAN_IN + FAN_OUT),
    "xavier_uniform": 2 / (FAN_IN + FAN_OUT),
    "kaiming": 2 / FAN_IN,
    "kaiming_out": 2 / FAN_OUT,
    "default": 1 / (3 * FAN_IN),
}
BOUNDS = {"xavier_uniform": (6 / (FAN_IN + FAN_OUT)) ** 0.5, "default": FAN_IN**-0.5}


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_of_initialisers(name):
    draw = jax.jit(kernel_initialiser(name), static_argnums=1)
    kernel = np.asarray(draw(jax.random.key(0), (5, 5, 24, 40)), np.float64)
    # 24,000 draws: the variance is known to about 1% (normal) and its mean to 0.7% of a standard deviation
    np.testing.assert_allclose(kernel.var(), VARIANCES[name], rtol=0.04)
    assert abs(kernel.mean()) < 0.03 * kernel.std()
    if name in BOUNDS:
        assert 0.999 * BOUNDS[name] < abs(kernel).max() <= BOUNDS[name] * (1 + 1e-6)
    else:
        assert abs(kernel).max() > 3.5 * kernel.std(), "truncated"


def test_orthogonal_initialiser():
    q = jax.jit(lambda key: kernel_initialiser("orthogonal")(key, (3, 3, 8, 20)))(jax.random.key(0))
    q = np.asarray(q).reshape(-1, 20)
    np.testing.assert_allclose(q.T @ q, np.eye(20), atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_biases_are_zero_except_pytorchs(name):
    biases = np.asarray(bias_initialiser(name, 400)(jax.random.key(0), (2000,)))
    if name != "default":
        np.testing.assert_array_equal(biases, 0)
    else:
        assert 0.045 < abs(biases).max() <= 0.05
        np.testing.assert_allclose(biases.var(), 0.05**2 / 3, rtol=0.1)


@pytest.mark.parametrize("name", ["lenet", "mlp", "convnet"])
def test_models_use_the_initialiser_that_they_are_given(name):
    params = jax.jit(small(name, (32, 32, 3), initialiser="kaiming").init)(jax.random.key(0))
    for layer, arrays in params.items():
        if arrays.get("kernel") is not None and arrays["kernel"].size > 2000:
            fan_in = arrays["kernel"].size / arrays["kernel"].shape[-1]
            np.testing.assert_allclose(np.var(np.asarray(arrays["kernel"])) * fan_in / 2, 1, rtol=0.15, err_msg=layer)
            np.testing.assert_array_equal(arrays["bias"], 0)


def test_different_keys_give_different_networks():
    init = jax.jit(small("mlp", (4, 4, 1)).init)
    one, same, other = (init(jax.random.key(seed))["Dense_0"]["kernel"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_make_is_the_constructor_with_a_name():
    model = models.make("mlp", MNIST, hidden=(5,))
    assert (model.name, model.settings["hidden"], model.num_classes) == ("mlp", [5], 10)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: models.lenet(Shapes((8, 8, 1), 10)), DataError, ["28 x 28 or 32 x 32", "8 x 8", "image_size=28"]),
        (lambda: models.lenet(Shapes((28, 32, 1), 10)), DataError, ["28 x 32"]),
        (lambda: models.alexcifarnet(MNIST), DataError, ["32 x 32", "28 x 28", "image_size=32"]),
        (lambda: models.make("lenett", MNIST), OptionError, ["Unknown model 'lenett'", "mean 'lenet'"]),
        (lambda: models.make("convnet", MNIST, widht=4), OptionError, ["setting of convnet 'widht'", "mean 'width'"]),
        (lambda: models.make("mlp", MNIST, layout="NHWC"), OptionError, ["setting of mlp 'layout'"]),
        (lambda: models.make("convnet", MNIST, width="wide"), OptionError, ["convnet", "wrong type"]),
        (lambda: models.lenet(MNIST, initialiser="xavir"), OptionError, ["initialiser 'xavir'", "mean 'xavier'"]),
        (lambda: models.convnet(MNIST, norm="instanse"), OptionError, ["norm 'instanse'", "mean 'instance'"]),
        (lambda: models.convnet(MNIST, activation="rellu"), OptionError, ["activation 'rellu'", "mean 'relu'"]),
        (lambda: models.convnet(MNIST, pooling="maxx"), OptionError, ["pooling 'maxx'", "mean 'max'"]),
        (lambda: models.convnet(MNIST, width=6, norm="group"), OptionError, ["multiple of 4", "width=6"]),
        (lambda: models.convnet(MNIST, depth=0), OptionError, ["at least 1", "depth=0"]),
        (lambda: models.convnet(MNIST, growth=0), OptionError, ["at least 1", "growth=0"]),
        (lambda: models.convnet(Shapes((8, 8, 1), 10), depth=4), DataError, ["8 pixels", "4 times", "depth=3 or less"]),
        (lambda: models.convnet(Shapes((1, 1, 8), 3), depth=2), DataError, ["1 pixel can't", "a graph, such as gcn"]),
        (lambda: models.mlp(MNIST, hidden=(5, 0)), OptionError, ["at least one unit", "(5, 0)"]),
    ],
)
def test_errors_say_what_to_do(build, error, words):
    with pytest.raises(error) as caught:
        build()
    for word in words:
        assert word in str(caught.value)


def test_the_deepest_convnet_that_the_error_suggests_works():
    for size in (8, 9, 15):
        spec = Shapes((size, size, 1), 3)
        with pytest.raises(DataError) as caught:
            models.convnet(spec, width=4, depth=9)
        depth = int(re.search(r"depth=(\d+) or less", str(caught.value))[1])
        model = models.convnet(spec, width=4, depth=depth)
        params = jax.eval_shape(model.init, jax.random.key(0))
        assert jax.eval_shape(model.apply, params, jnp.zeros((1, size, size, 1))).shape == (1, 3)


def test_check_fits():
    model = small("mlp", (4, 4, 1), num_classes=3)
    check_fits(model, jnp.zeros((2, 4, 4, 1)), 3)
    check_fits(model, jnp.zeros((5, 2, 4, 4, 1)), 3)
    check_fits(model, Batch(jnp.zeros((2, 4, 4, 1)), jnp.zeros(2, jnp.int32)), 3)
    with pytest.raises(
        DataError, match=r"mlp was built for images \(4, 4, 1\) in 3 .* set has images \(4, 5, 1\) in 3"
    ):
        check_fits(model, jnp.zeros((2, 4, 5, 1)), 3, "distilled set")
    with pytest.raises(DataError, match=r"in 3 classes, but the dataset .* in 4 classes.*models\.mlp\(data\)"):
        check_fits(model, jnp.zeros((2, 4, 4, 1)), 4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch"])
def test_a_norm_is_its_formula_and_a_bias_before_it_counts_where_it_does(norm, layout):
    """Every image over its groups of channels, or all over each channel; a norm over channels takes a bias away."""
    model = models.convnet(Shapes((4, 4, 2), 3), width=8, depth=1, norm=norm, pooling="none", layout=layout)
    params, images, logits, expected_gradient = by_definition(norm)
    found_logits, found = value_and_gradient(lambda p: model.apply(p, images), params)
    np.testing.assert_allclose(found_logits, logits, rtol=1e-9, atol=1e-9)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), found, expected_gradient)
    assert (float(jnp.abs(found["Conv_0"]["bias"]).max()) == 0) == (norm in ("instance", "batch"))


def value_and_gradient(function, params):
    """A function of the parameters, and the gradient of its squares' sum."""

    def scalar(params):
        found = function(params)
        return jnp.square(found).sum(), found

    gradient, value = jax.jit(jax.grad(scalar, has_aux=True))(params)
    return value, gradient


@functools.cache
def by_definition(norm: str):
    """Parameters and images, and what a ConvNet of one layer makes of them, with its gradient."""
    rng = np.random.default_rng(0)
    model = models.convnet(Shapes((4, 4, 2), 3), width=8, depth=1, norm=norm, pooling="none")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
    images = jnp.asarray(rng.normal(size=(3, 4, 4, 2)))

    def function(params):
        kernel, bias = params["Conv_0"]["kernel"], params["Conv_0"]["bias"]
        out = lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        grouped = (out + bias[None, None, None]).reshape(3, 16, NORMS[norm] or 8, -1)
        axes = (0, 1, 3) if norm == "batch" else (1, 3)
        mean, deviation = (measure(grouped, axes, keepdims=True) for measure in (jnp.mean, jnp.var))
        normal = ((grouped - mean) / jnp.sqrt(deviation + 1e-5)).reshape(3, -1, 8)
        scale, shift = (params["GroupNorm_0"][name][None, None] for name in ("scale", "bias"))
        features = jax.nn.relu(normal * scale + shift).reshape(3, -1)
        return features @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None]

    return params, images, *value_and_gradient(function, params)
