"""Arrays out of the files that the authors of distillation methods released, one reader for each format.

Nothing in the files is run: pickles are read by an unpickler that knows tensors only, see `dd_jax.storage.unpickling`.
"""

import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dd_jax.data.archive import SUFFIX
from dd_jax.data.missing import not_there
from dd_jax.data.npz import read_arrays
from dd_jax.errors import DataError, OptionError
from dd_jax.storage.unpickling import RefusedError, Tensor
from dd_jax.storage.weights import Pick, read_tensors

_REMEDY = (
    "Where you trust it, convert it with PyTorch: numpy.savez('set.npz', images=images.numpy(), "
    "labels=labels.numpy()), and import it with --format npz"
)
_REMEDY_FOR_GRAPHS = (
    "Where you trust it, load it with PyTorch and save each tensor alone, as a dense one: torch.save(features, "
    "'feat.pt'), and torch.save(adjacency.to_dense(), 'adj.pt')"
)
_OF_IMAGES = ("preprocessing", "labels", "soft_labels", "protocol")  # options
_MAX_MSGPACK = 2**31  # bytes of a checkpoint of Flax's; a set is far smaller


class Found(NamedTuple):
    """What files hold, as it stands there.

    Attributes:
        images: (N, C, H, W), (N, H, W, C) if `channels_last`, or the features (N, F) of a graph's nodes.
        labels: (N,) classes or (N, K), or None where there are none.
        step_sizes: (T,), or None.
        adjacency: (N, N) of a graph, or None.
        notes: what was taken, and what was left out, a sentence each.
        places: the file of each of "images", "labels", "step_sizes" and "adjacency", where it isn't the first one.
        taken: what was taken where the options left it open, by name.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    step_sizes: np.ndarray | None = None
    adjacency: np.ndarray | None = None
    channels_last: bool = False
    notes: tuple[str, ...] = ()
    places: Mapping[str, Path] = MappingProxyType({})
    taken: Mapping[str, Any] = MappingProxyType({})


Read: TypeAlias = Callable[[Sequence[Path], int | None], Found]  # files, number of the set in them or None -> arrays


class Format(NamedTuple):
    """A format of released sets.

    Attributes:
        read: files, and which of several sets in them, if that was said -> what they hold.
        protocol: of the method, where there is one; None where it must be said.
        pixels: whether the file holds pixels in [0, 1], and not what networks see.
        files: what is to be given, for messages.
        takes: the options that have a meaning for it.
    """

    read: Read
    protocol: str | None
    files: str
    takes: tuple[str, ...]
    pixels: bool = False


def read_gcond(files: Sequence[Path], index: int | None) -> Found:
    """Features (N, F) and, of GCond but not of GCond-X, the adjacency (N, N), a tensor in each file, in any order.

    Source: Jin et al. 2022, the released code: torch.save(adj_syn), torch.save(feat_syn).
    """
    del index
    found = [(path, _one_tensor(path, _REMEDY_FOR_GRAPHS)) for path in files]
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
    (features, nodes), (edges, adjacency) = found[1 - square[0]], found[square[0]]
    return Found(nodes, adjacency=adjacency, places={"images": features, "adjacency": edges})


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
    notes: tuple[str, ...] = ()
    taken: dict[str, int] = {}
    if count > 1 and index is None:
        notes = (f"{path.name} holds {count} sets, one for each distillation; taken: number {which}, counted from 0.",)
        taken = {"index": which, "sets_in_file": count}
    return Found(arrays["images"], arrays.get("labels"), notes=notes, taken=taken)


def read_idc(files: Sequence[Path], index: int | None) -> Found:
    """[images (N, C, H, W) in [0, 1], labels (N,)].

    Source: Kim et al. 2022, the released code (condense.py).
    """
    del index
    arrays = _read(_single(files, "idc"), lambda content: _pair(content, "it"))
    return Found(arrays["images"], arrays.get("labels"))


def read_mtt(files: Sequence[Path], index: int | None) -> Found:
    """Images (N, C, H, W), labels (N,) or (N, K) and, where it is there, a step size, a tensor in each file.

    Which is which is told by their dimensions and names.

    Source: Cazenavette et al. 2022 and Cui et al. 2023 (TESLA), the released code (distill.py).
    """
    del index
    there: dict[str, np.ndarray] = {}
    places: dict[str, Path] = {}
    for path in files:
        array = _one_tensor(path, _REMEDY)
        role = _role(path, array)
        if role in there:
            first = f"{places[role].name} {there[role].shape}"
            raise DataError(
                f"Expected one file of images (N, C, H, W), one of labels (N,) or (N, K), and one of a single step "
                f"size, but {path} {array.shape} would be a second file of {role.replace('_', ' ')}, beside {first}. "
                "Name one file of each."
            )
        there[role], places[role] = array, path
    if "images" not in there:
        found = ", ".join(f"{name.replace('_', ' ')} in {places[name].name}" for name in there) or "nothing"
        raise DataError(
            "Expected a file of images (N, C, H, W) and one of labels, such as images_best.pt and "
            f"labels_best.pt, but found {found}. Name the file of the images too."
        )
    sizes = there.get("step_sizes")
    if sizes is not None and sizes.size != 1:
        raise DataError(
            f"{places['step_sizes']} should hold a single step size, but holds {sizes.size}, of shape {sizes.shape}. "
            "Leave the file out and give step_size."
        )
    return Found(there["images"], there.get("labels"), None if sizes is None else sizes.reshape(1), places=places)


def _role(path: Path, array: np.ndarray) -> str:
    """What a tensor is to trajectory matching: by its dimensions or, where they leave it open, by the file's name."""
    if array.ndim == 4:
        return "images"
    for role, start in (("step_sizes", "lr"), ("labels", "label")):
        if path.name.lower().startswith(start):
            return role
    return "step_sizes" if array.size == 1 else "labels"


