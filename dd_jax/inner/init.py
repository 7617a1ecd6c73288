"""Where inner training starts: p(theta_0) as functions (key, networks) -> params."""

import functools
from typing import Literal, TypeAlias, get_args, runtime_checkable
from typing import Protocol as Interface

import jax
import numpy as np
from jaxtyping import Int

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models import InitFn, Model
from dd_jax.seeds import key_of_seed
from dd_jax.types import Networks, Params, Pretrained, Protocol
from dd_jax.values import quick_jit

Init: TypeAlias = Literal["random", "fixed"]
INITS: tuple[str, ...] = get_args(Init)
PARTS = ("train", "selection", "held_out")


@runtime_checkable
class InitDistribution(Interface):
    """(key, networks) -> params; networks: those that are drawn from, None where networks start from scratch.

    They come as an argument, as compiled code must not hold them as constants.
    """

    def __call__(self, key: jax.Array, networks: Networks | None = None) -> Params: ...


def draw_network(model: Model, key: jax.Array) -> Params:
    """The network that a key gives, compiled once for all equal models."""
    return _drawn(model.init, key)


def draw_networks(model: Model, keys: jax.Array) -> Networks:
    """The networks that keys (N,) give, with a leading axis."""
    return _all_drawn(model.init, keys)


def keys_of(seed: int, numbers: Int[np.ndarray, " nets"]) -> jax.Array:
    """The keys of networks with these numbers, (N,): number n always has the same one, however many are asked for."""
    return _folded(key_of_seed(seed), numbers)


@quick_jit
def _folded(key: jax.Array, numbers: jax.Array) -> jax.Array:
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


@functools.partial(quick_jit, static_argnums=0)
def _drawn(init: InitFn, key: jax.Array) -> Params:
    return init(key)


@functools.partial(quick_jit, static_argnums=0)
def _all_drawn(init: InitFn, keys: jax.Array) -> Networks:
    return jax.vmap(init)(keys)


def random_init(model: Model) -> InitDistribution:
    """Every key gives a network of its own."""

    def init(key: jax.Array, networks: Networks | None = None) -> Params:
        del networks
        return model.init(key)

    return init


def fixed_init(model: Model, seed: int = 0) -> InitDistribution:
    """Every key gives the one network drawn from `seed`."""

    def init(key: jax.Array, networks: Networks | None = None) -> Params:
        del key, networks
        return model.init(key_of_seed(seed))

    return init


def pretrained_init(key: jax.Array, networks: Networks | None = None) -> Params:
    """One of the networks, each as likely as the others."""
    count = jax.tree.leaves(networks)[0].shape[0]
    index = jax.random.randint(key, (), 0, count)
    return jax.tree.map(lambda leaf: leaf[index], networks)


def init_distribution(model: Model, protocol: Protocol) -> InitDistribution:
    """The distribution that a protocol names; OptionError for an unknown name."""
    if protocol.init not in INITS:
        raise unknown_name("init", protocol.init, INITS)
    if protocol.pretrained:
        return pretrained_init
    return fixed_init(model, protocol.init_seed) if protocol.init == "fixed" else random_init(model)


def networks_of(pretrained: Pretrained, protocol: Protocol, part: str, count: int | None = None) -> Networks:
    """The networks that a protocol starts from, at most `count` of them: all of a part, or the one of a fixed init.

    Args:
        part: "train" to distil with, "selection" to choose by or "held_out" to report on.

    Raises:
        OptionError: if there is none such, or for an unknown name.
    """
    first, last = network_range(pretrained, protocol, part)
    last = last if count is None else min(last, first + count)
    fixed = protocol.init == "fixed"
    return pretrained.read("held_out" if part == "held_out" and not fixed else "train", first, last)


def network_range(pretrained: Pretrained, protocol: Protocol, part: str) -> tuple[int, int]:
    """Numbers, from the first to before the last, of the networks that `networks_of` reads; raises what it raises."""
    if protocol.init not in INITS:
        raise unknown_name("init", protocol.init, INITS)
    if part not in PARTS:
        raise unknown_name("part of pretrained networks", part, PARTS)
    train, held_out = (len(pretrained.accuracies[name]) for name in ("train", "held_out"))
    if protocol.init == "fixed":
        if not 0 <= protocol.init_seed < train:
            raise OptionError(
                f"init_seed chooses one of {train} pretrained networks, so it must be from 0 to "
                f"{train - 1}, but is {protocol.init_seed}."
            )
        return protocol.init_seed, protocol.init_seed + 1
    if part == "held_out":
        if held_out == 0:
            raise OptionError(
                f"The pretrained networks {pretrained.name} include none that are held out for "
                "evaluation. Train some with dd-jax pretrain --num-held-out, or distil for one "
                'known network with init "fixed".'
            )
        return 0, held_out
    apart = train - pretrained.num_selection
    return (0, apart) if part == "train" else (apart % train, train)
