import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.data import dataset_from_arrays, describe, to_pixels
from dd_jax.errors import DataError, OptionError

NUM = 60


@pytest.fixture
def images():
    """Every image has its own index in its first two pixels."""
    images = np.random.default_rng(0).integers(0, 256, (NUM, 4, 5, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(NUM)
    return images


@pytest.fixture
def labels():
    return np.arange(NUM) % 3


def identities(dataset, batch):
    return set(np.rint(np.asarray(to_pixels(dataset.transform, batch.images))[:, 0, 0, 0] * 255).astype(int).tolist())


def test_arrays_are_device_arrays_of_the_contracted_types(images, labels):
    dataset = dataset_from_arrays(images, labels, class_names=["a", "b", "c"])
    for batch in (dataset.train, dataset.validation, dataset.test):
        assert isinstance(batch.images, jax.Array)
        assert batch.images.dtype == jnp.float32
        assert batch.labels.dtype == jnp.int32
        assert batch.images.shape == (*batch.labels.shape, 4, 5, 3)
    assert dataset.image_shape == (4, 5, 3)
    assert dataset.class_names == ("a", "b", "c")


def test_splits_never_overlap_and_lose_nothing(images, labels):
    dataset = dataset_from_arrays(images, labels)
    parts = [identities(dataset, batch) for batch in (dataset.train, dataset.validation, dataset.test)]
    assert [len(part) for part in parts] == [43, 5, 12]
    assert set.union(*parts) == set(range(NUM))


def test_labels_still_belong_to_their_images(images, labels):
    dataset = dataset_from_arrays(images, labels)
    for batch in (dataset.train, dataset.validation, dataset.test):
        indices = np.rint(np.asarray(to_pixels(dataset.transform, batch.images))[:, 0, 0, 0] * 255).astype(int)
        np.testing.assert_array_equal(batch.labels, labels[indices])


def test_given_splits_are_kept(images, labels):
    dataset = dataset_from_arrays(
        images[:40], labels[:40], test=(images[40:50], labels[40:50]), validation=(images[50:], labels[50:])
    )
    assert identities(dataset, dataset.train) == set(range(40))
    assert identities(dataset, dataset.test) == set(range(40, 50))
    assert identities(dataset, dataset.validation) == set(range(50, 60))


def test_transform_is_fitted_to_train_only(images, labels):
    dataset = dataset_from_arrays(images, labels)
    np.testing.assert_allclose(dataset.train.images.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.images.std((0, 1, 2)), 1, rtol=1e-5)


def test_a_fitted_transform_is_used_as_it_is(images, labels):
    fitted = dataset_from_arrays(images, labels).transform
    other = dataset_from_arrays(images[::-1], labels[::-1], transform=fitted)
    np.testing.assert_array_equal(other.transform.arrays["mean"], fitted.arrays["mean"])


@pytest.mark.parametrize("convert", [lambda x: x, lambda x: x / 255.0, lambda x: jnp.asarray(x / 255.0, jnp.float32)])
def test_bytes_and_floats_give_the_same_pixels(images, labels, convert):
    dataset = dataset_from_arrays(convert(images), labels, transform="identity")
    np.testing.assert_allclose(dataset.train.images[0] * 255, images[1], atol=1e-4)


def test_bytes_are_divided_to_the_last_bit():
    images = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    dataset = dataset_from_arrays(images, np.arange(256) % 2, test=(images, np.arange(256) % 2), transform="identity")
    np.testing.assert_array_equal(dataset.test.images.ravel(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_bool_and_missing_channel_axis(images, labels):
    dataset = dataset_from_arrays(images[..., 0] > 127, labels, transform="identity")
    assert dataset.image_shape == (4, 5, 1)
    assert set(np.unique(dataset.train.images)) == {0.0, 1.0}


def test_identity_keeps_floats_of_any_range(images, labels):
    model_space = images.astype(np.float32) - 100
    dataset = dataset_from_arrays(model_space, labels, test=(model_space, labels), transform="identity")
    np.testing.assert_array_equal(dataset.test.images, model_space)


def test_later_changes_to_the_users_arrays_do_not_reach_the_dataset(images, labels):
    mine = images.astype(np.float32) / 255
    dataset = dataset_from_arrays(mine, labels, test=(mine, labels), transform="identity")
    before = np.array(dataset.test.images)
    mine[:] = 0
    np.testing.assert_array_equal(dataset.test.images, before)


def test_integral_float_labels_and_column_labels_are_accepted(images, labels):
    expected = dataset_from_arrays(images, labels).train.labels
    np.testing.assert_array_equal(dataset_from_arrays(images, labels.astype(float)).train.labels, expected)
    np.testing.assert_array_equal(dataset_from_arrays(images, labels[:, None]).train.labels, expected)


def test_fingerprint_tells_datasets_apart_and_repeats(images, labels):
    def fingerprint(x=images, y=labels, **options):
        return dataset_from_arrays(x, y, **options).fingerprint

    changed = images.copy()
    changed[0, 1, 1, 0] ^= 1
    prints = [
        fingerprint(),
        fingerprint(changed),
        fingerprint(y=(labels + 1) % 3),
        fingerprint(images.reshape(NUM, 5, 4, 3)),
        fingerprint(class_names="xyz"),
        fingerprint(transform="identity"),
        fingerprint(split_seed=1),
        fingerprint(validation_fraction=0.2),
    ]
    assert len(set(prints)) == len(prints)
    assert fingerprint() == prints[0]
    assert fingerprint(name="other") == prints[0]
    assert len(prints[0]) == 16


def test_describe_counts_and_is_json(images, labels):
    described = describe(dataset_from_arrays(images, labels, class_names=["a", "b", "c"]))
    assert json.loads(json.dumps(described)) == described
    assert described["splits"]["test"] == {"num_images": 12, "images_per_class": {"a": 4, "b": 4, "c": 4}}


def test_empty_validation_on_request(images, labels):
    dataset = dataset_from_arrays(images, labels, validation_fraction=0)
    assert dataset.validation.images.shape == (0, 4, 5, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(y == 2, -1, y), r"must be integers from 0, but 20 are not, such as -1 at index 2"),
        (lambda y: y + 0.5, r"such as 0.5 at index 0"),
        (lambda y: np.where(y == 1, np.nan, y), "such as nan at index 1"),
        (lambda y: y[:-1], r"shape \(60,\), one for each image, but have \(59,\)"),
        (lambda y: np.eye(3)[y], r"one-hot.*argmax\(axis=1\)"),
        (lambda y: np.array(["cat", "dog", "cow"])[y], "numpy.unique"),
        (lambda y: np.where(y == 1, 2, y), r"these have none: '1' \(label 1\)"),
        (lambda y: np.zeros_like(y), "at least 2 classes, but has 1"),
        (lambda y: np.where(y == 1, 10**6, y), "go up to 1000000, but there are only 60 images"),
        (lambda y: np.where(y == 1, 2**33, y), "such as 8589934592 at index 1"),
        (
            lambda y: np.where(y == 1, 50, y),
            r"these have none: '1' \(label 1\), .*'6' \(label 6\), \.\.\.\. There are 51",
        ),
        (lambda y: y[:0], "train labels are empty"),
    ],
)
def test_bad_labels(images, labels, change, message):
    with pytest.raises(DataError, match=message):
        dataset_from_arrays(images, change(labels))


def with_nan(images):
    floats = images / 255.0
    floats[[7, 9], 0, 0, 0] = np.nan, np.inf
    return floats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_nan, "2 of the 60 train images .* not finite .*, the first at index 7"),
        (lambda x: x.astype(np.float32), r"are in \[0, 255\]: divide by 255"),
        (lambda x: x / 127.5 - 1, r"are in \[-1, 1\]: use \(images \+ 1\) / 2.*transform='identity'"),
        (lambda x: x / 50.0 - 2, "undo the standardisation"),
        (lambda x: x.astype(np.int64), "have type int64; expected uint8"),
        (lambda x: np.zeros((NUM, 3, 8, 8), np.uint8), r"channel-first.*transpose\(0, 2, 3, 1\)"),
        (lambda x: np.zeros((NUM, 1, 28, 28), np.uint8), "channel-first"),
        (lambda x: x[:0], "train images are empty"),
        (lambda x: x[:, :0], "train images are empty"),
        (lambda x: x[:, 0, 0], r"expected \(N, H, W\) for grey images or \(N, H, W, C\)"),
        (lambda x: [*x[:-1], x[-1][:2]], "ragged"),
        (lambda x: x.astype(object), "object array"),
    ],
)
def test_bad_images(images, labels, change, message):
    with pytest.raises(DataError, match=message):
        dataset_from_arrays(change(images), labels)


