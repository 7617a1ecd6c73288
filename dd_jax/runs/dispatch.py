"""Several outer steps per dispatch: one compiled loop for any number of them."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from dd_jax.errors import OptionError
from dd_jax.inner import device_mesh, on_each, replicate
from dd_jax.methods.base import Info, Method, State, StepFn
from dd_jax.types import Dataset

MAX_STEPS = 256  # per dispatch; rows of the buffer that the infos of a dispatch are written to
_SECONDS = 0.5  # aimed at per dispatch: Python's share is below 1 %, and Ctrl-C is heard in time
# Of long steps some more: a dispatch costs up to 30 ms, most of it making room for what a reverse pass keeps.
_LONG_STEPS = 3
_LONG_SECONDS = 2.5


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=3)
def run_steps(
    step: StepFn, mesh: Mesh | None, key: jax.Array, state: State, arrays: Any, first: jax.Array, count: jax.Array
) -> tuple[State, Info]:
    """The state after `count` outer steps, numbered from `first`, and their infos in the first rows of MAX_STEPS.

    Step i gets the key folded with i, so that the result does not depend on how steps are dispatched. With a mesh the
    whole loop runs on each of its devices, and they meet where the step brings its hypergradients together.
    """
    return on_each(functools.partial(_loop, step), mesh)(key, state, arrays, first, count)


def _loop(
    step: StepFn, key: jax.Array, state: State, arrays: Any, first: jax.Array, count: jax.Array
) -> tuple[State, Info]:
    step = jax.jit(step, inline=True)  # traced once for its shapes and for the loop
    shapes = jax.eval_shape(step, key, state, arrays)[1]
    if not hasattr(shapes, "_asdict"):
        raise OptionError(
            "The step of a method should return (state, info), where info is a NamedTuple of scalars with a "
            f"field loss, but info is a {type(shapes).__name__}."
        )
    infos = jax.tree.map(lambda leaf: jnp.zeros((MAX_STEPS, *leaf.shape), leaf.dtype), shapes)

    def body(i: jax.Array, carry: tuple[State, Info]) -> tuple[State, Info]:
        state, infos = carry
        state, info = step(jax.random.fold_in(key, first + i), state, arrays)
        return state, jax.tree.map(lambda rows, leaf: rows.at[i].set(leaf), infos, info)

    return lax.fori_loop(0, count, body, (state, infos))


class Pace:
    """How many steps to dispatch at once, from how long the last ones took."""

    def __init__(self) -> None:
        self.count = 1
        self._started = 0.0
        self._warm = False

    def start(self, left: int) -> int:
        """Steps to dispatch now, at most `left`."""
        self._started = time.perf_counter()
        return min(self.count, left, MAX_STEPS)

    def done(self, steps: int) -> None:
        """Note that `steps` have just ended; the first dispatch counts for nothing, as it compiles."""
        seconds = (time.perf_counter() - self._started) / steps
        if self._warm:
            seconds = max(seconds, 1e-6)
            long = min(_LONG_STEPS, int(_LONG_SECONDS / seconds))
            self.count = max(1, long, min(MAX_STEPS, int(_SECONDS / seconds)))
        self._warm = True


def start_state(method: Method, key: jax.Array, dataset: Dataset, num_outer_steps: int, mesh: Mesh | None) -> State:
    """The state that a run of `num_outer_steps` starts from, on the devices of `mesh`.

    It is donated at every dispatch: no two leaves may share a buffer, nor with the dataset.
    """
    state = method.init(key, dataset, num_outer_steps)
    return replicate(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state), mesh)


def mesh_for(method: Method, devices: int | None = None) -> Mesh | None:
    """The devices that an outer step of `method` is divided over: `devices`, or as many as make it faster."""
    if devices is None and jax.process_count() == 1:
        devices = method.useful_devices(len(jax.devices()))
    return device_mesh(devices)


def first_non_finite(infos: Any, count: int) -> int | None:
    """Index of the first of `count` infos in which a number isn't finite, or None.

    On the host: JAX would compile it anew for every count.
    """
    finite = np.ones(count, bool)
    for leaf in jax.tree.leaves(infos):
        finite &= np.isfinite(np.asarray(leaf)[:count]).reshape(count, -1).all(1)
    return None if finite.all() else int(np.argmin(finite))
