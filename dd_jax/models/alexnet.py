"""AlexNet for ImageNet, as in torchvision and Dataset Distillation (Wang et al. 2018), and its published weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dd_jax.errors import DataError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import Conv, Dense
from dd_jax.types import Params

_SIZE = 224
_WIDEST = 384
_POOLED = (256, 6, 6)  # what the first linear layer sees: channels, height and width, in PyTorch's order
_LAYERS = {  # torchvision's names and ours
    "features.0": "Conv_0",
    "features.3": "Conv_1",
    "features.6": "Conv_2",
    "features.8": "Conv_3",
    "features.10": "Conv_4",
    "classifier.1": "Dense_0",
    "classifier.4": "Dense_1",
    "classifier.6": "Dense_2",
}
_HEAD = "classifier.6"


class _AlexNet(nn.Module):
    num_classes: int
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def conv(x: jax.Array, channels: int, size: int, padding: int, stride: int = 1) -> jax.Array:
            return nn.relu(Conv(channels, size, padding, stride, self.layout, self.initialiser)(x))

        x = to_layout(images, self.layout)
        x = max_pool(conv(x, 64, 11, 2, 4), 3, 2)
        x = max_pool(conv(x, 192, 5, 2), 3, 2)
        x = conv(x, _WIDEST, 3, 1)
        x = conv(x, 256, 3, 1)
        x = max_pool(conv(x, 256, 3, 1), 3, 2)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        x = nn.relu(Dense(4096, self.initialiser)(x))
        x = nn.relu(Dense(4096, self.initialiser)(x))
        return Dense(self.num_classes, self.initialiser)(x), x


def alexnet(data: ImageSpec, *, initialiser: str = "default", layout: Layout | None = None) -> Model:
    """AlexNet for 224 x 224 images of one or three channels (61,100,840 parameters with 1000 classes).

    Five convolutions of 64, 192, 384, 256 and 256 channels, 3x3 max-pooling of stride 2 after the first, second and
    fifth, then linear layers of 4096, 4096 and K units; no dropout and no response normalisation.

    Raises:
        DataError: for other image sizes or channel counts.
        OptionError: for an unknown initialiser.

    Source: Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", as in torchvision;
    Wang et al. 2018, section 4 and the released `networks/networks.py`.
    """
    height, width, channels = data.image_shape
    if (height, width) != (_SIZE, _SIZE) or channels not in (1, 3):
        raise DataError(
            f"AlexNet needs images of {_SIZE} x {_SIZE} pixels with 1 or 3 channels, but these "
            f"are {height} x {width} with {channels}. Load the dataset with image_size={_SIZE}, "
            "or use another model (mlp and convnet work with any size)."
        )
    kernel_initialiser(initialiser)
    module = _AlexNet(data.num_classes, initialiser, layout or layout_for(_WIDEST))
    return from_linen("alexnet", module, data, {"initialiser": initialiser})


def alexnet_from_torchvision(state: Mapping[str, np.ndarray], model: Model) -> Params:
    """The parameters of `model`, an alexnet, from a state dict of `torchvision.models.alexnet`.

    The head, classifier.6, is not taken over: the new one has K = `model.num_classes` outputs, zero weights and unit
    biases, so that every logit is 1 until it is trained.

    Args:
        state: features.{0,3,6,8,10}.weight (out, in, kh, kw), classifier.{1,4,6}.weight (out, in) and the biases
            (out,), in any floating point type; computed with in float32.

    Raises:
        DataError: for another model, for a state dict of another architecture, and for numbers that are not floating
            point or not finite.

    Source: the released code of Wang et al. 2018, `init_weights` for "imagenet_pretrained" in `networks/utils.py`.
    """
    if model.name != "alexnet":
        raise DataError(
            "The weights of torchvision's AlexNet need the model alexnet, but the model is "
            f"{model.name}. Use models.alexnet."
        )
    params = jax.eval_shape(model.init, jax.random.key(0))
    expected = _torch_shapes(params)
    _check_names(state, expected)
    arrays = {name: _checked(name, state[name], shape) for name, shape in expected.items()}
    loaded = {
        ours: {"kernel": _kernel(name, arrays[f"{name}.weight"]), "bias": jnp.array(arrays[f"{name}.bias"])}
        for name, ours in _LAYERS.items()
        if name != _HEAD
    }
    head = params[_LAYERS[_HEAD]]
    new = {"kernel": jnp.zeros(head["kernel"].shape, jnp.float32), "bias": jnp.ones(head["bias"].shape, jnp.float32)}
    return {**loaded, _LAYERS[_HEAD]: new}


def _torch_shapes(params: Params) -> dict[str, tuple[int | None, ...]]:
    """Names and shapes in torchvision's layout; None, the number of the file's classes, may be anything."""
    shapes: dict[str, tuple[int | None, ...]] = {}
    for name, ours in _LAYERS.items():
        *window, inputs, outputs = params[ours]["kernel"].shape
        rows = None if name == _HEAD else outputs
        shapes |= {f"{name}.weight": (rows, inputs, *window), f"{name}.bias": (rows,)}
    return shapes


def _check_names(state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int | None, ...]]) -> None:
    missing, unknown = ([name for name in a if name not in b] for a, b in ((expected, state), (state, expected)))
    if missing or unknown:
        found = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise DataError(
            f"Expected the state dict of torchvision's AlexNet, with the weight and bias of {', '.join(_LAYERS)}; "
            f"{'; '.join(found)}. Use the file of torchvision.models.alexnet."
        )


def _checked(name: str, value: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """`value` as float32, once its shape, type and numbers are as expected."""
    array = np.asarray(value)
    if array.ndim != len(shape) or any(e not in (None, f) for e, f in zip(shape, array.shape, strict=True)):
        wanted = f"({', '.join('any' if e is None else str(e) for e in shape)})"
        remedy = "Use the file of torchvision.models.alexnet"
        if name == "features.0.weight" and array.shape in {(64, c, 11, 11) for c in (1, 3)}:
            remedy = f"The model takes images of {shape[1]} channels and the file of {array.shape[1]}: use such images"
        raise DataError(f"{name} should be {wanted}, found {array.shape}. {remedy}.")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DataError(f"{name} should be floating point, but is {array.dtype}. Use weights that are not quantised.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise DataError(f"{name} should be finite in float32, but is not. Download the file again.")
    return array


def _kernel(name: str, weight: np.ndarray) -> jax.Array:
    """A kernel in our order: (kh, kw, in, out), or (in, out) with what comes from the images in the order H, W, C."""
    if weight.ndim == 4:
        return jnp.array(weight.transpose(2, 3, 1, 0))
    if name == "classifier.1":
        weight = weight.reshape(-1, *_POOLED).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return jnp.array(weight.T)
