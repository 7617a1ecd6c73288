"""The small AlexNet of Dataset Condensation (Zhao et al. 2021), for images of 28 or 32 pixels."""

import jax
from flax import linen as nn

from dd_jax.errors import DataError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import Conv, Dense

_SMALLEST = 8  # pixels that can be halved three times


class _AlexNetSmall(nn.Module):
    num_classes: int
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def conv(x: jax.Array, channels: int, size: int, padding: int) -> jax.Array:
            return nn.relu(Conv(channels, size, padding, layout=self.layout, initialiser=self.initialiser)(x))

        x = to_layout(images, self.layout)
        padding = 4 if images.shape[1] == 28 else 2  # 28 pixels become 32
        x = max_pool(conv(x, 128, 5, padding), 2, 2)
        x = max_pool(conv(x, 192, 5, 2), 2, 2)
        x = conv(x, 256, 3, 1)
        x = conv(x, 192, 3, 1)
        x = max_pool(conv(x, 192, 3, 1), 2, 2)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        return Dense(self.num_classes, self.initialiser)(x), x


def alexnet_small(data: ImageSpec, *, initialiser: str = "default", layout: Layout | None = None) -> Model:
    """AlexNet as in the field's tables of small images (1,872,202 parameters on CIFAR-10, 1,865,802 on MNIST).

    Convolutions of 128 and 192 channels (5x5), 256, 192 and 192 (3x3), 2x2 max-pooling after the first, second and
    last, one linear layer; no normalisation. 28 pixels are padded to 32. Its name for `make` is "alexnet-small".

        5*5*C*128 + 128  +  5*5*128*192 + 192  +  3*3*192*256 + 256  +  3*3*256*192 + 192  +  3*3*192*192 + 192
        +  4*4*192*K + K

    Raises:
        DataError: for images of less than eight pixels.
        OptionError: for an unknown initialiser.

    Source: the released code of Zhao et al. 2021, `networks.py`.
    """
    if min(data.image_shape[:2]) < _SMALLEST:
        raise DataError(
            f"alexnet-small halves images three times, but these are {data.image_shape[0]} x "
            f"{data.image_shape[1]}. Load the dataset with image_size=32, or use another model "
            "(mlp and convnet work with any size)."
        )
    kernel_initialiser(initialiser)
    module = _AlexNetSmall(data.num_classes, initialiser, layout or layout_for(256))
    return from_linen("alexnet-small", module, data, {"initialiser": initialiser})
