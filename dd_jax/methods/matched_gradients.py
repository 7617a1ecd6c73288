"""Losses that compare a network's gradients on distilled images with those on real ones, class by class or in one."""

from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner import Distance, batch_loss, chunked_loss, each_class, siamese
from dd_jax.inner.losses import Apply
from dd_jax.inner.parallel import divided
from dd_jax.types import Batch, Labels, Params

Learnt: TypeAlias = tuple[jax.Array, jax.Array | None]  # images, and labels if they are soft


@runtime_checkable
class MatchingLoss(Protocol):
    """(params, distilled (K, M, ...), real (K, B, ...), keys (K,)) -> the distance of their gradients.

    Differentiable in what is distilled, and in nothing else.

    Args:
        distilled: images of each of K classes with their labels (K, M), or soft ones (K, M, classes).
        real: images of each class with labels (K, B).
        keys: the images of a class are changed by its key, real and distilled ones alike.
    """

    def __call__(
        self,
        params: Params,
        distilled: Batch,
        real: Batch,
        keys: jax.Array,
    ) -> Float[Array, ""]: ...


def class_wise(
    apply: Apply, distance: Distance, change: str = "none", layers: str = "all", shared: bool = False
) -> MatchingLoss:
    """sum_c D(grad l(X_c), grad l(x_c)): the gradients of each class are compared.

    Args:
        change: a kind of `inner.augment`.
        layers: "all" or "convolutions", which compares the gradients of those alone.
        shared: whether devices, all of which are given the same, divide the real images among them.

    Source: Zhao et al. 2021, equation 8 and Algorithm 1.
    """
    of_real, of_distilled = _gradients(apply, layers, shared)

    def of_class(learnt: Learnt, params: Params, hard: Labels, theirs: Batch, key: jax.Array) -> jax.Array:
        images, labels = learnt
        mine = Batch(images, hard if labels is None else labels)
        goal = of_real(params, theirs._replace(images=siamese(key, theirs.images, change)))
        found = of_distilled(params, mine._replace(images=siamese(key, mine.images, change)))
        return distance(goal, found)

    # The gradient of each class right after its distance: what it needs of the forward pass is never kept for all.
    @jax.custom_vjp
    def loss(params, distilled, real, keys):
        return forward(params, distilled, real, keys)[0]

    def forward(params, distilled, real, keys):
        soft = jnp.issubdtype(distilled.labels.dtype, jnp.floating)
        learnt = distilled.images, distilled.labels if soft else None

        def one(item: tuple[Learnt, Labels, Batch, jax.Array]) -> tuple[jax.Array, Learnt]:
            return jax.value_and_grad(of_class)(item[0], params, *item[1:])

        values, gradient = each_class(one, (learnt, distilled.labels, real, keys))
        return values.sum(), gradient

    def backward(gradient, cotangent):
        images, labels = jax.tree.map(lambda leaf: cotangent * leaf, gradient)
        return None, Batch(images, labels), None, None

    loss.defvjp(forward, backward)
    return loss


def collective(
    apply: Apply, distance: Distance, change: str = "none", layers: str = "all", shared: bool = False
) -> MatchingLoss:
    """D(grad l(X), grad l(x)): the gradients of all classes together are compared.

    Args:
        change, layers, shared: as for `class_wise`.

    Source: Lee et al. 2022, *Dataset Condensation with Contrastive Signals*, equation 6.
    """
    of_real, of_distilled = _gradients(apply, layers, shared)

    def whole(batch: Batch, keys: jax.Array) -> Batch:
        changed = each_class(lambda item: siamese(item[0], item[1], change), (keys, batch.images))
        return Batch(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (changed, batch.labels)))

    def loss(params, distilled, real, keys):
        return distance(of_real(params, whole(real, keys)), of_distilled(params, whole(distilled, keys)))

    return loss


def _gradients(apply: Apply, layers: str, shared: bool) -> tuple[Callable[[Params, Batch], Params], ...]:
    """The gradients on real and on distilled batches, in the parameters that are compared."""

    def compared(gradient: Params) -> list[jax.Array]:
        return [leaf for leaf in jax.tree.leaves(gradient) if layers == "all" or leaf.ndim == 4]

    real, distilled = jax.grad(chunked_loss(apply)), jax.grad(batch_loss(apply))
    if shared:
        real = divided(real)
    return (
        lambda params, batch: compared(lax.stop_gradient(real(params, batch))),
        lambda params, batch: compared(distilled(params, batch)),
    )
