"""What an unrolled inner loop needs in memory, by what it keeps for the reverse pass, and which way to choose."""

import functools
import math
import os
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from dd_jax.errors import unknown_name
from dd_jax.inner.chunks import Shaped, inner_programs
from dd_jax.inner.losses import Apply, Loss, batch_loss, cross_entropy
from dd_jax.models import Model
from dd_jax.models.winograd import CONVOLVED
from dd_jax.types import Batch, Params

Remat: TypeAlias = Literal["none", "steps", "nested"]
REMATS: tuple[str, ...] = get_args(Remat)

GRADIENT = "gradient"  # name of the gradient of an inner step

_SHARE = 0.5  # of a device's memory that an unroll may take when it is chosen; the rest is data, real images, XLA


def segments(num_inner_steps: int) -> tuple[int, int]:
    """How many segments of how many steps "nested" keeps the starts of; what is left over makes one more."""
    length = max(1, math.isqrt(num_inner_steps))
    return num_inner_steps // length, length


def kept_names(apply: Apply, params: Params, images: Shaped) -> tuple[str, ...]:
    """Names of what the reverse pass of an unroll keeps of each step, with the parameters and unless it keeps all.

    Of networks with wide convolutions by 3 x 3 what these give, the gradients of what they read, and that of the
    parameters, which learnt step sizes need: a few small arrays, without which a fifth of a step's products would be
    computed again. Other networks are no faster so.
    """
    program = jax.make_jaxpr(apply)(params, images).jaxpr
    return (GRADIENT, CONVOLVED) if any(True for _ in _named(program, CONVOLVED)) else ()


def unroll_memory(
    apply: Apply, params: Params, batch: Batch, num_inner_steps: int, remat: str, loss: Loss = cross_entropy
) -> int:
    """Bytes that the reverse pass through `num_inner_steps` inner steps of one network keeps at its peak, estimated.

    Args:
        params, batch: arrays or shapes of the network and of one inner batch. Counts what differentiation saves, of
            which XLA can do without some: up to two and a half times what it allocates, and hardly less (tested). Real
            data and the outer loss are not in it.
    """
    if remat not in REMATS:
        raise unknown_name("remat", remat, REMATS)
    if num_inner_steps == 0:
        return 0
    params, batch = jax.tree.map(_shape, (params, batch))
    leaves, structure = jax.tree.flatten((params, batch))
    saved = _saved_by_a_step(apply, loss, structure, tuple(leaves))
    state = _bytes(params)
    kept = state + _named_in_a_step(apply, loss, structure, tuple(leaves))
    count, length = segments(num_inner_steps)
    return {
        "none": num_inner_steps * saved,
        "steps": num_inner_steps * kept + saved,
        "nested": (count + 1) * state + length * kept + saved + num_inner_steps * _bytes(batch.images),
    }[remat]


def choose_remat(apply: Apply, params: Params, batch: Batch, num_inner_steps: int, nets: int) -> Remat:
    """The fastest way that fits `nets` unrolls at once into half of the device's memory; "nested" if none does.

    On a CPU recomputing a step costs no more than reading it back from memory, so nothing keeps more than "steps".
    """
    order: tuple[Remat, ...] = ("steps",) if jax.default_backend() == "cpu" else ("none", "steps")
    room = _SHARE * device_memory()
    for remat in order:
        if nets * unroll_memory(apply, params, batch, num_inner_steps, remat) <= room:
            return remat
    return "nested"


def remat_for(model: Model, batch_size: int, num_inner_steps: int, nets: int) -> Remat:
    """The way of `choose_remat` for networks like `model`, on batches of `batch_size` images with hard labels."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: Batch(jnp.zeros((batch_size, *model.image_shape)), jnp.zeros(batch_size, jnp.int32)))
    return choose_remat(model.apply, params, batch, num_inner_steps, nets)


def device_memory() -> int:
    """Bytes of memory that one device has: the accelerator's, or this CPU device's share of the machine's."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // jax.local_device_count()
    return 8 * 2**30 // jax.local_device_count()


@functools.lru_cache(maxsize=64)
def _saved_by_a_step(
    apply: Apply, loss: Loss, structure: jax.tree_util.PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> int:
    """Bytes that the reverse pass of one inner step reads, the batch apart; of shapes of (params, batch)."""
    params, batch = jax.tree.unflatten(structure, shapes)
    gradient = jax.grad(batch_loss(apply, loss))

    def saved(params: Params, images: jax.Array, step_size: jax.Array, labels: jax.Array) -> Any:
        def descend(params: Params, images: jax.Array, step_size: jax.Array) -> Params:
            found = gradient(params, Batch(images, labels))
            return jax.tree.map(lambda p, g: p - step_size.astype(p.dtype) * g, params, found)

        return jax.vjp(descend, params, images, step_size)[1]

    step_size = jax.ShapeDtypeStruct((), jnp.float32)
    jaxpr = jax.make_jaxpr(saved)(params, batch.images, step_size, batch.labels).jaxpr
    num_params = len(jax.tree.leaves(params))
    given = {id(var) for var in jaxpr.invars[num_params:]}
    kept = {id(var): var.aval for var in jaxpr.outvars if id(var) not in given}  # the same value may be kept twice
    return _bytes(list(kept.values()))


@functools.lru_cache(maxsize=64)
def _named_in_a_step(
    apply: Apply, loss: Loss, structure: jax.tree_util.PyTreeDef, shapes: tuple[jax.ShapeDtypeStruct, ...]
) -> int:
    """Bytes of what an inner step keeps by `kept_names`; of shapes of (params, batch)."""
    params, batch = jax.tree.unflatten(structure, shapes)
    program = jax.make_jaxpr(jax.grad(batch_loss(apply, loss)))(params, batch).jaxpr
    convolved = list(_named(program, CONVOLVED))
    return _bytes(params) + _bytes(convolved) if convolved else 0


def _named(program: Any, name: str) -> Iterator[Any]:
    """Shapes of what bears a name in a traced program."""
    for equation in program.eqns:
        if equation.primitive.name == "name" and equation.params["name"] == name:
            yield from (var.aval for var in equation.outvars)
        for inner in inner_programs(equation):
            yield from _named(inner, name)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
