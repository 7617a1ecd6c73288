"""The differentiable learner: the training of a network on distilled batches as one `lax.scan`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError
from dd_jax.inner.losses import Apply, Gradient, Loss, cross_entropy, gradient_in_chunks
from dd_jax.inner.memory import GRADIENT, Remat, kept_names, segments
from dd_jax.inner.parallel import DIVIDED, agreed, divided
from dd_jax.inner.rules import Memory, Rule
from dd_jax.models.winograd import CONVOLVED
from dd_jax.types import Batch, Params
from dd_jax.values import Number, is_traced


class IntermediateLoss(NamedTuple):
    """What to measure along the way: `loss` of the parameters, after every `every` steps."""

    loss: Callable[[Params], jax.Array]
    every: int


class Window(NamedTuple):
    """Steps that are differentiated: `length` of them from step `first` on, which may be traced.

    Those before it are taken too, as they are; those after it are not. A traced `first` that is too large counts as the
    largest one that leaves so many steps. A window of all steps is the same as none, to the last bit.
    """

    first: Int[Array, ""] | int
    length: int


def as_it_is(batch: Batch) -> Batch:
    """What a step is given as its batch."""
    return batch


def unroll(
    apply: Apply,
    params: Params,
    steps: Any,
    rule: Rule,
    *,
    batch_of: Callable[[Any], Batch] = as_it_is,
    loss: Loss = cross_entropy,
    remat: Remat = "steps",
    discount: Number = 1.0,
    window: Window | None = None,
    shared: bool = False,
) -> Params:
    """Parameters after T steps of training, theta_{t+1} = rule(theta_t, grad l(theta_t; x_t, y_t)).

    Differentiable in `params`, in `steps`, in what `batch_of` closes over and in what the rule is made of; to any order
    by gradient descent and momentum.

    Args:
        params: theta_0, any pytree.
        steps: the batches, or any other pytree whose leaves have a leading axis T; T = 0 is the identity.
        batch_of: the part of `steps` that belongs to a step -> its batch. It is called inside of what is computed again
            for the reverse pass, so that T batches never exist at once: steps may be numbers and keys, and a batch what
            is generated, cropped or changed with these.
        rule: see `dd_jax.inner.rules`.
        remat: what is kept for the reverse pass; the same result to the last bit is not promised. "none": everything
            that it reads. "steps": the parameters of each step, the rest being computed again (five to nine times less
            memory for LeNet at about the same time) but for a few products of wide networks, see `kept_names`.
            "nested": of sqrt(T) steps only, with one more computation of the others.
        discount: in the reverse pass multiply the adjoint of the parameters, and of what the rule remembers, by this at
            every step. 1 gives the exact hypergradient; below 1 a biased one in which step T - k counts discount^k
            times: where a long unroll is chaotic the exact one is nearly all noise, and this is what can be followed.
            Values are not affected.
        window: the only steps that are differentiated; None for all.
        shared: all devices of `on_each` take these very steps, and so divide the images of each batch if the network
            is wide. Values and derivatives are those of one device beyond rounding, but only in reverse mode.

    Raises:
        OptionError: for a window that is longer than the steps.

    Source: Wang et al. 2018, Algorithm 1, lines 5-7 and equation 4; windows: Feng et al. 2024, RaT-BPTT.
    """
    gradient = gradient_in_chunks(apply, loss, functools.partial(divided, kept=(CONVOLVED,)) if shared else None)
    state, steps = _begin(gradient, params, batch_of, steps, rule, window)
    kept = _kept(apply, params, batch_of, steps[0], remat)
    after = _through(_step(gradient, batch_of, rule, discount), state, steps, remat, kept)[0]
    return agreed(after) if shared else after


def unroll_on(
    apply: Apply,
    state: tuple[Params, Memory],
    steps: Any,
    rule: Rule,
    *,
    batch_of: Callable[[Any], Batch] = as_it_is,
    loss: Loss = cross_entropy,
    remat: Remat = "steps",
) -> tuple[Params, Memory]:
    """As `unroll`, from parameters and what the rule remembers to both after the steps: a training in several parts.

    The memory before the first step is `rule.init(params)`.
    """
    step = _step(gradient_in_chunks(apply, loss), batch_of, rule, 1.0)
    kept = _kept(apply, state[0], batch_of, steps, remat)
    return _through(step, tuple(state), (steps, rule.per_step), remat, kept)


def unroll_with_losses(
    apply: Apply,
    params: Params,
    steps: Any,
    rule: Rule,
    intermediate: IntermediateLoss,
    *,
    batch_of: Callable[[Any], Batch] = as_it_is,
    loss: Loss = cross_entropy,
    remat: Remat = "steps",
    discount: Number = 1.0,
    window: Window | None = None,
) -> tuple[Params, Float[Array, " losses"]]:
    """As `unroll`, with what `intermediate` measures along the way: after steps k, 2 k, ..., T, differentiable too.

    Raises:
        OptionError: where k doesn't divide T, the length of the window if there is one.
    """
    gradient = gradient_in_chunks(apply, loss)
    state, steps = _begin(gradient, params, batch_of, steps, rule, window)
    length = jax.tree.leaves(steps)[0].shape[0]
    if intermediate.every < 1 or length % intermediate.every:
        raise OptionError(
            f"Intermediate losses are taken every so many steps, which must divide the {length} "
            f"steps, but is {intermediate.every}."
        )
    step, kept = _step(gradient, batch_of, rule, discount), _kept(apply, params, batch_of, steps[0], remat)

    def part(state: Any, steps: Any) -> tuple[Any, jax.Array]:
        state = _through(step, state, steps, remat, kept)
        return state, intermediate.loss(state[0])

    split = jax.tree.map(lambda leaf: leaf.reshape(-1, intermediate.every, *leaf.shape[1:]), steps)
    state, found = lax.scan(part, state, split)
    return state[0], found


def _step(
    gradient: Gradient, batch_of: Callable[[Any], Batch], rule: Rule, discount: Number
) -> Callable[[Any, Any], tuple[Any, None]]:
    """One step of the state (parameters, memory of the rule)."""

    def step(state: Any, given: tuple[Any, Any]) -> tuple[Any, None]:
        mine, now = given
        if is_traced(discount) or discount != 1.0:
            state = jax.tree.map(lambda p: discount * p + (1.0 - discount) * lax.stop_gradient(p), state)
        theta, memory = state
        found = checkpoint_name(gradient(theta, batch_of(mine)), GRADIENT)
        return rule.update(found, memory, theta, now), None

    return step


def _kept(apply: Apply, params: Params, batch_of: Callable[[Any], Batch], steps: Any, remat: Remat) -> tuple[str, ...]:
    """Names of what the reverse pass keeps of each step besides the parameters."""
    if remat == "none":
        return ()
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), steps)
    return kept_names(apply, params, jax.eval_shape(batch_of, one).images)


def _through(
    step: Callable[[Any, Any], tuple[Any, None]], state: Any, steps: Any, remat: Remat, kept: Sequence[str]
) -> Any:
    """The state after all of the steps. kept: names of what isn't computed again."""
    if remat == "none":
        return lax.scan(step, state, steps)[0]
    # Inside a scan nothing can be merged across steps, so the barriers that prevent it would only cost time. What
    # several devices brought together is kept: the reverse pass computes their shares again by itself.
    body = jax.checkpoint(step, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(DIVIDED, *kept))
    if remat == "steps":
        return lax.scan(body, state, steps)[0]

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def segment(state: Any, steps: Any) -> tuple[Any, None]:
        return lax.scan(body, state, steps)[0], None

    count, length = segments(jax.tree.leaves(steps)[0].shape[0])
    whole = count * length
    state, _ = lax.scan(segment, state, jax.tree.map(lambda x: x[:whole].reshape(count, length, *x.shape[1:]), steps))
    return segment(state, jax.tree.map(lambda x: x[whole:], steps))[0]


