import os
from pathlib import Path

import numpy as np
import pytest

from dd_jax.data import load_dataset, to_pixels
from dd_jax.errors import OptionError


def needs(name):
    folder = os.environ.get("TFDS_DATA_DIR")
    there = folder is not None and (Path(folder) / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"{name} is not prepared in TFDS_DATA_DIR")


def one_nearest_neighbour(dataset, num_train=4000, num_test=500):
    train, test = (
        np.asarray(batch.images[:count]).reshape(min(count, len(batch.labels)), -1)
        for batch, count in ((dataset.train, num_train), (dataset.test, num_test))
    )
    distances = (train**2).sum(1) - 2 * test @ train.T
    nearest = np.asarray(dataset.train.labels)[distances.argmin(1)]
    return float((nearest == np.asarray(dataset.test.labels)[:num_test]).mean())


def test_digits_are_split_stratified_and_repeatable():
    dataset = load_dataset("digits")
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.num_classes == 10
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [1294, 144, 359]
    counts = np.bincount(dataset.test.labels)
    assert counts.min() >= 34
    assert counts.max() <= 37
    pixels = np.asarray(to_pixels(dataset.transform, dataset.train.images)) * 16
    np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)
    assert pixels.max() == pytest.approx(16)
    assert load_dataset("digits").fingerprint == dataset.fingerprint
    assert load_dataset("digits", split_seed=1).fingerprint != dataset.fingerprint


def test_digits_labels_belong_to_their_images():
    assert one_nearest_neighbour(load_dataset("digits")) > 0.95


def test_options_reach_the_dataset():
    dataset = load_dataset("digits", validation_fraction=0.5, transform="identity")
    assert len(dataset.validation.labels) == 719
    assert dataset.transform.kind == "identity"
    with pytest.raises(OptionError, match="image_size must be"):
        load_dataset("digits", image_size=0)


@needs("mnist")
@pytest.mark.slow
def test_mnist(tmp_path):
    dataset = load_dataset("mnist", cache_dir=tmp_path)
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [54000, 6000, 10000]
    counts = np.bincount(dataset.train.labels) + np.bincount(dataset.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.image_shape == (28, 28, 1)
    assert one_nearest_neighbour(dataset) > 0.9


@needs("cifar10")
@pytest.mark.slow
def test_cifar10(tmp_path):
    dataset = load_dataset("cifar10", cache_dir=tmp_path)
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [45000, 5000, 10000]
    for batch, each in ((dataset.train, 4500), (dataset.validation, 500), (dataset.test, 1000)):
        assert np.bincount(batch.labels).tolist() == [each] * 10
    assert dataset.class_names[0] == "airplane"
    assert dataset.image_shape == (32, 32, 3)
    assert one_nearest_neighbour(dataset) > 0.22
