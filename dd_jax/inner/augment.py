"""Random changes to real images that keep their class."""

from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jax import lax

from dd_jax.data.transforms import to_model, to_pixels
from dd_jax.errors import OptionError, unknown_name
from dd_jax.inner.dsa import dsa, flip_rotate
from dd_jax.inner.policies import POLICIES, padding
from dd_jax.types import Batch, Transform

# Methods take those with a useful gradient, trainings all.
SmoothAugment: TypeAlias = Literal["none", "crop_flip", "resized_crop_flip", "flip_rotate", "dsa", "dsa_no_flip"]
SMOOTH_AUGMENTS: tuple[str, ...] = get_args(SmoothAugment)
Augment: TypeAlias = Literal[SmoothAugment, "auto_augment", "rand_augment", "imagenet"]
AUGMENTS: tuple[str, ...] = get_args(Augment)

_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a resized crop: share of the image, and width by height


def augment(keys: jax.Array, images: jax.Array, kind: str, transform: Transform | None = None) -> jax.Array:
    """Images (N, H, W, C), each changed at random by its own of the `keys` (N,).

    "none"; "crop_flip": padded by four reflected pixels (small ones by an eighth of their side), cropped to its size
    again, mirrored half of the time; "resized_crop_flip": a rectangle of 8 to 100 % of the image, its sides' shares 3/4
    to 4/3 of each other, resized (bicubic), mirrored half of the time; "flip_rotate": mirrored half of the time, and
    turned by up to 15 degrees;
    "dsa", "dsa_no_flip": see `dsa`, the latter for digits;
    "auto_augment", "rand_augment", "imagenet": see `dd_jax.inner.policies`. These work on pixels: images become pixels,
    which are clipped to [0, 1], and go back to model space. Some of their operations have no useful gradient.

    Args:
        transform: between pixels and the model space that the images are in; only those that work on pixels need it.

    Raises:
        OptionError: for an unknown kind, and where the transform is missing.

    Source: the released code of Wang et al. 2018 (CIFAR-10; PASCAL VOC and CUB-200); Deng & Russakovsky 2022
    (flip_rotate); Zhao & Bilen 2021 (DSA); Cui et al. 2022 (which policies).
    """
    if kind not in AUGMENTS:
        raise unknown_name("augment", kind, AUGMENTS)
    if kind == "none":
        return images
    if kind in ("dsa", "dsa_no_flip"):
        return dsa(keys, images, flip=kind == "dsa")
    if kind == "flip_rotate":
        return flip_rotate(keys, images)
    if kind in POLICIES:
        return _on_pixels(keys, images, kind, transform)
    shape = images.shape[1:]
    if kind == "crop_flip":
        images = jnp.pad(images, [(0, 0), *[(padding(shape),) * 2] * 2, (0, 0)], mode="reflect")
    crop = _crop if kind == "crop_flip" else _resized_crop

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        cropped = crop(crop_key, image, shape)
        return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)

    return jax.vmap(one)(keys, images)


def siamese(key: jax.Array, images: jax.Array, kind: str) -> jax.Array:
    """Images (N, H, W, C), all changed alike, as one `key` says: other images, however many, by the same key as these.

    Args:
        kind: as for `augment`, but none that works on pixels. Differentiable in the images.

    Source: Zhao & Bilen 2021, section 3.3 (the same change to real and distilled images).
    """
    return augment(jnp.broadcast_to(key, images.shape[:1]), images, kind)


def cut_mix(key: jax.Array, batch: Batch, num_classes: int) -> Batch:
    """Each image with a rectangle of another one in it, the same place for all; labels (N, K) by their shares.

    Source: Yun et al. 2019, *CutMix*, section 3.1 (share of the image that stays: uniform).
    """
    stay_key, place_key, other_key = jax.random.split(key, 3)
    sides = jnp.asarray(batch.images.shape[1:3])
    cut = jnp.sqrt(1.0 - jax.random.uniform(stay_key)) * sides
    centre = jax.random.uniform(place_key, (2,)) * sides
    first, last = (jnp.clip(jnp.floor(centre + sign * cut / 2), 0, sides) for sign in (-1, 1))
    rows, columns = (jnp.arange(side) for side in batch.images.shape[1:3])
    inside = ((rows >= first[0]) & (rows < last[0]))[:, None] & ((columns >= first[1]) & (columns < last[1]))[None]
    others = jax.random.permutation(other_key, batch.labels.shape[0])
    images = jnp.where(inside[None, ..., None], batch.images[others], batch.images)
    labels = batch.labels if batch.labels.ndim == 2 else jax.nn.one_hot(batch.labels, num_classes)
    share = inside.mean(dtype=labels.dtype)
    return Batch(images, (1.0 - share) * labels + share * labels[others])


def _on_pixels(keys: jax.Array, images: jax.Array, kind: str, transform: Transform | None) -> jax.Array:
    if transform is None:
        raise OptionError(
            f"The augmentation {kind!r} works on pixels and needs the transform of the images. "
            "Give it as `transform`, or give the distilled set a transform."
        )
    pixels = jnp.clip(to_pixels(transform, images), 0.0, 1.0)
    return to_model(transform, POLICIES[kind](keys, pixels))


def _crop(key: jax.Array, image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    corner = jax.random.randint(key, (2,), 0, 2 * padding(shape) + 1)
    return lax.dynamic_slice(image, (corner[0], corner[1], jnp.zeros_like(corner[0])), shape)


def _resized_crop(key: jax.Array, image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    area_key, aspect_key, corner_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, minval=_AREA[0], maxval=_AREA[1])
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=jnp.log(_ASPECT[0]), maxval=jnp.log(_ASPECT[1])))
    share = jnp.minimum(jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)]), 1.0)  # of height and width
    size = jnp.asarray(shape[:2], image.dtype)
    corner = jax.random.uniform(corner_key, (2,)) * (1.0 - share) * size
    return jax.image.scale_and_translate(image, shape, (0, 1), 1.0 / share, -corner / share, "cubic")
