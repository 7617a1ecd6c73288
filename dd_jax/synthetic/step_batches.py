"""One batch of images per inner step, and one step size per unrolled step (Wang et al. 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.errors import OptionError, unknown_name
from dd_jax.renamed import renamed
from dd_jax.synthetic.base import Synthetic, unbounded
from dd_jax.synthetic.counts import Counts
from dd_jax.synthetic.initial import check_init_images, initial_images
from dd_jax.synthetic.order import ORDERS, batch_of_step
from dd_jax.synthetic.pixels import class_labels
from dd_jax.synthetic.soft_labels import certain_logits
from dd_jax.types import Batch, Dataset, DistilledData, Labels


class StepBatches(NamedTuple):
    """images (S, B, H, W, C), raw_step_sizes (T,): what is learnt.

    Attributes:
        label_logits: (S, B, K), whose softmax the labels are; None where they are hard.
    """

    images: Float[Array, "steps batch height width channels"]
    raw_step_sizes: Float[Array, " unrolled"]
    label_logits: Float[Array, "steps batch classes"] | None = None


@renamed(num_steps="num_batches")
def step_batches(
    num_classes: int,
    num_batches: int = 10,
    num_epochs: int = 3,
    images_per_class: Counts = 1,
    init_images: str = "noise",
    init_step_size: float = 0.02,
    init_step_decay: float = 1.0,
    order: str = "fixed",
    relabelled: tuple[int, int] | None = None,
    learn_labels: bool = False,
) -> Synthetic:
    """S batches, gone through E times; step t of T = S * E uses batch t mod S, or one drawn at random, and step size t.

    Args:
        images_per_class: images of each class in each batch, in class order: one number, or one for each class.
        learn_labels: whether labels are learnt too, from 90 % certain ones; else they stay hard.
        order: "fixed", or "random": every epoch deals all the images out to its batches anew, whatever their class.
        init_images: what they start as, see `initial_images`.
        relabelled: (K, T), where what starts as images of class K is to be labelled T; None: every class as itself.
        init_step_size: where the first step size starts; they are stored through the inverse of softplus, so stay
            positive.
        init_step_decay: where the last one starts, as a share of the first; geometric in between.

    Raises:
        OptionError: for counts below one, a step size that is not positive, or an unknown `init_images` or `order`.

    Source: Wang et al. 2018, section 3.4 and Algorithm 1; softplus from the released code. Bohdal et al. 2020 and
    Sucholutsky & Schonlau 2021 (learnt labels).
    """
    counts = {"num_batches": num_batches, "num_epochs": num_epochs}
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    if not 0 < init_step_size < float("inf"):
        raise OptionError(f"init_step_size must be positive and finite, but is {init_step_size}.")
    if not 0 < init_step_decay < float("inf"):
        raise OptionError(f"init_step_decay must be positive and finite, but is {init_step_decay}.")
    check_init_images(init_images)
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    labels = class_labels(num_classes, images_per_class)
    taught = labels if relabelled is None else np.where(labels == relabelled[0], np.int32(relabelled[1]), labels)
    all_labels = np.broadcast_to(taught, (num_batches, len(labels)))

    def init(key: jax.Array, dataset: Dataset) -> StepBatches:
        total = num_batches * num_epochs
        sizes = init_step_size * init_step_decay ** (np.arange(total) / max(total - 1, 1))
        raw = jnp.asarray(inverse_softplus(sizes), jnp.float32)
        logits = certain_logits(all_labels, num_classes) if learn_labels else None
        return StepBatches(initial_images(key, dataset, labels, num_batches, init_images), raw, logits)

    def labels_of(learnable: StepBatches) -> Labels:
        return jnp.asarray(all_labels) if learnable.label_logits is None else jax.nn.softmax(learnable.label_logits)

    def batch(learnable: StepBatches, key: jax.Array, t: jax.Array) -> Batch:
        return batch_of_step(learnable.images, labels_of(learnable), order, key, t)

    def decode(learnable: StepBatches) -> DistilledData:
        sizes = jax.nn.softplus(learnable.raw_step_sizes)
        return DistilledData({"images": learnable.images}, labels_of(learnable), sizes)

    return Synthetic(init, batch, decode, unbounded, num_batches * num_epochs)


def inverse_softplus(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """R with log(1 + exp(r)) = value, for each of the positive values."""
    return values + np.log(-np.expm1(-values))
