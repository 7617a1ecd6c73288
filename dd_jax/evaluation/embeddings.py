"""Networks trained on the real training images, and what one of them sees in these."""

import functools
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Float

from dd_jax.inner import (
    TRAINING_NUMBERS,
    Training,
    device_mesh,
    draw_networks,
    fit,
    in_epochs,
    keys_of,
    map_over,
    nets_at_once,
    on_each,
    replicate,
)
from dd_jax.models import Model, check_fits
from dd_jax.types import Dataset, Networks, Params, see_each_other
from dd_jax.values import with_numbers, without_numbers

_IMAGES = 150_000  # that a network sees in training, at least
_CHUNK = 100  # images at a time


def trained_networks(
    model: Model, dataset: Dataset, num_nets: int, seed: int = 0, training: Training | None = None
) -> Networks:
    """Networks trained on the training split, with a leading axis, on the host.

    Args:
        training: None for Adam (1e-3, cosine, batches of 128) over 150,000 images or more.
    """
    check_fits(model, dataset.train, dataset.num_classes)
    training = training or Training(epochs=passes(dataset), drop_last=False)
    keys = keys_of(seed, np.arange(num_nets))
    starts = draw_networks(model, keys)
    mesh = device_mesh() if num_nets > 1 else None
    transform = dataset.transform if training.on_pixels else None
    given = replicate((keys, starts, dataset.train, transform), mesh)
    return jax.tree.map(np.asarray, train_on_all(model.apply, training, mesh, *given))


def passes(dataset: Dataset) -> int:
    """Epochs of the training split that come to 150,000 images: MNIST about three times."""
    return -(-_IMAGES // len(dataset.train.labels))


def train_on_all(apply, training: Training, mesh, keys, networks, real, transform=None) -> Networks:
    """Networks (params with a leading axis) trained on, each with its own of the `keys`, on all of a split.

    Args:
        transform: of the images, for a training that changes pixels.
    """
    training, numbers = without_numbers(in_epochs(training, len(real.labels)), TRAINING_NUMBERS)
    return _train_on_all(apply, training, mesh, *replicate((numbers,), mesh), keys, networks, real, transform)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _train_on_all(apply, training, mesh, numbers, keys, networks, real, transform):
    def each(numbers, keys, networks, real, transform):
        known = with_numbers(training, numbers)
        at_once = nets_at_once(jax.tree.map(lambda leaf: leaf[0], networks))
        return map_over(lambda item: fit(apply, item[1], item[0], real, known, transform), (keys, networks), at_once)

    return on_each(each, mesh)(numbers, keys, networks, real, transform)


def trained_features(model: Model, dataset: Dataset, seed: int = 0) -> Float[np.ndarray, "images values"]:
    """The features (N, F) of the training images, in the eyes of one of the `trained_networks`.

    Raises:
        OptionError: for a model without features.
    """
    params = jax.tree.map(lambda leaf: leaf[0], trained_networks(model, dataset, 1, seed))
    return np.asarray(_features(model.features, params, dataset.train.images))


@functools.partial(jax.jit, static_argnums=0)
def _features(features, params: Params, images: Any) -> jax.Array:
    if see_each_other(images):
        return features(params, images)
    return lax.map(lambda image: features(params, image[None])[0], images, batch_size=_CHUNK)
