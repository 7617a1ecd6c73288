"""Several devices as one: the same loop runs on each, on its share of the initialisations or of their real images.

Work is divided by position, never by device: keys belong to initialisations, so that a result does not depend on the
number of devices beyond float rounding. The division is explicit (`shard_map`): XLA's own partitioner gathers grouped
convolutions that are split over the batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dd_jax.errors import OptionError

AXIS = "devices"
DIVIDED = "divided"  # the name of results of `divided`, for those who choose what a reverse pass keeps

Part: TypeAlias = Callable[[Any, jax.Array | int, int], Any]  # one(key, part, parts)


def device_mesh(count: int | None = None) -> Mesh | None:
    """The first `count` devices in a row, by default all there are, of every process; None if that is a single one.

    Raises:
        OptionError: if there are fewer, or if other processes would be left without.
    """
    devices = jax.devices()
    count = len(devices) if count is None else count
    if not 1 <= count <= len(devices):
        raise OptionError(f"devices must be from 1 to {len(devices)}, the number there is, but is {count}.")
    if jax.process_count() > 1 and count != len(devices):
        raise OptionError(
            f"Several processes share all of their {len(devices)} devices, but devices is {count}. Leave it out."
        )
    return None if len(devices) == 1 or count == 1 else Mesh(np.asarray(devices[:count]), (AXIS,))


def on_each(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """`function`, run on every device of the mesh with the same arguments; its results must be the same everywhere.

    Inside, `mean_over` and `map_over` divide the work and bring it together again. To be called under `jax.jit`.
    """
    if mesh is None:
        return function
    everywhere = PartitionSpec()
    return jax.shard_map(function, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False)


def replicate(tree: Any, mesh: Mesh | None) -> Any:
    """`tree` with a copy of every array on each device of the mesh; of several processes the first one's counts."""
    if mesh is None:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: _spread_from_first(leaf, everywhere), tree)


