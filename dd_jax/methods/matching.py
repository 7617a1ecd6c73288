"""What the methods that match real images class by class have in common: their sets, and what those are for."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from dd_jax.inner import ByClass
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic, multi_formation, num_formed, pixels
from dd_jax.types import Batch, Networks, Protocol, Transform

_BY_CHANGE = {"dsa": "dsa", "dsa_no_flip": "dsa-digits"}


class MatchingArrays(NamedTuple):
    """What a step reads: real images by class, the transform to their pixels and, if any, networks to draw from."""

    real: ByClass
    transform: Transform
    networks: Networks | None = None


def images_of(model: Model, options: Any) -> Synthetic:
    """Plain pixels, or several images out of each stored one; OptionError for settings out of range."""
    kept = {"init_images": options.init_images, "clamp": options.clamp}
    num_formed(options.factor, options.formation)
    if options.factor == 1:
        return pixels(model.num_classes, options.images_per_class, **kept)
    return multi_formation(
        model.num_classes, options.images_per_class, options.factor, formation=options.formation, **kept
    )


def set_by_class(synthetic: Synthetic, num_classes: int) -> Callable[[Any], Batch]:
    """Learnable -> the set as images (K, M, H, W, C) with labels (K, M) or (K, M, classes)."""

    def whole(learnable: Any) -> Batch:
        decoded = synthetic.decode(learnable)
        shaped = [leaf[0].reshape(num_classes, -1, *leaf.shape[2:]) for leaf in (decoded.images, decoded.labels)]
        return Batch(*shaped)

    return whole


def useful_devices(available: int, num_inits: int, num_classes: int) -> int:
    """The fewest devices, of those available, that make a step fastest: networks are divided, and then classes."""

    def speed(devices: int) -> float:
        groups = max(d for d in range(1, devices + 1) if devices % d == 0 and d <= num_inits)
        return num_inits / math.ceil(num_inits / groups) * math.gcd(devices // groups, num_classes)

    return max(range(1, available + 1), key=lambda devices: (speed(devices), -devices))


def set_protocol(change: str, name: str | None = None) -> Protocol:
    """Of a set for training from scratch in shuffled minibatches: `name`, or what goes with an augmentation."""
    return Protocol(name or _BY_CHANGE.get(change, "dc"), order="random")


def summary_of(options: Any, model: Model) -> str:
    """How many images a set has, and out of how many stored ones."""
    stored = options.images_per_class * model.num_classes
    if options.factor == 1:
        return f"{stored} images"
    return f"{stored} images that become {stored * num_formed(options.factor, options.formation)}"
