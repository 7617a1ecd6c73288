"""Whatever npz files and folders of images hold, reading them gives images and labels, or says why not."""

import io
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Touch, archive, entries_like, examples, header, mutated, npy, read_or_refused
from PIL import Image

from dd_jax.data import load_dataset
from dd_jax.data.folder import read_folder
from dd_jax.data.npz import read_npz
from dd_jax.errors import DataError, OptionError

ARRAYS = {
    "images.npy": np.random.default_rng(0).integers(0, 256, (12, 4, 3), np.uint8),
    "labels.npy": np.arange(12) % 2,
    "class_names.npy": np.array(["cat", "dog"]),
}
ENTRIES = {name: npy(array) for name, array in ARRAYS.items()}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}

FORMATS = {"PNG": "png", "JPEG": "jpg", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


# npz.


@examples(250)
@given(st.one_of(mutated(archive(ENTRIES)), mutated(archive(ENTRIES, 0))))
@pytest.mark.filterwarnings("ignore:Reading")  # of NumPy's, for files that look as if made by Python 2
def test_garbled_archives(place, data):
    (place / "set.npz").write_bytes(data)
    read_or_refused(read_npz, place / "set.npz")


@examples(100)
@given(entries_like(ENTRIES, SHAPES), st.sampled_from(["standardise", "identity"]))
@pytest.mark.filterwarnings("ignore:Reading")
def test_other_arrays_in_an_archive(place, data, transform):
    (place / "set.npz").write_bytes(data)
    found = read_or_refused(load_dataset, f"npz:{place / 'set.npz'}", transform=transform)
    if found is not None:
        for images, labels in (found.train, found.validation, found.test):
            assert len(images) == len(labels)
            assert np.isfinite(images).all()
            assert ((np.asarray(labels) >= 0) & (np.asarray(labels) < found.num_classes)).all()


@pytest.mark.parametrize("name", [*ENTRIES, "other.npy", "other.pkl"])
def test_pickles_in_an_archive_are_not_loaded(place, name):
    for content in (pickle.dumps(Touch(place / "executed")), npy(np.array([Touch(place / "executed")], object))):
        (place / "set.npz").write_bytes(archive({**ENTRIES, name: content}))
        found = read_or_refused(read_npz, place / "set.npz")
        assert (found is None) == name.endswith(".npy")
        (place / "set.npz").write_bytes(content)
        assert read_or_refused(read_npz, place / "set.npz") is None
    assert not (place / "executed").exists()


@pytest.mark.parametrize("shape", [(True,), (-1,), (2**70, 0), (2**32, 2**32), (10**12,)])
def test_shapes_that_no_array_has(place, shape):
    for numbers in (b"", bytes(4)):
        (place / "set.npz").write_bytes(archive({**ENTRIES, "other.npy": header(shape) + numbers}))
        with pytest.raises(DataError, match=r"set\.npz .*is damaged"):
            read_npz(place / "set.npz")


def test_what_is_no_array_in_an_archive_is_left_alone(place):
    (place / "set.npz").write_bytes(archive({**ENTRIES, "README.txt": b"two classes", "images": b"no array"}))
    np.testing.assert_array_equal(read_npz(place / "set.npz").train[0], ARRAYS["images.npy"])


@pytest.mark.parametrize(
    ("entry", "content", "options", "words"),
    [
        ("labels.npy", np.zeros(12, "m8[s]"), {}, r"have type timedelta64\[s\]; expected integer classes"),
        (
            "images.npy",
            np.full((12, 4, 4), 1e300),
            {"transform": "identity"},
            r"not finite \(in float32\), the first at index 0",
        ),
        ("images.npy", np.zeros(12, [("a", "f4")]), {}, "holds records"),
    ],
)
def test_arrays_that_broke_it_once(place, entry, content, options, words):
    (place / "set.npz").write_bytes(archive({**ENTRIES, entry: npy(content)}))
    with pytest.raises(DataError, match=words):
        load_dataset(f"npz:{place / 'set.npz'}", **options)


def test_an_image_size_of_half_a_pixel_is_an_option_that_makes_no_sense(place):
    with pytest.raises(OptionError, match=r"positive integer or \(height, width\), but is 2\.5"):
        load_dataset("digits", image_size=2.5)  # type: ignore[arg-type]


# Folders.


def encoded(format: str, mode: str) -> bytes:
    colours = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x0132] = 6, "hello", "2020"  # orientation, description, time
    buffer = io.BytesIO()
    options = {"exif": exif} if format in ("PNG", "JPEG", "TIFF", "WEBP") else {}
    Image.fromarray(colours).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


IMAGES = [(suffix, encoded(name, mode)) for name, suffix in FORMATS.items() for mode in ("RGB", "L")]
IMAGES += [("png", encoded("PNG", mode)) for mode in ("P", "1", "RGBA", "LA")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name in ("ant", "bee"):
        (folder / name).mkdir()
        Image.new("L", (7, 9), 50).save(folder / name / "0.png")
    return folder


def read_with(folder, suffix, data, **options):
    file = folder / "ant" / f"1.{suffix}"
    file.write_bytes(data)
    try:
        return read_or_refused(read_folder, folder, **options)
    finally:
        file.unlink()


def test_the_images_that_are_changed_are_intact(folder):
    for suffix, data in IMAGES:
        assert read_with(folder, suffix, data, image_size=4).train[0].shape[:3] == (3, 4, 4), suffix


@examples(300)
@given(st.data(), st.sampled_from([None, 5]), st.sampled_from([None, 1, 3]))
@pytest.mark.filterwarnings("ignore")  # of pillow's, on metadata that it makes nothing of
def test_garbled_images(folder, data, size, channels):
    suffix, image = data.draw(st.sampled_from(IMAGES))
    found = read_with(folder, suffix, data.draw(mutated(image)), image_size=size, channels=channels)
    if found is not None:
        images, labels = found.train
        assert (images.dtype in (np.uint8, np.float32), images.ndim, len(images)) == (True, 4, len(labels))


def test_images_that_other_programs_would_decode_are_refused(folder, tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None, raising=False)  # looked for again
    buffer = io.BytesIO()
    Image.new("RGB", (7, 9)).save(buffer, "EPS")
    assert read_with(folder, "png", buffer.getvalue()) is None
    assert not (tmp_path / "executed").exists()


def test_what_is_no_file_is_no_image(folder):
    os.mkfifo(folder / "ant" / "pipe.png")
    (folder / "ant" / "folder.png").mkdir()
    try:
        assert len(read_folder(folder).train[0]) == 2
    finally:
        (folder / "ant" / "pipe.png").unlink()
        (folder / "ant" / "folder.png").rmdir()


def test_a_photograph_with_garbled_metadata_is_named(folder):
    image = encoded("JPEG", "RGB").replace(b"\x01\x32\x00\x02", b"\x01\x00\x00\x02")  # a width that is text
    (folder / "ant" / "1.jpg").write_bytes(image)
    try:
        with pytest.raises(DataError, match=r"Can't read .*1\.jpg as an image"):
            read_folder(folder)
    finally:
        (folder / "ant" / "1.jpg").unlink()
