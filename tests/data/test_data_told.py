"""Arrays that may not mean what they look like: what is hidden, dark, or of several kinds is refused or told."""

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.labels import names_of
from dd_jax.errors import DataError, DataWarning

NUM = 60
IMAGES = np.random.default_rng(0).integers(0, 256, (NUM, 6, 5), dtype=np.uint8)
LABELS = np.arange(NUM) % 3


def masked(array, where=(3, 1)):
    mask = np.zeros(np.shape(array), bool)
    mask[where[: mask.ndim]] = True
    return np.ma.array(array, mask=mask)


@pytest.mark.parametrize(
    "given",
    [
        {"images": masked(IMAGES / 255)},
        {"images": [masked(image, (1,)) for image in IMAGES]},
        {"labels": masked(LABELS)},
        {"test": (masked(IMAGES), LABELS)},
        {"validation": (IMAGES, masked(LABELS))},
    ],
)
def test_masked_values_are_never_taken_for_values(given):
    with pytest.raises(DataError, match=r"values of the \w+ (images|labels) are masked.*array\.filled"):
        dd.dataset_from_arrays(**{"images": IMAGES, "labels": LABELS, **given})


@pytest.mark.parametrize("pair", [IMAGES, (IMAGES,), {"images": IMAGES}, 1])
def test_further_splits_are_pairs(pair):
    with pytest.raises(DataError, match=r"test should be a pair \(images, labels\), but is a "):
        dd.dataset_from_arrays(IMAGES, LABELS, test=pair)


def test_masked_arrays_in_which_nothing_is_masked_are_arrays():
    plain, nothing = (dd.dataset_from_arrays(images, LABELS) for images in (IMAGES, np.ma.array(IMAGES)))
    assert plain.fingerprint == nothing.fingerprint


def test_masked_images_make_no_distilled_set():
    with pytest.raises(DataError, match="2 values of the images are masked"):
        dd.distilled_from_arrays(masked(np.ones((4, 2, 1, 1)), (slice(1, 3), 1)), np.arange(4))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((IMAGES > 99).astype(np.uint8), r"brightest pixel of the train images is 1, and white is 255.*images > 0"),
        (IMAGES // 16, "brightest pixel of the train images is 15, and white is 255.*images / 15"),
        (IMAGES / 255**2, r"brightest pixel of the train images is 0\.0039\d*, and white is 1"),
        (np.full_like(IMAGES, 7), "All pixels of the train images have the same value, 7"),
    ],
)
def test_images_that_are_dark_throughout_are_told(images, message):
    with pytest.warns(DataWarning, match=message):
        dd.dataset_from_arrays(images, LABELS)


def test_bool_images_are_black_and_white_and_dark_model_space_is_the_users():
    data = dd.dataset_from_arrays(IMAGES > 127, LABELS)
    assert np.asarray(data.train.images).std() == pytest.approx(1, abs=1e-3)
    dd.dataset_from_arrays(IMAGES / 255**2, LABELS, transform="identity")  # a warning would be an error


@pytest.mark.parametrize("shape", [(2, 8, 9), (4, 8, 9), (5, 8, 8), (10, 16, 16)])
def test_channels_that_come_first_are_seen_whatever_their_number(shape):
    with pytest.raises(DataError, match="channel-first"):
        dd.dataset_from_arrays(np.zeros((NUM, *shape), np.uint8), LABELS)


@pytest.mark.parametrize("shape", [(9, 9, 200), (8, 9, 2), (1, 1, 30), (28, 28, 28)])
def test_many_channels_that_come_last_are_taken(shape):
    images = np.random.default_rng(0).random((NUM, *shape))
    assert dd.dataset_from_arrays(images, LABELS).image_shape == shape


SEVERAL = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0]] * 20)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (SEVERAL, r"have shape \(60, 3\): 40 images have several classes or none"),
        (SEVERAL.astype(bool), "40 images have several classes or none"),
        (LABELS[None], r"shape \(1, 60\), a single row. Use labels\[0\]"),
        (np.full((NUM, 4), 0.25), "shares of classes"),
        (np.stack([LABELS, LABELS + 4], 1), r"2 labels for each image\. Choose a column, such as labels\[:, 0\]"),
        (np.zeros((NUM - 1, 3), int), "there are 60 images"),
    ],
)
def test_labels_in_a_matrix_are_told_by_what_they_mean(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        dd.dataset_from_arrays(IMAGES, labels)
    assert ("argmax" in str(caught.value)) == ("shares" in message)


@pytest.mark.parametrize(
    "names",
    [
        ["猫", "dog", "frog"],
        [name.encode() for name in ("猫", "dog", "frog")],
        np.array([name.encode() for name in ("猫", "dog", "frog")]),
        {2: "frog", 0: "猫", 1: "dog"},
        {"0": b"\xe7\x8c\xab", "1": b"dog", "2": b"frog"},
        {"dog": 1, "frog": 2, "猫": 0},
    ],
)
def test_class_names_are_text_in_the_order_of_the_classes(names):
    assert dd.dataset_from_arrays(IMAGES, LABELS, class_names=names).class_names == ("猫", "dog", "frog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([b"\xff", b"dog", b"frog"], r"b'\\xff' is not UTF-8"),
        (b"abc", "class_names should be a sequence of names"),
        (5, "class_names should be a sequence of names.* a single name: 5"),
        ({"cat": [1]}, "map names to the classes 0 to 0"),
        ({0: "cat", 2: "dog", 3: "frog"}, "map names to the classes 0 to 2 without gaps"),
    ],
)
def test_class_names_that_are_unclear_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        names_of(names)


def test_a_class_that_a_split_does_not_have_is_told():
    few = IMAGES[:4], np.array([0, 2, 0, 2])
    with pytest.warns(DataWarning, match="The test split has no images of 1 of the 3 classes: 'dog'"):
        dd.dataset_from_arrays(IMAGES, LABELS, test=few, class_names=["cat", "dog", "frog"])


def test_what_is_told_points_to_the_line_of_the_user():
    with pytest.warns(DataWarning) as told:
        dd.dataset_from_arrays(IMAGES // 16, LABELS)
    assert told[0].filename == __file__
