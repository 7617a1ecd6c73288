"""What a run will take, from the arithmetic of its outer step: in seconds, without compiling that step."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from dd_jax.data.memory import in_units
from dd_jax.inner import centred, enough, gradient_descent, on_each, replicate, ridge_loss, unroll
from dd_jax.inner.chunks import apply_in_chunks
from dd_jax.inner.losses import batch_loss, chunked_loss
from dd_jax.methods import Method
from dd_jax.methods.base import State, StepFn, first_arrays
from dd_jax.models import Model, num_params
from dd_jax.models.base import KernelFn
from dd_jax.runs import arithmetic
from dd_jax.runs.dispatch import mesh_for
from dd_jax.runs.estimates import duration, free_memory
from dd_jax.types import Batch, Dataset, Labels, Params, see_each_other

_IMAGES = 64  # that the network's gradient is timed on
_INNER_IMAGES = 16  # at most, that the derivative of inner steps is timed on; of more, making room would be timed too
_INNER_STEPS = 4
_KERNEL_REAL = 2048  # real images that a regression by its kernel is timed on
_SHORT_STEP = 2.0  # seconds up to which a step of a kernel's regression is timed itself, ...
_STEPS = 8  # so many at once
_REGULARISER = 1e-6  # of that regression
_SIDE = 512  # of the matrices that are multiplied where the network has no gradient to time
_TIMED_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Counted:
    """What a run takes, counted. Times in seconds, memory in bytes.

    Attributes:
        flops: floating-point operations of an outer step: matrix products and convolutions, a multiply-add being two.
        rate: of these in a second, on one device, as timed on `timed`.
        devices: that share a step.
        argument_memory: of data and state.
    """

    num_params: int
    flops: float
    rate: float
    timed: str
    devices: int
    argument_memory: int
    free_memory: int
    seconds_per_step: float
    total_seconds: float

    def __str__(self) -> str:
        shared = f", shared by {self.devices} devices" if self.devices > 1 else ""
        return (
            f"{self.num_params:,} parameters; {_flop(self.flops)} per outer step{shared}; about "
            f"{duration_of_step(self.seconds_per_step)} each, {duration(self.total_seconds)} in all; "
            f"{in_units(self.argument_memory)} for data and state on each device, {in_units(self.free_memory)} free.\n"
            f"Assumed: matrix products and convolutions are all the work, at {_flop(self.rate)} a second, which "
            f"{self.timed} reached here just now; of branches the larger one. Small steps take several "
            "times as long. Not in it: compiling, validation, the final evaluation, and the memory that a step needs "
            "besides. --measure compiles the step and times it."
        )


def count_run(method: Method, dataset: Dataset, *, num_outer_steps: int, devices: int | None = None) -> Counted:
    """Count what an outer step computes, and time the network here for how long that takes.

    Args:
        devices: as for `distill`.
    """
    state = method.init(jax.random.key(0), dataset, num_outer_steps)
    arrays = first_arrays(method, dataset)
    mesh = mesh_for(method, devices)
    flops, rate, timed = rate_of_step(method, dataset, state, arrays, mesh)
    shared = 1 if mesh is None else mesh.size
    seconds = flops / rate / shared
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state, arrays)) if isinstance(leaf, jax.Array))
    return Counted(
        num_params(method.model), flops, rate, timed, shared, held, free_memory(), seconds, num_outer_steps * seconds
    )


def duration_of_step(seconds: float) -> str:
    """A short time: "3.2 ms", "1.5 s"."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _flop(count: float) -> str:
    for size, name in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count / 1e6:.3g} MFLOP"


def flops_per_image(model: Model, dataset: Dataset) -> float:
    """Floating-point operations of the gradient of the loss of a network, for one image."""
    count, batch = _timed_batch(dataset)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return arithmetic.count(jax.grad(batch_loss(model.apply)), shapes, batch).flops / count


def _timed_batch(dataset: Dataset, most: int = _IMAGES) -> tuple[int, Batch]:
    count = min(most, len(dataset.train.labels))
    return count, Batch(dataset.train.images[:count], dataset.train.labels[:count])


