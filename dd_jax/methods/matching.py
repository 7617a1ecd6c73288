"""What the methods that match real images class by class have in common: options, sets, and what those are for."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import OptionError
from dd_jax.inner import ByClass, SmoothAugment
from dd_jax.methods.base import Roles
from dd_jax.methods.canvases import CanvasOptions, as_asked, canvas_words, check_canvas_options
from dd_jax.methods.options import SetOptions
from dd_jax.methods.outer import OuterOptions, Schedule
from dd_jax.methods.sampling import SamplingOptions
from dd_jax.models import Model
from dd_jax.synthetic import (
    Counts,
    Formation,
    Synthetic,
    class_counts,
    counts_word,
    multi_formation,
    num_formed,
    num_images,
    pixels,
)
from dd_jax.types import Batch, Networks, Protocol, Transform

_BY_CHANGE = {"dsa": "dsa", "dsa_no_flip": "dsa-digits"}


@dataclasses.dataclass(frozen=True)
class StoredOptions(CanvasOptions, SetOptions):
    """Images as they are stored."""

    images_per_class: Counts = 1
    """Stored images of each class: one number, or one for each class."""
    factor: int = 1
    """Each stored image becomes factor * factor images of the set: its tiles, enlarged (Kim et al. 2022: 2)."""
    formation: Formation = "single"
    """"multi": each stored image becomes the images of all factors up to `factor`, 1 + 4 + ... of them."""
    clamp: bool = False
    """Keep the stored images in the range of pixels, from black to white."""


@dataclasses.dataclass(frozen=True)
class MatchingOptions(OuterOptions, SamplingOptions, StoredOptions):
    """Hyper-parameters of either method."""

    num_inits: int = 1
    """Networks to match at the same time."""
    batch_size: int = 256
    """Real images of each class that a match compares with, drawn with replacement."""
    augment: SmoothAugment = "none"
    """Random change to the images of a class, the same for real and distilled ones, also in the training of networks.
    "dsa" is Zhao & Bilen 2021; take "dsa_no_flip" for digits."""
    learning_rate: float = 0.1
    """Outer learning rate of the images, in units of model space."""
    momentum: float = 0.5
    """Momentum of the outer gradient descent."""
    schedule: Schedule = "constant"
    """Schedule of the outer learning rate: "cosine" (to zero over the run), "step" (halved now and then) or
    "constant"."""
    protocol: str | None = None
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`. None: "dsa" if `augment` is "dsa"
    ("dsa-digits" without mirrors), else "dc"."""


MATCHING_ROLES = Roles(
    numbers={"learning_rate": None, "momentum": None, "decay_every": None},
    outside=("init_images", "canvas_start", "protocol"),
)


class MatchingArrays(NamedTuple):
    """What a step reads: real images by class, the transform to their pixels and, if any, networks to draw from."""

    real: ByClass
    transform: Transform
    networks: Networks | None = None


def stored_images(model: Model, options: StoredOptions) -> Synthetic:
    """Plain pixels, or several images out of each stored one; OptionError for settings out of range."""
    kept: dict[str, Any] = {"init_images": options.init_images, "clamp": options.clamp}
    num_formed(options.factor, options.formation)
    check_canvas_options(options)
    if options.factor == 1:
        return as_asked(pixels(model.num_classes, options.images_per_class, **kept), model, options)
    if options.canvas_size != 1:
        raise OptionError("A canvas can't be tiled, but factor is above 1. Use factor=1 with canvas_size.")
    return multi_formation(
        model.num_classes, options.images_per_class, options.factor, formation=options.formation, **kept
    )


def set_by_class(synthetic: Synthetic, num_classes: int) -> Callable[[Any, jax.Array], Batch]:
    """(learnable, key) -> the set as images (K, M, H, W, C) with labels (K, M) or (K, M, classes).

    The key is that of what is random in the images, if anything is. There must be as many of each class.
    """

    def whole(learnable: Any, key: jax.Array) -> Batch:
        batch = synthetic.batch(learnable, key, jnp.int32(0))
        return Batch(*(leaf.reshape(num_classes, -1, *leaf.shape[1:]) for leaf in batch))

    return whole


