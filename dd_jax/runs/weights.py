"""Reading PyTorch's weight files without PyTorch and without running anything that is in them.

Three formats, told apart by their content: safetensors; the zip archive of torch.save since 1.6; and the pickles and
raw storages in a row of torch.save before it, which the older files of torchvision have. Both of torch.save's hold a
pickle. It is loaded by an unpickler that knows ordered dictionaries and descriptions of tensors and nothing else;
what they describe is checked before a number is read.
"""

import functools
import io
import math
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dd_jax.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER and PROTOCOL_VERSION
_VERSION = 1001
_BFLOAT16 = "BFloat16Storage"
_STORAGES = {  # little-endian
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    _BFLOAT16: "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_MAX_DIMS = 32
_MAX_TUPLES = 20_000  # in a pickle: nested ones deeper than that exhaust the interpreter's stack; AlexNet has about 100
_MALFORMED = (  # what loading a garbled pickle raises
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

Read: TypeAlias = Callable[[str], np.ndarray]  # key -> the storage's numbers (n,)


class _DamagedError(Exception):
    remedy = "Download it, or copy it, again"


class _RefusedError(Exception):
    remedy = (
        "Where you trust it, convert it with PyTorch: "
        "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
    )


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays by name in a .safetensors, .pth or .pt file, or in its "state_dict" if it is a checkpoint.

    bfloat16 becomes float32, which is exact; other types stay. Nothing in the file is executed. Tensors that share
    memory in the file may do so here: the arrays may be read-only, copy them to change them.

    Raises:
        DataError: if the file is missing, damaged, in another format, or holds anything but named tensors.
    """
    path = Path(path).expanduser()
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a {'directory' if path.is_dir() else 'device'}: give the weight file itself.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
        return _reader(head)(path)
    except FileNotFoundError:
        raise DataError(f"There is no file {path}: expected a .safetensors, .pth or .pt file.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    except (_DamagedError, _RefusedError) as error:
        raise DataError(f"{path} {error}. {error.remedy}.") from error


def _reader(head: bytes) -> Callable[[Path], dict[str, np.ndarray]]:
    """What reads a file that starts like this."""
    if not head:
        raise _DamagedError("is empty")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip
    if head[8:9] == b"{":  # after the length of the header
        return _read_safetensors
    if head.startswith(b"\x80"):
        return _read_pickles
    if head.lstrip().startswith(b"<"):
        raise _DamagedError("is a web page, probably what a server said instead of sending the file")
    raise _DamagedError(f"is neither safetensors nor what torch.save writes: it starts {head[:20]!r}")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors
    import safetensors.numpy

    try:
        arrays = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise _DamagedError(f"is not whole, or not safetensors ({error})") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise _RefusedError(f"holds numbers of a type that NumPy hasn't ({error})") from error
    if not arrays:
        raise _RefusedError("holds no tensors")
    return {key: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for key, a in arrays.items()}


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_zip(archive, path.stat().st_size)
            names = set(archive.namelist())
            pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
            if len(pickles) != 1:
                raise _DamagedError("is a zip archive, but not one of torch.save's: no folder in it has a data.pkl")
            folder = pickles[0].removesuffix("data.pkl")
            order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in names else b"little"
            if order not in (b"little", b"big"):
                raise _DamagedError(f"has numbers in an unknown byte order, {order[:20]!r}")
            content, storages, _ = _unpickle(archive.read(pickles[0]))

            def read(key: str) -> np.ndarray:
                name = f"{folder}data/{key}"
                if name not in names:
                    raise _DamagedError(f"is not whole: {name} is missing")
                return _numbers(archive.read(name), storages[key], order == b"big")

            return _arrays(_state_dict(content), read)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise _DamagedError(f"is a zip archive that is not whole ({error})") from error


def _check_zip(archive: zipfile.ZipFile, size: int) -> None:
    """No member is compressed or encrypted, and all of them together fit into the file."""
    total = 0
    for info in archive.infolist():
        stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        if not stored or info.flag_bits & 1:
            raise _DamagedError(f"is a zip archive with {info.filename} compressed, which torch.save never does")
        total += info.file_size
    if total > size:
        raise _DamagedError(f"is a zip archive that is not whole: its {size} bytes should hold {total}")


def _read_pickles(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    magic, _, start = _unpickle(data)
    if magic != _MAGIC:
        raise _RefusedError("is a pickle, but not one that torch.save wrote")
    version, _, start = _unpickle(data, start)
    if version != _VERSION:
        raise _RefusedError(f"is not of version {_VERSION} of torch.save's old format")
    _, _, start = _unpickle(data, start)  # the machine's sizes of integers; numbers are little-endian whatever it says
    content, storages, start = _unpickle(data, start)
    keys, _, start = _unpickle(data, start)
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or sorted(keys) != sorted(storages):
        raise _DamagedError("lists other storages than its tensors use")
    parts = {}
    for key in keys:
        storage = storages[key]
        end = start + 8 + storage.size * np.dtype(_STORAGES[storage.kind]).itemsize
        if len(data) < end or int.from_bytes(data[start : start + 8], "little") != storage.size:
            raise _DamagedError(f"is not whole: a storage of {storage.size} numbers is missing or shorter")
        parts[key] = memoryview(data)[start + 8 : end]
        start = end
    if start != len(data):
        raise _DamagedError(f"goes on for {len(data) - start} bytes after its last storage")
    return _arrays(_state_dict(content), lambda key: _numbers(parts[key], storages[key], False))


# The pickle.


class _Storage(NamedTuple):
    """Where numbers lie, as the pickle says: of the `size` numbers under `key`, those from `first` to `last`."""

    key: str
    kind: str
    size: int
    first: int
    last: int


class _Sealed(type):
    """Classes that a pickle can't change."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__} can't be changed")


class _Tensor(metaclass=_Sealed):
    """What the pickle says of a tensor, kept as it stands: (storage, offset, shape, strides, ...) or (tensor, ...)."""

    __slots__ = ("given",)
    given: tuple[Any, ...]

    def __new__(cls, *given: Any) -> "_Tensor":
        self = super().__new__(cls)
        self.given = given
        return self

    def __setstate__(self, state: Any) -> None:
        if not self.given and isinstance(state, tuple):  # as before 0.1.9; after it, only whether it is trained
            self.given = state


class _Dict(dict, metaclass=_Sealed):
    """A dictionary without the attributes that state dicts have: the versions of PyTorch's modules."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


_CLASSES: Mapping[tuple[str, str], type] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_parameter"): _Tensor,
    ("torch.nn.parameter", "Parameter"): _Tensor,  # before 0.4
}


class _Unpickler(pickle.Unpickler):
    """Gives dictionaries, lists, tuples, text, numbers and `_Tensor`s; refuses everything else."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES:
            return _CLASSES[module, name]
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return name
        raise _RefusedError(f"asks for {f'{module}.{name}'!r:.80}, which no weights need; it was not run")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("a reference to something that is not a storage")
        kind, key, _, size = pid[1:5]
        view = pid[5] if len(pid) == 6 else None
        _, first, count = (key, 0, size) if view is None else view
        if not isinstance(key, str) or kind not in _STORAGES or not _naturals((size, first, count)):
            raise pickle.UnpicklingError("a storage without a name, type or size")
        if first + count > size:
            raise pickle.UnpicklingError("a part of a storage that is larger than the whole")
        whole = self.storages.setdefault(key, _Storage(key, kind, size, 0, size))
        if whole[:3] != (key, kind, size):
            raise pickle.UnpicklingError("a storage of two types or sizes")
        return whole._replace(first=first, last=first + count)


def _unpickle(data: bytes, start: int = 0) -> tuple[Any, Mapping[str, _Storage], int]:
    """The object pickled in `data` at `start`, the storages that it refers to, and where it ends."""
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        tuples = 0
        for opcode, argument, position in pickletools.genops(stream):
            tuples += "TUPLE" in opcode.name
            if tuples > _MAX_TUPLES:
                raise pickle.UnpicklingError("more tuples than any weights need")
            if opcode.name.startswith("EXT"):  # looks objects up elsewhere than in find_class
                raise pickle.UnpicklingError("an extension code")
            if opcode.name.endswith("PUT") and int(argument or 0) > (position or 0) - start:  # would claim the memory
                raise pickle.UnpicklingError("a memo larger than the pickle")
        unpickler = _Unpickler(data[start : stream.tell()])
        return unpickler.load(), unpickler.storages, stream.tell()
    except _MALFORMED as error:
        raise _DamagedError(f"is not whole, or not PyTorch's: its pickle can't be read ({error!s:.80})") from error


def _state_dict(content: Any) -> dict[str, _Tensor]:
    """The named tensors in what was unpickled: all of it, or what it has under "state_dict"."""
    if isinstance(content, dict) and not any(isinstance(value, _Tensor) for value in content.values()):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise _RefusedError(f"holds a {type(content).__name__}, and not a dictionary of named tensors")
    for key, value in content.items():
        if not isinstance(key, str):
            raise _RefusedError(f"holds a dictionary with a {type(key).__name__} for a name")
        if not isinstance(value, _Tensor):
            raise _RefusedError(f"should hold named tensors, but {key!r:.80} is a {type(value).__name__}")
    if not content:
        raise _RefusedError("holds no tensors")
    return content


# The numbers.


def _numbers(data: bytes | memoryview, storage: _Storage, swap: bool) -> np.ndarray:
    dtype = np.dtype(_STORAGES[storage.kind])
    if len(data) != storage.size * dtype.itemsize:
        raise _DamagedError(f"has a storage of {len(data)} bytes for {storage.size} numbers of {dtype.itemsize}")
    numbers = np.frombuffer(data, dtype.newbyteorder(">") if swap else dtype)
    if storage.kind == _BFLOAT16:  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(dtype.newbyteorder("="), copy=False)


def _arrays(tensors: Mapping[str, _Tensor], read: Read) -> dict[str, np.ndarray]:
    cached = functools.cache(read)  # a storage may be that of several tensors
    return {name: _array(name, tensor, cached) for name, tensor in tensors.items()}


def _array(name: str, tensor: _Tensor, read: Read) -> np.ndarray:
    """A view of the numbers that `tensor` describes, once it is sure to stay within them."""
    given = tensor.given
    if given and isinstance(given[0], _Tensor):  # a parameter
        given = given[0].given
    storage, offset, shape, strides = given[:4] if len(given) >= 4 else (None,) * 4
    if not isinstance(storage, _Storage) or not _naturals((offset,)) or not (_naturals(shape) and _naturals(strides)):
        raise _DamagedError(f"doesn't describe {name!r:.80} as PyTorch describes a tensor")
    if any(isinstance(extra, dict) and extra for extra in given[4:]):
        raise _RefusedError(f"has {name!r:.80} with hooks or unfinished arithmetic")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMS:
        raise _DamagedError(f"describes {name!r:.80} with {len(shape)} dimensions and {len(strides)} strides")
    count, limit = math.prod(shape), storage.last - storage.first
    reach = offset + (1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0)
    if max(reach, count) > limit:
        raise _DamagedError(f"describes {name!r:.80} as larger than its storage of {limit} numbers")
    numbers = read(storage.key)[storage.first : storage.last]
    if not count:
        if math.prod(n or 1 for n in shape) * numbers.itemsize > sys.maxsize:
            raise _DamagedError(f"describes {name!r:.80} in an impossible shape")
        return np.empty(shape, numbers.dtype)
    steps = [numbers.itemsize * s if n > 1 else 0 for n, s in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, steps, writeable=False)


def _naturals(values: Any) -> bool:
    return isinstance(values, tuple | list) and all(type(value) is int and value >= 0 for value in values)
