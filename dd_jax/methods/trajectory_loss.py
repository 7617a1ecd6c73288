"""The loss of trajectory matching, one window of an expert at a time, and its gradient."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.inner import gradient_descent, unroll
from dd_jax.inner.first_order import first_order_value_and_gradient
from dd_jax.inner.trajectories import trajectory_distance
from dd_jax.methods.sampling import changed_rows
from dd_jax.methods.trajectory_options import TrajectoryMatchingOptions
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic
from dd_jax.synthetic.order import minibatch_of_step
from dd_jax.types import Batch, Learnable, Params


def trajectory_gradient(
    model: Model, synthetic: Synthetic, options: TrajectoryMatchingOptions
) -> Callable[[Learnable, jax.Array, Params, Params], tuple[Float[Array, ""], Learnable]]:
    """The function (learnable, key, start, target) -> the loss of one window with its gradient.

    Args:
        synthetic: a set whose learnable has a `step_size`. With options.gradient "first_order" the gradient is that of
            `first_order_value_and_gradient`, and not the loss's.
    """
    if options.gradient == "exact":
        return jax.value_and_grad(trajectory_loss(model, synthetic, options))
    batches = inner_batches(synthetic, options)

    def value_and_gradient(
        learnable: Learnable, key: jax.Array, start: Params, target: Params
    ) -> tuple[jax.Array, Learnable]:
        def batch_of(learnable: Learnable, t: jax.Array) -> Batch:
            return batches(learnable, key, t)

        def distance(params: Params) -> jax.Array:
            return trajectory_distance(params, start, target, options.distance == "layers")

        found = first_order_value_and_gradient(
            model.apply, start, options.num_inner_steps, batch_of, lambda learnable: learnable.step_size, distance
        )
        return found(learnable)

    return value_and_gradient


def trajectory_loss(
    model: Model, synthetic: Synthetic, options: TrajectoryMatchingOptions
) -> Callable[[Learnable, jax.Array, Params, Params], Float[Array, ""]]:
    """The function (learnable, key, start, target) -> |theta_N - theta*|^2 / |theta_0 - theta*|^2 of one window.

    Source: Cazenavette et al. 2022, equation 2.
    """
    assert options.remat != "auto"
    batch_of, remat = inner_batches(synthetic, options), options.remat

    def loss(learnable: Learnable, key: jax.Array, start: Params, target: Params) -> jax.Array:
        steps = jnp.arange(options.num_inner_steps)
        rule = gradient_descent(jnp.broadcast_to(learnable.step_size, steps.shape))
        after = unroll(
            model.apply,
            start,
            steps,
            rule,
            batch_of=lambda t: batch_of(learnable, key, t),
            remat=remat,
            shared=options.num_inits == 1,
        )
        return trajectory_distance(after, start, target, options.distance == "layers")

    return loss


def inner_batches(
    synthetic: Synthetic, options: TrajectoryMatchingOptions
) -> Callable[[Learnable, jax.Array, jax.Array], Batch]:
    """The function (learnable, key, t) -> the minibatch of inner step t, changed by `augment`."""

    def batch_of(learnable: Learnable, key: jax.Array, t: jax.Array) -> Batch:
        order_key, draw_key, change_key = jax.random.split(key, 3)
        whole = synthetic.batch(learnable, jax.random.fold_in(draw_key, t), t)
        total = whole.labels.shape[0]
        chosen = minibatch_of_step(total, options.batch_size or total, order_key, t)
        keys = jax.random.split(jax.random.fold_in(change_key, t), len(chosen))
        return changed_rows(keys, whole, chosen, options.augment)

    return batch_of
