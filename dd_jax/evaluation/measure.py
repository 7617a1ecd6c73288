"""Networks trained on a distilled set, a group at a time, and what they get right on real data."""

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from dd_jax.errors import DataError, unknown_name
from dd_jax.evaluation.result import Evaluation, evaluation_of
from dd_jax.evaluation.training import Course, Part, Plan, TrainingArrays, begin, go_on, network_of
from dd_jax.inner import device_mesh, map_over, on_each, replicate
from dd_jax.inner.chunks import Apply, in_cache, is_batchwise
from dd_jax.models import Model, check_fits
from dd_jax.outcomes import Outcome
from dd_jax.types import Batch, Dataset, Networks, Params, see_each_other
from dd_jax.values import quick_jit

SPLITS = ("train", "validation", "test")
CONFUSION_CLASSES = 100  # more would be more than a table that can be read, and a lot of memory

See: TypeAlias = Callable[[int], None]  # is told how many networks have been measured since the last time

_watching: contextvars.ContextVar[See | None] = contextvars.ContextVar("watching", default=None)

_CHUNK = 32  # images per forward pass on a CPU: their activations stay in cache
_BATCHWISE_CHUNK = 1000  # images per forward pass of a network that normalises them together
_NETS_AT_ONCE = 50  # networks under one vmap on an accelerator; on a CPU one after another is faster


class Starts(NamedTuple):
    """Where networks start.

    Attributes:
        num_nets: how many there are.
        at: numbers of some -> what these start from and the keys of their training, (G, ...) both.
    """

    num_nets: int
    at: Callable[[np.ndarray], tuple[Any, jax.Array]]


class Wanted(NamedTuple):
    """What is measured.

    Attributes:
        split: of the real data.
        outcome: what success means.
        num_curve_nets: networks that are measured along the way too.
        devices: how many train networks at the same time; None for all there are.
    """

    split: str
    outcome: Outcome
    num_curve_nets: int = 0
    devices: int | None = None


@contextlib.contextmanager
def watched(see: See) -> Iterator[None]:
    """Within the block `see` is told of every group of networks that was measured, of how many."""
    before = _watching.set(see)
    try:
        yield
    finally:
        _watching.reset(before)


def measure(
    make: Callable[[Any], Params],
    model: Model,
    starts: Starts,
    course: Course | None,
    dataset: Dataset,
    wanted: Wanted,
) -> Evaluation:
    """Networks after a training, or as they start where there is no course, on a split of real data.

    Args:
        make: how what a network starts from becomes its parameters.
    """
    real = _split(model, dataset, wanted)
    steps_done = np.zeros(1, int) if course is None else course.steps_done
    num_curve_nets = min(wanted.num_curve_nets, starts.num_nets) if len(steps_done) > 1 else 0
    wanted = wanted._replace(num_curve_nets=num_curve_nets)
    found, answered, seen = _all_groups(make, model, starts, course, real, wanted)
    curve = np.zeros((0, len(steps_done)))
    if seen:
        moments = np.stack([np.concatenate(at_moment) for at_moment in zip(*seen, strict=True)], 1)
        curve = moments[:num_curve_nets, :, 0].sum(-1) / len(real.labels)
    counts = np.bincount(np.asarray(real.labels), minlength=dataset.num_classes)
    evaluation = evaluation_of(found, counts, wanted.split, wanted.outcome)
    confusion = answered.mean(0) / np.maximum(counts, 1)[:, None] if answered.shape[1] else None
    return dataclasses.replace(evaluation, curve=curve, curve_steps=steps_done, confusion=confusion)


def _split(model: Model, dataset: Dataset, wanted: Wanted) -> Batch:
    """The real data; raises what is wrong with them, or with what is wanted of them."""
    if wanted.split not in SPLITS:
        raise unknown_name("split", wanted.split, SPLITS)
    check_fits(model, dataset.train, dataset.num_classes)
    wanted.outcome.check(dataset.num_classes)
    real: Batch = getattr(dataset, wanted.split)
    if not len(real.labels):
        raise DataError(
            f"The {wanted.split} split of {dataset.name} is empty. Load the dataset with a validation_fraction above 0."
        )
    return real


