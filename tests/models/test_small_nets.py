"""AlexNet, VGG11 and ResNet18 for small images are those of the released code, layer by layer."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax import models
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation.coresets import mean_images
from dd_jax.inner import cross_entropy
from dd_jax.models import Shapes

MNIST, CIFAR = Shapes((28, 28, 1), 10), Shapes((32, 32, 3), 10)


def convolutions(*layers, bias=True):
    return sum(size * size * before * after + bias * after for size, before, after in layers)


ALEXNET = [(5, 128, 192), (3, 192, 256), (3, 256, 192), (3, 192, 192)]
VGG = [(3, 64, 128), (3, 128, 256), (3, 256, 256), (3, 256, 512), *3 * [(3, 512, 512)]]
RESNET = [
    *4 * [(3, 64, 64)],
    *[(3, 64, 128), (1, 64, 128), *3 * [(3, 128, 128)]],
    *[(3, 128, 256), (1, 128, 256), *3 * [(3, 256, 256)]],
    *[(3, 256, 512), (1, 256, 512), *3 * [(3, 512, 512)]],
]
NORMS = 2 * 5 * (64 + 128 + 256 + 512)


@pytest.mark.parametrize(
    ("name", "data", "settings", "known", "by_hand"),
    [
        ("alexnet-small", CIFAR, {}, 1_872_202, convolutions((5, 3, 128), *ALEXNET) + 4 * 4 * 192 * 10 + 10),
        ("alexnet-small", MNIST, {}, 1_865_802, convolutions((5, 1, 128), *ALEXNET) + 4 * 4 * 192 * 10 + 10),
        ("vgg11", CIFAR, {}, 9_231_114, convolutions((3, 3, 64), *VGG) + 2 * 2752 + 5130),
        ("vgg11", MNIST, {"norm": "group"}, 9_229_962, convolutions((3, 1, 64), *VGG) + 2 * 2752 + 5130),
        ("vgg11", CIFAR, {"norm": "none"}, 9_225_610, convolutions((3, 3, 64), *VGG) + 5130),
        ("resnet18", CIFAR, {}, 11_173_962, convolutions((3, 3, 64), *RESNET, bias=False) + NORMS + 5130),
        ("resnet18", MNIST, {}, 11_172_810, convolutions((3, 1, 64), *RESNET, bias=False) + NORMS + 5130),
        (
            "resnet18", CIFAR, {"downsampling": "avg"}, 11_250_762,
            convolutions((3, 3, 64), *RESNET, bias=False) + NORMS + 4 * 4 * 512 * 10 + 10,
        ),
        (
            "resnet18", MNIST, {"downsampling": "avg"}, 11_213_770,
            convolutions((3, 1, 64), *RESNET, bias=False) + NORMS + 3 * 3 * 512 * 10 + 10,
        ),
    ],
)  # fmt: skip
def test_number_of_parameters(name, data, settings, known, by_hand):
    """VGG11's 9,231,114 and ResNet18's 11,173,962 are also those of kuangliu's CIFAR-10 networks, with BatchNorm."""
    assert models.num_params(models.make(name, data, **settings)) == known == by_hand


SMALL = {
    "vgg11": {"width": 4},
    "vgg11 group": {"width": 4, "norm": "group"},
    "resnet18": {"width": 4},
    "resnet18 avg": {"width": 4, "downsampling": "avg"},
    "resnet18 none": {"width": 4, "norm": "none"},
}


