"""Losses and accuracies of a network on a batch, and the loss of a large real batch in one cache-sized pass."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.chunks import Apply, chunk_size, is_batchwise
from dd_jax.types import Batch, Labels, Params, see_each_other

Loss: TypeAlias = Callable[[jax.Array, Labels], jax.Array]


def cross_entropy(logits: Float[Array, "*batch classes"], labels: Labels) -> Float[Array, ""]:
    """Mean softmax cross-entropy, in nats, against integer classes or soft labels (one axis more)."""
    if labels.ndim == logits.ndim:
        return optax.softmax_cross_entropy(logits, labels).mean()
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def squared_error(logits: Float[Array, "*batch classes"], labels: Labels) -> Float[Array, ""]:
    """Half the squared distance from centred labels, summed over classes, mean over images; labels as above."""
    errors = logits - centred(labels, logits.shape[-1]).astype(logits.dtype)
    return 0.5 * jnp.square(errors).sum(-1).mean()


def centred(labels: Labels, num_classes: int) -> Float[Array, "*batch classes"]:
    """Centred labels y - 1/K: what a regression is to find, of classes as one-hot vectors, or of soft labels."""
    return (labels if _soft(labels) else jax.nn.one_hot(labels, num_classes)) - 1.0 / num_classes


def as_shares(labels: Labels) -> Labels:
    """Labels, of a regression perhaps, as a cross-entropy takes them: none negative, each image's sum one.

    Shares stay what they are, and so do classes. Where nothing is positive each class has the same share.
    """
    if not _soft(labels):
        return labels
    positive = jnp.maximum(labels, 0)
    total = positive.sum(-1, keepdims=True)
    return jnp.where(total > 0, positive / jnp.where(total > 0, total, 1), 1.0 / labels.shape[-1])


def _soft(labels: Labels) -> bool:
    return jnp.issubdtype(labels.dtype, jnp.floating)


LOSSES: Mapping[str, Loss] = {"cross_entropy": cross_entropy, "squared": squared_error}


def batch_loss(apply: Apply, loss: Loss = cross_entropy) -> Callable[[Params, Batch], jax.Array]:
    """The function (params, batch) -> mean loss of the network on the batch."""

    def loss_of(params: Params, batch: Batch) -> jax.Array:
        return loss(apply(params, batch.images), batch.labels)

    return loss_of


def weighted_loss(apply: Apply, loss: Loss = cross_entropy) -> Callable[[Params, Batch, jax.Array], jax.Array]:
    """The function (params, batch, weights (N,)) -> weighted mean loss of the network on the batch."""

    def loss_of(params: Params, batch: Batch, weights: jax.Array) -> jax.Array:
        logits = apply(params, batch.images)
        losses = jax.vmap(loss)(logits, batch.labels)
        return jnp.vdot(losses, weights.astype(losses.dtype)) / weights.sum().astype(losses.dtype)

    return loss_of


def chunked_loss(
    apply: Apply, loss: Loss = cross_entropy, chunk: int | None = None
) -> Callable[[Params, Batch], jax.Array]:
    """The same function as `batch_loss`, computed chunk by chunk with value and gradient in one pass.

    Args:
        chunk: images per chunk, a divisor of the batch; None chooses. Differentiable in the parameters only, once: the
            gradient with respect to the batch is zero by definition, as real data is not learnt. Examples that see each
            other, or that the network normalises together, stay together.
    """
    loss_of = batch_loss(apply, loss)

    def split(params: Params, batch: Batch) -> Batch:
        num_images = batch.images.shape[0]
        size = chunk or chunk_size(apply, params, batch.images)
        return jax.tree.map(lambda leaf: leaf.reshape(num_images // size, size, *leaf.shape[1:]), batch)

    @jax.custom_vjp
    def mean_loss(params: Params, batch: Batch) -> jax.Array:
        return lax.map(lambda part: loss_of(params, part), split(params, batch)).mean()

    def forward(params: Params, batch: Batch) -> tuple[jax.Array, Params]:
        chunks = split(params, batch)
        count = chunks.images.shape[0]

        def add(total: tuple[jax.Array, Params], part: Batch) -> tuple[tuple[jax.Array, Params], None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss_of)(params, part)), None

        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(
            jax.value_and_grad(loss_of), params, jax.tree.map(lambda leaf: leaf[0], chunks)))  # fmt: skip
        total, _ = lax.scan(add, zero, chunks)
        value, gradient = jax.tree.map(lambda leaf: leaf / count, total)
        return value, gradient

    def backward(gradient: Params, cotangent: jax.Array) -> tuple[Params, None]:
        return jax.tree.map(lambda leaf: cotangent * leaf, gradient), None

    mean_loss.defvjp(forward, backward)

    def chosen(params: Params, batch: Batch) -> jax.Array:
        return (loss_of if is_batchwise(apply) or see_each_other(batch.images) else mean_loss)(params, batch)

    return chosen
