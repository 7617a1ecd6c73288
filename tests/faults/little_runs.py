"""A run that takes a moment, what two runs must have in common, and a way to step in before every change to files."""

import contextlib
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.runs import loop
from dd_jax.runs.directory import read_metrics

OPTIONS = {"num_outer_steps": 6, "eval_every": 2, "num_eval_nets": 2, "seed": 3, "show_progress": False}
CLOCKS = ("seconds", "memory")  # what a machine, and not the run, decides of a row of metrics


def run(method, data, out, **changes: Any) -> dd.Run:
    """Distil for a moment in `out`, from wherever it stands."""
    return dd.distill(method, data, out=out, **{**OPTIONS, **changes})


def bits(distilled: dd.DistilledData) -> bytes:
    """All that was learnt."""
    arrays = (distilled.images, distilled.labels, distilled.step_sizes)
    return hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in arrays)).digest()


def without_clocks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


class Outcome(NamedTuple):
    """What a run leaves behind. chosen: the sets that a validation chose, in order."""

    distilled: bytes
    metrics: list[dict[str, Any]]
    chosen: tuple[bytes, ...] = ()


def outcome(out: Path) -> Outcome:
    """What is in the run directory `out`."""
    return Outcome(bits(dd.load_distilled(out)), without_clocks(read_metrics(out / "metrics.jsonl")))


def assert_same(out: Path, whole: Outcome) -> None:
    """What is in `out` is what a run that nothing happened to leaves there."""
    found = outcome(out)
    assert found.metrics == whole.metrics
    assert found.distilled == whole.distilled


def uninterrupted(method, data, out: Path, **changes: Any) -> Outcome:
    """The outcome of a run that nothing happens to."""
    chosen: list[bytes] = []

    def recorded(folder, distilled, provenance):
        chosen.append(bits(distilled))
        save(folder, distilled, provenance)

    save = loop.save_distilled
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_distilled", recorded)
        found = run(method, data, out, **changes)
    assert bits(found.distilled) == chosen[-1]
    return outcome(out)._replace(chosen=tuple(chosen))


# Stepping in.

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.truncate": None, "os.link": 2}
"""Audit events that change files, and which argument is the descriptor of a directory that paths start from."""

_lock = threading.RLock()
_watch: tuple[Path, Callable[[str, Path], None]] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is None or (event != "open" and event not in _CHANGES):
        return
    if event == "open" and not (isinstance(arguments[0], str | bytes) and arguments[2] & _WRITING):
        return
    if not isinstance(arguments[0], str | bytes | os.PathLike):  # a descriptor
        return
    path, place = os.fsdecode(arguments[0]), _CHANGES.get(event)
    if place is not None and arguments[place] != -1:
        path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[place]}"), path)
    with _lock:
        watch = _watch
        if watch is not None and Path(path).absolute().is_relative_to(watch[0]):
            _call(watch, event, Path(path).absolute())


def _call(watch: tuple[Path, Callable[[str, Path], None]], event: str, path: Path) -> None:
    global _watch
    _watch = None  # what is called may change files itself
    try:
        watch[1](event, path)
    finally:
        _watch = watch


sys.addaudithook(_hook)


@contextlib.contextmanager
def before_every_change(folder: Path, call: Callable[[str, Path], None]) -> Iterator[None]:
    """Call `call(event, path)` before Python changes anything in `folder`: before it opens a file for writing, renames,
    removes or makes something. What it raises, the change raises. (Writes of C++ within Orbax are not seen.)
    """
    global _watch
    _watch = folder.absolute(), call
    try:
        yield
    finally:
        _watch = None


def little_data() -> dd.Dataset:
    """Two hundred images of noise in four brightnesses, which are their classes."""
    labels, draw = np.arange(200) % 4, np.random.default_rng(0)
    noise = draw.integers(0, 60, (len(labels), 6, 6))
    return dd.dataset_from_arrays((noise + 60 * labels[:, None, None]).astype(np.uint8), labels, name="little")


def little_method(data: dd.Dataset, **changes: Any) -> Any:
    """A method whose steps take a moment."""
    model = dd.models.mlp(data, hidden=(8,))
    options = {"num_batches": 1, "num_epochs": 2, "num_inits": 1, "batch_size": 16, "init_images": "noise", **changes}
    return dd.methods.unrolled(model, **options)


class Toy(NamedTuple):
    """The state of a method that learns nothing. steps: taken so far; rate: 1 until it is made smaller."""

    images: jax.Array
    steps: jax.Array
    rate: jax.Array


class ToyInfo(NamedTuple):
    loss: jax.Array


def toy_method(data: dd.Dataset, stumbles_at: int = -1) -> Any:
    """As `little_method`, but what it does is noise: it compiles in no time.

    stumbles_at: the step, from 0, after which its loss is no number as long as its rate is 1.
    """
    template = little_method(data)
    labels, sizes = jnp.arange(data.num_classes)[None], jnp.full(1, 0.1)

    def init(key, data, num_outer_steps):
        images = jax.random.normal(key, (1, data.num_classes, *data.image_shape))
        return Toy(images, jnp.int32(0), jnp.float32(1))

    def step(key, state, arrays):
        images = state.images + 0.1 * state.rate * jax.random.normal(key, state.images.shape)
        stumbles = (state.steps == stumbles_at) & (state.rate == 1)
        return Toy(images, state.steps + 1, state.rate), ToyInfo(jnp.where(stumbles, jnp.nan, jnp.mean(images**2)))

    def distilled(state):
        return dd.DistilledData({"images": state.images}, labels, sizes)

    def scale_learning_rate(state, factor):
        return state._replace(rate=state.rate * factor)

    return template._replace(
        name="toy", init=init, step=step, distilled=distilled, scale_learning_rate=scale_learning_rate
    )


def toy_validation(patch: Any = None) -> None:
    """From now on, or while `patch` lasts, validation measures the images' size, which grows, and no accuracy."""

    def validate(distilled, *_, split="validation", **__):
        value = 0.5 + 0.1 * float(np.abs(np.asarray(distilled.images)).mean())
        return dd.Evaluation(np.array([value]), np.zeros(4), np.zeros((0, 1)), split)

    (patch or pytest.MonkeyPatch()).setattr(loop, "evaluate", validate)


jax.config.update("jax_numpy_rank_promotion", "raise")  # as in the other tests, for scripts that import this