def _begin(
    gradient: Gradient,
    params: Params,
    batch_of: Callable[[Any], Batch],
    steps: Any,
    rule: Rule,
    window: Window | None,
) -> tuple[Any, Any]:
    """The state before the first step that is differentiated, and what those steps are given."""
    state, given = (params, rule.init(params)), (steps, rule.per_step)
    if window is None:
        return state, given
    total = jax.tree.leaves(given)[0].shape[0]
    last = window.length if is_traced(window.first) else int(window.first) + window.length
    if window.length < 0 or not window.length <= last <= total:
        raise OptionError(f"A window must lie within the {total} steps, but ends after step {last}.")
    if window.length == total:
        return state, given

    def at(t: jax.Array, given: Any) -> Any:
        return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, t, keepdims=False), given)

    # What the steps before the window read is cut off where it enters: a loop of a traced length has no reverse pass.
    example = jax.eval_shape(at, jnp.int32(0), steps)
    still_batch, closed_over = jax.closure_convert(batch_of, example)
    closed_over, still = lax.stop_gradient((closed_over, given))
    before = _step(gradient, lambda mine: still_batch(mine, *closed_over), rule, 1.0)
    first = jnp.clip(jnp.asarray(window.first), 0, total - window.length)
    state = lax.stop_gradient(state)
    state = lax.fori_loop(0, first, lambda t, state: before(state, at(t, still))[0], state)
    mine = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, first, window.length), given)
    return lax.stop_gradient(state), mine
