"""Images as mixtures of a few small ones that all classes share: bases, and coefficients that address them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.errors import DataError, OptionError
from dd_jax.parameterisation import Kind, Learnt, Parameterisation
from dd_jax.synthetic.base import Synthetic, describe, unbounded
from dd_jax.synthetic.initial import initial_images
from dd_jax.synthetic.pixels import check_set, class_labels, one_batch
from dd_jax.types import Batch, Dataset, DistilledData


class Bases(NamedTuple):
    """What is learnt of images that are mixtures of bases.

    Attributes:
        bases: (J, h, w, C), J small images.
        coefficients: (K * made_per_class, J), in class order: how much of each basis is in each image.
    """

    bases: Float[Array, "bases height width channels"]
    coefficients: Float[Array, "set bases"]


class GrownBases(NamedTuple):
    """What is learnt of images that are mixtures of bases of an earlier set and of their own.

    Attributes:
        own: J bases, and coefficients (N, I + J) for the earlier bases and for these.
        shared: (I, h, w, C), the earlier ones, which stay as they are.
    """

    own: Bases
    shared: Float[Array, "shared height width channels"]


def bases(
    num_classes: int,
    image_shape: tuple[int, int, int],
    images_per_class: int = 1,
    made_per_class: int = 4,
    downscale: int = 2,
    num_bases: int | None = None,
    init_images: str = "kmeans",
    step_size: float = 0.01,
    shared: Float[Array, "shared height width channels"] | None = None,
) -> Synthetic:
    """`made_per_class` images of each class, x = enlarge(sum_j a_j b_j), of bases b that all classes share.

    The bases are `downscale` times smaller than images on each side, and mixtures are enlarged bilinearly. Labels are
    hard. How many images are made of them is free of how much is stored: that is `images_per_class` images, as plain
    pixels, of each class.

    Args:
        image_shape: (H, W, C) of the images that are made.
        images_per_class: the budget that `num_bases` follows from, see `bases_within`.
        made_per_class: images of each class; each has coefficients of its own.
        num_bases: J, in place of the budget's.
        init_images: what the images start as, as near as bases come to it, see `initial_images`; "noise" is that of
            bases and coefficients.
        step_size: not learnt; said of the set where something asks for one.
        shared: bases of an earlier set, which stay as they are and are mixed in too; what is learnt is `GrownBases`.

    Raises:
        OptionError: for counts below one, a budget that is too small for a basis, a step size that is not positive, an
            unknown `init_images`, or shared bases of another size.

    Source: Deng & Russakovsky 2022, *Remember the Past: Distilling Datasets into Addressable Memories for Neural
    Networks*, section 3.2 and the released code (bases at half the resolution, bilinear).
    """
    check_set(init_images, step_size)
    height, width, channels = image_shape
    rows, columns = _small(image_shape, downscale)
    if num_bases is None:
        num_shared = 0 if shared is None else len(shared)
        num_bases = bases_within(num_classes, image_shape, images_per_class, made_per_class, downscale, num_shared)
    if shared is not None and shared.shape[1:] != (rows, columns, channels):
        raise OptionError(
            f"Shared bases should have the shape of these, {(rows, columns, channels)}, but have {shared.shape[1:]}."
        )
    for name, value in (("num_bases", num_bases), ("made_per_class", made_per_class)):
        if value < 1:
            raise OptionError(f"{name} must be at least 1, but is {value}.")
    count = num_bases
    labels = class_labels(num_classes, made_per_class)
    form = Parameterisation.of(BASES, height=height, width=width)

    def init(key: jax.Array, dataset: Dataset) -> Bases | GrownBases:
        image_key, mix_key = jax.random.split(key)
        if init_images == "noise":
            total = count if shared is None else count + len(shared)
            first = jax.random.normal(image_key, (count, rows, columns, channels), jnp.float32)
            own = Bases(first, jax.random.normal(mix_key, (len(labels), total), jnp.float32) / math.sqrt(total))
            return own if shared is None else GrownBases(own, jnp.asarray(shared))
        images = initial_images(image_key, dataset, labels, 1, init_images)[0]
        small = jax.image.resize(images, (len(labels), rows, columns, channels), "bilinear")
        wanted = np.asarray(small).reshape(len(labels), -1)
        before = None if shared is None else _coefficients(np.asarray(shared).reshape(len(shared), -1), wanted)
        if before is not None:
            wanted = wanted - before @ np.asarray(shared).reshape(len(before[0]), -1)
        found, coefficients = _factors(mix_key, wanted, count)
        first = jnp.asarray(found.reshape(count, rows, columns, channels))
        if before is None:
            return Bases(first, jnp.asarray(coefficients))
        own = Bases(first, jnp.asarray(np.concatenate([before, coefficients], 1)))
        return GrownBases(own, jnp.asarray(shared))

    def batch(learnable: Bases | GrownBases, key: jax.Array, t: jax.Array) -> Batch:
        return Batch(form.decode(_learnt(learnable))[0], jnp.asarray(labels))

    def decode(learnable: Bases | GrownBases) -> DistilledData:
        return one_batch(_learnt(learnable), labels, step_size, form)

    return Synthetic(init, batch, decode, unbounded, 1)


def bases_within(
    num_classes: int,
    image_shape: tuple[int, int, int],
    images_per_class: int = 1,
    made_per_class: int = 4,
    downscale: int = 2,
    num_shared: int = 0,
) -> int:
    """The largest J whose bases and coefficients are no more numbers than `images_per_class` images of each class.

    J (h w C + K made_per_class) + num_shared K made_per_class <= images_per_class K H W C

    Args:
        num_shared: bases of an earlier set, of which only the coefficients count.

    Raises:
        OptionError: where that is none, or for a `downscale` below one.

    Source: Deng & Russakovsky 2022, the released code (Img_per_Cls_budget).
    """
    rows, columns = _small(image_shape, downscale)
    each = rows * columns * image_shape[2] + num_classes * made_per_class
    room = images_per_class * num_classes * math.prod(image_shape) - num_shared * num_classes * made_per_class
    if room < each:
        raise OptionError(
            f"The bases should fit into {max(room, 0)} numbers ({images_per_class} images of each "
            f"class{(', less the coefficients of shared bases' if num_shared else '')}), but a single one takes "
            f"{each}, with its coefficients for {num_classes * made_per_class} images. Make fewer images of "
            "each class, or smaller bases."
        )
    return room // each


def some_of(
    distilled: DistilledData, classes: Sequence[int] | None = None, made_per_class: int | None = None
) -> DistilledData:
    """The same bases with the coefficients of some images only, so that no others are made.

    Args:
        classes: whose images, in this order; None for all classes.
        made_per_class: how many of each, the first ones; None for all.

    Raises:
        DataError: for a set that isn't made of bases, or of whose images some have no class of their own.
        OptionError: for a class that the set doesn't have, or more images than it has of one.
    """
    if distilled.parameterisation.kind != BASES:
        raise DataError(
            f"The set should be made of bases, but its parameterisation is {distilled.parameterisation.kind.name!r}."
        )
    if distilled.labels.ndim != 2:
        raise DataError(
            "Images are asked for by class, but learnt labels have no single class. Use a set with hard labels."
        )
    labels = np.asarray(distilled.labels[0])
    rows = []
    for wanted in np.unique(labels) if classes is None else classes:
        mine = np.flatnonzero(labels == wanted)
        if not mine.size or (made_per_class is not None and not 1 <= made_per_class <= len(mine)):
            raise OptionError(
                f"The set has {len(mine)} images of class {wanted}, but {made_per_class or 'some'} were asked for."
            )
        rows.append(mine[:made_per_class])
    chosen = np.concatenate(rows) if rows else np.empty(0, int)
    if not chosen.size:
        raise OptionError("No class was asked for. Ask for at least one.")
    learnt = {**distilled.learnt, "coefficients": jnp.asarray(distilled.learnt["coefficients"])[chosen]}
    return dataclasses.replace(distilled, learnt=learnt, labels=jnp.asarray(labels[chosen])[None])


def coefficient_penalty(learnable: Any, l1: Any, l2: Any) -> Float[Array, ""]:
    """l1 sum |a| + l2 sum a^2 over the coefficients in a learnable; zero where it has none.

    Source: Deng & Russakovsky 2022, the released code.
    """
    found = [part for part in jax.tree.leaves(learnable, is_leaf=_is_bases) if _is_bases(part)]
    return sum((l1 * jnp.abs(a).sum() + l2 * jnp.square(a).sum() for a in (part.coefficients for part in found)),
               start=jnp.float32(0))  # fmt: skip


def decode_bases(learnt: Learnt, *, height: int, width: int) -> jax.Array:
    """The images (1, N, H, W, C) that are mixed of the bases, enlarged bilinearly."""
    mixed = jnp.tensordot(learnt["coefficients"], learnt["bases"], 1, precision="highest")
    return jax.image.resize(mixed, (mixed.shape[0], height, width, mixed.shape[3]), "bilinear")[None]


def check_bases(learnt: Mapping[str, np.ndarray], *, height: Any = None, width: Any = None) -> str:
    """They are bases (J, h, w, C), no larger than the images, and coefficients (N, J)."""
    shapes = {name: array.shape for name, array in learnt.items()}
    if set(shapes) != {"bases", "coefficients"} or len(shapes["bases"]) != 4 or len(shapes["coefficients"]) != 2:
        return f"there should be 'bases' (J, h, w, C) and 'coefficients' (N, J), found {describe(learnt)}"
    if not all(array.size for array in learnt.values()) or shapes["coefficients"][1] != shapes["bases"][0]:
        return f"coefficients should be (N, {shapes['bases'][0]}), one for each basis, found {describe(learnt)}"
    for name, value, own in (("height", height, shapes["bases"][1]), ("width", width, shapes["bases"][2])):
        if type(value) is not int or not own <= value <= _LARGEST * own:
            return f"{name} should be 1 to {_LARGEST} times {own}, that of the bases, found {value!r:.80}"
    return ""


BASES = Kind(
    "bases",
    decode_bases,
    check_bases,
    layout=(
        ("bases", "(J, h, w, C) float32: small images, which all classes share"),
        ("coefficients", "(N, J) float32: how much of each basis is in each image; enlarged bilinearly to (H, W)"),
    ),
)
_LARGEST = 16  # times that a side is enlarged: no file may ask for any amount of memory


def _learnt(learnable: Bases | GrownBases) -> dict[str, Array]:
    """The bases and the coefficients that images are mixed of."""
    if isinstance(learnable, Bases):
        return learnable._asdict()
    together = jnp.concatenate([jax.lax.stop_gradient(learnable.shared), learnable.own.bases])
    return {"bases": together, "coefficients": learnable.own.coefficients}


def _is_bases(part: Any) -> bool:
    return isinstance(part, Bases)


def _small(image_shape: tuple[int, int, int], downscale: int) -> tuple[int, int]:
    """Height and width of the bases."""
    if downscale < 1:
        raise OptionError(f"downscale must be at least 1, but is {downscale}.")
    return math.ceil(image_shape[0] / downscale), math.ceil(image_shape[1] / downscale)


def _coefficients(
    given: Float[np.ndarray, "shared values"], images: Float[np.ndarray, "set values"]
) -> Float[np.ndarray, "set shared"]:
    """The coefficients by which mixtures of given bases come nearest to these images."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found = np.linalg.lstsq(given.T.astype(np.float64), images.T.astype(np.float64), rcond=1e-3)[0]
    return found.T.astype(np.float32)


def _factors(
    key: jax.Array, images: Float[np.ndarray, "set values"], count: int
) -> tuple[Float[np.ndarray, "{count} values"], Float[np.ndarray, "set {count}"]]:
    """The bases and coefficients whose mixtures come nearest to these images.

    Those are the leading singular vectors. They are turned into each other at random, so that all of them carry alike:
    of the vectors themselves the first is nearly all there is. Bases beyond the rank of the images are noise that
    cancels out.
    """
    from threadpoolctl import threadpool_limits

    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    with threadpool_limits(1):  # several threads add up in any order, and runs would differ in the last bits
        left, sizes, right = np.linalg.svd(images.astype(np.float64), full_matrices=False)
        turn = np.linalg.qr(generator.normal(size=(count, count)))[0]
        rank, scale = min(count, len(sizes)), math.sqrt(images.shape[1])
        directions = generator.normal(size=(count, images.shape[1]))
        directions[:rank] = scale * right[:rank]
        coefficients = np.zeros((len(images), count))
        coefficients[:, :rank] = left[:, :rank] * sizes[None, :rank] / scale
        found = turn.T @ directions, coefficients @ turn
    return found[0].astype(np.float32), found[1].astype(np.float32)
