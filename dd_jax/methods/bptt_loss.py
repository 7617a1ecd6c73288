"""The outer loss of `bptt`: real images, after a training on the set of which a window is differentiated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dd_jax.inner import ByClass, Window, chunked_loss, random_init, unroll
from dd_jax.methods.bptt_options import BpttOptions, rule_of
from dd_jax.methods.sampling import changed_rows
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic, coefficient_penalty
from dd_jax.synthetic.order import minibatch_of_step
from dd_jax.types import Batch, Learnable
from dd_jax.values import is_zero


def bptt_loss(
    model: Model, synthetic: Synthetic, options: BpttOptions, length: int | None = None
) -> Callable[..., Float[Array, ""]]:
    """The function (learnable, key, real batch, classes, horizon) -> loss of one training on the real batch.

    Args:
        length: of the window of inner steps that is differentiated, the last ones before the loss; None for all steps.

    classes (c,) are those of the set that are trained on. The training ends after a number of steps drawn from `length`
    to `horizon`, which may be traced, or without a window after all of them.
    """
    assert options.remat != "auto"
    remat, real_loss, start = options.remat, chunked_loss(model.apply), random_init(model)
    penalised = not (is_zero(options.coefficient_l1) and is_zero(options.coefficient_l2))

    def loss(
        learnable: Learnable, key: jax.Array, real: Batch, classes: Int[Array, " classes"], horizon: jax.Array | int
    ) -> jax.Array:
        init_key, inner_key, end_key = jax.random.split(key, 3)
        window = None
        if length is not None:
            window = Window(jax.random.randint(end_key, (), 0, jnp.maximum(horizon - length, 0) + 1), length)
        params = unroll(
            model.apply,
            start(init_key),
            jnp.arange(options.num_inner_steps),
            rule_of(options),
            batch_of=inner_batches(synthetic, learnable, inner_key, classes, model.num_classes, options),
            remat=remat,
            window=window,
            shared=options.num_inits == 1,
        )
        found = real_loss(params, real)
        if penalised:
            found += coefficient_penalty(learnable, options.coefficient_l1, options.coefficient_l2)
        return found

    return loss


def inner_batches(
    synthetic: Synthetic,
    learnable: Learnable,
    key: jax.Array,
    classes: Int[Array, " classes"],
    num_classes: int,
    options: BpttOptions,
) -> Callable[[jax.Array], Batch]:
    """The function t -> minibatch of inner step t: as many images of each of the classes, changed by `augment`.

    Args:
        synthetic: a set of one batch, in class order, as many images of each class. Where nothing in it is random its
            images are made once for all steps.
    """
    order_key, draw_key, change_key = jax.random.split(key, 3)
    random = synthetic.decode(learnable).parameterisation.kind.draw is not None
    once = synthetic.batch(learnable, draw_key, jnp.int32(0))
    per_class = once.labels.shape[0] // num_classes
    size = options.inner_per_class or per_class
    order_keys = jax.vmap(lambda c: jax.random.fold_in(order_key, c))(classes)

    def batch_of(t: jax.Array) -> Batch:
        whole = synthetic.batch(learnable, jax.random.fold_in(draw_key, t), t) if random else once
        mine = jax.vmap(lambda key: minibatch_of_step(per_class, size, key, t))(order_keys)
        rows = (classes[:, None] * per_class + mine).reshape(-1)
        keys = jax.random.split(jax.random.fold_in(change_key, t), len(rows))
        return changed_rows(keys, whole, rows, options.augment)

    return batch_of


def class_minibatch(
    key: jax.Array,
    real: ByClass,
    size: int,
    classes: Int[Array, " classes"],
    change: str = "none",
    part: jax.Array | int = 0,
    parts: int = 1,
) -> Batch:
    """`size` images of each of the classes, drawn with replacement; of them all, share `part` of `parts` equal ones.

    Args:
        change: a kind of `inner.augment`.
    """
    index_key, change_key = jax.random.split(key)
    sizes = real.sizes[classes]
    drawn = real.first[classes][None] + jax.random.randint(index_key, (size, len(classes)), 0, sizes[None])
    rows = real.order[drawn].reshape(parts, -1)[part]
    keys = jax.random.split(change_key, drawn.size).reshape(parts, -1)[part]
    return changed_rows(keys, real.split, rows, change)
