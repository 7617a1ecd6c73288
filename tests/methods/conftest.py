"""A dataset and a network that are done in a moment."""

import numpy as np
import pytest

import dd_jax as dd


@pytest.fixture(scope="module")
def tiny() -> dd.Dataset:
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = generator.uniform(size=(90, 4, 4, 1)) * 0.5 + 0.25 * labels[:, None, None, None]
    return dd.dataset_from_arrays(images, labels)


@pytest.fixture(scope="module")
def model(tiny) -> dd.models.Model:
    return dd.models.mlp(tiny, hidden=(5,))
