"""Random changes to real images that keep their class."""

import jax
import jax.numpy as jnp
from jax import lax

from dd_jax.errors import unknown_name

AUGMENTS = ("none", "crop_flip", "resized_crop_flip")

_PADDING = 4  # pixels, reflected
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of a resized crop: share of the image, and width by height


def augment(keys: jax.Array, images: jax.Array, kind: str) -> jax.Array:
    """Images (N, H, W, C), each changed at random by its own of the `keys` (N,).

    "none"; "crop_flip": padded by four reflected pixels, cropped to its size again, mirrored half of the time;
    "resized_crop_flip": a rectangle of 8 to 100 % of the image, its sides' shares 3/4 to 4/3 of each other, resized
    (bicubic), mirrored half of the time.
    Raises OptionError for an unknown kind.
    Source: the released code of Wang et al. 2018 (CIFAR-10; PASCAL VOC and CUB-200).
    """
    if kind not in AUGMENTS:
        raise unknown_name("augment", kind, AUGMENTS)
    if kind == "none":
        return images
    shape = images.shape[1:]
    if kind == "crop_flip":
        pads = [(0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING), (0, 0)]
        images = jnp.pad(images, pads, mode="reflect")
    crop = _crop if kind == "crop_flip" else _resized_crop

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key = jax.random.split(key)
        cropped = crop(crop_key, image, shape)
        return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)

    return jax.vmap(one)(keys, images)


def _crop(key: jax.Array, image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    corner = jax.random.randint(key, (2,), 0, 2 * _PADDING + 1)
    return lax.dynamic_slice(image, (corner[0], corner[1], jnp.zeros_like(corner[0])), shape)


def _resized_crop(key: jax.Array, image: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    area_key, aspect_key, corner_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, minval=_AREA[0], maxval=_AREA[1])
    aspect = jnp.exp(jax.random.uniform(aspect_key, minval=jnp.log(_ASPECT[0]), maxval=jnp.log(_ASPECT[1])))
    share = jnp.minimum(jnp.stack([jnp.sqrt(area / aspect), jnp.sqrt(area * aspect)]), 1.0)  # of height and width
    size = jnp.asarray(shape[:2], image.dtype)
    corner = jax.random.uniform(corner_key, (2,)) * (1.0 - share) * size
    return jax.image.scale_and_translate(image, shape, (0, 1), 1.0 / share, -corner / share, "cubic")
