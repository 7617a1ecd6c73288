"""AlexNet is torchvision's, takes its weights over exactly, and refuses anything else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dd_jax import models
from dd_jax.errors import DataError, OptionError
from dd_jax.models import Shapes, alexnet_from_torchvision

SPEC = Shapes((224, 224, 3), 7)
CONVOLUTIONS = {  # name: (outputs, inputs, size), padding, stride, whether pooling follows
    "features.0": ((64, 3, 11), 2, 4, True),
    "features.3": ((192, 64, 5), 2, 1, True),
    "features.6": ((384, 192, 3), 1, 1, False),
    "features.8": ((256, 384, 3), 1, 1, False),
    "features.10": ((256, 256, 3), 1, 1, True),
}
LINEAR = {"classifier.1": (4096, 9216), "classifier.4": (4096, 4096), "classifier.6": (1000, 4096)}


def shapes() -> dict[str, tuple[int, ...]]:
    weights = {name: (out, into, size, size) for name, ((out, into, size), *_) in CONVOLUTIONS.items()} | LINEAR
    return {f"{name}.{part}": shape if part == "weight" else shape[:1]
            for name, shape in weights.items() for part in ("weight", "bias")}  # fmt: skip


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """Random weights that keep the size of activations, and biases that matter."""
    generator = np.random.default_rng(0)

    def draw(shape):
        array = generator.standard_normal(shape, dtype=np.float32)
        array *= np.float32((2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.3)
        return array

    return {name: draw(shape) for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def hollow() -> dict[str, np.ndarray]:
    """A state dict of the right shapes that takes no memory."""
    return {name: np.broadcast_to(np.float32(0.5), shape) for name, shape in shapes().items()}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, 224, 224, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def params(state):
    return alexnet_from_torchvision(state, models.alexnet(SPEC))


@pytest.fixture(scope="module")
def features(params, images) -> np.ndarray:
    return np.asarray(jax.jit(models.alexnet(SPEC).features)(params, images))


@jax.jit
def reference(state, images):
    """torchvision's AlexNet without dropout, in PyTorch's order of axes throughout -> (pooled, features, logits)."""
    x = jnp.transpose(images, (0, 3, 1, 2))
    for name, (_, padding, stride, pooled) in CONVOLUTIONS.items():
        x = lax.conv_general_dilated(
            x, state[f"{name}.weight"], (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=("NCHW", "OIHW", "NCHW"), precision="highest",
        )  # fmt: skip
        x = jnp.maximum(x + state[f"{name}.bias"][None, :, None, None], 0)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "VALID") if pooled else x
    pooled, x = x, x.reshape(len(images), -1)
    for name in ("classifier.1", "classifier.4"):
        x = jnp.maximum(x @ state[f"{name}.weight"].T + state[f"{name}.bias"][None], 0)
    return pooled, x, x @ state["classifier.6.weight"].T + state["classifier.6.bias"][None]


def close(found, expected):
    assert 0.1 < np.abs(expected).max() < 100, "the test's activations vanish or blow up"
    assert np.abs(np.asarray(found) - expected).max() < 1e-5 * np.abs(expected).max()


def test_number_of_parameters_is_torchvisions():
    assert models.num_params(models.alexnet(Shapes((224, 224, 3), 1000))) == 61_100_840


def test_features_are_those_of_an_independent_reference(state, images, features):
    pooled, expected, _ = reference(state, images)
    assert pooled.shape[1:] == (256, 6, 6)
    assert features.shape == (2, 4096)
    assert np.abs(expected[0] - expected[1]).max() > 0.1, "the test's images can't be told apart"
    close(features, np.asarray(expected))


def test_logits_of_the_new_head_are_one(params, images):
    logits = jax.jit(models.alexnet(SPEC).apply)(params, images)
    np.testing.assert_array_equal(logits, np.ones((2, 7), np.float32))


def test_logits_with_the_files_own_head(state, params, images, features):
    """The new head is all that was replaced."""
    head = {"kernel": state["classifier.6.weight"].T, "bias": state["classifier.6.bias"]}
    logits = jax.jit(models.alexnet(Shapes(SPEC.image_shape, 1000)).apply)({**params, "Dense_2": head}, images)
    close(logits, np.asarray(reference(state, images)[2]))


def test_features_are_pytorchs(state, images, features):
    torch = pytest.importorskip("torch")
    f, tensors = torch.nn.functional, {name: torch.from_numpy(array) for name, array in state.items()}
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        for name, (_, padding, stride, pooled) in CONVOLUTIONS.items():
            x = f.relu(f.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride, padding))
            x = f.max_pool2d(x, 3, 2) if pooled else x
        x = x.flatten(1)
        for name in ("classifier.1", "classifier.4"):
            x = f.relu(f.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"]))
    close(features, x.numpy())


def test_layouts_give_the_same_network(params, images, features):
    model = models.alexnet(SPEC, layout="CHWN")
    close(jax.jit(model.features)(params, images), features)


def test_parameters_are_those_that_init_draws(params):
    drawn = jax.eval_shape(models.alexnet(SPEC).init, jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), drawn
    )
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))


def test_the_head_has_the_models_classes(params):
    np.testing.assert_array_equal(params["Dense_2"]["kernel"], np.zeros((4096, 7)))
    np.testing.assert_array_equal(params["Dense_2"]["bias"], np.ones(7))


def test_make_and_shapes_with_one_channel():
    model = models.make("alexnet", Shapes((224, 224, 1), 3), initialiser="kaiming")
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert params["Conv_0"]["kernel"].shape == (11, 11, 1, 64)
    images = jnp.zeros((2, 224, 224, 1))
    assert [jax.eval_shape(f, params, images).shape for f in (model.apply, model.features)] == [(2, 3), (2, 4096)]
    assert (model.name, model.settings) == ("alexnet", {"initialiser": "kaiming"})


def replace(**changes):
    """A change of the state dict: names with `_` for `.`; None removes."""

    def change(state):
        changed = {**state, **{name.replace("_", "."): array for name, array in changes.items()}}
        return {name: array for name, array in changed.items() if array is not None}

    return change


VGG = {"features.0.weight": np.zeros((64, 3, 3, 3), np.float32), "features.2.weight": np.zeros(1, np.float32)}
ONE_NAN = np.array([np.nan] + [0] * 63, np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace(classifier_4_bias=None), ["torchvision's AlexNet", "missing: classifier.4.bias"]),
        (replace(classifier_7_bias=np.zeros(1)), ["unknown: classifier.7.bias"]),
        (lambda state: VGG, ["missing: features.0.bias, features.3.weight", "unknown: features.2.weight"]),
        (lambda state: {}, ["missing: features.0.weight"]),
        (replace(features_0_weight=VGG["features.0.weight"]), ["(64, 3, 11, 11), found (64, 3, 3, 3)"]),
        (replace(features_0_weight=np.zeros((64, 1, 11, 11))), ["(64, 3, 11, 11)", "3 channels and the file of 1"]),
        (replace(classifier_1_weight=np.zeros((9216, 2))), ["classifier.1.weight", "(4096, 9216), found (9216, 2)"]),
        (replace(classifier_6_weight=np.zeros((5, 2))), ["classifier.6.weight", "(any, 4096), found (5, 2)"]),
        (replace(features_0_bias=np.zeros((64, 1))), ["(64), found (64, 1)"]),
        (replace(features_0_bias=np.array(1.0)), ["(64), found ()"]),
        (replace(features_0_bias=np.zeros(64, np.int8)), ["features.0.bias", "floating point, but is int8"]),
        (replace(features_0_bias=np.zeros(64, bool)), ["floating point, but is bool"]),
        (replace(features_0_bias=np.zeros(64, np.complex64)), ["floating point, but is complex64"]),
        (replace(features_0_bias=np.array(["a"] * 64)), ["floating point, but is <U1"]),
        (replace(features_0_bias=ONE_NAN), ["features.0.bias", "finite"]),
        (replace(features_0_bias=np.full(64, np.inf, np.float16)), ["finite"]),
        (replace(features_0_bias=np.full(64, 1e300)), ["finite in float32"]),
        (replace(classifier_6_bias=np.full(1000, np.nan, np.float32)), ["classifier.6.bias", "finite"]),
    ],
)
def test_another_state_dict_is_refused(hollow, change, words):
    with pytest.raises(DataError) as caught:
        alexnet_from_torchvision(change(hollow), models.alexnet(SPEC))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: models.alexcifarnet(Shapes((32, 32, 3), 10)), ["the model is alexcifarnet", "models.alexnet"]),
        (lambda: models.alexnet(Shapes((224, 224, 1), 7)), ["(64, 1, 11, 11), found (64, 3, 11, 11)", "file of 3"]),
    ],
)
def test_another_model_is_refused(hollow, build, words):
    with pytest.raises(DataError) as caught:
        alexnet_from_torchvision(hollow, build())
    for word in words:
        assert word in str(caught.value)


def test_other_floating_point_becomes_float32(hollow):
    """Whatever the file's own head is like, it goes."""
    dtypes = {"features.0.bias": np.float16, "features.3.bias": np.float64, "features.6.bias": jnp.bfloat16}
    biases = {name: np.linspace(-2, 2, len(hollow[name])).astype(dtype) for name, dtype in dtypes.items()}
    head = {"classifier.6.weight": np.zeros((3, 4096), "f4"), "classifier.6.bias": np.zeros(3, "f4")}
    params = alexnet_from_torchvision({**hollow, **head, **biases}, models.alexnet(SPEC))
    for layer, expected in zip(("Conv_0", "Conv_1", "Conv_2"), biases.values(), strict=True):
        assert params[layer]["bias"].dtype == jnp.float32
        np.testing.assert_array_equal(params[layer]["bias"], expected.astype(np.float32))
    assert params["Dense_2"]["bias"].shape == (7,)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (functools.partial(models.alexnet, Shapes((32, 32, 3), 10)), DataError, ["224 x 224", "32 x 32", "_size=224"]),
        (functools.partial(models.alexnet, Shapes((224, 225, 3), 10)), DataError, ["224 x 225"]),
        (functools.partial(models.alexnet, Shapes((224, 224, 4), 10)), DataError, ["1 or 3 channels", "with 4"]),
        (functools.partial(models.alexnet, SPEC, initialiser="xavir"), OptionError, ["mean 'xavier'"]),
    ],
)
def test_errors_say_what_to_do(build, error, words):
    with pytest.raises(error) as caught:
        build()
    for word in words:
        assert word in str(caught.value)
