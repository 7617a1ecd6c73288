"""Arrays out of the files that the authors of distillation methods released, one reader for each format.

Nothing in the files is run: pickles are read by an unpickler that knows tensors only, see `dd_jax.storage.unpickling`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dd_jax.data.missing import not_there
from dd_jax.data.npz import read_arrays
from dd_jax.errors import DataError, OptionError
from dd_jax.storage.unpickling import RefusedError, Tensor
from dd_jax.storage.weights import Pick, read_tensors

_REMEDY = (
    "Where you trust it, convert it with PyTorch: numpy.savez('set.npz', images=images.numpy(), "
    "labels=labels.numpy()), and import it with --format npz"
)
_MAX_MSGPACK = 2**31  # bytes of a checkpoint of Flax's; a set is far smaller


class Found(NamedTuple):
    """What files hold, as it stands there.

    Attributes:
        images: (N, C, H, W), (N, H, W, C) if `channels_last`, or the features (N, F) of a graph's nodes.
        labels: (N,) classes or (N, K), or None where there are none.
        step_sizes: (T,), or None.
        adjacency: (N, N) of a graph, or None.
        notes: what was taken, and what was left out, a sentence each.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    step_sizes: np.ndarray | None = None
    adjacency: np.ndarray | None = None
    channels_last: bool = False
    notes: tuple[str, ...] = ()


Read: TypeAlias = Callable[[Sequence[Path], int | None], Found]  # files, number of the set in them or None -> arrays


class Format(NamedTuple):
    """A format of released sets.

    Attributes:
        read: files, and which of several sets in them, if that was said -> what they hold.
        protocol: of the method, where there is one; None where it must be said.
        pixels: whether the file holds pixels in [0, 1], and not what networks see.
        files: what is to be given, for messages.
    """

    read: Read
    protocol: str | None
    files: str
    pixels: bool = False


def read_gcond(files: Sequence[Path], index: int | None) -> Found:
    """Features (N, F) and, of GCond but not of GCond-X, the adjacency (N, N), a tensor in each file, in any order.

    Source: Jin et al. 2022, the released code: torch.save(adj_syn), torch.save(feat_syn).
    """
    _no_index(index, "gcond")
    found = [(path, _one_tensor(path)) for path in files]
    for path, array in found:
        if array.ndim != 2:
            raise DataError(f"{path} should hold features (N, F) or an adjacency (N, N), but holds {array.shape}.")
    if len(found) == 1:
        return Found(found[0][1], notes=("There is no file of edges, so the nodes have none (GCond-X).",))
    if len(found) != 2:
        raise DataError(f"A graph is one file of features and one of edges, but {len(found)} files were named.")
    square = [number for number, (_, array) in enumerate(found) if array.shape[0] == array.shape[1]]
    if len(square) != 1 or len(found[0][1]) != len(found[1][1]):
        shapes = ", ".join(f"{path.name} {array.shape}" for path, array in found)
        raise DataError(
            f"A graph is features (N, F) and an adjacency (N, N) of the same N nodes, but these are {shapes}."
        )
    return Found(found[1 - square[0]][1], adjacency=found[square[0]][1])


def read_dc(files: Sequence[Path], index: int | None) -> Found:
    """{'data': [[images (N, C, H, W), labels (N,)], ...], 'accs_all_exps': ...}, one pair for each distillation.

    Source: Zhao et al. 2021, Zhao & Bilen 2021 and 2023, the released code (main.py, main_DM.py).
    """
    path, count = _single(files, "dc"), 0

    def named(content: Any) -> Mapping[str, Tensor]:
        nonlocal count
        data = content.get("data") if isinstance(content, dict) else None
        if not isinstance(data, list) or not data:
            raise RefusedError("should hold a dictionary whose 'data' is a list of [images, labels]")
        count = len(data)
        return _pair(data[_chosen(index, count, path)], "an entry of 'data'")

    arrays = _read(path, named)
    which = _chosen(index, count, path)
    note = f"{path.name} holds {count} sets, one for each distillation; taken: number {which}, counted from 0."
    return Found(arrays["images"], arrays["labels"], notes=(note,) if count > 1 and index is None else ())


def read_idc(files: Sequence[Path], index: int | None) -> Found:
    """[images (N, C, H, W) in [0, 1], labels (N,)].

    Source: Kim et al. 2022, the released code (condense.py).
    """
    _no_index(index, "idc")
    arrays = _read(_single(files, "idc"), lambda content: _pair(content, "it"))
    return Found(arrays["images"], arrays["labels"])


def read_mtt(files: Sequence[Path], index: int | None) -> Found:
    """Images (N, C, H, W), labels (N,) or (N, K) and, where it is there, a step size, a tensor in each file.

    Which is which is told by their dimensions.

    Source: Cazenavette et al. 2022 and Cui et al. 2023 (TESLA), the released code (distill.py).
    """
    _no_index(index, "mtt")
    there: dict[str, np.ndarray] = {}
    for path in files:
        array = _one_tensor(path)
        role = "images" if array.ndim == 4 else "step size" if array.size == 1 else "labels"
        if role in there:
            raise DataError(f"{path} {array.shape} would be a second file of {role}. Name one file of each.")
        there[role] = array
    if not {"images", "labels"} <= set(there):
        raise DataError(
            "Expected a file of images (N, C, H, W) and one of labels, such as images_best.pt and "
            f"labels_best.pt, but found {', '.join(there) or 'nothing'}."
        )
    sizes = there.get("step size")
    return Found(there["images"], there["labels"], None if sizes is None else sizes.reshape(1))


