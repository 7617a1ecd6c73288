"""Kernel ridge regression: training to the end with the squared error, in closed form and differentiable."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dd_jax.errors import OptionError
from dd_jax.inner.losses import centred
from dd_jax.models import KernelFn, SetWeights
from dd_jax.types import Batch
from dd_jax.values import Number

Gram = Float[Array, "set set"]
Cross = Float[Array, "real set"]


@dataclasses.dataclass(frozen=True)
class Regression:
    """How an infinitely wide network is trained on a set: by kernel ridge regression on its centred labels.

    There is nothing to choose by chance, nor steps to count: a set gives one such network.
    """

    regulariser: float = 1e-6
    """Number to add to the diagonal of the set's kernel, as a share of the diagonal's mean."""

    def __post_init__(self) -> None:
        check_regulariser(self.regulariser)


def check_regulariser(regulariser: float) -> None:
    """OptionError unless it is positive and finite."""
    if not 0 < regulariser < float("inf"):
        raise OptionError(f"regulariser must be positive and finite, but is {regulariser}.")


def ridge_weights(gram: Gram, targets: Float[Array, "set classes"], regulariser: Number) -> Float[Array, "set classes"]:
    """The weights (K_ss + lambda tr(K_ss) / n I)^-1 y, by a Cholesky factor.

    Args:
        gram: K_ss, symmetric.
        regulariser: lambda, at least what `enough` gives if the factor is to exist.
    """
    factor = jnp.linalg.cholesky(_regularised(gram, regulariser), symmetrize_input=False)
    return jax.scipy.linalg.cho_solve((factor, True), targets)


def ridge_loss(
    gram: Gram,
    cross: Cross,
    targets: Float[Array, "set classes"],
    wanted: Float[Array, "real classes"],
    regulariser: Number,
) -> Float[Array, ""]:
    """1/2 mean (y_t - K_ts (K_ss + lambda tr(K_ss) / n I)^-1 y_s)^2, over real images and classes.

    Args:
        gram: K_ss of the set.
        cross: K_ts of real images with it.
        targets, wanted: y_s, y_t, both centred.

    Source: Nguyen et al. 2021, equation 7, with the regulariser of the released notebook.
    """
    predicted = jnp.matmul(cross, ridge_weights(gram, targets, regulariser), precision=lax.Precision.HIGHEST)
    return 0.5 * jnp.square(predicted - wanted).mean()


def enough(gram: Gram, regulariser: Number) -> Float[Array, ""]:
    """The regulariser, raised tenfold until K_ss has a Cholesky factor in its precision: a constant to differentiation.

    In float32 rounding may leave the kernel of a set without one where several of its images are nearly the same.
    """
    gram = lax.stop_gradient(gram)

    def fails(value: jax.Array) -> jax.Array:
        factor = jnp.linalg.cholesky(_regularised(gram, value), symmetrize_input=False)
        return ~jnp.isfinite(factor).all() & (value < 1)

    return lax.while_loop(fails, lambda value: 10 * value, jnp.asarray(regulariser, gram.dtype))


def label_solve(gram: Gram, cross: Cross, wanted: Float[Array, "real classes"], regulariser: Number) -> jax.Array:
    """The centred labels of the set, (n, K), that minimise `ridge_loss`: pinv(K_ts (K_ss + lambda ...)^-1) y_t.

    Source: Nguyen et al. 2021, section 3.2 (Label Solve).
    """
    value = enough(gram, regulariser)
    # The pseudo-inverse in two steps: that of K_ts alone is better conditioned than that of the product. What counts
    # as zero in it goes with the size of the set: with that of the real images, much that is needed would.
    weights = jnp.linalg.lstsq(cross, wanted, rcond=float(jnp.finfo(cross.dtype).eps) * cross.shape[1])[0]
    return jnp.matmul(_regularised(gram, value), weights, precision=lax.Precision.HIGHEST)


def regress(kernel: KernelFn, images: Batch, num_classes: int, regulariser: float) -> SetWeights:
    """The infinitely wide network with this kernel, trained on `images`; in float64 where JAX has it."""
    given = images.images.astype(jnp.result_type(float))
    gram = kernel(given, given)
    targets = centred(images.labels, num_classes).astype(given.dtype)
    return SetWeights(images.images, ridge_weights(gram, targets, enough(gram, regulariser)))


def _regularised(gram: Gram, regulariser: Number) -> Gram:
    size = gram.shape[0]
    shift = regulariser * jnp.trace(gram) / size
    return gram + shift * jnp.eye(size, dtype=gram.dtype)
