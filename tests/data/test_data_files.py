"""Folders as people have them: splits in other words, files of other kinds, several pages, broken ones."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from dd_jax.data import load_dataset
from dd_jax.data.folder import read_folder
from dd_jax.data.images import decode_image
from dd_jax.errors import DataError, DataWarning

CLASSES = ("cat", "dog")
RNG = np.random.default_rng(0)


def save(path, pixels=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8) if pixels is None else np.asarray(pixels)
    Image.fromarray(pixels).save(path, **options)


def fill(root, count=4):
    for name in CLASSES:
        for index in range(count):
            save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("TRAIN", "VAL"), ("train", "test")),  # the only split that a test can be made on
        (("train2017", "dev", "test"), ("train", "validation", "test")),
        (("training_set", "validation set", "test-set"), ("train", "validation", "test")),
    ],
)
def test_splits_in_any_usual_spelling(tmp_path, names, parts):
    for size, name in enumerate(names, start=1):
        fill(tmp_path / name, size)
    raw = read_folder(tmp_path)
    assert raw.class_names == CLASSES
    for size, part in enumerate(parts, start=1):
        assert len(getattr(raw, part)[1]) == 2 * size
    assert raw.notes == ()


@pytest.mark.parametrize(
    "names",
    [("seg_train", "seg_test"), ("trn", "tst"), ("TrainImages", "ValImages", "TestImages"), ("my train", "Holdout")],
)
def test_splits_with_a_word_in_their_names_are_told(tmp_path, names):
    for size, name in enumerate(names, start=1):
        fill(tmp_path / name, size)
    raw = read_folder(tmp_path)
    assert raw.class_names == CLASSES
    assert len(raw.train[1]) == 2
    assert len(raw.test[1]) == 2 * len(names)
    assert len(raw.notes) == sum(name != "test" for name in names)
    assert f"read {names[0]} as the training split" in raw.notes[0]


def test_classes_with_such_words_in_their_names_are_classes(tmp_path):
    for name, inside in (("train station", "day"), ("test tube", "night")):
        save(tmp_path / name / inside / "0.png")
    assert read_folder(tmp_path).class_names == ("test tube", "train station")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "val", "Valid"), "has Valid and val, which both mean the validation split"),
        (("val", "test"), "has test, val with class folders, but no training folder"),
        ((".", "test"), "has test with class folders, but no training folder"),
    ],
)
def test_splits_that_are_unclear_are_refused(tmp_path, names, message):
    for name in names:
        fill(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)


def test_splits_without_class_folders_are_no_classes(tmp_path):
    for name in ("Train", "Test"):
        save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=r"has Test, Train, which have no class folders; expected the class folders in"):
        read_folder(tmp_path)


def test_what_lies_beside_the_splits_and_the_classes_is_told(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "extra")
    save(tmp_path / "train" / "loose.png")
    raw = read_folder(tmp_path)
    assert raw.notes == (
        f"{tmp_path}: left out 1 images that are in no class folder, such as {tmp_path}/train/loose.png.",
        f"{tmp_path}: left out extra, beside the folders of the splits.",
    )


def test_files_are_images_by_their_content_and_others_are_told(tmp_path):
    fill(tmp_path)
    save(tmp_path / "dog" / "a.jfif", format="JPEG")
    save(tmp_path / "dog" / "b", format="PNG")
    (tmp_path / "dog" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "cat" / "labels.csv").write_text("a,b\n")
    with pytest.warns(DataWarning, match=r"left out 2 files that aren't images \(\.csv: 1, \.heic: 1\), such as .*csv"):
        dataset = load_dataset(f"folder:{tmp_path}")
    counts = sum(np.bincount(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test))
    assert counts.tolist() == [4, 6]


def test_hidden_folders_and_those_of_systems_are_not_read(tmp_path):
    fill(tmp_path)
    for place in (".ipynb_checkpoints", "cat/.thumbnails", "__MACOSX", "dog/@eaDir"):
        save(tmp_path / place / "9.png")
    raw = read_folder(tmp_path)
    assert (raw.class_names, len(raw.train[1]), raw.notes) == (CLASSES, 8, ())


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp"])
def test_pages_after_the_first_are_told(tmp_path, suffix):
    fill(tmp_path)
    pages = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 90, 255)]
    pages[0].save(tmp_path / "cat" / f"stack.{suffix}", save_all=True, append_images=pages[1:])
    raw = read_folder(tmp_path, channels=1)
    assert raw.train[0][4].max() == 0
    assert raw.notes == (
        f"1 of 9 images have several pages, of which the first alone is read, such as {tmp_path}/cat/stack.{suffix}.",
    )


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_grey_images_of_16_bits_are_floats(tmp_path, suffix, channels):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    save(tmp_path / f"deep.{suffix}", pixels)
    remarks = {}
    found = decode_image(tmp_path / f"deep.{suffix}", "deep", None, channels, remarks)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.repeat(pixels[..., None] / 65535, channels or 1, 2), atol=1e-7)
    assert list(remarks) == ["have 16 bits or floats: all are read as floats"]
    resized = decode_image(tmp_path / f"deep.{suffix}", "deep", (16, 16), channels)
    assert 0 <= resized.min() < resized.max() <= 1


def test_bytes_among_16_bits_mean_the_same_grey(tmp_path):
    fill(tmp_path)
    save(tmp_path / "dog" / "deep.png", np.full((8, 8), 51 * 257, np.uint16))
    save(tmp_path / "dog" / "even.png", np.full((8, 8), 51, np.uint8))
    with pytest.warns(
        DataWarning, match=r"1 of 10 images have 16 bits or floats: all are read as floats, such as .*deep"
    ):
        load_dataset(f"folder:{tmp_path}")
    images = read_folder(tmp_path).train[0]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[-2:], 0.2, atol=1e-7)


def test_floats_without_a_known_white_are_refused(tmp_path):
    save(tmp_path / "0.tif", np.linspace(0, 7, 64, dtype=np.float32).reshape(8, 8))
    with pytest.raises(DataError, match=r"values are 0 to 7; expected 0 to 1\. Divide them by the value of white"):
        decode_image(tmp_path / "0.tif", "0.tif", None, None)


def test_other_colour_spaces_and_depths_of_colour_are_told(tmp_path):
    colours = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "print.jpg")
    ppm = b"P6 2 1 65535\n" + np.array([[0, 256, 65535], [512, 1024, 2048]], ">u2").tobytes()
    (tmp_path / "deep.ppm").write_bytes(ppm)
    remarks = {}
    for name in ("print.jpg", "deep.ppm"):
        decode_image(tmp_path / name, name, None, None, remarks)
    assert remarks == {
        "are in CMYK: they are converted to RGB": ["print.jpg"],
        "have more than 8 bits per channel, of which the upper 8 are read": ["deep.ppm"],
    }


def test_all_broken_files_are_named_at_once_or_left_out(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part)
        (tmp_path / part / "cat" / "1.png").write_bytes(b"no image")
    (tmp_path / "train" / "dog" / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 16 images can't be read: .*skip_broken=True") as caught:
        read_folder(tmp_path)
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/1.png"):
        assert f"Can't read {tmp_path}/{name} as an image" in str(caught.value)
    with pytest.warns(DataWarning, match=r"Left out 3 of 16 images that can't be read: .*train/cat/1\.png, "):
        dataset = load_dataset(f"folder:{tmp_path}", skip_broken=True, validation_fraction=0)
    assert np.bincount(dataset.train.labels).tolist() == [3, 3]
    assert np.bincount(dataset.test.labels).tolist() == [3, 4]


def test_a_class_that_is_broken_throughout_is_missed(tmp_path):
    fill(tmp_path, 3)
    save(tmp_path / "cow" / "0.png")
    (tmp_path / "cow" / "0.png").write_bytes(b"no image")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        with pytest.raises(DataError, match="these have none: 'cow'"):
            load_dataset(f"folder:{tmp_path}", skip_broken=True)


def test_broken_files_leave_no_gap_among_images_on_disk(tmp_path):
    fill(tmp_path / "photos", 12)
    (tmp_path / "photos" / "cat" / "1.png").write_bytes(b"no image")
    options = {"skip_broken": True, "validation_fraction": 0}
    with pytest.warns(DataWarning, match="Left out 1 of 24 images"):
        whole = load_dataset(f"folder:{tmp_path / 'photos'}", **options)
    for _ in range(2):  # decoded, and from the disk
        with pytest.warns(DataWarning, match="Left out 1 of 24 images"):
            parted = load_dataset(
                f"folder:{tmp_path / 'photos'}", **options, resident_images=9, cache_dir=tmp_path / "c"
            )
        assert parted.fingerprint == whole.fingerprint


def test_deep_images_do_not_go_to_the_disk(tmp_path):
    fill(tmp_path / "photos")
    save(tmp_path / "photos" / "dog" / "deep.png", np.full((8, 8), 40000, np.uint16))
    with pytest.raises(
        DataError, match=r"deep\.png has 16 bits or floats, but images that are kept on disk must have 8 bits"
    ):
        load_dataset(f"folder:{tmp_path / 'photos'}", resident_images=6, cache_dir=tmp_path / "c")


def test_class_names_are_utf_8_whatever_the_locale(tmp_path):
    fill(tmp_path, 2)
    for index in range(2):
        save(tmp_path / "猫" / f"{index}.png")
    program = (
        "from dd_jax.data.folder import read_folder; from pathlib import Path; "
        f"print(ascii(read_folder(Path({str(tmp_path)!r})).class_names))"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == ascii(("cat", "dog", "猫"))
