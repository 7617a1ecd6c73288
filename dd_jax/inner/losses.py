"""Losses and accuracies of a network on a batch, and the loss of a large real batch in one cache-sized pass."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner.chunks import Apply, chunk_size, is_batchwise, is_wide
from dd_jax.types import Batch, Labels, Params, see_each_other

Loss: TypeAlias = Callable[[jax.Array, Labels], jax.Array]
Gradient: TypeAlias = Callable[[Params, Batch], Params]


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


def chunked_loss(apply: Apply, loss: Loss = cross_entropy, chunk: int | None = None) -> Callable[..., Float[Array, ""]]:
    """The same function as `batch_loss`, computed chunk by chunk with value and gradient in one pass.

    It also takes `weights` (N,) of the images in their mean, as a third argument.

    Args:
        chunk: images per chunk, a divisor of the batch; None chooses. Differentiable in the parameters only, once: the
            gradient with respect to the batch is zero by definition, as real data is not learnt. Examples that see each
            other, or that the network normalises together, stay together.
    """
    plain = batch_loss(apply, loss)

    def loss_of(params: Params, batch: Batch, weights: jax.Array | None) -> jax.Array:
        if weights is None:
            return plain(params, batch)
        losses = jax.vmap(loss)(apply(params, batch.images), batch.labels)
        return jnp.vdot(losses, weights.astype(losses.dtype))

    def split(params: Params, given: tuple[Batch, jax.Array | None]) -> tuple[Batch, jax.Array | None]:
        images = given[0].images
        size = chunk or chunk_size(apply, params, images)
        return jax.tree.map(lambda leaf: leaf.reshape(len(images) // size, size, *leaf.shape[1:]), given)

    @jax.custom_vjp
    def sum_loss(params: Params, given: tuple[Batch, jax.Array | None]) -> jax.Array:
        return lax.map(lambda part: loss_of(params, *part), split(params, given)).sum()

    def forward(params: Params, given: tuple[Batch, jax.Array | None]) -> tuple[jax.Array, Params]:
        chunks = split(params, given)

        def add(total: tuple[jax.Array, Params], part: Any) -> tuple[tuple[jax.Array, Params], None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss_of)(params, *part)), None

        shapes = jax.eval_shape(jax.value_and_grad(loss_of), params, *jax.tree.map(lambda leaf: leaf[0], chunks))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return lax.scan(add, zero, chunks)[0]

    def backward(gradient: Params, cotangent: jax.Array) -> tuple[Params, None]:
        return jax.tree.map(lambda leaf: cotangent * leaf, gradient), None

    sum_loss.defvjp(forward, backward)

    def chosen(params: Params, batch: Batch, weights: jax.Array | None = None) -> jax.Array:
        if is_batchwise(apply) or see_each_other(batch.images):
            shares = None if weights is None else weights / weights.sum()
            return loss_of(params, batch, shares)
        if weights is None:
            count = len(batch.images) // (chunk or chunk_size(apply, params, batch.images))
            return sum_loss(params, (batch, None)) / count
        return sum_loss(params, (batch, weights / weights.sum()))

    return chosen


def gradient_in_chunks(
    apply: Apply, loss: Loss = cross_entropy, share: Callable[[Gradient], Gradient] | None = None
) -> Gradient:
    """The gradient of `batch_loss` in the parameters, which can be differentiated again, in parameters and batch.

    Of many images, in a wide network, it is the mean of the gradients of chunks that stay in cache, see `chunk_size`.
    What a chunk needs is computed again for the derivative of its gradient.

    Args:
        share: what the gradient of a wide network goes through, `divided` for instance; small ones are done sooner than
            devices have met.
    """
    whole = jax.grad(batch_loss(apply, loss))
    again = jax.checkpoint(whole, prevent_cse=False)

    def in_chunks(params: Params, batch: Batch) -> Params:
        count, size = len(batch.images), chunk_size(apply, params, batch.images)
        if size == count:
            return whole(params, batch)

        def add(total: Params, chunk: Batch) -> tuple[Params, None]:
            return jax.tree.map(jnp.add, total, again(params, chunk)), None

        chunks = jax.tree.map(lambda leaf: leaf.reshape(count // size, size, *leaf.shape[1:]), batch)
        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, params), chunks)
        return jax.tree.map(lambda leaf: leaf * (size / count), total)

    mean = in_chunks if share is None else share(in_chunks)

    def gradient(params: Params, batch: Batch) -> Params:
        together = is_batchwise(apply) or see_each_other(batch.images) or not is_wide(apply, params, batch.images)
        return (whole if together else mean)(params, batch)

    return gradient