@pytest.mark.parametrize("part", ["test", "validation"])
def test_further_splits_must_match_train(images, labels, part):
    with pytest.raises(DataError, match=rf"{part} images are \(3, 5, 3\) and the train images \(4, 5, 3\)"):
        dataset_from_arrays(images, labels, **{part: (images[:, :3], labels)})
    with pytest.raises(DataError, match=f"{part} labels go up to 3"):
        dataset_from_arrays(images, labels, **{part: (images, labels + 1)})
    with pytest.raises(DataError, match=rf"{part} labels should have shape .*, but have \(59,\)"):
        dataset_from_arrays(images, labels, **{part: (images, labels[1:])})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b"], "2 names and the train labels go up to 2"),
        (["a", "b", "c", "truck"], r"these have none: 'truck' \(label 3\)"),
        (["a", "b", "a"], "'a' is there more than once"),
    ],
)
def test_bad_class_names(images, labels, names, message):
    with pytest.raises(DataError, match=message):
        dataset_from_arrays(images, labels, class_names=names)


def test_bad_options(images, labels):
    with pytest.raises(OptionError, match="Did you mean 'identity'"):
        dataset_from_arrays(images, labels, transform="identiti")
    with pytest.raises(OptionError, match="at least 0 and below 1"):
        dataset_from_arrays(images, labels, validation_fraction=1.5)
    with pytest.raises(OptionError, match="test_fraction must be above 0"):
        dataset_from_arrays(images, labels, test_fraction=0)
    with pytest.raises(DataError, match="every class has a single image"):
        dataset_from_arrays(images[:3], labels[:3])