def rate_of_step(
    method: Method, dataset: Dataset, state: State, arrays: Any, mesh: Mesh | None
) -> tuple[float, float, str]:
    """Floating-point operations of an outer step, how many of them a device does in a second, and of what."""
    given = (jax.random.key(1), state, arrays)
    flops = arithmetic.count(method.step, *given).flops
    rate, timed = rate_of(method.model, dataset, method.inner_images, method.forward_only, mesh)
    if method.model.kernel is not None and flops / rate < _SHORT_STEP:
        # Drawing real images is a fourth of it; and a step without networks is compiled in two seconds.
        rate, timed = _timed(functools.partial(_steps, method.step), given, mesh), f"{_STEPS} of these steps"
    return flops, rate, timed


def _steps(step: StepFn, key: jax.Array, state: State, arrays: Any) -> State:
    """A few outer steps in one program, as a run takes them."""
    return lax.fori_loop(0, _STEPS, lambda i, state: step(jax.random.fold_in(key, i), state, arrays)[0], state)


def rate_of(
    model: Model,
    dataset: Dataset,
    inner_images: int = 0,
    forward_only: bool = False,
    mesh: Mesh | None = None,
) -> tuple[float, str]:
    """Floating-point operations in a second on one device, and of what.

    Args:
        inner_images, forward_only: of a `Method`: what is most of its work, and so is timed. The derivative of a few
            inner steps, where there are inner images; else answers alone, or a gradient.
        mesh: the devices that work at the same time, and may share cores or memory.
    """
    if see_each_other(dataset.train.images):
        one = jnp.ones((_SIDE, _SIDE), jnp.float32)
        return _timed(jnp.matmul, (one, one), mesh), f"a product of matrices of {_SIDE} x {_SIDE}"
    count, batch = _timed_batch(dataset, min(inner_images, _INNER_IMAGES) or _IMAGES)
    kernel = model.kernel
    if kernel is not None:
        real = jnp.asarray(dataset.train.images[:_KERNEL_REAL])
        drawn = jax.random.randint(jax.random.key(0), (_KERNEL_REAL,), 0, len(real))
        timed = f"a gradient of a regression by the {model.name}'s kernel on {_KERNEL_REAL} and {count} images"
        regression = _regression(kernel, model.num_classes)
        return _timed(regression, (jnp.asarray(batch.images), real, drawn), mesh), timed
    params = model.init(jax.random.key(0))
    if inner_images:
        timed = f"a gradient through {_INNER_STEPS} steps of the {model.name} on {count} images"
        return _timed(_through_steps(model), (params, batch), mesh), timed
    if forward_only:
        answers = functools.partial(apply_in_chunks, model.apply)
        return _timed(answers, (params, batch.images), mesh), f"a pass of the {model.name} over {count} images"
    # In chunks, as methods take it: at once the activations of a wide network leave the cache.
    gradient = jax.grad(chunked_loss(model.apply))
    return _timed(gradient, (params, batch), mesh), f"a gradient of the {model.name} on {count} images"


def _through_steps(model: Model) -> Callable[[Params, Batch], Any]:
    """The derivative in parameters and images of a loss after a few steps of training, as an unroll takes it."""

    def loss(params: Params, images: jax.Array, labels: Labels) -> jax.Array:
        batch = Batch(images, labels)
        steps = jnp.arange(_INNER_STEPS)
        rule = gradient_descent(jnp.full(_INNER_STEPS, 0.01))
        after = unroll(model.apply, params, steps, rule, batch_of=lambda _: batch)
        return optax.global_norm(after)

    gradient = jax.grad(loss, (0, 1))
    return lambda params, batch: gradient(params, batch.images, batch.labels)


def _regression(kernel: KernelFn, num_classes: int) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The gradient of the loss of kernel ridge regression, on drawn real images, in the images it is fitted to."""

    def loss(images: jax.Array, real: jax.Array, drawn: jax.Array) -> jax.Array:
        real = real[drawn]
        targets, wanted = (centred(jnp.arange(len(some)) % num_classes, num_classes) for some in (images, real))
        gram = kernel(images, images)
        return ridge_loss(gram, kernel(real, images), targets, wanted, enough(gram, _REGULARISER))

    return jax.grad(loss)


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...], mesh: Mesh | None) -> float:
    """Floating-point operations in a second, on each of the devices."""
    flops = arithmetic.count(function, *arguments).flops
    function, arguments = jax.jit(on_each(function, mesh)), replicate(arguments, mesh)
    jax.block_until_ready(function(*arguments))
    best, spent = float("inf"), 0.0
    while spent < _TIMED_SECONDS:
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        seconds = time.perf_counter() - started
        best, spent = min(best, seconds), spent + seconds
    return flops / best
