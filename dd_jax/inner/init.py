"""Where inner training starts: p(theta_0) as functions (key, networks) -> params."""

from typing import Protocol as Interface
from typing import runtime_checkable

import jax

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models import Model
from dd_jax.types import Networks, Params, Pretrained, Protocol

INITS = ("random", "fixed")


@runtime_checkable
class InitDistribution(Interface):
    """(key, networks) -> params; networks: those that are drawn from, None where networks start from scratch.

    They come as an argument, as compiled code must not hold them as constants.
    """

    def __call__(self, key: jax.Array, networks: Networks | None = None) -> Params: ...


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
        return model.init(jax.random.key(seed))

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


def networks_of(pretrained: Pretrained, protocol: Protocol, part: str = "train") -> Networks:
    """The networks that a protocol starts from: all of a part, or the one of a fixed init (always out of "train").

    Raises OptionError if there is none such.
    """
    fixed = protocol.init == "fixed"
    part = "train" if fixed else part
    count = len(pretrained.accuracies[part])
    if count == 0:
        raise OptionError(
            f"The pretrained networks {pretrained.name} have none in the part {part!r}: train some with "
            'dd-jax pretrain, or distil for one known network with init "fixed".'
        )
    if not fixed:
        return pretrained.read(part)
    if not 0 <= protocol.init_seed < count:
        raise OptionError(f"init_seed chooses one of {count} pretrained networks, from 0; found {protocol.init_seed}.")
    return jax.tree.map(lambda leaf: leaf[protocol.init_seed : protocol.init_seed + 1], pretrained.read(part))
