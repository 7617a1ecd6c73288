"""How the parameters of an unrolled network follow its gradients: gradient descent, momentum, Adam, RMSprop."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dd_jax.errors import unknown_name
from dd_jax.types import Params
from dd_jax.values import Number

Memory: TypeAlias = Any  # what a rule remembers from step to step: a pytree
RuleName: TypeAlias = Literal["sgd", "momentum", "adam", "rmsprop"]
RULES: tuple[str, ...] = get_args(RuleName)

# Of the rules that are known by name; a set of such a rule is trained on with just these.
ADAM_BETAS = (0.9, 0.999)
RMSPROP_DECAY = 0.9
EPSILON = 1e-5  # large enough for the hypergradient in float32, see `adam`


class Rule(NamedTuple):
    """A rule as pure functions, differentiable in all that it is made of.

    Attributes:
        init: params -> memory.
        update: (gradient, memory, params, now) -> (params, memory), where `now` is the part of `per_step`, a pytree
            whose leaves have a leading axis T, that belongs to the step.
    """

    init: Callable[[Params], Memory]
    update: Callable[[Params, Memory, Params, Any], tuple[Params, Memory]]
    per_step: Any


def gradient_descent(step_sizes: Float[Array, " steps"]) -> Rule:
    """Theta <- theta - eta_t g."""

    def init(params: Params) -> Memory:
        return ()

    def update(gradient: Params, memory: Memory, params: Params, size: jax.Array) -> tuple[Params, Memory]:
        return jax.tree.map(lambda p, g: p - size.astype(p.dtype) * g, params, gradient), memory

    return Rule(init, update, step_sizes)


def momentum(step_sizes: Float[Array, " steps"], momenta: Float[Array, "*steps"] | float) -> Rule:
    """V <- mu_t v + g, theta <- theta - eta_t v, from v = 0.

    Args:
        momenta: mu, one for all steps or one for each, (T,).

    Source: Polyak 1964, in the form of PyTorch's SGD; learnt per step as in Maclaurin et al. 2015.
    """
    sizes = jnp.asarray(step_sizes)
    each = jnp.broadcast_to(jnp.asarray(momenta, sizes.dtype), sizes.shape)

    def init(params: Params) -> Memory:
        return jax.tree.map(jnp.zeros_like, params)

    def update(
        gradient: Params, velocity: Memory, params: Params, now: tuple[jax.Array, jax.Array]
    ) -> tuple[Params, Memory]:
        size, kept = now
        velocity = jax.tree.map(lambda v, g: kept.astype(v.dtype) * v + g, velocity, gradient)
        return jax.tree.map(lambda p, v: p - size.astype(p.dtype) * v, params, velocity), velocity

    return Rule(init, update, (sizes, each))


def adam(
    step_sizes: Float[Array, " steps"],
    b1: Number = 0.9,
    b2: Number = 0.999,
    epsilon: float = 1e-8,
    first: Int[Array, ""] | int = 0,
) -> Rule:
    """M <- b1 m + (1 - b1) g, s <- b2 s + (1 - b2) g^2, theta <- theta - eta_t m' / (sqrt(s') + epsilon).

    m', s': without the bias of their start at zero. Where a gradient has been exactly zero throughout, so is its step
    and all derivatives of it. The root of a tiny s has a steep derivative; in float32 raise `epsilon` where the
    hypergradient is noise.

    Args:
        first: steps that were taken before these, of which the rule still has its memory.

    Source: Kingma & Ba 2015, algorithm 1.
    """
    sizes = jnp.asarray(step_sizes)
    numbers = first + jnp.arange(1, sizes.shape[0] + 1)

    def init(params: Params) -> Memory:
        return jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)

    def update(
        gradient: Params, memory: Memory, params: Params, now: tuple[jax.Array, jax.Array]
    ) -> tuple[Params, Memory]:
        size, number = now
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, memory[0], gradient)
        square = jax.tree.map(lambda s, g: b2 * s + (1 - b2) * g**2, memory[1], gradient)

        def moved(p: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
            count = number.astype(p.dtype)
            root = _root(s / (1 - b2**count))
            return p - size.astype(p.dtype) * m / (1 - b1**count) / (root + epsilon)

        return jax.tree.map(moved, params, mean, square), (mean, square)

    return Rule(init, update, (sizes, numbers))


def rmsprop(step_sizes: Float[Array, " steps"], decay: Number = RMSPROP_DECAY, epsilon: float = 1e-8) -> Rule:
    """S <- decay s + (1 - decay) g^2, theta <- theta - eta_t g / (sqrt(s) + epsilon), from s = 0.

    What is said of zero and tiny gradients at `adam` holds here.
    Source: Hinton 2012, lecture 6e, in the form of PyTorch.
    """

    def init(params: Params) -> Memory:
        return jax.tree.map(jnp.zeros_like, params)

    def update(gradient: Params, memory: Memory, params: Params, size: jax.Array) -> tuple[Params, Memory]:
        square = jax.tree.map(lambda s, g: decay * s + (1 - decay) * g**2, memory, gradient)

        def moved(p: jax.Array, g: jax.Array, s: jax.Array) -> jax.Array:
            return p - size.astype(p.dtype) * g / (_root(s) + epsilon)

        return jax.tree.map(moved, params, gradient, square), square

    return Rule(init, update, jnp.asarray(step_sizes))


def _root(square: jax.Array) -> jax.Array:
    """The square root, whose derivative at zero is taken for zero: it has none."""
    known = square > 0
    return jnp.where(known, jnp.sqrt(jnp.where(known, square, 1.0)), 0.0)


def rule_named(
    name: str,
    step_sizes: Float[Array, " steps"],
    momenta: Float[Array, " steps"] | None = None,
    first: Int[Array, ""] | int = 0,
) -> Rule:
    """The rule that networks are trained with on a set whose protocol names it.

    Args:
        momenta: of each step, for "momentum"; None for zero.
        first: steps taken before these.

    Raises:
        OptionError: for an unknown name.
    """
    if name not in RULES:
        raise unknown_name("rule", name, RULES)
    if name == "momentum":
        return momentum(step_sizes, 0.0 if momenta is None else momenta)
    if name == "adam":
        return adam(step_sizes, *ADAM_BETAS, EPSILON, first)
    return gradient_descent(step_sizes) if name == "sgd" else rmsprop(step_sizes, epsilon=EPSILON)
