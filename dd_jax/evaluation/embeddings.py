"""What a network that was trained on the real training images sees in them."""

import functools

import jax
import numpy as np
from jax import lax
from jaxtyping import Float

from dd_jax.inner import Training, fit
from dd_jax.models import Model, check_fits
from dd_jax.types import Batch, Dataset, Params

_IMAGES = 150_000  # that a network sees in training, at least: MNIST about three times
_CHUNK = 100  # images at a time


def trained_network(model: Model, dataset: Dataset, seed: int = 0) -> Params:
    """One network trained on the training split with Adam (1e-3, cosine, batches of 128) for 150,000 images or more."""
    check_fits(model, dataset.train, dataset.num_classes)
    training = Training(epochs=-(-_IMAGES // len(dataset.train.labels)), drop_last=False)
    return _trained(model.init, model.apply, training, jax.random.key(seed), dataset.train)


def trained_features(model: Model, dataset: Dataset, seed: int = 0) -> Float[np.ndarray, "images values"]:
    """The features (N, F) of the training images, in the eyes of `trained_network`.

    Raises OptionError for a model without features.
    """
    params = trained_network(model, dataset, seed)
    return np.asarray(_features(model.features, params, dataset.train.images))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _trained(init, apply, training, key, real: Batch) -> Params:
    return fit(apply, init(key), jax.random.fold_in(key, 1), real, training)


@functools.partial(jax.jit, static_argnums=0)
def _features(features, params: Params, images: jax.Array) -> jax.Array:
    return lax.map(lambda image: features(params, image[None])[0], images, batch_size=_CHUNK)
