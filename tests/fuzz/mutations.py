"""Files that nobody honest would write, and what reading them must not do."""

import contextlib
import io
import json
import os
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dd_jax.errors import DataWarning, DDJaxError

LONG = int(os.environ.get("DD_JAX_FUZZ_EXAMPLES", "0"))  # of every test, random ones: a campaign by hand


def examples(short: int) -> settings:
    """`short` examples, always the same ones; or as many as DD_JAX_FUZZ_EXAMPLES says, other ones every time."""
    return settings(
        max_examples=LONG or short,
        derandomize=not LONG,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


# What must not happen.

_FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.", "pickle.find_class", "socket.",
              "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.", "ctypes.")  # fmt: skip
_events: list[str] = []
_watching = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or os.environ["JAX_COMPILATION_CACHE_DIR"] in str(arguments):
        return
    if event.startswith(_FORBIDDEN) or (event == "open" and set(str(arguments[1])) & set("wax+")):
        _events.append(f"{event} {arguments!r:.200}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Fails if anything within the block starts a process, looks up a class for a pickle, or changes a file."""
    global _watching
    _events.clear()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _events


def read_or_refused(read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `read` gives, whatever it tells, or None where it refuses, with a message and as one of its errors."""
    with watched(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return read(*arguments, **options)
        except DDJaxError as error:
            message = str(error)
    assert len(message) > 20, "no message"
    return None


# Bytes.


@st.composite
def mutated(draw: Callable[..., Any], data: bytes) -> bytes:
    """`data` with a few changes: bits, bytes, numbers of four bytes, pieces that are missing, doubled or moved."""
    changed = bytearray(data)
    places = st.integers(0, len(data) - 1) | st.integers(max(0, len(data) - 400), len(data) - 1)
    for _ in range(draw(st.integers(1, 4))):
        at = min(draw(places), len(changed) - 1)
        kind = draw(st.sampled_from(["bit", "bit", "byte", "byte", "number", "cut", "double", "move", "truncate"]))
        if kind == "bit":
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            changed[at] = draw(st.sampled_from(b"\x00\xff\x7f\x8009{}[]\"\\'(.,") | st.integers(0, 255))
        elif kind == "number":
            number = draw(st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1))
            changed[at : at + 4] = struct.pack("<I", number)
        elif kind == "truncate":
            del changed[max(1, at) :]
        else:
            piece = bytes(changed[at : at + draw(st.integers(1, 64))])
            if kind in ("cut", "move"):
                del changed[at : at + len(piece)]
            if kind in ("double", "move") or not changed:
                to = min(draw(places), len(changed))
                changed[to:to] = piece
    return bytes(changed)


# Text.

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**31, 2**63, 2**64, -(2**63) - 1, 10**30, float("inf"), float("nan"), -0.0, 1e-320]),
    st.sampled_from(["", ".", "..", "a\0b", "\ud800", "x" * 300, "../a", "fixed", "random", "identity", "zca"]),
    st.text(max_size=8),
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@st.composite
def changed_json(draw: Callable[..., Any], value: Any) -> Any:
    """`value` with something in it replaced, renamed, removed or added."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        kind = draw(st.sampled_from(["change", "change", "change", "remove", "rename", "add"]))
        if kind == "change":
            return {**value, key: draw(changed_json(value[key]))}
        if kind == "add":
            return {**value, draw(st.text(max_size=6)): draw(json_values)}
        rest = {k: v for k, v in value.items() if k != key}
        return rest if kind == "remove" else {**rest, key + "s": value[key]}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(changed_json(value[at])), *value[at + 1 :]]
    return draw(json_values)


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, with what JSON has not: NaN and single surrogates."""
    return json.dumps(value, ensure_ascii=True).encode()


# Archives of arrays.


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def header(shape: Any, descr: Any = "<f4", fortran: Any = False) -> bytes:
    """The head of an npy file, which may say anything."""
    text = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(entries: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


class Touch:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path: Any):
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (os.mkdir, (self.path,))


DTYPES = ("<f4", ">f4", "<f2", "<f8", "<f16", "<i4", "<i8", "<u8", "|u1", "|b1", "<U3", "|S3", "|V4", "<c8", "<M8[s]",
          "<m8[s]", "|O", ("<f4", (3,)), [("a", "<f4")], "x", 3)  # fmt: skip
SHAPES = ((), (0,), (1,), (10**12,), (-1,), (2**70, 0), (2**32, 2**32), (True,), (1.5,), ("a",), [1], (1,) * 70)


def arrays(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    """Arrays of about this shape, of other dtypes, with values that should not be there."""
    near = [shape, shape[:-1], (*shape, 1), (0, *shape[1:]), tuple(2 * n for n in shape), shape[::-1], ()]
    values = [0, 1, -1, 3, 7, 300, 2**31, 2**63 - 1, 0.5, -0.5, 1e30, 1e300, np.nan, np.inf, -np.inf, 1e-45]
    dtypes = ["f4", "f4", "i4", "u1", "f2", "f8", ">f4", "i8", "?", "c8", "U2", "M8[s]", "m8[s]", np.longdouble, "V4"]

    def make(shape: tuple[int, ...], dtype: Any, value: float, at: int) -> np.ndarray:
        array = np.zeros(shape, dtype)
        with contextlib.suppress(ValueError, OverflowError, TypeError), np.errstate(all="ignore"):
            array.reshape(-1)[at % max(array.size, 1) :][:1] = value
        return array

    return st.builds(
        make, st.sampled_from(near), st.sampled_from(dtypes), st.sampled_from(values), st.integers(0, 10**4)
    )


def entries_like(intact: Mapping[str, bytes], shapes: Mapping[str, tuple[int, ...]]) -> st.SearchStrategy[bytes]:
    """Archives like `intact` in which one entry is another array, says what isn't so, or is missing."""

    def replaced(name: str) -> st.SearchStrategy[dict[str, bytes]]:
        contents = st.one_of(
            arrays(shapes[name]).map(npy),
            st.builds(
                header, st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from([False, True, 1, None])
            ),
            st.builds(lambda shape, more: header(shape) + more, st.sampled_from(SHAPES), st.binary(max_size=20)),
            mutated(intact[name]),
            st.binary(max_size=20),
        )
        return contents.map(lambda content: {**intact, name: content})

    names = st.sampled_from(sorted(intact))
    removed = names.map(lambda name: {k: v for k, v in intact.items() if k != name})
    added = st.builds(lambda name, data: {**intact, name: data}, st.text("abs./", min_size=1, max_size=6), st.binary())
    compressions = st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    changed = st.one_of(*[names.flatmap(replaced)] * 4, removed, added)
    return st.builds(archive, changed, compressions)
