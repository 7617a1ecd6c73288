import numpy as np
import pytest
from PIL import Image

from dd_jax.data import load_dataset, to_pixels
from dd_jax.data.arrays import RawData
from dd_jax.data.images import as_channels, decode_image
from dd_jax.data.shape import to_shape
from dd_jax.errors import DataError, OptionError

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
LABELS = np.arange(6) % 2
PRIMARIES = np.eye(3, dtype=np.float32)[None]  # one image of three pixels: red, green, blue


def shaped(images, size=None, channels=None, **options):
    return to_shape(RawData((images, np.zeros(len(images), int))), size, channels, **options).train[0]


def bicubic(image, size):
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def test_luma_of_the_primaries():
    np.testing.assert_allclose(shaped(PRIMARIES[None], channels=1).ravel(), [0.299, 0.587, 0.114], rtol=1e-6)
    as_bytes = (PRIMARIES[None] * 255).astype(np.uint8)
    np.testing.assert_array_equal(shaped(as_bytes, channels=1).ravel(), [76, 150, 29])  # 255 * luma, rounded
    assert shaped(np.ones((1, 2, 2, 3)), channels=1).max() <= 1


def test_grey_bytes_are_pillows_and_floats_agree_within_a_grey_level():
    grey = shaped(BYTES, channels=1)
    assert (grey.shape, grey.dtype) == ((6, 5, 7, 1), np.uint8)
    np.testing.assert_array_equal(grey[3, ..., 0], np.asarray(Image.fromarray(BYTES[3]).convert("L")))
    np.testing.assert_allclose(shaped(BYTES / 255.0, channels=1) * 255, grey, atol=0.51)


@pytest.mark.parametrize("images", [BYTES[..., 0], BYTES[..., 0] / 255.0, BYTES[..., 0] > 99])
def test_colour_from_grey_is_three_equal_channels_and_grey_comes_back(images):
    colour = shaped(images, channels=3)
    assert colour.shape == (6, 5, 7, 3)
    np.testing.assert_array_equal(colour[..., 0], images.astype(colour.dtype))
    np.testing.assert_array_equal(colour[..., :1], colour[..., 1:2])
    np.testing.assert_array_equal(colour[..., :1], colour[..., 2:])
    np.testing.assert_allclose(shaped(colour, channels=1)[..., 0], images.astype(colour.dtype), rtol=1e-6)


def test_bytes_are_resized_as_pillow_resizes_colour_images():
    for size in ((3, 4), (9, 11), (5, 14)):
        found = shaped(BYTES, size)
        assert (found.shape, found.dtype) == ((6, *size, 3), np.uint8)
        np.testing.assert_array_equal(found[4], bicubic(BYTES[4], size))


def test_floats_are_resized_in_float_and_clipped():
    edge = np.zeros((1, 1, 8, 1), np.float32)
    edge[..., 4:, :] = 1
    wide = bicubic(edge[0, :, :, 0], (1, 32))
    assert wide.min() < 0  # bicubic overshoots
    assert wide.max() > 1
    found = shaped(edge, (1, 32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0, ..., 0], np.clip(wide, 0, 1))


def test_bytes_and_floats_resize_to_the_same_pixels():
    soft = BYTES // 4 + 96  # far enough from 0 and 255 that pillow clips nothing between its two passes
    np.testing.assert_allclose(shaped(soft / 255.0, (10, 10)) * 255, shaped(soft, (10, 10)), atol=1.01)


def test_constant_images_stay_constant():
    np.testing.assert_array_equal(shaped(np.full((2, 4, 4), 77, np.uint8), (7, 3)), 77)
    np.testing.assert_allclose(shaped(np.full((2, 4, 4), 0.3), (7, 3)), 0.3, rtol=1e-6)


def test_arrays_and_image_files_come_out_alike(tmp_path):
    Image.fromarray(BYTES[0]).save(tmp_path / "colour.png")
    Image.fromarray(BYTES[0, ..., 0]).save(tmp_path / "grey.png")
    for size in (None, (9, 4)):
        for channels in (None, 1, 3):
            for kind, images in (("colour", BYTES[:1]), ("grey", BYTES[:1, ..., :1])):
                from_file = decode_image(tmp_path / f"{kind}.png", kind, size, channels)
                np.testing.assert_array_equal(from_file, shaped(images, size, channels)[0])


def test_nothing_asked_nothing_done():
    raw = RawData((BYTES, LABELS))
    assert to_shape(raw, None, None) is raw
    assert to_shape(raw, (5, 7), 3).train[0] is BYTES


def test_every_part_is_shaped():
    raw = to_shape(RawData((BYTES, LABELS), test=(BYTES[:, :3], LABELS), validation=(BYTES[..., 0], LABELS)), (4, 4), 1)
    for pair in (raw.train, raw.test, raw.validation):
        assert pair[0].shape == (6, 4, 4, 1)
        np.testing.assert_array_equal(pair[1], LABELS)


def test_model_space_keeps_its_range():
    images = np.random.default_rng(1).normal(0, 2, (3, 6, 6, 1)).astype(np.float32)
    found = shaped(images, (12, 12), any_range=True)
    assert images.min() <= found.min() < -1
    assert 1 < found.max() <= images.max()
    with pytest.raises(DataError, match=r"must be in \[0, 1\]"):
        shaped(images, (12, 12))


@pytest.mark.parametrize(("count", "hint"), [(4, "Drop the transparency"), (2, "Drop the transparency"), (5, "$")])
def test_other_channel_counts_can_not_be_converted(count, hint):
    images = np.zeros((2, 3, 3, count), np.uint8)
    with pytest.raises(
        DataError, match=f"converts grey .* and colour .* images, but the train images have {count} channels.*{hint}"
    ):
        shaped(images, channels=3)
    assert shaped(images, (2, 2)).shape == (2, 2, 2, count)


@pytest.mark.parametrize("channels", [0, 2, 4, "RGB"])
def test_senseless_channels(channels):
    with pytest.raises(OptionError, match=r"channels must be 1 \(grey\), 3 \(colour\) or None"):
        as_channels(channels)
    with pytest.raises(OptionError, match="channels must be"):
        load_dataset("digits", channels=channels)


def test_digits_and_an_npz_file_fit_one_network(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.tile(BYTES, (4, 1, 1, 1)), labels=np.tile(LABELS, 4))
    for name in ("digits", f"npz:{tmp_path / 'set.npz'}"):
        for channels in (1, 3):
            dataset = load_dataset(name, image_size=(12, 10), channels=channels)
            assert dataset.image_shape == (12, 10, channels)
            assert dataset.name == name
            pixels = to_pixels(dataset.transform, dataset.train.images)
            assert -1e-5 < pixels.min() < pixels.max() < 1 + 1e-5


def test_a_transparent_npz_file_is_explained(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((20, 4, 4, 4), np.uint8), labels=np.arange(20) % 2)
    with pytest.raises(DataError, match=r"have 4 channels.*images\[..., :-1\]"):
        load_dataset(f"npz:{tmp_path / 'set.npz'}", channels=3)
