"""One set of images without an order or step sizes of its own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.data.transforms import clip_to_pixels
from dd_jax.errors import OptionError
from dd_jax.parameterisation import PLAIN, Learnt, Parameterisation
from dd_jax.synthetic.base import ProjectFn, Synthetic, unbounded
from dd_jax.synthetic.counts import Counts, class_counts
from dd_jax.synthetic.initial import check_init_images, initial_images
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Transform


class Pixels(NamedTuple):
    """images (N, H, W, C), in class order: all that is learnt."""

    images: Float[Array, "set height width channels"]


def pixels(
    num_classes: int,
    images_per_class: Counts = 1,
    init_images: str = "real",
    step_size: float = 0.01,
    clamp: bool = False,
) -> Synthetic:
    """A set that is trained on as any training set is: all of it is one batch, and labels are hard.

    Args:
        images_per_class: one number, or one for each class.
        init_images: what they start as, see `initial_images`.
        step_size: not learnt; said of the set where something asks for one, as a protocol does that leaves it open.
        clamp: whether images are kept where their pixels lie between 0 and 1.

    Raises:
        OptionError: for a count below one, a step size that is not positive, or an unknown `init_images`.

    Source: Zhao et al. 2021, section 3.2.
    """
    check_set(init_images, step_size)
    labels = class_labels(num_classes, images_per_class)

    def init(key: jax.Array, dataset: Dataset) -> Pixels:
        return Pixels(initial_images(key, dataset, labels, 1, init_images)[0])

    def batch(learnable: Pixels, key: jax.Array, t: jax.Array) -> Batch:
        return Batch(learnable.images, jnp.asarray(labels))

    def decode(learnable: Pixels) -> DistilledData:
        return one_batch({"images": learnable.images[None]}, labels, step_size)

    return Synthetic(init, batch, decode, projection(clamp), 1)


def projection(clamp: bool) -> ProjectFn:
    """What keeps all the images of a learnable in the range of pixels, or leaves them as they are.

    Source: Kim et al. 2022, the released code.
    """

    def clamped(learnable: Learnable, transform: Transform | None = None) -> Learnable:
        if transform is None:
            raise OptionError(
                "Images can only be clamped to the range of pixels with the transform to them. Give the transform."
            )
        return jax.tree.map(lambda leaf: clip_to_pixels(transform, leaf), learnable)

    return clamped if clamp else unbounded


def one_batch(
    learnt: Learnt, labels: jax.Array | np.ndarray, step_size: float, parameterisation: Parameterisation = PLAIN
) -> DistilledData:
    """A distilled set of a single batch and step, with labels (N,) or (N, K)."""
    sizes = jnp.full(1, step_size, jnp.float32)
    return DistilledData(learnt, jnp.asarray(labels)[None], sizes, parameterisation=parameterisation)


def class_labels(num_classes: int, per_class: Counts, times: int = 1) -> np.ndarray:
    """Each class `per_class` times, or `times` as often, in class order, int32; OptionError for counts below one."""
    return np.repeat(np.arange(num_classes, dtype=np.int32), times * class_counts(per_class, num_classes))


def check_set(init_images: str, step_size: float) -> None:
    """OptionError for what a set without an order can't be made of."""
    if not 0 < step_size < float("inf"):
        raise OptionError(f"step_size must be positive and finite, but is {step_size}.")
    check_init_images(init_images)