def _all_groups(make, model: Model, starts: Starts, course: Course | None, real: Batch, wanted: Wanted):
    """What all networks get right, and as what they take what, as `_count` gives them; and the former along the way."""
    count = starts.num_nets
    mesh = device_mesh(wanted.devices) if count > 1 or jax.process_count() > 1 else None
    chunks = mixed_chunks(real) if is_batchwise(model.apply) else in_chunks(real, model)
    given = replicate((None if course is None else course.arrays, *chunks), mesh)
    target = wanted.outcome.target
    marks, tables, seen = [], [], []
    for mine in _groups(count, mesh):
        group = replicate(starts.at(mine), mesh)
        along, counted = _train_group(make, model, target, mesh, course, group, given, mine[0] < wanted.num_curve_nets)
        marks.append(counted[0])
        tables.append(counted[1])
        seen += [along] if along else []
        if (see := _watching.get()) is not None:
            see(min(len(mine), count - int(mine[0])))
    marks, tables, seen = jax.tree.map(np.asarray, (marks, tables, seen))
    return np.concatenate(marks)[:count], np.concatenate(tables)[:count], seen


def train_all(
    make: Callable[[Any], Params], model: Model, starts: Starts, course: Course, devices: int | None = None
) -> Networks:
    """Networks after a training, with a leading axis, on the host; as many at the same time as for `measure`."""
    count = starts.num_nets
    mesh = device_mesh(devices) if count > 1 or jax.process_count() > 1 else None
    arrays, networks = replicate(course.arrays, mesh), []
    for mine in _groups(count, mesh):
        group = replicate(starts.at(mine), mesh)
        state, keys = _in_turn(_begin(make, model.apply, course.plan, mesh, arrays, group), mesh)
        for part in course.whole:
            state = _in_turn(_go_on(model.apply, course.plan, mesh, arrays, state, keys, replicate(part, mesh)), mesh)
        networks.append(jax.tree.map(np.asarray, network_of(state)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *networks)


def train_one(model: Model, course: Course, params: Params, key: jax.Array) -> Params:
    """One network after a training, from `params`."""
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], (params, key))
    state, keys = _begin(as_it_is, model.apply, course.plan, None, course.arrays, start)
    for part in course.whole:
        state = _go_on(model.apply, course.plan, None, course.arrays, state, keys, part)
    return jax.tree.map(lambda leaf: leaf[0], network_of(state))


def as_it_is(params: Params) -> Params:
    """A network that is there already as what one starts from."""
    return params


def _train_group(make, model, target, mesh, course, group, given, along):
    """What a group of networks gets right along the way, a list of marks, and at the end, as `_count` gives them."""
    arrays, *real = given
    num_classes, (images, labels) = model.num_classes, real
    tabled = num_classes <= CONFUSION_CLASSES
    count = functools.partial(_count, model.apply, num_classes, target, tabled, mesh, images=images, labels=labels)
    if course is None:
        return [], _in_turn(count(_in_turn(_made(make, mesh, group[0]), mesh)), mesh)
    state, keys = _in_turn(_begin(make, model.apply, course.plan, mesh, arrays, group), mesh)
    found, seen = None, []
    if along:
        found = _in_turn(count(network_of(state)), mesh)
        seen.append(found[0])
    for part in course.parts if along else course.whole:
        state = _in_turn(_go_on(model.apply, course.plan, mesh, arrays, state, keys, replicate(part, mesh)), mesh)
        if along:
            found = _in_turn(count(network_of(state)), mesh)
            seen.append(found[0])
    return seen, _in_turn(count(network_of(state)), mesh) if found is None else found


def _in_turn(tree: Any, mesh: Mesh | None) -> Any:
    """What a program gives, after waiting for it where several devices are CPU cores.

    These share a few threads, and a program holds one on each device until all have come to where they exchange
    results: two programs at the same time could each hold the thread that the other waits for, for good.
    """
    return jax.block_until_ready(tree) if mesh is not None and jax.default_backend() == "cpu" else tree


def _groups(count: int, mesh: Mesh | None) -> Iterator[np.ndarray]:
    """The numbers of the networks of each group, all equally many: what is missing in the last one is repeated."""
    size = _group_size(count, mesh)
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1)


def _group_size(count: int, mesh: Mesh | None) -> int:
    """Networks that are trained at the same time: one on each core, and many on each accelerator."""
    devices = 1 if mesh is None else mesh.size
    return devices if jax.default_backend() == "cpu" else min(_NETS_AT_ONCE * devices, count)


def _order_key(key: jax.Array) -> jax.Array:
    """Of the order of images, for a network that was drawn with `key`."""
    return jax.random.fold_in(key, 1)


def _over(one: Callable[[Any], Any], items: Any) -> Any:
    """`one` of each network, stacked."""
    count = jax.tree.leaves(items)[0].shape[0]
    return map_over(one, items, None if jax.default_backend() == "cpu" else min(_NETS_AT_ONCE, count))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _made(make: Callable[[Any], Params], mesh: Mesh | None, sources: Any) -> Networks:
    return on_each(functools.partial(_over, make), mesh)(sources)


