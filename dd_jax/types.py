"""The few types that every floor of the library shares: batches, datasets and distilled sets.

All of them hold arrays and names only. What can be done with them lives on the floors above.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.parameterisation import PLAIN, Learnt, Parameterisation
from dd_jax.renamed import renamed_attribute

AS_DISTILLED = "as-distilled"  # the protocol of the learnt steps

Params: TypeAlias = Any  # a plain pytree of network weights, theta
Learnable: TypeAlias = Any  # a plain pytree of what is being learnt
Networks: TypeAlias = Any  # params of several networks: a pytree like theirs with one leading axis more
Labels: TypeAlias = Int[Array, "*batch"] | Float[Array, "*batch classes"]


class Batch(NamedTuple):
    """Images with their labels, in model space; leading axes are free but shared.

    Attributes:
        images: (..., H, W, C) floating point. For a graph `Nodes`, which stand for such an array.
        labels: (...) integer classes, or (..., K) soft labels: shares that sum to one, or the targets of a regression.
    """

    images: Float[Array, "*batch height width channels"]
    labels: Labels


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Edges:
    """A sparse matrix (N, N) of a large graph: `weights` (E,) at rows `receivers` (E,) and columns `senders` (E,)."""

    receivers: Int[Array, " edges"]
    senders: Int[Array, " edges"]
    weights: Float[Array, " edges"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Nodes:
    """Some nodes of a graph, with all of the graph, in place of an array of as many images.

    A network on graphs answers for the nodes in `rows`, and sees the others around them. To everything else they are an
    array (..., 1, 1, F), an image of one pixel for each: it has a shape, takes indices, and becomes NumPy's array.

    Attributes:
        features: (N, F) of all nodes.
        adjacency: (N, N) or `Edges`, weights of the edges without self loops.
        rows: (...) which nodes.
        key, dropout: what share of a network's activations to leave out at random, in training.
    """

    features: Float[Array, "nodes features"]
    adjacency: Float[Array, "nodes nodes"] | Edges
    rows: Int[Array, "*rows"]
    key: jax.Array | None = None
    dropout: float = dataclasses.field(default=0.0, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.rows.shape, 1, 1, self.features.shape[-1])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.features.dtype

    @property
    def alone(self) -> Float[Array, "*rows 1 1 features"]:
        """The features without the graph, as the array that they stand for."""
        return self.features[self.rows][..., None, None, :]

    @property
    def see_each_other(self) -> bool:
        """What a network says of a node depends on others."""
        return True

    def with_dropout(self, key: jax.Array, share: float) -> "Nodes":
        """The same, of whose activations a network leaves out a share at random."""
        return dataclasses.replace(self, key=key, dropout=share)

    def __len__(self) -> int:
        return self.rows.shape[0]

    def reshape(self, *shape: int) -> "Nodes":
        """As an array of images is reshaped, whose last three axes stay as they are."""
        return dataclasses.replace(self, rows=self.rows.reshape(shape[:-3]))

    def __getitem__(self, index: Any) -> "Nodes":
        return dataclasses.replace(self, rows=self.rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.alone, dtype)


def see_each_other(examples: Any) -> bool:
    """Whether what a network says of one of these examples depends on the others, so that they must stay together."""
    return getattr(examples, "see_each_other", False)


def each_alone(examples: Any) -> Float[Array, "*batch height width channels"]:
    """Examples as an array of images, each without what it sees of others."""
    return examples.alone if see_each_other(examples) else examples


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transform:
    """The invertible map from pixels in [0, 1] to model space, as data.

    Attributes:
        kind: its name, a key of `dd_jax.data.transforms`.
        arrays: what it needs, e.g. `mean` and `std`, each (C,), for "standardise".
    """

    kind: str = dataclasses.field(metadata={"static": True})
    arrays: Mapping[str, jax.Array]


class Feed(NamedTuple):
    """Arrays that don't fit into memory all at once, as windows that last some outer steps each.

    Attributes:
        window: outer steps of a window; window w is for the steps w * window to (w + 1) * window - 1.
        read: (seed of the run, w) -> a pytree of arrays on the host, always equal for equal arguments, and of equal
            shapes for all w. It is called in a thread of its own, while the steps before the window run.
        join: (a whole without a window, a window) -> the whole with this window in it.
    """

    window: int
    read: Callable[[int, int], Any]
    join: Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A real classification dataset in model space, split three ways.

    Attributes:
        train, validation, test: images (N, H, W, C) float32 and labels (N,) int32. Validation is taken from the
            published training split, and serves to choose.
        class_names: one name per class; their count is the number of classes.
        transform: turned pixels in [0, 1] into these images, and can turn them back.
        fingerprint: a hash of the arrays, the transform and the class names; tells one dataset from another.
        stream: further parts like `train`, if the training split is too large for memory; None if `train` is all of
            it.
        num_train: training images in all; None if `train` has all of them.
        reading: the arguments of `load_dataset` that give this dataset again, as plain values, so that a run can be
            evaluated later. Arrays have no "name" to be read by: for them, how they were split and transformed.
    """

    name: str
    train: Batch
    validation: Batch
    test: Batch
    class_names: tuple[str, ...]
    transform: Transform
    fingerprint: str
    stream: Feed | None = None
    num_train: int | None = None
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def size(self) -> int:
        """Training images, in memory or not."""
        return self.num_train or len(self.train.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Networks that were trained beforehand: where inner training may start, in place of random weights.

    Attributes:
        name: what they were trained on and are, e.g. "mnist-lenet".
        model, settings: the architecture, as for `dd_jax.models.make`; image_shape (H, W, C) and num_classes it is for.
        accuracies: on the test split of what they were trained on; keys "train" (N,) and "held_out" (M,).
        read: (part, first, last) -> params of those networks, with a leading axis, read from the disk when asked for.
            "train" is what sets are distilled with, "held_out" what they are judged on.
        num_selection: how many of "train", the last ones, are kept apart to choose by; with 0 choices are made by all.
        training: how they were trained, as plain values; empty if that isn't known.
        fingerprint: a hash of the weights of "train".
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    accuracies: Mapping[str, Float[np.ndarray, " nets"]]
    read: Callable[[str, int, int], Networks]
    num_selection: int
    training: Mapping[str, Any]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Experts:
    """Networks as they were all along their training on real data: what trajectory matching learns from.

    Attributes:
        name: what they were trained on and are, e.g. "mnist-mlp".
        model, settings: the architecture, as for `dd_jax.models.make`; image_shape (H, W, C) and num_classes it is for.
        dataset: fingerprint of the dataset that they were trained on.
        accuracies: (N, S), of each of N networks at each of its S snapshots, on `split` of that dataset.
        epochs: (S,) passes through the real images before each snapshot; the first is 0, the untrained network.
        read: (network, numbers of its snapshots) -> params with a leading axis over these, float32. Nothing else is
            read from the disk.
        num_bytes: of all of them on the disk.
        training: how they were trained, as plain values.
        fingerprint: a hash of the weights.
    """

    name: str
    model: str
    settings: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    dataset: str
    accuracies: Float[np.ndarray, "nets snapshots"]
    split: str
    epochs: Float[np.ndarray, " snapshots"]
    read: Callable[[int, Sequence[int]], Networks]
    num_bytes: int
    training: Mapping[str, Any]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a distilled set is used to train a network.

    Attributes:
        name: "as-distilled": the learnt images with the learnt step sizes; or the name of a training from scratch in
            `dd_jax.PROTOCOLS` that the set is for.
        init: "random" (every network is a new one) or "fixed" (always the same network).
        init_seed: seed of a fixed init, or its number among pretrained networks.
        pretrained: fingerprint of the pretrained networks that the set is for; empty if networks start from scratch.
        attack: (K, T) for a set that makes networks take class K for class T; None for all other sets.
        order: "fixed" (the learnt batches one after another) or "random" (batches drawn from all the images at random).
        rule: how parameters follow the gradients in the learnt steps: "sgd", "momentum" (one for each step, learnt),
            "adam" or "rmsprop".
    """

    name: str = AS_DISTILLED
    init: str = "random"
    init_seed: int = 0
    pretrained: str = ""
    attack: tuple[int, int] | None = None
    order: str = "fixed"
    rule: str = "sgd"

    @property
    def from_scratch(self) -> bool:
        """Whether networks are trained as on any other data, and not by learnt steps."""
        return self.name != AS_DISTILLED


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DistilledData:
    """A distilled set, whole: what evaluation, export and users need. S batches of B images each.

    `dd_jax.distilled_from_arrays` makes a set of plain images.

    Attributes:
        learnt: the learnt arrays by name, float32. For plain images {"images": (S, B, H, W, C)} in model space.
        labels: (S, B) int32 classes or (S, B, K) soft labels.
        step_sizes: (T,) positive inner step sizes, T = S * epochs; step t uses batch t mod S.
        transform: the map between model space and pixels; None while the set is inside jitted code.
        parameterisation: how images are made of the learnt arrays.
        momenta: (T,) of the inner steps, from 0 to below 1, if the protocol's rule is "momentum"; else None.
    """

    learnt: Learnt
    labels: Labels
    step_sizes: Float[Array, " unrolled"]
    transform: Transform | None = None
    class_names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    protocol: Protocol = dataclasses.field(default=Protocol(), metadata={"static": True})
    parameterisation: Parameterisation = dataclasses.field(default=PLAIN, metadata={"static": True})
    momenta: Float[Array, " unrolled"] | None = None

    def __new__(cls, *args: Any, **fields: Any) -> "DistilledData":
        """Say what fields that were there once have become."""
        if {"images", "adjacency"} & set(fields):
            raise TypeError(
                'A distilled set is built from learnt arrays by name: learnt={"images": ...} or, for a '
                'graph, learnt={"features": ..., "adjacency": ...}. For plain images use '
                "dd_jax.distilled_from_arrays(images, labels)."
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if isinstance(self.learnt, jax.Array | np.ndarray):
            raise TypeError(
                "A distilled set is built from learnt arrays by name, but got a single array. For plain images "
                "use dd_jax.distilled_from_arrays(images, labels)."
            )

    @functools.cached_property
    def images(self) -> Any:
        """(S, B, H, W, C) in model space, made of what was learnt, or what stands for an array of them."""
        return self.parameterisation.decode(self.learnt)

    @property
    def shape_of_images(self) -> Any:
        """What has the shape of `images`, without making them."""
        return jax.eval_shape(self.parameterisation.decode, dict(self.learnt))

    @property
    def arrays(self) -> dict[str, jax.Array]:
        """All that is stored, by name."""
        momenta = {} if self.momenta is None else {"momenta": self.momenta}
        return {**self.learnt, "labels": self.labels, "step_sizes": self.step_sizes, **momenta}

    def with_arrays(self, arrays: Mapping[str, Any]) -> "DistilledData":
        """The same set of other arrays, which have these names."""
        learnt = {name: arrays[name] for name in self.learnt}
        others = {name: arrays[name] for name in ("labels", "step_sizes")}
        return dataclasses.replace(self, learnt=learnt, momenta=arrays.get("momenta"), **others)

    @property
    def num_batches(self) -> int:
        """S, the number of distinct batches."""
        return self.labels.shape[0]

    num_steps = renamed_attribute("num_batches")

    @property
    def num_examples(self) -> int:
        """S * B, how many images or, of a graph, nodes there are."""
        return self.labels.shape[0] * self.labels.shape[1]

    @property
    def unit(self) -> str:
        """What there are several of, in a word: "image", or "node" of a graph."""
        return self.parameterisation.kind.unit

    @property
    def num_epochs(self) -> int:
        """How many times the batches are gone through in order."""
        return self.step_sizes.shape[0] // self.labels.shape[0]