def read_frepo(files: Sequence[Path], index: int | None) -> Found:
    """'image' (N, H, W, C) and 'label' (N, K) in an npz file, or params 'x_proto' and 'y_proto' in Flax's checkpoint.

    Source: Zhou et al. 2022, the released code (save_proto_np; flax.training.checkpoints).
    """
    del index
    path = _single(files, "frepo")
    _refuse_torch(path, "an npz file or a checkpoint of Flax's")
    if _head(path).startswith(b"PK"):
        arrays = read_arrays(path)
        images, labels = "image", "label"
    else:
        arrays = _read_msgpack(path)
        images, labels = "x_proto", "y_proto"
    if images not in arrays:
        raise DataError(f"{path} has no {images!r}; expected {images!r} and {labels!r}, found {_listed(arrays)}.")
    return Found(
        arrays[images], arrays.get(labels), channels_last=True, notes=_left_out(path, arrays, {images, labels})
    )


def read_npz(files: Sequence[Path], index: int | None) -> Found:
    """'images' (N, H, W, C) or, as 'images_nchw', (N, C, H, W); 'labels'; 'step_sizes' (T,), which may be left out."""
    del index
    path = _single(files, "npz")
    _refuse_torch(path, "an npz file")
    arrays = read_arrays(path)
    names = [name for name in ("images", "images_nchw") if name in arrays]
    if len(names) != 1:
        raise DataError(
            f"{path} should hold either 'images' (N, H, W, C) or 'images_nchw' (N, C, H, W), and 'labels'; "
            f"found {_listed(arrays)}. Save it again with numpy.savez under these names."
        )
    notes = _left_out(path, arrays, {*names, "labels", "step_sizes"})
    last = names[0] == "images"
    return Found(arrays[names[0]], arrays.get("labels"), arrays.get("step_sizes"), channels_last=last, notes=notes)


