"""Colour of 16 bits per channel, which pillow cuts to 8: both bytes are read, whatever their order in the file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dd_jax.data.folder import read_folder
from dd_jax.data.images import CUT_DEPTH, DEEP, TRANSPARENT, decode_image
from dd_jax.data.shape import LUMA

COLOURS = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def png(pixels):
    """A PNG file of 16 bits per value, (H, W, 2), (H, W, 3) or (H, W, 4)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = pixels.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(pixels, order):
    """An uncompressed TIFF file of one strip, in this order of bytes."""
    height, width, channels = pixels.shape
    sign, kind = {"<": (b"II", "<u2"), ">": (b"MM", ">u2")}[order]
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 2), (273, 8 + 2 + 12 * 10 + 4 + 6), (277, channels),
            (278, height), (279, pixels.size * 2), (284, 1)]  # fmt: skip
    entries = b""
    for tag, value in tags:
        if tag == 258:  # one number for each channel, behind the directory
            entries += struct.pack(f"{order}HHII", tag, 3, channels, 8 + 2 + 12 * len(tags) + 4)
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, value)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    head = sign + struct.pack(f"{order}HI", 42, 8)
    return head + directory + struct.pack(f"{order}HHH", 16, 16, 16) + pixels.astype(kind).tobytes()


FILES = {"a.png": png(COLOURS), "b.tif": tiff(COLOURS, "<"), "c.tif": tiff(COLOURS, ">")}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_file", [True, False])
def test_both_bytes_of_each_value_are_read(name, as_file, tmp_path):
    (tmp_path / name).write_bytes(FILES[name])
    remarks = {}
    found = decode_image(tmp_path / name if as_file else FILES[name], name, None, None, remarks)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, COLOURS / 65535, atol=1e-7)
    assert remarks == {DEEP: [name]}


def test_grey_of_them_is_luma_and_resizing_stays_within_black_and_white():
    grey = decode_image(FILES["a.png"], "a", None, 1)
    np.testing.assert_allclose(grey[..., 0], COLOURS / 65535 @ LUMA, atol=1e-6)
    resized = decode_image(FILES["a.png"], "a", (20, 20), None)
    assert (resized.shape, resized.dtype) == ((20, 20, 3), np.float32)
    assert 0 <= resized.min() < resized.max() <= 1


def test_transparency_of_them_is_told_and_grey_with_alpha_is_cut():
    remarks = {}
    alpha = np.concatenate([COLOURS, COLOURS[..., :1]], axis=2)
    np.testing.assert_allclose(decode_image(png(alpha), "rgba", None, None, remarks), COLOURS / 65535, atol=1e-7)
    cut = decode_image(png(COLOURS[..., :2]), "la", None, None, remarks)
    assert cut.dtype == np.uint8
    np.testing.assert_array_equal(cut[..., 0], COLOURS[..., 0] >> 8)
    assert remarks == {TRANSPARENT: ["rgba", "la"], DEEP: ["rgba"], CUT_DEPTH: ["la"]}


def test_they_are_turned_upright_as_others(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = FILES["a.png"]
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    found = decode_image(tmp_path / "a.png", "a", None, None)
    np.testing.assert_allclose(found, np.rot90(COLOURS / 65535, -1), atol=1e-7)


def test_a_folder_of_them_is_read_with_others_of_8_bits(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(FILES["a.png"])
        Image.fromarray((COLOURS >> 8).astype(np.uint8)).save(tmp_path / name / "b.png")
    raw = read_folder(tmp_path)
    np.testing.assert_allclose(raw.train[0][0], COLOURS / 65535, atol=1e-7)
    np.testing.assert_allclose(raw.train[0][1], (COLOURS >> 8) / 255, atol=1e-7)
    assert raw.notes == (f"2 of 4 images {DEEP}, such as {tmp_path}/cat/a.png.",)
