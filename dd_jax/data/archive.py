"""Arrays out of npz files that anyone may have made: what a file claims is checked before memory is taken for it."""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from typing import IO

import numpy as np

from dd_jax.data.memory import free_host_memory, in_units
from dd_jax.errors import DataError

SUFFIX = ".npy"
MOST_DEFLATED = 1032  # bytes out of one at most: 258 of them are two bits (RFC 1951)

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_STRUCTURED = "V"  # kind of records, subarrays and raw bytes
_MALFORMED = (  # what zipfile, zlib and NumPy raise for garbled files
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    SyntaxError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class _RefusedError(Exception):
    """Says why a file is not read, after its name."""


def read_archive(file: IO[bytes], where: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, as `numpy.savez` and `numpy.savez_compressed` write them.

    Nothing is unpickled. What else the archive holds is left alone.

    Args:
        file: opened for reading, seekable.
        where: what to call it in an error.

    Raises:
        DataError: damaged, no npz file, holding Python objects or records, or larger than the memory that is free.
    """
    try:
        size = file.seek(0, os.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(SUFFIX)]
            _check_sizes(members, size)
            return {member.filename.removesuffix(SUFFIX): _array(archive, member) for member in members}
    except _RefusedError as error:
        raise DataError(f"{where} {error}.") from error
    except MemoryError as error:
        raise DataError(
            f"{where} does not fit into memory. Use a smaller file or a machine with more memory."
        ) from error
    except _MALFORMED as error:
        raise DataError(f"{where} is damaged or not an npz file: {error}. Make it with numpy.savez.") from error


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Compressed as NumPy does it, no larger than that allows, and all of it within the file and within memory."""
    for member in members:
        if member.flag_bits & 1:
            raise _RefusedError(f"has {member.filename} encrypted, which NumPy never does")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _RefusedError(f"has {member.filename} compressed in a way in which NumPy never does")
        most = member.compress_size * (MOST_DEFLATED if member.compress_type == zipfile.ZIP_DEFLATED else 1)
        if member.file_size > most:
            raise _RefusedError(
                f"is damaged: {member.compress_size} bytes can't hold the {member.file_size} of {member.filename}"
            )
    if (total := sum(member.compress_size for member in members)) > size:  # parts that overlap, among other lies
        raise _RefusedError(f"is damaged: its {size} bytes should hold {total}")
    if (needed := sum(member.file_size for member in members)) > (free := free_host_memory()):
        raise _RefusedError(f"holds {in_units(needed)} of arrays, but only {in_units(free)} of memory are free")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise _RefusedError(f"has {member.filename} in an unknown format, {version}")
        shape, _, dtype = _HEADERS[version](stream)
        found = member.file_size - stream.tell()
    if dtype.hasobject:
        raise _RefusedError(
            "holds Python objects, and unpickling them could run any code. Save plain numeric arrays, each of one shape"
        )
    if dtype.kind == _STRUCTURED:
        raise _RefusedError(f"holds records ({member.filename} is {dtype}); expected plain numeric arrays")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != found or any(type(side) is not int or side < 0 for side in shape):
        raise _RefusedError(
            f"is damaged: {member.filename} should have {claimed} bytes for {shape} of {dtype}, and has {found}"
        )
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
