"""LeNet as in Dataset Distillation (Wang et al. 2018): two 5x5 convolutions and three linear layers."""

import jax
from flax import linen as nn

from dd_jax.errors import DataError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import Conv, Dense


class _LeNet(nn.Module):
    num_classes: int
    padding: int
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        def conv(channels: int, padding: int) -> Conv:
            return Conv(channels, 5, padding, layout=self.layout, initialiser=self.initialiser)

        x = to_layout(images, self.layout)
        x = max_pool(nn.relu(conv(6, self.padding)(x)), 2, 2)
        x = max_pool(nn.relu(conv(16, 0)(x)), 2, 2)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        x = nn.relu(Dense(120, self.initialiser)(x))
        x = nn.relu(Dense(84, self.initialiser)(x))
        return Dense(self.num_classes, self.initialiser)(x), x


def lenet(data: ImageSpec, *, initialiser: str = "xavier", layout: Layout | None = None) -> Model:
    """LeNet for 28- or 32-pixel square images of any channel count (61,706 parameters on MNIST).

    Args:
        initialiser: a name from `dd_jax.models.initialisers.KERNELS`; biases start at zero.
        layout: how the activations lie in memory; None lets the library choose. Results agree to rounding.

    Raises:
        DataError: for other image sizes.
        OptionError: for an unknown initialiser.

    Source: Wang et al. 2018, section 4 and the released `networks/networks.py`.
    """
    height, width, _ = data.image_shape
    if height != width or height not in (28, 32):
        raise DataError(
            f"LeNet needs images of 28 x 28 or 32 x 32 pixels, but these are {height} x {width}. "
            "Load the dataset with image_size=28, or use another model (mlp and convnet work "
            "with any size)."
        )
    kernel_initialiser(initialiser)
    module = _LeNet(data.num_classes, 2 if height == 28 else 0, initialiser, layout or layout_for(16))
    return from_linen("lenet", module, data, {"initialiser": initialiser})