def on_one(tree: Any) -> Any:
    """`tree` on a single device again, out of copies on several; nothing is copied."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def mean_over(one: Part, keys: Any, num_real: int, at_once: int | None) -> Any:
    """Mean over `keys` (N,) of the pytree that `one(key, part, parts)` gives.

    On several devices each takes some of the keys; where there are fewer keys than devices, those that have the same
    one share its real images.

    Args:
        keys: or a pytree with a leading axis, such as keys with a network for each.
        one: must be a mean over `num_real` real images, of which it takes share number `part` of `parts` equal ones.
        at_once: networks under one vmap; None goes through them one by one.
    """
    devices, count = num_shares(), _count(keys)
    if devices == 1:
        return jax.tree.map(lambda leaf: leaf.mean(0), _through(lambda key: one(key, 0, 1), keys, at_once))
    groups = max(d for d in range(1, devices + 1) if devices % d == 0 and d <= count)
    members = devices // groups
    parts = math.gcd(members, num_real)
    group, member = lax.axis_index(AXIS) // members, lax.axis_index(AXIS) % members
    mine, counts = _share(keys, group, groups)
    found = _through(lambda key: one(key, member % parts, parts), mine, at_once)

    def total(leaf: jax.Array) -> jax.Array:
        return jnp.tensordot(counts.astype(leaf.dtype), leaf, 1)

    return jax.tree.map(lambda leaf: lax.psum(total(leaf), AXIS) / (count * members), found)


def map_over(one: Callable[[Any], Any], items: Any, at_once: int | None) -> Any:
    """`one(item)` for every item of a pytree with a leading axis, stacked; on several devices each takes some.

    A single one is done by all of them.
    """
    devices = num_shares()
    if devices == 1 or _count(items) == 1:
        return _through(one, items, at_once)
    mine, _ = _share(items, lax.axis_index(AXIS), devices)
    found = _through(one, mine, at_once)
    return jax.tree.map(lambda leaf: lax.all_gather(leaf, AXIS, tiled=True)[: _count(items)], found)


def divided(function: Callable[[Any, Any], Any], kept: Sequence[str] = ()) -> Callable[[Any, Any], Any]:
    """`function(params, batch)`, a pytree of means over the images of a batch, with these divided among the devices.

    All of them must be called with the same, and their results have the same cotangents: `agreed` sees to that. What it
    needs is computed again for the reverse pass, so that its result is best kept, and what bears one of the names in
    `kept`: both bear the name `DIVIDED`. Where devices can't have equal shares some of them have the same.
    """
    devices = num_shares()
    if devices == 1:
        return function

    def share(params: Any, batch: Any) -> Any:
        parts = math.gcd(devices, _count(batch))
        part = lax.axis_index(AXIS) % parts
        return function(params, jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:])[part], batch))

    again = jax.checkpoint(share, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(*kept))

    @jax.custom_vjp
    def whole(params: Any, batch: Any) -> Any:
        return _mean_of_numbers(share(params, batch))

    def forward(params: Any, batch: Any) -> tuple[Any, Any]:
        found, pull = jax.vjp(again, params, batch)
        given = {id(leaf) for leaf in jax.tree.leaves((params, batch))}
        pull = jax.tree.map(lambda leaf: leaf if id(leaf) in given else checkpoint_name(leaf, DIVIDED), pull)
        return checkpoint_name(_mean_of_numbers(found), DIVIDED), pull

    def backward(pull: Callable[[Any], Any], cotangent: Any) -> Any:
        return _mean_of_numbers(pull(cotangent))

    whole.defvjp(forward, backward)
    return whole


def agreed(tree: Any) -> Any:
    """`tree`, the same on all devices; in the reverse pass the mean of the cotangents that it has on each of them."""
    if num_shares() == 1:
        return tree
    same = jax.custom_vjp(lambda tree: tree)
    same.defvjp(lambda tree: (tree, None), lambda _, cotangent: (_mean_of_numbers(cotangent),))
    return same(tree)


def _mean_of_numbers(tree: Any) -> Any:
    """Over the devices, of what has a derivative.

    All numbers of a type come together in one array: for that XLA's CPU backend takes a tenth of the time.
    """
    leaves, structure = jax.tree.flatten(tree)
    found: list[Any] = list(leaves)
    for dtype in {leaf.dtype: None for leaf in leaves if leaf.dtype != jax.dtypes.float0}:
        chosen = [index for index, leaf in enumerate(leaves) if leaf.dtype == dtype]
        mean = lax.psum(jnp.concatenate([leaves[index].reshape(-1) for index in chosen]), AXIS) / num_shares()
        ends = np.cumsum([leaves[index].size for index in chosen])[:-1]
        for index, part in zip(chosen, jnp.split(mean, ends), strict=True):
            found[index] = part.reshape(leaves[index].shape)
    return jax.tree.unflatten(structure, found)


def num_shares() -> int:
    """How many devices divide the work of the function that is being traced; 1 outside of `on_each`."""
    try:
        return int(lax.axis_size(AXIS))
    except NameError:
        return 1


def _share(items: Any, index: jax.Array, shares: int) -> tuple[Any, jax.Array]:
    """Share number `index` of the items, all equally long, and which of them count: the last ones may be repeats."""
    count = _count(items)
    size = -(-count // shares)
    positions = index * size + jnp.arange(size)
    return jax.tree.map(lambda leaf: leaf[jnp.minimum(positions, count - 1)], items), positions < count


def _count(items: Any) -> int:
    return jax.tree.leaves(items)[0].shape[0]


def _through(one: Callable[[Any], Any], items: Any, at_once: int | None) -> Any:
    if at_once is None:
        return lax.map(one, items)
    return jax.vmap(one)(items) if at_once >= _count(items) else lax.map(one, items, batch_size=at_once)


def _spread_from_first(leaf: jax.Array, everywhere: NamedSharding) -> jax.Array:
    """The first process's `leaf` on every device of every process."""
    from jax.experimental import multihost_utils

    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        bits = _spread_from_first(jax.random.key_data(leaf), everywhere)
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(leaf))
    array = multihost_utils.broadcast_one_to_all(np.asarray(leaf))
    return jax.make_array_from_callback(array.shape, everywhere, lambda index: array[index])