def class_weights(images_per_class: Counts, num_classes: int) -> np.ndarray:
    """Of each class the weight of each of its images, (K, most of a class), with the sum one; zero of no image."""
    counts = class_counts(images_per_class, num_classes)
    return ((np.arange(counts.max()) < counts[:, None]) / counts[:, None]).astype(np.float32)


def padded_by_class(
    synthetic: Synthetic, images_per_class: Counts, num_classes: int
) -> Callable[[Any, jax.Array], tuple[Batch, jax.Array]]:
    """As `set_by_class`, of any counts: images (K, M, H, W, C), M those of the largest class, and their weights (K, M).

    The weights are those of a mean over the images of a class; a class that has fewer ends in others of weight zero.
    """
    counts = class_counts(images_per_class, num_classes)

    def whole(learnable: Any, key: jax.Array) -> tuple[Batch, jax.Array]:
        batch = synthetic.batch(learnable, key, jnp.int32(0))
        mine = counts * (len(batch.labels) // counts.sum())  # a stored image may become several
        places = np.cumsum(mine)[:, None] - mine[:, None] + np.minimum(np.arange(mine.max()), mine[:, None] - 1)
        weights = jnp.asarray(class_weights(tuple(map(int, mine)), num_classes))
        return Batch(batch.images[places], batch.labels[places]), weights

    return whole


def weighted_by_class(
    synthetic: Synthetic, images_per_class: Counts, num_classes: int
) -> Callable[[Any, jax.Array], Batch]:
    """As `padded_by_class`, with the weights in soft labels (K, M, classes): M times a label and its weight.

    The mean cross-entropy over the M images of a class is then that over its own images, as it is linear in labels.
    """
    padded = padded_by_class(synthetic, images_per_class, num_classes)

    def whole(learnable: Any, key: jax.Array) -> Batch:
        batch, weights = padded(learnable, key)
        soft = batch.labels if batch.labels.ndim == 3 else jax.nn.one_hot(batch.labels, num_classes)
        return Batch(batch.images, soft * (weights.shape[1] * weights)[..., None].astype(soft.dtype))

    return whole


def useful_devices(available: int, num_inits: int, num_parts: int) -> int:
    """The fewest devices, of those available, that make a step fastest.

    Networks are divided, and then what `num_parts` counts for each of them: classes, or images of an inner step.
    """

    def speed(devices: int) -> float:
        groups = max(d for d in range(1, devices + 1) if devices % d == 0 and d <= num_inits)
        return num_inits / math.ceil(num_inits / groups) * math.gcd(devices // groups, num_parts)

    return max(range(1, available + 1), key=lambda devices: (speed(devices), -devices))


def set_protocol(change: str, name: str | None = None) -> Protocol:
    """Of a set for training from scratch in shuffled minibatches: `name`, or what goes with an augmentation."""
    return Protocol(name or _BY_CHANGE.get(change, "dc"), order="random")


def summary_of(options: MatchingOptions, model: Model) -> str:
    """How many images a set has, and out of how many stored ones."""
    stored = num_images(options.images_per_class, model.num_classes)
    if options.factor == 1:
        return f"{stored} {canvas_words(model, options)}"
    return f"{stored} images that become {stored * num_formed(options.factor, options.formation)}"


def set_words(options: MatchingOptions) -> tuple[str, ...]:
    """What tells sets of one method apart, for the names of run directories."""
    factor = () if options.factor == 1 else (f"factor{options.factor}",)
    canvas = () if options.canvas_size == 1 else (f"canvas{options.canvas_size}",)
    return (counts_word(options.images_per_class), *factor, *canvas)