def read_frepo(files: Sequence[Path], index: int | None) -> Found:
    """'image' (N, H, W, C) and 'label' (N, K) in an npz file, or params 'x_proto' and 'y_proto' in Flax's checkpoint.

    Source: Zhou et al. 2022, the released code (save_proto_np; flax.training.checkpoints).
    """
    _no_index(index, "frepo")
    path = _single(files, "frepo")
    if _head(path).startswith(b"PK"):
        arrays = read_arrays(path)
        names = ("image", "label")
    else:
        arrays = _read_msgpack(path)
        names = ("x_proto", "y_proto")
    for name in names:
        if name not in arrays:
            wanted = " and ".join(map(repr, names))
            raise DataError(f"{path} has no {name!r}; expected {wanted}, found {_listed(arrays)}.")
    return Found(arrays[names[0]], arrays[names[1]], channels_last=True)


def read_npz(files: Sequence[Path], index: int | None) -> Found:
    """'images' (N, H, W, C) or, as 'images_nchw', (N, C, H, W); 'labels'; 'step_sizes' (T,), which may be left out."""
    _no_index(index, "npz")
    path = _single(files, "npz")
    arrays = read_arrays(path)
    names = [name for name in ("images", "images_nchw") if name in arrays]
    if len(names) != 1 or "labels" not in arrays:
        raise DataError(
            f"{path} should hold 'images' (N, H, W, C), or 'images_nchw' (N, C, H, W), and 'labels'; "
            f"found {_listed(arrays)}."
        )
    others = sorted(set(arrays) - {*names, "labels", "step_sizes"})
    notes = (f"{path.name}: left out {', '.join(others)}.",) if others else ()
    last = names[0] == "images"
    return Found(arrays[names[0]], arrays["labels"], arrays.get("step_sizes"), channels_last=last, notes=notes)


FORMATS: Mapping[str, Format] = {
    "gcond": Format(read_gcond, "gcond", "the file of the features and that of the adjacency"),
    "dc": Format(read_dc, None, "one file, such as res_DC_CIFAR10_ConvNet_10ipc.pt"),
    "mtt": Format(read_mtt, "mtt", "images_best.pt, labels_best.pt and, if there is one, lr_best.pt"),
    "idc": Format(read_idc, "idc", "one file, such as data.pt", pixels=True),
    "frepo": Format(read_frepo, "frepo", "one npz file or one checkpoint of Flax's"),
    "npz": Format(read_npz, None, "one npz file"),
}


def _single(files: Sequence[Path], name: str) -> Path:
    if len(files) != 1:
        raise DataError(f"A set of the format {name!r} is {FORMATS[name].files}, but {len(files)} files were named.")
    return files[0]


def _no_index(index: int | None, name: str) -> None:
    if index is not None:
        raise OptionError(f"Files of the format {name!r} hold one set only. Leave out index.")


def _chosen(index: int | None, count: int, path: Path) -> int:
    """Which of several sets: the last one where nothing was said."""
    if index is None:
        return count - 1
    if not 0 <= index < count:
        raise OptionError(f"{path} holds sets 0 to {count - 1}, but index is {index}.")
    return index


def _read(path: Path, named: Callable[[Any], Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    return read_tensors(path, Pick(named, "file", True, _REMEDY))


def _one_tensor(path: Path) -> np.ndarray:
    def named(content: Any) -> Mapping[str, Tensor]:
        if not isinstance(content, Tensor):
            raise RefusedError(f"should hold one tensor, but holds a {_kind(content)}")
        return {"it": content}

    arrays = _read(path, named)
    if len(arrays) != 1:  # of safetensors
        raise DataError(f"{path} should hold one tensor, but holds {_listed(arrays)}.")
    return next(iter(arrays.values()))


def _pair(content: Any, what: str) -> Mapping[str, Tensor]:
    is_pair = isinstance(content, list | tuple) and len(content) == 2
    if not is_pair or not all(isinstance(part, Tensor) for part in content):
        raise RefusedError(f"should hold [images, labels], but {what} is a {_kind(content)}")
    return dict(zip(("images", "labels"), content, strict=True))


def _kind(content: Any) -> str:
    return f"{type(content).__name__.strip('_').lower()}" + (f" of {len(content)}" if isinstance(content, list) else "")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError:
        raise not_there("file", path, "Expected a file of a released set.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error


def _listed(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name!r} {array.shape}" for name, array in arrays.items())[:300] or "nothing"


# Flax's checkpoints: maps in msgpack, arrays as an extension of it.

_NDARRAY = 1  # flax/serialization.py
_TYPES = ("float16", "float32", "float64", "int32", "int64")


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    """The arrays of 'params' in a checkpoint, by name."""
    import msgpack

    try:
        if path.stat().st_size > _MAX_MSGPACK:
            raise DataError(
                f"{path} should be smaller than {_MAX_MSGPACK:,} bytes, but is larger. It is probably not a "
                "distilled set."
            )
        content = msgpack.unpackb(path.read_bytes(), ext_hook=_array, raw=False, strict_map_key=False)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from error
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
        raise DataError(
            f"{path} is cut off, or is neither an npz file nor a Flax checkpoint ({error!s:.80}). Download or "
            "copy it again."
        ) from error
    params = content.get("params") if isinstance(content, dict) else None
    if not isinstance(params, dict):
        raise DataError(f"{path} should be a checkpoint with 'params', but holds a {type(content).__name__}.")
    return {name: array for name, array in params.items() if isinstance(name, str) and isinstance(array, np.ndarray)}


def _array(code: int, data: bytes) -> Any:
    """An array as Flax packs it: (shape, name of the type, bytes); None for any other extension."""
    import msgpack

    if code != _NDARRAY:
        return None
    shape, kind, numbers = msgpack.unpackb(data, raw=False)
    if kind not in _TYPES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"an array {shape!r:.40} of {kind!r:.20}")
    return np.frombuffer(numbers, kind).reshape(shape)
