"""Reading PyTorch's weight files without PyTorch and without running anything that is in them.

Three formats, told apart by their content: safetensors; the zip archive of torch.save since 1.6; and the pickles and
raw storages in a row of torch.save before it, which the older files of torchvision have. Both of torch.save's hold a
pickle, which `dd_jax.storage.unpickling` reads; what it describes is checked before a number is read.
"""

import functools
import math
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, DDJaxError
from dd_jax.storage.unpickling import (
    BFLOAT16,
    STORAGES,
    DamagedError,
    RefusedError,
    Storage,
    Tensor,
    naturals,
    state_dict,
    unpickle,
)

_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER and PROTOCOL_VERSION
_VERSION = 1001
_MAX_DIMS = 32

Read: TypeAlias = Callable[[str], np.ndarray]  # key -> the storage's numbers (n,)


class Pick(NamedTuple):
    """Which of a file's tensors are read.

    Attributes:
        named: what was unpickled -> tensors by name; raises RefusedError.
        file: what is asked for, in a word or two.
        logs: whether NumPy's numbers may be beside them, which are left out.
        remedy: what to do about a file that is refused, a sentence without its full stop.
    """

    named: Callable[[Any], Mapping[str, Tensor]]
    file: str
    logs: bool
    remedy: str


_STATE_DICT = Pick(
    state_dict,
    "weight file",
    False,
    "Where you trust it, convert it with PyTorch: "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
)


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays by name in a .safetensors, .pth or .pt file, or in its "state_dict" if it is a checkpoint.

    bfloat16 becomes float32, which is exact; other types stay. Nothing in the file is executed. Tensors that share
    memory in the file may do so here: the arrays may be read-only, copy them to change them.

    Raises:
        DataError: if the file is missing, damaged, in another format, or holds anything but named tensors.
    """
    return read_tensors(path, _STATE_DICT)


def read_tensors(path: str | Path, pick: Pick) -> dict[str, np.ndarray]:
    """The arrays that `pick` names in a file that torch.save wrote, or all of a .safetensors file.

    Otherwise as `read_state_dict`.
    """
    path = Path(path).expanduser()
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a {('directory' if path.is_dir() else 'device')}. Give the {pick.file} itself.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
        return _reader(head)(path, pick)
    except FileNotFoundError:
        raise not_there("file", path, "Expected a .safetensors, .pth or .pt file.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    except DamagedError as error:
        raise DataError(f"{path} {error}. {error.remedy}.") from error
    except RefusedError as error:
        raise DataError(f"{path} {error}. {pick.remedy}.") from error


def _reader(head: bytes) -> Callable[[Path, Pick], dict[str, np.ndarray]]:
    """What reads a file that starts like this."""
    if not head:
        raise DamagedError("is empty")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip
    if head[8:9] == b"{":  # after the length of the header
        return _read_safetensors
    if head.startswith(b"\x80"):
        return _read_pickles
    if head.lstrip().startswith(b"<"):
        raise DamagedError("is a web page, probably an error page of the server in place of the file")
    raise DamagedError(f"is neither a safetensors file nor a file of torch.save: it starts with {head[:20]!r}")


def _read_safetensors(path: Path, pick: Pick) -> dict[str, np.ndarray]:
    import safetensors
    import safetensors.numpy

    del pick
    try:
        arrays = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise DamagedError(f"is cut off, or not a safetensors file ({error})") from error
    except (ValueError, OverflowError) as error:
        raise DamagedError(f"describes a tensor in an impossible shape ({error})") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise RefusedError(f"holds numbers of a type that NumPy doesn't have ({error})") from error
    if not arrays:
        raise RefusedError("holds no tensors")
    return {key: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for key, a in arrays.items()}


def _read_zip(path: Path, pick: Pick) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_zip(archive, path.stat().st_size)
            names = set(archive.namelist())
            pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1:
                raise DamagedError("is a zip archive, but not one of torch.save: no folder in it has a data.pkl")
            folder = pickles[0].removesuffix("data.pkl")
            order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"
            if order not in (b"little", b"big"):
                raise DamagedError(f"has numbers in an unknown byte order, {order[:20]!r}")
            content, storages, _ = unpickle(archive.read(pickles[0]), logs=pick.logs)

            def read(key: str) -> np.ndarray:
                name = f"{folder}data/{key}"
                if name not in names:
                    raise DamagedError(f"is cut off: {name} is missing")
                return _numbers(archive.read(name), storages[key], order == b"big")

            return _arrays(pick.named(content), read)
    except DDJaxError:  # what was asked for is not in the file
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise DamagedError(f"is a zip archive that is cut off ({error})") from error


def _check_zip(archive: zipfile.ZipFile, size: int) -> None:
    """No member is compressed or encrypted, and all of them together fit into the file."""
    total = 0
    for info in archive.infolist():
        stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not stored or info.flag_bits & 1:
            raise DamagedError(f"is a zip archive with {info.filename} compressed, which torch.save never does")
        total += info.file_size
    if total > size:
        raise DamagedError(f"is a zip archive that is cut off: its {size} bytes should hold {total}")


def _read_pickles(path: Path, pick: Pick) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    magic, _, start = unpickle(data)
    if magic != _MAGIC:
        raise RefusedError("is a pickle, but not one that torch.save wrote")
    version, _, start = unpickle(data, start)
    if version != _VERSION:
        raise RefusedError(f"is not of version {_VERSION} of torch.save's old format")
    _, _, start = unpickle(data, start)  # the machine's sizes of integers; numbers are little-endian whatever it says
    content, storages, start = unpickle(data, start, pick.logs)
    keys, _, start = unpickle(data, start)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(storages):
        raise DamagedError("lists other storages than its tensors use")
    parts = {}
    for key in keys:
        storage = storages[key]
        end = start + 8 + storage.size * np.dtype(STORAGES[storage.kind]).itemsize
        if len(data) < end or int.from_bytes(data[start : start + 8], "little") != storage.size:
            raise DamagedError(f"is cut off: a storage of {storage.size} numbers is missing or shorter")
        parts[key] = memoryview(data)[start + 8 : end]
        start = end
    if start != len(data):
        raise DamagedError(f"goes on for {len(data) - start} bytes after its last storage")
    return _arrays(pick.named(content), lambda key: _numbers(parts[key], storages[key], False))


# The numbers.


def _numbers(data: bytes | memoryview, storage: Storage, swap: bool) -> np.ndarray:
    dtype = np.dtype(STORAGES[storage.kind])
    if len(data) != storage.size * dtype.itemsize:
        raise DamagedError(f"has a storage of {len(data)} bytes for {storage.size} numbers of {dtype.itemsize}")
    numbers = np.frombuffer(data, dtype.newbyteorder(">") if swap else dtype)
    if storage.kind == BFLOAT16:  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(dtype.newbyteorder("="), copy=False)


def _arrays(tensors: Mapping[str, Tensor], read: Read) -> dict[str, np.ndarray]:
    cached = functools.cache(read)  # a storage may be that of several tensors
    return {name: _array(name, tensor, cached) for name, tensor in tensors.items()}


def _array(name: str, tensor: Tensor, read: Read) -> np.ndarray:
    """A view of the numbers that `tensor` describes, once it is sure to stay within them."""
    given = tensor.given
    if given and isinstance(given[0], Tensor):  # a parameter
        given = given[0].given
    storage, offset, shape, strides = given[:4] if len(given) >= 4 else (None,) * 4
    if not isinstance(storage, Storage) or not naturals((offset,)) or not (naturals(shape) and naturals(strides)):
        raise DamagedError(f"doesn't describe {name!r:.80} as PyTorch describes a tensor")
    if any(isinstance(extra, dict) and extra for extra in given[4:]):
        raise RefusedError(f"has {name!r:.80} with hooks or unfinished arithmetic")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMS:
        raise DamagedError(f"describes {name!r:.80} with {len(shape)} dimensions and {len(strides)} strides")
    count, limit = math.prod(shape), storage.last - storage.first
    reach = offset + (1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0)
    if max(reach, count) > limit:
        raise DamagedError(f"describes {name!r:.80} as larger than its storage of {limit} numbers")
    numbers = read(storage.key)[storage.first : storage.last]
    if not count:
        if math.prod(n or 1 for n in shape) * numbers.itemsize > sys.maxsize:
            raise DamagedError(f"describes {name!r:.80} in an impossible shape")
        return np.empty(shape, numbers.dtype)
    steps = [numbers.itemsize * s if n > 1 else 0 for n, s in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)
