"""What the methods that match real images class by class have in common: their sets, and what those are for."""

from typing import Any

from dd_jax.errors import OptionError, unknown_name
from dd_jax.inner import AUGMENTS
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic, multi_formation, pixels
from dd_jax.types import Protocol

OVER_INITS = ("auto", "vmap", "map")

_BY_CHANGE = {"dsa": "dsa", "dsa_no_flip": "dsa-digits"}


def images_of(model: Model, images_per_class: int, factor: int, init_images: str) -> Synthetic:
    """Plain pixels, or several images out of each stored one; OptionError for settings out of range."""
    if factor == 1:
        return pixels(model.num_classes, images_per_class, init_images)
    return multi_formation(model.num_classes, images_per_class, factor, init_images)


def set_protocol(change: str, name: str | None = None) -> Protocol:
    """Of a set for training from scratch in shuffled minibatches: `name`, or what goes with an augmentation."""
    return Protocol(name or _BY_CHANGE.get(change, "dc"), order="random")


def summary_of(options: Any, model: Model) -> str:
    """How many images a set has, and out of how many stored ones."""
    stored = options.images_per_class * model.num_classes
    return f"{stored} images" if options.factor == 1 else f"{stored} images that become {stored * options.factor**2}"


def check_matching(options: Any) -> None:
    """OptionError for those options that the methods share, if they are out of range or unknown."""
    for name in ("num_inits", "batch_size"):
        if getattr(options, name) < 1:
            raise OptionError(f"{name} must be at least 1, but is {getattr(options, name)}.")
    if options.augment not in AUGMENTS:
        raise unknown_name("augment", options.augment, AUGMENTS)
    if options.over_inits not in OVER_INITS:
        raise unknown_name("over_inits", options.over_inits, OVER_INITS)
