"""How images are made of what was learnt: what a distilled set carries besides its arrays.

A parameterisation is a kind, which is named and has functions, and settings. Evaluation, artefact, report and export
ask it, and know none by its name; the kinds are in `dd_jax.synthetic`, one file each.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.values import key_of

if TYPE_CHECKING:
    from dd_jax.types import DistilledData

Learnt: TypeAlias = Mapping[str, Any]  # arrays of a distilled set, by name


# The functions of a kind; its settings are their further arguments, by name.
DecodeFn: TypeAlias = Callable[..., Any]  # learnt -> images (S, B, H, W, C) in model space, or what stands for an array
DrawFn: TypeAlias = Callable[..., Any]  # (learnt, key) -> images as decoding gives them, drawn at random
CheckFn: TypeAlias = Callable[..., str]  # learnt, on the host -> what is wrong with them, or an empty text
# (examples, the same as an array (S, B, ...)) -> the learnt arrays and the parameterisation of a set of them
OfExamplesFn: TypeAlias = Callable[[Any, np.ndarray], "tuple[Learnt, Parameterisation]"]


class Pictures(NamedTuple):
    """How a set is shown that is no sheet of images: functions of the set.

    Attributes:
        figure: a figure of matplotlib, of all of it.
        small: pixels (H, W, 3) in [0, 1].
        words, small_words: what either shows, for who can't see it.
        note: what is to be known of the figure.
    """

    figure: Callable[["DistilledData"], Any]
    small: Callable[["DistilledData"], np.ndarray]
    words: Callable[["DistilledData"], str]
    small_words: str
    note: Callable[["DistilledData"], str]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of parameterisation: its name, and functions at the top of a file.

    Attributes:
        decode: the whole set as images.
        draw: the same with what is random in it, once for an inner step and once for an epoch of a training from
            scratch; None where nothing is.
        draw_batch: one batch of the set with what is random in it, for an inner step: (learnt, key, number of the
            batch) -> images (B, H, W, C); None for that batch of `draw`, which is less work for a set of few images.
        check: of arrays that were read from a disk.
        unit: what a set holds several of, in a word.
        has_steps: whether networks may be trained by learnt steps, and not from scratch alone.
        compare_all: whether networks that are trained on all the real examples are among the baselines.
        layout: what its arrays are, as (name, words), for who has nothing but these.
        pictures: None where the images are shown as such.
        shown: the set whose images stand for this one's there, where its own are only parts of what was learnt; None
            for itself.
        of_examples: how given examples become a set, real ones to compare with, or its own in a form that needs nothing
            to be read; None for plain images.
    """

    name: str
    decode: DecodeFn
    check: CheckFn
    draw: DrawFn | None = None
    draw_batch: DrawFn | None = None
    unit: str = "image"
    has_steps: bool = True
    compare_all: bool = False
    layout: tuple[tuple[str, str], ...] = ()
    pictures: Pictures | None = None
    of_examples: OfExamplesFn | None = None
    shown: Callable[["DistilledData"], "DistilledData"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Parameterisation:
    """How images are made of learnt arrays: a kind, and its settings as (name, value), plain values all.

    Equal to another one of the same kind and settings, see `dd_jax.values.key_of`.
    """

    kind: Kind
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, kind: Kind, **settings: Any) -> "Parameterisation":
        """Of these settings, whatever their order."""
        return cls(kind, tuple(sorted(settings.items())))

    @functools.cached_property
    def key(self) -> Hashable:
        return key_of((self.kind, self.settings))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameterisation) and (self is other or self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)

    def decode(self, learnt: Learnt) -> Any:
        """Images (S, B, H, W, C), or what stands for an array of them, such as the nodes of a graph."""
        return self.kind.decode(_on_device(learnt), **dict(self.settings))

    def draw(self, learnt: Learnt, key: jax.Array) -> Any:
        """The same, with what is random in it drawn from `key`."""
        if self.kind.draw is None:
            return self.decode(learnt)
        return self.kind.draw(_on_device(learnt), key, **dict(self.settings))

    def draw_batch(self, learnt: Learnt, key: jax.Array, batch: jax.Array) -> Any:
        """One batch (B, H, W, C) of what `draw` gives, by its number, or what a kind has of its own for that."""
        if self.kind.draw_batch is None:
            return self.draw(learnt, key)[batch]
        return self.kind.draw_batch(_on_device(learnt), key, batch, **dict(self.settings))


def _on_device(learnt: Learnt) -> dict[str, jax.Array]:
    return {name: jnp.asarray(array) for name, array in learnt.items()}


def decode_plain(learnt: Learnt) -> Any:
    """Images that are learnt as they are."""
    return learnt["images"]


def check_plain(learnt: Mapping[str, np.ndarray]) -> str:
    """They are an array (S, B, H, W, C)."""
    if set(learnt) != {"images"}:
        return f"the array 'images' is missing; there are {', '.join(learnt) or 'none'}"
    images = learnt["images"]
    if images.ndim != 5 or not images.size:
        return f"images should be (steps, batch, H, W, C), found {images.shape}"
    return ""


_LAYOUT = (("images", "(S, B, H, W, C) float32, model space: what networks are trained on"),)
PLAIN = Parameterisation(Kind("images", decode_plain, check_plain, layout=_LAYOUT))