@functools.partial(quick_jit, static_argnums=(0, 1, 2, 3))
def _begin(
    make, apply: Apply, plan: Plan, mesh: Mesh | None, arrays: TrainingArrays, starts: Any
) -> tuple[Any, jax.Array]:
    """The trainings before their first part, and the keys of their order."""

    def each(arrays: TrainingArrays, starts: Any) -> Any:
        return _over(lambda start: (begin(apply, plan, arrays, make(start[0])), _order_key(start[1])), starts)

    return on_each(each, mesh)(arrays, starts)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _go_on(
    apply: Apply, plan: Plan, mesh: Mesh | None, arrays: TrainingArrays, states: Any, keys: jax.Array, part: Part
):
    """The trainings after one more part."""

    def each(arrays: TrainingArrays, states: Any, keys: jax.Array, part: Part) -> Any:
        return _over(lambda item: go_on(apply, plan, arrays, item[0], item[1], part), (states, keys))

    return on_each(each, mesh)(arrays, states, keys, part)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _count(apply, num_classes: int, target: int, tabled: bool, mesh: Mesh | None, networks: Networks, images, labels):
    """How many images of each class networks get right and take for the target, (N, 2, K), and as what they take them.

    That is a table (N, K, K): how often class i is taken for class j; (N, 0, 0) if it isn't asked for.
    """

    def each(networks, images, labels):
        return _over(lambda params: _count_one(apply, num_classes, target, tabled, params, images, labels), networks)

    return on_each(each, mesh)(networks, images, labels)


def _count_one(apply, num_classes, target, tabled, params, images, labels) -> tuple[jax.Array, jax.Array]:
    def marks(found: jax.Array, true: jax.Array) -> jax.Array:
        hits = jnp.stack([found == true, found == target], 1).astype(jnp.int32)
        return jax.ops.segment_sum(hits, true, num_classes).T

    def cells(found: jax.Array, true: jax.Array) -> jax.Array:
        cell = true * num_classes + found  # of a class -1, which counts nowhere, below zero
        return jax.ops.segment_sum(jnp.ones_like(cell, jnp.int32), cell, num_classes**2)

    count = cells if tabled else marks
    found = lax.map(lambda chunk: count(apply(params, chunk[0]).argmax(-1), chunk[1]), (images, labels)).sum(0)
    if not tabled:
        return found, jnp.zeros((0, 0), jnp.int32)
    table = found.reshape(num_classes, num_classes)
    taken = table[:, target] if target >= 0 else jnp.zeros(num_classes, jnp.int32)
    return jnp.stack([jnp.diagonal(table), taken]), table


def in_chunks(split: Batch, model: Model) -> tuple[Any, jax.Array]:
    """A split in chunks, (C, chunk, ...); what is missing in the last has label -1, which counts nowhere.

    On a CPU a chunk of images has activations that stay in cache. Examples that see each other are one chunk.
    """
    if see_each_other(split.images):
        return _in_one(split)
    num_images = split.labels.shape[0]
    on_cpu = jax.default_backend() == "cpu"
    size = min(_CHUNK if on_cpu else 1000, num_images)
    if on_cpu and model.kernel is None:
        size = in_cache(model.apply, jax.eval_shape(model.init, jax.random.key(0)), split.images, size)
    missing = -num_images % size
    images = jnp.pad(split.images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(split.labels, (0, missing), constant_values=-1)
    return images.reshape(-1, size, *images.shape[1:]), labels.reshape(-1, size)


def mixed_chunks(split: Batch) -> tuple[Any, jax.Array]:
    """A split in as few chunks as `_BATCHWISE_CHUNK` allows, of images from everywhere in it, for batch normalisation.

    In a split that is sorted by class each chunk has all of them. What is missing are images that came before, with
    label -1, which counts nowhere.
    """
    if see_each_other(split.images):
        return _in_one(split)
    num_images = split.labels.shape[0]
    count = -(-num_images // _BATCHWISE_CHUNK)
    rows = np.arange(count * -(-num_images // count)).reshape(-1, count).T
    labels = np.where(rows < num_images, np.asarray(split.labels)[rows % num_images], -1)
    return split.images[rows % num_images], jnp.asarray(labels)


def _in_one(split: Batch) -> tuple[Any, jax.Array]:
    return jax.tree.map(lambda leaf: leaf[None], (split.images, split.labels))
