"""Train fresh networks on a distilled set by its protocol and measure them on real data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.inner import device_mesh, map_over, on_each, replicate, unroll
from dd_jax.inner.init import INITS
from dd_jax.inner.losses import Apply
from dd_jax.models import Model, check_fits
from dd_jax.types import Batch, Dataset, DistilledData, InitDistribution, Params, Protocol

SPLITS = ("train", "validation", "test")
_CHUNK = 32  # images per forward pass on a CPU: their activations stay in cache
_NETS_AT_ONCE = 50  # networks under one vmap on an accelerator; on a CPU one after another is faster


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracies, as fractions, of networks trained on one distilled set.

    accuracies: (N,) after all inner steps, one per network.
    per_class: (K,) accuracy on each class, mean over the networks.
    curve: (M, E + 1) before training and after each epoch, of the first M networks.
    split: where they were measured.
    """

    accuracies: Float[np.ndarray, " nets"]
    per_class: Float[np.ndarray, " classes"]
    curve: Float[np.ndarray, "curve_nets points"]
    split: str

    @property
    def mean(self) -> float:
        """Mean accuracy over the networks."""
        return float(self.accuracies.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the networks; 0 for a single one."""
        return float(self.accuracies.std())

    @property
    def n(self) -> int:
        """How many networks."""
        return len(self.accuracies)

    @property
    def percent(self) -> str:
        """Mean and, of more than one network, standard deviation."""
        spread = f" ± {100 * self.std:.1f}" if self.n > 1 else ""
        return f"{100 * self.mean:.1f}{spread} %"

    def __str__(self) -> str:
        return f"{self.percent} (n={self.n}, {self.split})"


def evaluate(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    num_nets: int = 200,
    num_epochs: int | None = None,
    split: str = "test",
    seed: int = 1_000_003,
    init: str | None = None,
    num_curve_nets: int = 20,
    devices: int | None = None,
) -> Evaluation:
    """Train `num_nets` networks with the learnt steps, as distilled, and measure them on a split of real data.

    num_epochs: passes through the batches; None for as many as were learnt. Further epochs repeat the step sizes of
        the last learnt one.
    seed: of the held-out initialisations; the default is away from those that training seeds give.
    init: "random" or "fixed" in place of the protocol's own; a fixed init is one network, so n = 1.
    num_curve_nets: networks whose accuracy is also taken before training and after each epoch.
    devices: how many devices train networks at the same time; None for all there are.
    Raises DataError if model and data don't match, OptionError for a bad option.
    Source: Wang et al. 2018, section 4 (200 held-out networks).
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if num_nets < 1 or (num_epochs is not None and num_epochs < 0):
        raise OptionError(f"num_nets must be at least 1 and num_epochs at least 0; found {num_nets} and {num_epochs}.")
    check_fits(model, dataset.train, dataset.num_classes)
    check_fits(model, distilled.images, dataset.num_classes, "distilled set")
    keys = init_keys(distilled.protocol, num_nets, seed, init)
    steps = epochs_of_steps(distilled, num_epochs)
    num_epochs = steps.labels.shape[0]
    real: Batch = getattr(dataset, split)
    if not len(real.labels):
        raise DataError(f"The {split} split of {dataset.name} is empty: load it with a validation_fraction above 0.")
    mesh = device_mesh(devices) if len(keys) > 1 or jax.process_count() > 1 else None
    arguments = replicate((steps, *_chunks(real)), mesh)

    def correct(keys: jax.Array, along: bool) -> np.ndarray:
        static = model.init, model.apply, dataset.num_classes, along, mesh
        return np.asarray(_correct_per_class(*static, replicate(keys, mesh), *arguments))

    curve_nets = min(num_curve_nets, len(keys)) if num_epochs else 0
    hits = [correct(keys[curve_nets:], False)[:, -1]] if curve_nets < len(keys) else []
    curve = np.zeros((0, num_epochs + 1))
    if curve_nets:
        along = correct(keys[:curve_nets], True)
        curve = along.sum(-1) / len(real.labels)
        hits.insert(0, along[:, -1])
    hits_per_net = np.concatenate(hits)
    counts = np.bincount(np.asarray(real.labels), minlength=dataset.num_classes)
    per_class = hits_per_net.mean(0) / np.maximum(counts, 1)
    return Evaluation(hits_per_net.sum(-1) / len(real.labels), per_class, curve, split)


def train_on(
    distilled: DistilledData, model: Model, key: jax.Array | None = None, *, num_epochs: int | None = None
) -> Params:
    """The parameters of one network trained on `distilled` by its protocol.

    key: draws the initial network; a set distilled for one fixed network uses that one, whatever the key.
    Raises DataError if the network was built for other images or classes.
    """
    check_fits(model, distilled.images, len(distilled.class_names) or model.num_classes, "distilled set")
    if distilled.protocol.init == "fixed" or key is None:
        key = jax.random.key(distilled.protocol.init_seed)
    steps = epochs_of_steps(distilled, num_epochs)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), steps)
    return _train(model.init, model.apply, key, flat)


