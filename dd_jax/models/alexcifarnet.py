"""AlexCifarNet: the AlexNet for CIFAR-10 of Dataset Distillation (Wang et al. 2018), after cuda-convnet."""

import jax
from flax import linen as nn

from dd_jax.errors import DataError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import (
    Layout,
    channel_axis,
    from_layout,
    layout_for,
    local_response_norm,
    max_pool,
    to_layout,
)
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import Conv, Dense


class _AlexCifarNet(nn.Module):
    num_classes: int
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        axis = channel_axis(self.layout)

        def conv(x: jax.Array) -> jax.Array:
            return nn.relu(Conv(64, 5, 2, layout=self.layout, initialiser=self.initialiser)(x))

        x = to_layout(images, self.layout)
        x = local_response_norm(max_pool(conv(x), 3, 2, 1), axis=axis)
        x = max_pool(local_response_norm(conv(x), axis=axis), 3, 2, 1)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        x = nn.relu(Dense(384, self.initialiser)(x))
        x = nn.relu(Dense(192, self.initialiser)(x))
        return Dense(self.num_classes, self.initialiser)(x), x


def alexcifarnet(data: ImageSpec, *, initialiser: str = "xavier", layout: Layout | None = None) -> Model:
    """AlexCifarNet for 32 x 32 images of any channel count (1,756,426 parameters on CIFAR-10).

    Two 5x5 convolutions of 64 channels, each with 3x3 max-pooling of stride 2 and local response normalisation
    over 4 channels (after the first pooling, before the second), then linear layers of 384, 192 and K units.

    Raises:
        DataError: for other image sizes.
        OptionError: for an unknown initialiser.

    Source: Wang et al. 2018, section 4 and the released `networks/networks.py`.
    """
    height, width, _ = data.image_shape
    if (height, width) != (32, 32):
        raise DataError(
            f"AlexCifarNet needs images of 32 x 32 pixels, but these are {height} x {width}. Load "
            "the dataset with image_size=32, or use another model (mlp and convnet work with any "
            "size)."
        )
    kernel_initialiser(initialiser)
    module = _AlexCifarNet(data.num_classes, initialiser, layout or layout_for(64))
    return from_linen("alexcifarnet", module, data, {"initialiser": initialiser})
