"""The pickles in PyTorch's weight files, read by an unpickler that knows dictionaries and descriptions of tensors only.

Nothing in them runs, and none takes more time or memory than its size explains. What it says of tensors is not checked
here, but where the numbers are read.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

from dd_jax.data.pickles import MALFORMED, check_opcodes

BFLOAT16 = "BFloat16Storage"
STORAGES = {  # little-endian
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    BFLOAT16: "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class DamagedError(Exception):
    """Says what is wrong with a file, after its name."""

    remedy = "Download it, or copy it, again"


class RefusedError(Exception):
    """Says what a file holds that isn't read, after its name."""


class Storage(NamedTuple):
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


class Tensor(metaclass=_Sealed):
    """What the pickle says of a tensor, kept as it stands: (storage, offset, shape, strides, ...) or (tensor, ...)."""

    __slots__ = ("given",)
    given: tuple[Any, ...]

    def __new__(cls, *given: Any) -> "Tensor":
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


class Ignored(metaclass=_Sealed):
    """What stands for an object that nothing is asked of: a number of NumPy's in a log, its type, or its bytes."""

    __slots__ = ()

    def __new__(cls, *given: Any) -> "Ignored":
        del given
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


_CLASSES: Mapping[tuple[str, str], type] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): Tensor,
    ("torch.nn.parameter", "Parameter"): Tensor,  # before 0.4
}


# What logs beside tensors are made of: NumPy's numbers and arrays, whose bytes are text in old pickles.
_LOGGED = {("_codecs", "encode"), ("numpy", "dtype"), ("numpy", "ndarray")} | {
    (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")
}


class _Unpickler(pickle.Unpickler):
    """Gives dictionaries, lists, tuples, text, numbers and `Tensor`s; refuses everything else.

    With `logs` it gives `Ignored` for what logs are made of.
    """

    def __init__(self, data: bytes, logs: bool):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.logs = logs
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES:
            return _CLASSES[module, name]
        if self.logs and (module, name) in _LOGGED:
            return Ignored
        if module in ("torch", "torch.cuda") and name in STORAGES:
            return name
        needless = "no set needs" if self.logs else "no weights need"
        raise RefusedError(f"asks for {f'{module}.{name}'!r:.80}, which {needless}. It was not run")

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("a reference to something that is not a storage")
        kind, key, _, size = pid[1:5]
        view = pid[5] if len(pid) == 6 else None
        _, first, count = (key, 0, size) if view is None else view
        if not isinstance(key, str) or kind not in STORAGES or not naturals((size, first, count)):
            raise pickle.UnpicklingError("a storage without a name, type or size")
        if first + count > size:
            raise pickle.UnpicklingError("a part of a storage that is larger than the whole")
        whole = self.storages.setdefault(key, Storage(key, kind, size, 0, size))
        if whole[:3] != (key, kind, size):
            raise pickle.UnpicklingError("a storage of two types or sizes")
        return whole._replace(first=first, last=first + count)


def unpickle(data: bytes, start: int = 0, logs: bool = False) -> tuple[Any, Mapping[str, Storage], int]:
    """The object pickled in `data` at `start`, the storages that it refers to, and where it ends.

    Args:
        logs: whether `Ignored` stands for NumPy's numbers beside the tensors; else they are refused.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        check_opcodes(stream, start)
        unpickler = _Unpickler(data[start : stream.tell()], logs)
        return unpickler.load(), unpickler.storages, stream.tell()
    except MALFORMED as error:
        raise DamagedError(f"is not whole, or not PyTorch's: its pickle can't be read ({error!s:.80})") from error


def state_dict(content: Any) -> dict[str, Tensor]:
    """The named tensors in what was unpickled: all of it, or what it has under "state_dict"."""
    if isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        content = content.get("state_dict", content)
    if not isinstance(content, dict):
        raise RefusedError(f"should hold a dictionary of named tensors, but holds a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str):
            raise RefusedError(f"should have text for names, but has a {type(key).__name__} for one")
        if not isinstance(value, Tensor):
            raise RefusedError(f"should hold named tensors, but {key!r:.80} is a {type(value).__name__}")
    if not content:
        raise RefusedError("holds no tensors")
    return content


def naturals(values: Any) -> bool:
    """Whether these are whole numbers from 0, in a tuple or list."""
    return isinstance(values, tuple | list) and all(type(value) is int and value >= 0 for value in values)
