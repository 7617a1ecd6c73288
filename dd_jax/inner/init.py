"""Where inner training starts: distributions over initial parameters, as functions key -> params."""

import jax

from dd_jax.errors import unknown_name
from dd_jax.models import Model
from dd_jax.types import InitDistribution, Params, Protocol

INITS = ("random", "fixed")


def random_init(model: Model) -> InitDistribution:
    """Every key gives a network of its own."""
    return model.init


def fixed_init(model: Model, seed: int = 0) -> InitDistribution:
    """Every key gives the one network drawn from `seed`."""

    def init(key: jax.Array) -> Params:
        del key
        return model.init(jax.random.key(seed))

    return init


def init_distribution(model: Model, protocol: Protocol) -> InitDistribution:
    """The distribution that a protocol names; OptionError for an unknown name."""
    if protocol.init not in INITS:
        raise unknown_name("init", protocol.init, INITS)
    return fixed_init(model, protocol.init_seed) if protocol.init == "fixed" else random_init(model)