def init_keys(protocol: Protocol, num_nets: int, seed: int, init: str | None = None) -> jax.Array:
    """The keys of the networks that a protocol starts from, (N,); one only where the init is fixed."""
    init = init or protocol.init
    if init not in INITS:
        raise unknown_name("init", init, INITS)
    if init == "fixed":
        return jax.random.key(protocol.init_seed)[None]
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(num_nets))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """Batches with their step sizes; leading axes (E, S), or (S,) for one epoch."""

    images: Float[Array, "*lead batch height width channels"]
    labels: Int[Array, "*lead batch"] | Float[Array, "*lead batch classes"]
    step_sizes: Float[Array, "*lead"]


def epochs_of_steps(distilled: DistilledData, num_epochs: int | None = None) -> Steps:
    """The inner steps of a distilled set, epoch by epoch; epochs beyond the learnt ones repeat the last one's sizes."""
    num_epochs = distilled.num_epochs if num_epochs is None else num_epochs
    sizes = jnp.asarray(distilled.step_sizes).reshape(-1, distilled.num_steps)
    sizes = sizes[jnp.minimum(jnp.arange(num_epochs), distilled.num_epochs - 1)]

    def repeat(leaf: jax.Array) -> jax.Array:
        return jnp.broadcast_to(leaf, (num_epochs, *leaf.shape))

    return Steps(repeat(jnp.asarray(distilled.images)), repeat(jnp.asarray(distilled.labels)), sizes)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(init: InitDistribution, apply: Apply, key: jax.Array, steps: Steps) -> Params:
    return unroll(apply, init(key), Batch(steps.images, steps.labels), steps.step_sizes, remat="none")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _correct_per_class(init, apply, num_classes, along, mesh, keys, steps, images, labels):
    """Images of each class that each network gets right: (N, 1, K) at the end, or (N, E + 1, K) `along` the way."""
    return on_each(functools.partial(_correct, init, apply, num_classes, along), mesh)(keys, steps, images, labels)


def _correct(init, apply, num_classes, along, keys, steps, images, labels):
    def correct(params: Params) -> jax.Array:
        def count(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
            right = apply(params, chunk[0]).argmax(-1) == chunk[1]
            return jax.ops.segment_sum(right.astype(jnp.int32), chunk[1], num_classes)

        return lax.map(count, (images, labels)).sum(0)

    nothing = jnp.zeros(num_classes, jnp.int32)

    def epoch(params: Params, part: Steps) -> tuple[Params, jax.Array]:
        params = unroll(apply, params, Batch(part.images, part.labels), part.step_sizes, remat="none")
        return params, correct(params) if along else nothing

    def one(key: jax.Array) -> jax.Array:
        before = init(key)
        params, after = lax.scan(epoch, before, steps)
        return jnp.concatenate([correct(before)[None], after]) if along else correct(params)[None]

    at_once = None if jax.default_backend() == "cpu" else min(_NETS_AT_ONCE, keys.shape[0])
    return map_over(one, keys, at_once)


def _chunks(split: Batch) -> tuple[jax.Array, jax.Array]:
    """A split in chunks, (C, chunk, ...); what is missing in the last has label -1, which counts nowhere."""
    num_images = split.labels.shape[0]
    size = min(_CHUNK if jax.default_backend() == "cpu" else 1000, num_images)
    missing = -num_images % size
    images = jnp.pad(split.images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(split.labels, (0, missing), constant_values=-1)
    return images.reshape(-1, size, *images.shape[1:]), labels.reshape(-1, size)