FORMATS: Mapping[str, Format] = {
    "gcond": Format(read_gcond, "gcond", "the file of the features and that of the adjacency", ("labels", "protocol")),
    "dc": Format(read_dc, None, "one file, such as res_DC_CIFAR10_ConvNet_10ipc.pt", (*_OF_IMAGES, "index")),
    "mtt": Format(
        read_mtt,
        "mtt",
        "images_best.pt, labels_best.pt and, if there is one, lr_best.pt",
        (*_OF_IMAGES, "step_size"),
    ),
    "idc": Format(read_idc, "idc", "one file, such as data.pt", (*_OF_IMAGES, "factor", "formation"), pixels=True),
    "frepo": Format(read_frepo, "frepo", "one npz file or one checkpoint of Flax's", _OF_IMAGES),
    "npz": Format(read_npz, None, "one npz file", (*_OF_IMAGES, "step_size")),
}


def _single(files: Sequence[Path], name: str) -> Path:
    if len(files) != 1:
        raise DataError(f"A set of the format {name!r} is {FORMATS[name].files}, but {len(files)} files were named.")
    return files[0]


def _chosen(index: int | None, count: int, path: Path) -> int:
    """Which of several sets: the last one where nothing was said."""
    if index is None:
        return count - 1
    if not 0 <= index < count:
        raise OptionError(f"{path} holds sets 0 to {count - 1}, but index is {index}.")
    return index


def _read(path: Path, named: Callable[[Any], Mapping[str, Tensor]], remedy: str = _REMEDY) -> dict[str, np.ndarray]:
    if _members(path, SUFFIX):
        raise DataError(
            f"{path} should be a file of torch.save, but is an npz file. Import it with --format npz, or frepo if "
            "FRePo's code saved it."
        )
    return read_tensors(path, Pick(named, "file", True, remedy))


def _refuse_torch(path: Path, expected: str) -> None:
    if _members(path, "data.pkl") or (path.is_file() and _head(path).startswith(b"\x80\x02\x8a\n")):
        raise DataError(
            f"{path} should be {expected}, but is a file of torch.save. Import it with --format dc if it is a "
            "dictionary of [images, labels], mtt for tensors alone, idc for [images, labels], or gcond for a graph."
        )


def _members(path: Path, suffix: str) -> list[str]:
    """The names in a zip archive that end so; none in any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if name.endswith(suffix)]
    except (OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile):
        return []  # whoever reads the file says what is wrong with it


def _left_out(path: Path, arrays: Mapping[str, np.ndarray], used: set[str]) -> tuple[str, ...]:
    others = sorted(set(arrays) - used)
    return (f"{path.name}: left out {', '.join(others)}.",) if others else ()


def _one_tensor(path: Path, remedy: str) -> np.ndarray:
    def named(content: Any) -> Mapping[str, Tensor]:
        if not isinstance(content, Tensor):
            raise RefusedError(f"should hold one tensor, but holds a {_kind(content)}")
        return {"it": content}

    arrays = _read(path, named, remedy)
    if len(arrays) != 1:  # of safetensors
        raise DataError(f"{path} should hold one tensor, but holds {_listed(arrays)}.")
    return next(iter(arrays.values()))


def _pair(content: Any, what: str) -> Mapping[str, Tensor]:
    is_pair = isinstance(content, list | tuple) and len(content) == 2
    if is_pair and isinstance(content[0], Tensor) and content[1] is None:
        return {"images": content[0]}
    if not is_pair or not all(isinstance(part, Tensor) for part in content):
        raise RefusedError(f"should hold [images, labels], but {what} is {_with_article(content)}")
    return dict(zip(("images", "labels"), content, strict=True))


def _with_article(content: Any) -> str:
    kind = _kind(content)
    if isinstance(content, list | tuple) and len(content) == 2:
        return f"a {kind}: {' and '.join('None' if part is None else f'a {_kind(part)}' for part in content)}"
    return f"a {kind}"


def _kind(content: Any) -> str:
    kind = type(content).__name__.strip("_").lower()
    return f"{kind} of {len(content)}" if isinstance(content, list | tuple) else kind


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