def generic(model):
    """Parameters in float64 of a sensible size, no bias zero and no scale one."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * (leaf.shape[-1] / max(leaf.size, 4)) ** 0.5), shapes
    )


def conv(torch, x, layer, padding, stride=1):
    kernel = torch.tensor(np.asarray(layer["kernel"]).transpose(3, 2, 0, 1))
    bias = torch.tensor(np.asarray(layer["bias"])) if "bias" in layer else None
    return torch.nn.functional.conv2d(x, kernel, bias, stride, padding)


def norm(torch, x, layers, name, groups):
    if groups is None:
        return x
    scale, bias = (torch.tensor(np.asarray(layers[name]["GroupNorm"][which])) for which in ("scale", "bias"))
    return torch.nn.functional.group_norm(x, groups or x.shape[1], scale, bias)


def classify(torch, x, params):
    """Torch flattens as (C, H, W) and Flax as (H, W, C)."""
    x = x.permute(0, 2, 3, 1).flatten(1)
    layer = params["Dense_0"]
    return (x @ torch.tensor(np.asarray(layer["kernel"])) + torch.tensor(np.asarray(layer["bias"]))).numpy()


def alexnet_in_torch(torch, params, x, padding):
    relu, pool = torch.relu, torch.nn.functional.max_pool2d
    x = pool(relu(conv(torch, x, params["Conv_0"], padding)), 2)
    x = pool(relu(conv(torch, x, params["Conv_1"], 2)), 2)
    for i in (2, 3, 4):
        x = relu(conv(torch, x, params[f"Conv_{i}"], 1))
    return classify(torch, pool(x, 2), params)


def vgg_in_torch(torch, params, x, padding, groups):
    for i, pooled in enumerate((True, True, False, True, False, True, False, True)):
        x = conv(torch, x, params[f"Conv_{i}"], padding)
        x = torch.relu(norm(torch, x, params, f"Norm_{i}", groups))
        x = torch.nn.functional.max_pool2d(x, 2) if pooled else x
        padding = 1
    return classify(torch, x, params)


def resnet_in_torch(torch, params, x, groups, by_average):
    pool = torch.nn.functional.avg_pool2d
    x = torch.relu(norm(torch, conv(torch, x, params["Conv_0"], 1), params, "Norm_0", groups))
    for i in range(8):
        layers, halves = params[f"_Block_{i}"], i in (2, 4, 6)
        stride = 2 if halves and not by_average else 1
        out = torch.relu(norm(torch, conv(torch, x, layers["Conv_0"], 1, stride), layers, "Norm_0", groups))
        out = pool(out, 2) if halves and by_average else out
        out = norm(torch, conv(torch, out, layers["Conv_1"], 1), layers, "Norm_1", groups)
        if halves:
            x = conv(torch, x, layers["Conv_2"], 0, stride)
            x = norm(torch, pool(x, 2) if by_average else x, layers, "Norm_2", groups)
        x = torch.relu(out + x)
    return classify(torch, x if by_average else pool(x, x.shape[-1]), params)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("alexnet-small", MNIST),
        ("vgg11", MNIST),
        ("vgg11 group", CIFAR),
        ("resnet18", MNIST),
        ("resnet18 avg", MNIST),
        ("resnet18 none", CIFAR),
    ],
)
def test_logits_are_those_of_the_same_network_in_pytorch(name, data):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = models.make(name.split()[0], data, **SMALL.get(name, {}))
    params, images = generic(model), np.random.default_rng(2).normal(size=(2, *data.image_shape))
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    groups = {"group": 4, "none": None}.get(name.rpartition(" ")[2], 0)
    grey = data is MNIST
    with torch.no_grad():
        if name.startswith("alexnet"):
            expected = alexnet_in_torch(torch, params, x, 4 if grey else 2)
        elif name.startswith("vgg"):
            expected = vgg_in_torch(torch, params, x, 3 if grey else 1, groups)
        else:
            expected = resnet_in_torch(torch, params, x, groups, name.endswith("avg"))
    found = jax.jit(model.apply)(params, jnp.asarray(images))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["alexnet-small", *SMALL])
@pytest.mark.parametrize("data", [MNIST, CIFAR], ids=["mnist", "cifar10"])
def test_features_are_what_the_last_layer_sees(name, data):
    model = models.make(name.split()[0], data, **SMALL.get(name, {}))
    params = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((3, *data.image_shape), jnp.float32)
    logits, features = (jax.eval_shape(f, params, images) for f in (model.apply, model.features))
    assert logits.shape == (3, 10)
    assert features.shape == (3, params["Dense_0"]["kernel"].shape[0])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["resnet18", "resnet18 avg"])
def test_layouts_give_the_same_network(name):
    settings = SMALL[name] | {"norm": "group"}
    nhwc, chwn = (models.resnet18(Shapes((9, 8, 2), 3), layout=layout, **settings) for layout in ("NHWC", "CHWN"))
    params, images = generic(nhwc), jnp.asarray(np.random.default_rng(2).normal(size=(3, 9, 8, 2)))
    one, other = (jax.jit(model.apply)(params, images) for model in (nhwc, chwn))
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_a_resnet_learns(digits):
    model = models.resnet18(digits, width=4, norm="group")
    means = jnp.asarray(mean_images(digits, 1)[:, 0])
    loss = jax.jit(jax.value_and_grad(lambda params: cross_entropy(model.apply(params, means), jnp.arange(10))))
    params = jax.jit(model.init)(jax.random.key(0))
    losses = []
    for _ in range(60):
        value, gradient = loss(params)
        losses.append(float(value))
        params = jax.tree.map(lambda p, g: p - 0.03 * g, params, gradient)
    assert losses[-1] < 0.3 * losses[0]


def test_names_and_settings_are_those_of_the_command_line():
    name, settings = models.parse_model("resnet18:width=8,downsampling=avg,norm=group")
    model = models.make(name, CIFAR, **settings)
    assert model.settings == {"width": 8, "downsampling": "avg", "norm": "group", "initialiser": "default"}
    assert models.make(*models.parse_model("alexnet-small")[:1], CIFAR).name == "alexnet-small"
    with pytest.raises(DataError, match=r"models\.alexnet_small\(data\)"):
        models.check_fits(models.alexnet_small(CIFAR), jnp.zeros((1, 28, 28, 1)), 10)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: models.vgg11(Shapes((16, 16, 3), 10)), DataError, "five times, but these are 16 x 16.*image_size=32"),
        (lambda: models.resnet18(Shapes((7, 9, 3), 10)), DataError, "at least 16 x 16 pixels, but these are 7 x 9"),
        (lambda: models.resnet18(Shapes((8, 8, 3), 10)), DataError, "norm='instance' .* at least 16 x 16"),
        (lambda: models.resnet18(Shapes((7, 9, 3), 10), norm="group"), DataError, "at least 8 x 8"),
        (lambda: models.alexnet_small(Shapes((4, 4, 1), 10)), DataError, "three times, but these are 4 x 4"),
        (lambda: models.vgg11(CIFAR, norm="bach"), OptionError, "Unknown norm 'bach'"),
        (lambda: models.resnet18(CIFAR, norm="group", width=6), OptionError, "a multiple of 4 .* width=6"),
        (lambda: models.resnet18(CIFAR, downsampling="max"), OptionError, "Unknown downsampling 'max'"),
        (lambda: models.vgg11(CIFAR, width=0), OptionError, "width of at least 1"),
        (lambda: models.make("resnet", CIFAR), OptionError, "Did you mean 'resnet18'"),
    ],
)
def test_errors_say_what_to_do(build, error, words):
    with pytest.raises(error, match=re.compile(words, re.DOTALL)):
        build()


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leaky_relu"])
@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
def test_the_convnet_has_every_variant_that_tables_of_transfer_ask_for(activation, pooling):
    spec = Shapes((8, 8, 1), 10)
    model = models.convnet(spec, width=8, depth=2, activation=activation, pooling=pooling)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert jax.eval_shape(model.apply, params, jnp.zeros((2, 8, 8, 1))).shape == (2, 10)
    features = 8 * (8 if pooling == "none" else 2) ** 2
    assert params["Dense_0"]["kernel"].shape == (features, 10)
