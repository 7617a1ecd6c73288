"""Images that a small network makes of latent vectors and classes, learnt in place of the images (Such et al. 2020).

The network: two dense layers, then transposed convolutions that double the height and the width, each layer normalised
over its image, and at the end tanh, scaled to the range of the real images. Nothing in it looks at other images of a
batch, so that an image is a function of its own latent vector and class.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, OptionError, check_choices
from dd_jax.models.convolution import convolve_transposed
from dd_jax.parameterisation import Kind, Learnt, Parameterisation
from dd_jax.synthetic.base import Synthetic, describe, unbounded
from dd_jax.synthetic.order import batch_of_step
from dd_jax.types import Batch, Dataset, DistilledData, see_each_other

Latents: TypeAlias = Literal["curriculum", "shuffled", "noise"]

_SMALLEST = 8  # pixels that images begin with at most, before they are doubled
_SLOPE = 0.1  # of the leaky ReLU below zero
_TINY = 1e-5  # added to variances
_SHOWN = 0  # seed of the latents that stand for fresh ones where a set is looked at
_STEP_SIZE = 0.01  # of a set that has no other
_CERTAINTY = 0.9  # what the share of an image's own class starts as, where labels are learnt


@dataclasses.dataclass(frozen=True)
class Generator:
    """A generator and the set that it makes: settings of the parameterisation, all plain values.

    Attributes:
        num_batches, batch_size: S batches of B images.
        latent_size: Z, numbers of a latent vector.
        hidden: units of the first layer.
        filters: channels before the first doubling; each one halves them.
        latents: whether there is one for every image of every step, one pool of them, or new ones in every step.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    num_batches: int = 16
    batch_size: int = 32
    latent_size: int = 64
    hidden: int = 256
    filters: int = 32
    latents: Latents = "curriculum"

    @property
    def doublings(self) -> int:
        """How many transposed convolutions there are."""
        return max(1, math.ceil(math.log2(max(self.image_shape[:2]) / _SMALLEST)))

    @property
    def start(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images before they are doubled."""
        height, width, _ = self.image_shape
        return -(-height // 2**self.doublings), -(-width // 2**self.doublings), self.filters

    @property
    def channels(self) -> list[int]:
        """Before the first doubling, and after each."""
        inner = [max(1, self.filters // 2**i) for i in range(self.doublings)]
        return [*inner, self.image_shape[2]]

    def classes_of(self, batches: Int[Array, " batches"]) -> Int[Array, "batches batch"]:
        """The classes of the images of these batches: all of them in turn, over the whole set."""
        return (batches[:, None] * self.batch_size + jnp.arange(self.batch_size)[None]) % self.num_classes

    @property
    def classes(self) -> Int[Array, "batches batch"]:
        """Those of the whole set."""
        return self.classes_of(jnp.arange(self.num_batches, dtype=jnp.int32))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays of the network, by their names, and of stored latents."""
        channels = self.channels
        found: dict[str, tuple[int, ...]] = {}
        layers = [(self.latent_size + self.num_classes, self.hidden), (self.hidden, math.prod(self.start))]
        for i, (given, made) in enumerate(layers):
            found |= {f"dense_{i}": (given, made), f"dense_{i}_bias": (made,)}
        for i, (given, made) in enumerate(itertools.pairwise(channels)):
            found |= {f"norm_{i}_scale": (given,), f"norm_{i}_bias": (given,)}
            found |= {f"doubling_{i}": (4, 4, given, made), f"doubling_{i}_bias": (made,)}
        found |= {"middle": (channels[-1],), "reach": (channels[-1],)}
        if self.latents != "noise":
            found["latents"] = (self.num_batches, self.batch_size, self.latent_size)
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """As a parameterisation has them."""
        height, width, channels = self.image_shape
        names = ("num_classes", "num_batches", "batch_size", "latent_size", "hidden", "filters", "latents")
        return {"height": height, "width": width, "channels": channels, **{n: getattr(self, n) for n in names}}


class Generated(NamedTuple):
    """What is learnt of a generator.

    Attributes:
        arrays: of the network and, unless they are drawn anew for every step, the latents (S, B, Z), by name.
        label_logits: (S, B, K), whose softmax the labels are; () where labels are fixed.
    """

    arrays: dict[str, Array]
    label_logits: Array | tuple[()]


def generator(form: Generator, learn_labels: bool = False) -> Synthetic:
    """A set that a generator makes, with a batch of its own for each of S inner steps.

    Latents are learnt for every step (a curriculum), learnt as one pool that is dealt out to the steps anew in every
    training ("shuffled"), or drawn for every step from the standard normal distribution ("noise"), so that a set has no
    end of images. A generator is told the class of an image, one-hot. Labels are these classes, or start near them and
    are learnt. The range of tanh is that of the training images in each channel, from the darkest to the lightest.

    Args:
        learn_labels: for learnt latents alone.

    Raises:
        OptionError: for counts below one, unknown latents, or labels that are to be learnt of images that are drawn
            anew; at its start DataError for a graph.

    Source: Such et al. 2020, *Generative Teaching Networks*, section 3 (curriculum: 3.3). Normalisation is that of each
    image, and not of the batch.
    """
    check_choices(form)
    for name in ("num_batches", "batch_size", "latent_size", "hidden", "filters"):
        if getattr(form, name) < 1:
            raise OptionError(f"{name} must be at least 1, but is {getattr(form, name)}.")
    if learn_labels and form.latents == "noise":
        raise OptionError("Images that are drawn anew at each step have no labels to learn. Leave out learn_labels.")
    kind = FRESH if form.latents == "noise" else GENERATOR
    parameterisation = Parameterisation.of(kind, **form.settings)
    order = "random" if form.latents == "shuffled" else "fixed"
    own = math.log(max(form.num_classes - 1, 1) * _CERTAINTY / (1 - _CERTAINTY))

    def init(key: jax.Array, dataset: Dataset) -> Generated:
        if see_each_other(dataset.train.images):
            raise DataError(
                f"A generator makes images, but {dataset.name} is a graph. Use the method graph_condensation."
            )
        logits = own * jax.nn.one_hot(form.classes, form.num_classes, dtype=jnp.float32) if learn_labels else ()
        return Generated(_initial(key, form, dataset), logits)

    def labels(learnable: Generated) -> jax.Array:
        logits = learnable.label_logits
        return form.classes if isinstance(logits, tuple) else jax.nn.softmax(logits)

    def batch(learnable: Generated, key: jax.Array, t: jax.Array) -> Batch:
        if form.latents == "noise":
            s = t % form.num_batches
            images = draw_fresh_batch(learnable.arrays, jax.random.fold_in(key, t), s, **form.settings)
            return Batch(images, form.classes_of(s[None])[0])
        places = jnp.arange(form.num_batches * form.batch_size).reshape(form.num_batches, form.batch_size)
        latents, mine = batch_of_step(learnable.arrays["latents"], places, order, key, t)
        images = generate(learnable.arrays, latents, mine % form.num_classes, form.image_shape)
        every = labels(learnable)
        return Batch(images, every.reshape(-1, *every.shape[2:])[mine])

    def decode(learnable: Generated) -> DistilledData:
        sizes = jnp.full(form.num_batches, _STEP_SIZE, jnp.float32)
        return DistilledData(dict(learnable.arrays), labels(learnable), sizes, parameterisation=parameterisation)

    return Synthetic(init, batch, decode, unbounded, form.num_batches)


def generate(
    arrays: Mapping[str, Any],
    latents: Float[Array, "images latent"],
    classes: Int[Array, " images"],
    image_shape: tuple[int, int, int],
) -> Float[Array, "images height width channels"]:
    """The images of latent vectors and classes, in model space; differentiable in the arrays and the latents.

    Args:
        arrays: of the network, by the names of `Generator.shapes`; their shapes say how wide it is.
    """
    num_classes = arrays["dense_0"].shape[0] - latents.shape[1]
    doublings = sum(name.startswith("doubling") for name in arrays) // 2
    x = jnp.concatenate([latents, jax.nn.one_hot(classes, num_classes, dtype=latents.dtype)], 1)
    for i in range(2):
        x = x @ arrays[f"dense_{i}"] + arrays[f"dense_{i}_bias"][None]
        x = jax.nn.leaky_relu(x, _SLOPE) if i == 0 else x
    height, width = (-(-side // 2**doublings) for side in image_shape[:2])
    x = x.reshape(-1, height, width, arrays["norm_0_scale"].shape[0])
    for i in range(doublings):
        x = jax.nn.leaky_relu(_normalised(x, arrays[f"norm_{i}_scale"], arrays[f"norm_{i}_bias"]), _SLOPE)
        x = convolve_transposed(x, arrays[f"doubling_{i}"]) + _by_channel(arrays[f"doubling_{i}_bias"])
    x = _middle(x, image_shape[:2])
    middle, reach = (jax.lax.stop_gradient(arrays[name]) for name in ("middle", "reach"))
    return _by_channel(middle) + _by_channel(reach) * jnp.tanh(x)


def draw_images(
    distilled: DistilledData, key: jax.Array, labels: Int[Array | np.ndarray, " images"] | Sequence[int]
) -> Float[Array, "images height width channels"]:
    """New images of these classes, in model space, by the generator of a set; the same key gives the same ones.

    Latents are drawn from the normal distribution that they were drawn from in learning, or that has the mean and the
    deviation of the learnt ones in each of their numbers.

    Raises:
        DataError: for a set without a generator, or classes that it doesn't know.
    """
    form = distilled.parameterisation
    if form.kind not in (GENERATOR, FRESH):
        raise DataError(
            f"New images are drawn by a generator, but the parameterisation of this set is {form.kind.name!r}."
        )
    setting, classes = dict(form.settings), np.asarray(labels)
    if classes.ndim != 1 or not classes.size or classes.min() < 0 or classes.max() >= setting["num_classes"]:
        raise DataError(
            f"labels should be a list of classes from 0 to {setting['num_classes'] - 1}, but are "
            f"{classes.ravel()[:5].tolist()} of shape {classes.shape}."
        )
    drawn = jax.random.normal(key, (classes.size, setting["latent_size"]))
    if "latents" in distilled.learnt:
        learnt = jnp.asarray(distilled.learnt["latents"]).reshape(-1, setting["latent_size"])
        drawn = learnt.mean(0, keepdims=True) + learnt.std(0, keepdims=True) * drawn
    shape = (setting["height"], setting["width"], setting["channels"])
    return generate(distilled.learnt, drawn, jnp.asarray(classes), shape)


def _initial(key: jax.Array, form: Generator, dataset: Dataset) -> dict[str, Array]:
    """Normal weights of the variance 2 / fan-in (He et al. 2015), halved at the end; scales of one, biases of zero."""
    found: dict[str, Array] = {}
    for i, (name, shape) in enumerate(form.shapes.items()):
        if name == "latents":
            found[name] = jax.random.normal(jax.random.fold_in(key, i), shape)
        elif len(shape) > 1:
            # Of the sixteen taps of a doubling four meet in each pixel.
            fan_in = shape[0] if len(shape) == 2 else 4 * shape[2]
            found[name] = jax.random.normal(jax.random.fold_in(key, i), shape) * math.sqrt(2 / fan_in)
        else:
            found[name] = jnp.ones(shape) if name.endswith("scale") else jnp.zeros(shape)
    real = np.asarray(dataset.train.images)
    lowest, highest = real.min((0, 1, 2)), real.max((0, 1, 2))
    return {
        **found,
        "middle": jnp.asarray((lowest + highest) / 2, jnp.float32),
        "reach": jnp.asarray((highest - lowest) / 2, jnp.float32),
    }


def _by_channel(numbers: Float[Array, " channels"]) -> Float[Array, "1 1 1 channels"]:
    return numbers[None, None, None]


def _normalised(images: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Each image with mean 0 and variance 1 over all its numbers, then scaled and shifted by channel."""
    centred = images - images.mean((1, 2, 3), keepdims=True)
    variance = jnp.square(centred).mean((1, 2, 3), keepdims=True)
    return centred * jax.lax.rsqrt(variance + _TINY) * _by_channel(scale) + _by_channel(bias)


def _middle(images: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """The middle of images, of this height and width."""
    top, left = ((have - want) // 2 for have, want in zip(images.shape[1:3], size, strict=True))
    return images[:, top : top + size[0], left : left + size[1]]


def _form(**settings: Any) -> Generator:
    shape = tuple(settings.pop(name) for name in ("height", "width", "channels"))
    return Generator(shape, **settings)


def decode_generated(learnt: Learnt, **settings: Any) -> jax.Array:
    """The images (S, B, H, W, C) of the stored latents, batch by batch."""
    form = _form(**settings)
    given = jnp.asarray(learnt["latents"]), form.classes
    return jax.lax.map(lambda batch: generate(learnt, batch[0], batch[1], form.image_shape), given)


def decode_fresh(learnt: Learnt, **settings: Any) -> jax.Array:
    """S batches of images, always the same ones: what stands for the set where it is looked at."""
    return draw_fresh(learnt, jax.random.key(_SHOWN), **settings)


def draw_fresh(learnt: Learnt, key: jax.Array, **settings: Any) -> jax.Array:
    """Images (S, B, H, W, C) of new latents: of batch s those of `draw_fresh_batch` with the key folded with s."""
    batches = jnp.arange(settings["num_batches"], dtype=jnp.int32)
    return jax.lax.map(lambda s: draw_fresh_batch(learnt, jax.random.fold_in(key, s), s, **settings), batches)


def draw_fresh_batch(learnt: Learnt, key: jax.Array, s: Int[Array, ""], **settings: Any) -> jax.Array:
    """The images (B, H, W, C) of batch s, of new latents."""
    form = _form(**settings)
    latents = jax.random.normal(key, (form.batch_size, form.latent_size), learnt["dense_0"].dtype)
    return generate(learnt, latents, form.classes_of(s[None])[0], form.image_shape)


def check_generated(learnt: Mapping[str, np.ndarray], **settings: Any) -> str:
    """They are the arrays of such a generator, and its latents where these are stored."""
    try:
        form = _form(**settings)
    except (KeyError, TypeError):
        return f"a generator has other settings than {', '.join(settings) or 'none'}"
    for name, value in settings.items():
        if name != "latents" and (type(value) is not int or not 1 <= value < 2**31):
            return f"{name} should be a number from 1, found {value!r:.80}"
    if form.num_batches * form.batch_size >= 2**31:
        return f"there should be fewer than 2**31 images, found {form.num_batches} x {form.batch_size}"
    expected = form.shapes
    for name in (*expected, *learnt):
        found = learnt[name].shape if name in learnt else None
        if found != expected.get(name):
            return f"{name} of a generator should be {expected.get(name)}, found {found} among {describe(learnt):.300}"
    return ""


def _check_stored(learnt: Mapping[str, np.ndarray], **settings: Any) -> str:
    return _not_among(("curriculum", "shuffled"), settings) or check_generated(learnt, **settings)


def _check_fresh(learnt: Mapping[str, np.ndarray], **settings: Any) -> str:
    return _not_among(("noise",), settings) or check_generated(learnt, **settings)


def _not_among(known: tuple[str, ...], settings: Mapping[str, Any]) -> str:
    """What is wrong with the latents of a set of this kind, or an empty text."""
    found = settings.get("latents")
    return "" if found in known else f"latents should be one of {', '.join(known)}, found {found!r:.80}"


_LAYOUT = (
    (
        "latents",
        "(S, B, Z) float32: what the generator makes the images of, with their classes; none of noise",
    ),
    ("dense_..., doubling_..., norm_...", "float32: the layers of the generator"),
    ("middle, reach", "(C,) float32: images are middle + reach * tanh(...)"),
)
GENERATOR = Kind("generator", decode_generated, _check_stored, layout=_LAYOUT)
FRESH = Kind("generator_of_noise", decode_fresh, _check_fresh, draw_fresh, layout=_LAYOUT, draw_batch=draw_fresh_batch)
