import bz2
import os
from pathlib import Path

import numpy as np
import pytest

from dd_jax.data import load_dataset, to_pixels
from dd_jax.data.usps import read_usps
from dd_jax.errors import DataError

PUBLISHED = [
    folder
    for home in filter(None, [os.environ.get("TFDS_DATA_DIR")])
    for folder in (Path(home) / "usps", Path(home).absolute().parent / "usps")
    if (folder / "usps.bz2").is_file()
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of TFDS without any set in it."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


def write(folder, rows=None, test_rows=None):
    """Both files, out of (label, values) rows; by default each of ten images has one pixel of its own lit."""
    rows = rows or [(1 + i % 10, np.where(np.arange(256) == i, 1.0, -1.0)) for i in range(20)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("usps.bz2", rows), ("usps.t.bz2", test_rows or rows)):
        lines = (f"{label} {' '.join(f'{i}:{v:g}' for i, v in enumerate(values, 1))}\n" for label, values in part)
        (folder / name).write_bytes(bz2.compress("".join(lines).encode()))
    return folder


def test_labels_are_digits_and_pixels_run_row_by_row(home):
    values = np.linspace(-1, 1, 256)
    rows = [(1, values), (10, -values), (2, np.zeros(256))]
    raw = read_usps(write(home / "here", rows))
    images, labels = raw.train
    assert (images.shape, images.dtype) == ((3, 16, 16), np.float32)
    np.testing.assert_array_equal(labels, [0, 9, 1])
    np.testing.assert_allclose(images[0].ravel(), np.arange(256) / 255, atol=3e-6)
    np.testing.assert_allclose(images[1], 1 - images[0], atol=1e-6)
    np.testing.assert_array_equal(images[2], 0.5)
    assert raw.class_names == tuple("0123456789")
    assert raw.validation is None


def test_rounding_is_clipped_but_other_values_are_refused(home):
    values = np.zeros(256)
    values[[0, 255]] = -1.0005, 1.0005
    images = read_usps(write(home / "here", [(1, values)])).train[0]
    assert (images.min(), images.max()) == (0, 1)
    for strange in (1.5, np.nan):
        values[3] = strange
        with pytest.raises(DataError, match=r"usps\.bz2 should have values in \[-1, 1\], but has (1\.5|nan)"):
            read_usps(write(home / "here", [(1, values)]))


def test_the_given_folder_comes_before_the_one_inside_before_the_one_beside(home):
    def first_label():
        return read_usps().train[1][0]

    values = -np.ones(256)
    write(home / "usps", [(3, values)])
    assert first_label() == 2
    write(home / "tfds" / "usps", [(4, values)])
    assert first_label() == 3
    (home / "tfds" / "usps" / "usps.t.bz2").unlink()  # a folder counts when it holds both files
    assert first_label() == 2
    assert read_usps(write(home / "mine", [(5, values)])).train[1][0] == 4


def test_load_dataset_by_name_and_path(home):
    dataset = load_dataset(f"usps:{write(home / 'mine')}", image_size=28)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.name == f"usps:{home / 'mine'}"
    write(home / "usps")
    assert load_dataset("usps").image_shape == (16, 16, 1)


def test_missing_files_say_where_was_looked_and_how_to_fetch_them(home):
    with pytest.raises(DataError) as caught:
        load_dataset("usps")
    for part in (
        f"usps.bz2 with usps.t.bz2 in {home / 'tfds' / 'usps'} and {home / 'usps'}",
        f"mkdir -p {home / 'tfds' / 'usps'}",
        f"curl -fL -o {home / 'tfds' / 'usps'}/usps.bz2 "
        "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/usps.bz2",
        "/multiclass/usps.t.bz2",
    ):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=f"in {home / 'nowhere'}. Fetch"):
        load_dataset(f"usps:{home / 'nowhere'}")


def test_damaged_files(home):
    folder = write(home / "here")
    whole = (folder / "usps.t.bz2").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", bz2.compress(b"<html>\n"), whole[:40] + b"\0" * 9):
        (folder / "usps.t.bz2").write_bytes(content)
        with pytest.raises(DataError, match=r"usps\.t\.bz2 is damaged or not in libsvm format"):
            read_usps(folder)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, np.zeros(257)), "should have 256 values for each image .*, but has 257"),
        ((1, np.zeros(64)), "should have 256 values for each image .*, but has 64"),
        ((0, np.zeros(256)), "should have labels 1 to 10 .*, but has 0"),
        ((11, np.zeros(256)), "labels 1 to 10 .*, but has 11"),
        ((2.5, np.zeros(256)), r"labels 1 to 10 .*, but has 2\.5"),
    ],
)
def test_files_of_another_set(home, row, message):
    with pytest.raises(DataError, match=message):
        read_usps(write(home / "here", [row]))


@pytest.mark.skipif(not PUBLISHED, reason="the published USPS files are not here")
def test_the_published_set():
    dataset = load_dataset("usps", validation_fraction=0)
    assert [len(batch.labels) for batch in (dataset.train, dataset.test)] == [7291, 2007]
    assert np.bincount(dataset.train.labels).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    assert np.bincount(dataset.test.labels).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    pixels = np.asarray(to_pixels(dataset.transform, dataset.train.images))[..., 0]
    labels = np.asarray(dataset.train.labels)
    one, seven = pixels[labels == 1].mean(0), pixels[labels == 7].mean(0)
    assert one[:, 7:9].mean() > 3 * one[:, [0, 1, 14, 15]].mean()  # a vertical stroke in the middle
    assert seven[2:5].mean() > 1.3 * seven[11:14].mean()  # the bar of a seven is at its top
    assert seven[8:, :4].mean() < seven[8:, 4:8].mean()  # and its foot isn't mirrored
