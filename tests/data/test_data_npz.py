import numpy as np
import pytest

from dd_jax.data import load_dataset
from dd_jax.data.npz import read_npz
from dd_jax.errors import DataError, DataWarning

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
LABELS = np.arange(40) % 2


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.npz"


def test_images_and_labels_alone(path):
    np.savez(path, images=IMAGES, labels=LABELS, class_names=["no", "yes"])
    dataset = load_dataset(f"npz:{path}")
    assert dataset.class_names == ("no", "yes")
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [29, 3, 8]


@pytest.mark.parametrize(
    "keys",
    [
        ("images", "labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_key_names_of_others(path, keys):
    np.savez_compressed(path, **dict(zip(keys, (IMAGES, LABELS, IMAGES[:6], LABELS[:6]), strict=True)))
    raw = read_npz(path)
    np.testing.assert_array_equal(raw.train[0], IMAGES)
    np.testing.assert_array_equal(raw.test[1], LABELS[:6])
    assert raw.validation is None


def test_medmnist_layout_with_column_labels(path):
    np.savez(
        path, train_images=IMAGES, train_labels=LABELS[:, None], val_images=IMAGES[:4], val_labels=LABELS[:4, None],
        test_images=IMAGES[:6], test_labels=LABELS[:6, None],
    )  # fmt: skip
    dataset = load_dataset(f"npz:{path}")
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [40, 4, 6]


@pytest.mark.parametrize(
    ("keys", "part"),
    [
        (("images", "labels", "images_test", "labels_test"), "test"),
        (("x_train", "y_train", "X_test", "Y_test"), "test"),
        (("trainImages", "trainLabels", "testing-images", "testing.targets"), "test"),
        (("x", "y", "xtest", "ytest"), "test"),
        (("x_train", "y_train", "x_valid", "y_valid"), "test"),  # of a set without any other test split
        (("x_train", "y_train", "x_dev", "y_dev", "x_test", "y_test"), "validation"),
    ],
)
def test_names_that_can_mean_nothing_else_are_read_and_told(path, keys, part):
    held = IMAGES[:7], LABELS[:7]
    np.savez(path, **dict(zip(keys, (IMAGES, LABELS, *held, *held), strict=False)))
    with pytest.warns(DataWarning, match=f"set.npz: read .*'{keys[3]}' as the"):
        dataset = load_dataset(f"npz:{path}")
    assert len(getattr(dataset, part).labels) == 7


def test_the_same_arrays_under_two_names_are_refused(path):
    np.savez(path, images=IMAGES, labels=LABELS, x_train=IMAGES, y_train=LABELS)
    with pytest.raises(DataError, match="has the train images under two names, 'images' and 'x_train'"):
        read_npz(path)


def test_arrays_that_are_left_out_are_told(path):
    np.savez(path, images=IMAGES, labels=LABELS, masks=IMAGES, images_2=IMAGES, classes=LABELS)
    with pytest.warns(DataWarning, match="left out 'masks', 'images_2', 'classes'"):
        assert load_dataset(f"npz:{path}").class_names == ("0", "1")


def test_class_names_as_bytes_and_under_another_name(path):
    np.savez(path, images=IMAGES, labels=LABELS, label_names=np.array([b"ja", "né".encode()]))
    raw = read_npz(path)
    assert raw.class_names == ("ja", "né")
    assert raw.notes == (f"{path}: read 'label_names' as the class_names.",)


def test_missing_keys_list_what_was_found(path):
    np.savez(path, pictures=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match="has 'labels' but not 'images'; found 'pictures', 'labels'"):
        read_npz(path)
    np.savez(path, pictures=IMAGES)
    with pytest.raises(DataError, match=r"expected 'images' and 'labels' or .*; found 'pictures'"):
        read_npz(path)
    np.savez(path, images=IMAGES, labels=LABELS, x_test=IMAGES)
    with pytest.raises(DataError, match="has 'x_test' but not 'y_test'"):
        read_npz(path)


def test_python_objects_are_not_unpickled(path):
    np.savez(path, images=np.array([{}, None], object), labels=LABELS)
    with pytest.raises(DataError, match="holds Python objects"):
        read_npz(path)


def test_damaged_files(path):
    with pytest.raises(DataError, match="There is no file"):
        read_npz(path)
    np.savez(path, images=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[300] ^= 1
    for content in (whole[:-100], whole[:50], b"", b"text", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"set\.npz"):
            read_npz(path)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match="a single array"):
        read_npz(path)
