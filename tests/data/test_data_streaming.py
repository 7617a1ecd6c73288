"""A training split of which only a part is in memory: the same dataset, in stratified parts that miss no image."""

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.rows import Rows
from dd_jax.data.streaming import part_counts, read_part
from dd_jax.errors import DataError, OptionError

NUM, CLASSES = 220, 3


@pytest.fixture(scope="module")
def arrays():
    """Images whose first two pixels tell their number, in classes of unequal size."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM, 4, 4, 1), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(NUM), 256)
    return images, np.where(np.arange(NUM) % 11 == 0, 2, np.arange(NUM) % 2).astype(np.int32)


def numbers(images):
    return 256 * images[:, 0, 0, 0].astype(int) + images[:, 0, 1, 0]


@pytest.mark.parametrize("transform", ["standardise", "zca"])
def test_the_dataset_is_the_one_that_is_all_in_memory(arrays, transform, tmp_path):
    np.save(tmp_path / "images.npy", arrays[0])
    whole = dd.dataset_from_arrays(*arrays, transform=transform)
    stored = np.load(tmp_path / "images.npy", mmap_mode="r")
    parts = dd.dataset_from_arrays(stored, arrays[1], transform=transform, resident_images=50)
    assert parts.fingerprint == whole.fingerprint
    for name, array in whole.transform.arrays.items():
        np.testing.assert_array_equal(parts.transform.arrays[name], array)
    np.testing.assert_array_equal(parts.test.images, whole.test.images)
    np.testing.assert_array_equal(parts.validation.labels, whole.validation.labels)
    assert parts.size == whole.size == len(whole.train.labels) > len(parts.train.labels)
    known = {image.tobytes() for image in np.asarray(whole.train.images)}
    assert all(image.tobytes() in known for image in np.asarray(parts.train.images))


def test_a_part_has_every_class_in_proportion(arrays):
    images, labels = arrays
    counts = part_counts(labels, CLASSES, 44)
    np.testing.assert_array_equal(counts, np.bincount(labels) * 44 // NUM)
    for number in range(3):
        found, theirs = read_part(Rows(images), labels, counts, 0, number)
        np.testing.assert_array_equal(np.bincount(theirs), counts)
        np.testing.assert_array_equal(theirs, labels[numbers(found)], "images keep their labels")
        np.testing.assert_array_equal(found, images[numbers(found)])


def test_parts_go_through_every_image_of_a_class_before_one_comes_again(arrays):
    images, labels = arrays
    counts = part_counts(labels, CLASSES, 44)
    seen = np.concatenate([numbers(read_part(Rows(images), labels, counts, 7, i)[0]) for i in range(5)])
    for c in range(CLASSES):
        mine = seen[labels[seen] == c]
        first = mine[: np.bincount(labels)[c]]
        assert len(set(first.tolist())) == len(first), "none comes twice before all have come"


def test_parts_follow_from_seed_and_number(arrays):
    images, labels = arrays
    counts = part_counts(labels, CLASSES, 60)
    read = [numbers(read_part(Rows(images), labels, counts, *which)[0]) for which in ((3, 1), (3, 1), (3, 2), (4, 1))]
    assert (read[0] == read[1]).all()
    assert set(read[0]) != set(read[2])
    assert set(read[0]) != set(read[3])


def test_only_what_is_asked_for_is_read(arrays):
    class Counted(np.ndarray):
        read = 0

        def __getitem__(self, index):
            Counted.read += np.size(index)
            return np.asarray(self).__getitem__(index)

    images, labels = arrays
    read_part(Rows(images.view(Counted)), labels, part_counts(labels, CLASSES, 30), 0, 5)
    assert 0 < Counted.read <= 30


def test_a_prepared_set_and_a_folder_are_mapped_from_disk(arrays, tmp_path):
    from PIL import Image

    images, labels = arrays
    for i in range(0, NUM, 5):
        folder = tmp_path / "set" / str(labels[i])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, :, :, 0]).save(folder / f"{i}.png")
    name = f"folder:{tmp_path / 'set'}"
    whole = dd.load_dataset(name)
    for _ in range(2):  # decoded, and then found
        parts = dd.load_dataset(name, resident_images=12, cache_dir=tmp_path / "cache")
        assert parts.fingerprint == whole.fingerprint
        assert len(parts.train.labels) <= 12 < parts.size
    assert [path.name for path in (tmp_path / "cache").rglob("*.npy")] == ["train_x.npy"]
    assert not list((tmp_path / "cache").glob(".*")), "nothing half made is left"


def test_what_can_not_be_streamed_says_so(arrays):
    images, labels = arrays
    with pytest.raises(DataError, match="must be uint8, but are float32"):
        dd.dataset_from_arrays(images / np.float32(255), labels, resident_images=50)
    with pytest.raises(OptionError, match="at least 3, one for each class, but is 2"):
        dd.dataset_from_arrays(images, labels, resident_images=2)
    with pytest.raises(OptionError, match="is a graph"):
        dd.load_dataset("digits-graph", resident_images=50)
