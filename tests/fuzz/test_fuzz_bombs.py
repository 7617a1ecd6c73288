"""Small files that claim, or expand to, more than there is are refused quickly and without taking the memory."""

import hashlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from mutations import as_json, header, npy
from PIL import Image
from test_fuzz_artefact import ENTRIES as SET
from test_fuzz_artefact import META
from test_fuzz_data import ENTRIES as DATASET

MIB, GIB = 2**20, 2**30
ONE = np.zeros(1, np.float32)
SECONDS, TAKEN = 5.0, 300.0  # and MiB, for a file at most


class Member(NamedTuple):
    """An entry of an archive, as the directory has it. packed: what lies there; size: what it claims to become."""

    name: str
    packed: bytes
    size: int
    method: int = zipfile.ZIP_DEFLATED
    crc: int = 0


def honest(name: str, content: bytes) -> Member:
    return Member(name, content, len(content), zipfile.ZIP_STORED, zlib.crc32(content))


def zipped(members: Iterable[Member]) -> bytes:
    """An archive; members with the very same `packed` share its bytes."""
    body, directory, offsets, members = bytearray(), bytearray(), {}, list(members)
    for name, packed, size, method, crc in members:
        fields = struct.pack("<HHHHHIIIH", 20, 0, method, 0, 0, crc, len(packed), size, len(name))
        if id(packed) not in offsets:
            offsets[id(packed)] = len(body)
            body += b"PK\x03\x04" + fields + struct.pack("<H", 0) + name.encode() + packed
        at = offsets[id(packed)]
        directory += b"PK\x01\x02\x14\0" + fields + struct.pack("<HHHHII", 0, 0, 0, 0, 0, at) + name.encode()
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return bytes(body + directory) + b"PK\x05\x06" + end


def deflated_zeros(size: int, head: bytes = b"") -> bytes:
    """`head` and then `size` zero bytes, deflated: one compressed piece over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    assert size % (16 * MIB) == 0
    return first + piece * (size // (16 * MIB)) + packer.flush(zlib.Z_FINISH)


def archives(entries: dict[str, bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """Archives like `entries` with a bomb in place of `name`."""
    rest = [honest(other, content) for other, content in entries.items() if other != name]
    gigabytes = header((3 * GIB // 4,))
    zeros, many = deflated_zeros(3 * GIB, gigabytes), deflated_zeros(256 * MIB, header((64 * MIB,)))
    size = len(gigabytes) + 3 * GIB
    assert len(zeros) < 4 * MIB
    yield "terabytes in the header", zipped([*rest, honest(name, header((10**12,)))])
    yield "gigabytes in header and directory", zipped([*rest, Member(name, gigabytes, size, zipfile.ZIP_STORED)])
    yield "gigabytes out of a few bytes", zipped([*rest, Member(name, zlib.compress(gigabytes)[2:-4], size)])
    yield "gigabytes of zeros", zipped([*rest, Member(name, zeros, size)])
    yield "gigabytes of zeros behind a small array", zipped([*rest, Member(name, zeros, size), honest(name, npy(ONE))])
    yield (
        "zeros that are not in the header",
        zipped([*rest, Member(name, deflated_zeros(GIB // 2, npy(ONE)), len(npy(ONE)) + GIB // 2)]),
    )
    others = [Member(f"other{i}.npy", many, len(header((64 * MIB,))) + 256 * MIB) for i in range(500)]
    yield "one piece for many", zipped([*rest, honest(name, entries[name]), *others])


def safetensors(head: dict, length: int | None = None) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


def weights() -> Iterator[tuple[str, bytes]]:
    tensor = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    yield "terabytes after the header", safetensors({"w": tensor})
    yield "a header of terabytes", safetensors({}, 2**42)
    yield "numbers beyond the end", safetensors({"w": {**tensor, "data_offsets": [2**40, 2**40 + 4 * 10**12]}})
    pickled = b"\x80\x02}X\x01\0\0\0w."
    yield (
        "gigabytes in the directory",
        zipped([honest("a/data.pkl", pickled), Member("a/data/0", b"", 3 * GIB, zipfile.ZIP_STORED)]),
    )
    yield (
        "gigabytes of zeros",
        zipped([honest("a/data.pkl", pickled), Member("a/data/0", deflated_zeros(3 * GIB), 3 * GIB)]),
    )
    yield "a memo of gigabytes", zipped([honest("a/data.pkl", b"\x80\x02}r\xff\xff\xff\x7f.")])
    yield "text of gigabytes", zipped([honest("a/data.pkl", b"\x80\x04\x8d" + struct.pack("<Q", 3 * GIB) + b"x.")])


def png(width: int, height: int) -> bytes:
    """The start of a grey image of so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def folders(place: Path) -> None:
    def make(name: str, images: list[bytes]) -> None:
        for label in ("ant", "bee"):
            (place / f"folder-{name}" / label).mkdir(parents=True)
            for index, image in enumerate(images):
                (place / f"folder-{name}" / label / f"{index}.png").write_bytes(image)

    make("an image of a billion pixels", [png(60_000, 60_000)])
    make("an image of four billion columns", [png(2**31 - 1, 1)])
    buffer = io.BytesIO()
    Image.new("1", (8000, 8000)).save(buffer, "PNG")
    make("many large images", [buffer.getvalue()] * 40)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What was said to each file, how long it took, and how much memory."""
    place = tmp_path_factory.mktemp("bombs")
    for name, data in archives(SET, "images.npy"):
        folder = place / f"artefact-{name}"
        folder.mkdir()
        (folder / META["arrays"]).write_bytes(data)
        (folder / "distilled.json").write_bytes(as_json({**META, "sha256": hashlib.sha256(data).hexdigest()}))
    for name, data in archives(DATASET, "images.npy"):
        (place / f"npz-{name}").write_bytes(data)
    for name, data in weights():
        (place / f"weights-{name}").write_bytes(data)
        (place / f"networks-{name}").write_bytes(data)
    folders(place)
    script = Path(__file__).with_name("bombs.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script), str(place)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(list(place.iterdir()))
    return {row["name"]: row for row in rows}


ARCHIVES = {
    "terabytes in the header": "should have 4000000000000 bytes .* and has 0",
    "gigabytes in header and directory": "128 bytes can't hold the 3221225600",
    "gigabytes out of a few bytes": "bytes can't hold the 3221225600",
    "gigabytes of zeros": r"holds 3\.0 GiB of arrays, but only",
    "gigabytes of zeros behind a small array": r"holds 3\.0 GiB of arrays, but only",
    "zeros that are not in the header": r"should have 4 bytes for \(1,\) of float32, and has",
    "one piece for many": "is damaged: its .* bytes should hold",
}
WEIGHTS = {
    "terabytes after the header": "cut off, or not a safetensors file",
    "a header of terabytes": "cut off, or not a safetensors file",
    "numbers beyond the end": "cut off, or not a safetensors file",
    "gigabytes in the directory": "which torch.save never does",
    "gigabytes of zeros": "which torch.save never does",
    "a memo of gigabytes": "a memo larger than the pickle",
    "text of gigabytes": "bytes in a unicodestring8, but only",
}
FOLDERS = {
    "an image of a billion pixels": "exceeds limit of 178956970 pixels",
    "an image of four billion columns": "exceeds limit of 178956970 pixels",
    "many large images": r"80 images of 8000x8000 take 4\.8 GiB, but only .* Give a smaller image_size",
}
EXPECTED = {
    f"{kind}-{name}": words
    for kind, known in [
        ("artefact", ARCHIVES), ("npz", ARCHIVES), ("weights", WEIGHTS), ("networks", WEIGHTS), ("folder", FOLDERS)
    ]
    for name, words in known.items()
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_refused(found, name):
    row = found[name]
    assert re.match(f"DataError: .*{EXPECTED[name]}", row["said"]), row
    assert row["seconds"] < SECONDS, row
    assert row["mib"] < TAKEN, row


def test_every_bomb_was_tried(found):
    assert sorted(found) == sorted(EXPECTED)
