"""Train fresh networks on a distilled set by its protocol and measure them on real data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.inner import INITS, device_mesh, map_over, networks_of, on_each, replicate, unroll
from dd_jax.inner.losses import Apply
from dd_jax.models import Model, check_attack, check_fits, check_pretrained
from dd_jax.types import Batch, Dataset, DistilledData, Networks, Params, Pretrained, Protocol

SPLITS = ("train", "validation", "test")
_CHUNK = 32  # images per forward pass on a CPU: their activations stay in cache
_NETS_AT_ONCE = 50  # networks under one vmap on an accelerator; on a CPU one after another is faster


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Attacked:
    """What an attack (K, T) did to networks, as fractions of the images of a split.

    success: (N,) of class K that each network takes for T.
    others: (N,) accuracy of each network on all other classes.
    fooled: (N,) accuracy of each network where K counts as T: what the attack maximises.
    """

    success: Float[np.ndarray, " nets"]
    others: Float[np.ndarray, " nets"]
    fooled: Float[np.ndarray, " nets"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Accuracies, as fractions, of networks trained on one distilled set.

    accuracies: (N,) after all inner steps, one per network.
    per_class: (K,) accuracy on each class, mean over the networks.
    curve: (M, E + 1) before training and after each epoch, of the first M networks.
    split: where they were measured.
    attacked: what the attack did, of a set that is one.
    """

    accuracies: Float[np.ndarray, " nets"]
    per_class: Float[np.ndarray, " classes"]
    curve: Float[np.ndarray, "curve_nets points"]
    split: str
    attacked: Attacked | None = None

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
    def score(self) -> float:
        """What sets are chosen by: the mean accuracy or, of an attack, the mean where class K counts as T."""
        return self.mean if self.attacked is None else float(self.attacked.fooled.mean())

    @property
    def percent(self) -> str:
        """Mean and, of more than one network, standard deviation."""
        return in_percent(self.accuracies)

    def __str__(self) -> str:
        attacked = self.attacked
        attack = f", attack succeeds {in_percent(attacked.success)}" if attacked is not None else ""
        return f"{self.percent} (n={self.n}, {self.split}{attack})"


def in_percent(fractions: Float[np.ndarray, " nets"]) -> str:
    """Mean and, of more than one, standard deviation: "93.8 ± 0.4 %"."""
    spread = f" ± {100 * fractions.std():.1f}" if len(fractions) > 1 else ""
    return f"{100 * fractions.mean():.1f}{spread} %"


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
    pretrained: Pretrained | None = None,
    part: str = "held_out",
    num_curve_nets: int = 20,
    devices: int | None = None,
) -> Evaluation:
    """Train networks with the learnt steps, as distilled, and measure them on a split of real data.

    num_nets: how many; of pretrained ones at most as many as there are.
    num_epochs: passes through the batches; None for as many as were learnt, 0 for the networks as they start. Further
        epochs repeat the step sizes of the last learnt one.
    seed: of the held-out initialisations; the default is away from those that training seeds give.
    init: "random" or "fixed" in place of the protocol's own; a fixed init is one network, so n = 1.
    pretrained, part: networks to start from, for a set that is for such, and which of them: "held_out", "selection"
        or "train".
    num_curve_nets: networks whose accuracy is also taken before training and after each epoch.
    devices: how many devices train networks at the same time; None for all there are.
    Raises DataError if model, networks and data don't match, OptionError for a bad option.
    Source: Wang et al. 2018, section 4 (200 held-out networks).
    """
    if num_nets < 1 or (num_epochs is not None and num_epochs < 0):
        raise OptionError(f"num_nets must be at least 1 and num_epochs at least 0; found {num_nets} and {num_epochs}.")
    check_fits(model, distilled.images, dataset.num_classes, "distilled set")
    protocol = dataclasses.replace(distilled.protocol, init=init or distilled.protocol.init)
    make, starts = _starts(model, protocol, num_nets, seed, pretrained, part)
    steps = epochs_of_steps(distilled, num_epochs)
    return _measure(make, model, starts, steps, dataset, split, protocol.attack, num_curve_nets, devices)


def evaluate_networks(
    networks: Networks,
    model: Model,
    dataset: Dataset,
    *,
    split: str = "test",
    attack: tuple[int, int] | None = None,
    devices: int | None = None,
) -> Evaluation:
    """Measure networks (params with a leading axis) as they are, on a split of real data.

    attack: (K, T) to also tell how many images of class K are taken for T.
    Raises as `evaluate` does.
    """
    return _measure(_as_is, model, networks, None, dataset, split, attack, 0, devices)


def _measure(make, model, starts, steps, dataset, split, attack, num_curve_nets, devices) -> Evaluation:
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    check_fits(model, dataset.train, dataset.num_classes)
    check_attack(attack, dataset.num_classes)
    real: Batch = getattr(dataset, split)
    if not len(real.labels):
        raise DataError(f"The {split} split of {dataset.name} is empty: load it with a validation_fraction above 0.")
    count = jax.tree.leaves(starts)[0].shape[0]
    num_epochs = 0 if steps is None else steps.labels.shape[0]
    mesh = device_mesh(devices) if count > 1 or jax.process_count() > 1 else None
    arguments = replicate((steps, *_chunks(real)), mesh)

    def correct(mine: slice, along: bool) -> np.ndarray:
        static = make, model.apply, dataset.num_classes, along, attack, mesh
        chosen = replicate(jax.tree.map(lambda leaf: leaf[mine], starts), mesh)
        return np.asarray(_correct_per_class(*static, chosen, *arguments))

    curve_nets = min(num_curve_nets, count) if num_epochs else 0
    hits = [correct(slice(curve_nets, None), False)[:, -1]] if curve_nets < count else []
    curve = np.zeros((0, num_epochs + 1))
    if curve_nets:
        along = correct(slice(0, curve_nets), True)
        curve = along[:, :, 0].sum(-1) / len(real.labels)
        hits.insert(0, along[:, -1])
    counts = np.bincount(np.asarray(real.labels), minlength=dataset.num_classes)
    return evaluation_of(np.concatenate(hits), counts, split, attack, curve)


def evaluation_of(
    hits: Int[np.ndarray, "nets 2 classes"],
    counts: Int[np.ndarray, " classes"],
    split: str,
    attack: tuple[int, int] | None = None,
    curve: Float[np.ndarray, "curve_nets points"] | None = None,
) -> Evaluation:
    """An evaluation from counts: images of each class that a network gets right, and that it takes for class T."""
    right, taken = hits[:, 0], hits[:, 1]
    attacked = None
    if attack is not None:
        others = np.arange(len(counts)) != attack[0]
        right_others, success = right[:, others].sum(-1), taken[:, attack[0]]
        attacked = Attacked(
            success / max(counts[attack[0]], 1),
            right_others / max(counts[others].sum(), 1),
            (right_others + success) / counts.sum(),
        )
    per_class = right.mean(0) / np.maximum(counts, 1)
    curve = np.zeros((0, 1)) if curve is None else curve
    return Evaluation(right.sum(-1) / counts.sum(), per_class, curve, split, attacked)


def train_on(
    distilled: DistilledData,
    model: Model,
    key: jax.Array | None = None,
    *,
    params: Params | None = None,
    num_epochs: int | None = None,
) -> Params:
    """The parameters of one network trained on `distilled` by its protocol.

    key: draws the initial network; a set distilled for one fixed network uses that one, whatever the key.
    params: the network to start from instead; needed where the set is for pretrained networks.
    Raises DataError if the network was built for other images or classes, or has to be given.
    """
    check_fits(model, distilled.images, len(distilled.class_names) or model.num_classes, "distilled set")
    if params is None:
        if distilled.protocol.pretrained:
            raise DataError("The set is for pretrained networks: give the one to start from as params.")
        if distilled.protocol.init == "fixed" or key is None:
            key = jax.random.key(distilled.protocol.init_seed)
        params = jax.jit(model.init)(key)
    steps = epochs_of_steps(distilled, num_epochs)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), steps)
    return _train(model.apply, params, flat)


def init_keys(protocol: Protocol, num_nets: int, seed: int) -> jax.Array:
    """The keys of the networks that a protocol starts from, (N,); one only where the init is fixed."""
    if protocol.init not in INITS:
        raise unknown_name("init", protocol.init, INITS)
    if protocol.init == "fixed":
        return jax.random.key(protocol.init_seed)[None]
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(num_nets))


def _starts(model, protocol, num_nets, seed, pretrained, part) -> tuple[Callable[[Any], Params], Any]:
    """What networks start from, with a leading axis, and how it becomes their parameters."""
    if pretrained is None:
        if protocol.pretrained:
            raise DataError(
                "The set is for pretrained networks: give them as pretrained (dd_jax.load_pretrained reads their file)."
            )
        return model.init, init_keys(protocol, num_nets, seed)
    check_pretrained(pretrained, model)
    if protocol.init == "fixed" and protocol.pretrained not in ("", pretrained.fingerprint):
        raise DataError(
            f"The set is for one known network, and not out of {pretrained.name}: their fingerprint is "
            f"{pretrained.fingerprint}, the set's {protocol.pretrained}. Give its own networks, or init='random'."
        )
    return _as_is, networks_of(pretrained, protocol, part, num_nets)


def _as_is(params: Params) -> Params:
    return params


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


@functools.partial(jax.jit, static_argnums=0)
def _train(apply: Apply, params: Params, steps: Steps) -> Params:
    return unroll(apply, params, Batch(steps.images, steps.labels), steps.step_sizes, remat="none")


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _correct_per_class(make, apply, num_classes, along, attack, mesh, starts, steps, images, labels):
    """Images of each class that each network gets right, and that it takes for the target of the attack.

    (N, 1, 2, K) at the end, or (N, E + 1, 2, K) `along` the way.
    """
    target = -1 if attack is None else attack[1]
    correct = functools.partial(_correct, make, apply, num_classes, along, target)
    return on_each(correct, mesh)(starts, steps, images, labels)


def _correct(make, apply, num_classes, along, target, starts, steps, images, labels):
    def correct(params: Params) -> jax.Array:
        def count(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
            found = apply(params, chunk[0]).argmax(-1)
            marks = jnp.stack([found == chunk[1], found == target], 1).astype(jnp.int32)
            return jax.ops.segment_sum(marks, chunk[1], num_classes).T

        return lax.map(count, (images, labels)).sum(0)

    nothing = jnp.zeros((2, num_classes), jnp.int32)

    def epoch(params: Params, part: Steps) -> tuple[Params, jax.Array]:
        params = unroll(apply, params, Batch(part.images, part.labels), part.step_sizes, remat="none")
        return params, correct(params) if along else nothing

    def one(start: Any) -> jax.Array:
        params = before = make(start)
        after = nothing[None]
        if steps is not None:
            params, after = lax.scan(epoch, before, steps)
        return jnp.concatenate([correct(before)[None], after]) if along else correct(params)[None]

    count = jax.tree.leaves(starts)[0].shape[0]
    return map_over(one, starts, None if jax.default_backend() == "cpu" else min(_NETS_AT_ONCE, count))


def _chunks(split: Batch) -> tuple[jax.Array, jax.Array]:
    """A split in chunks, (C, chunk, ...); what is missing in the last has label -1, which counts nowhere."""
    num_images = split.labels.shape[0]
    size = min(_CHUNK if jax.default_backend() == "cpu" else 1000, num_images)
    missing = -num_images % size
    images = jnp.pad(split.images, ((0, missing), (0, 0), (0, 0), (0, 0)))
    labels = jnp.pad(split.labels, (0, missing), constant_values=-1)
    return images.reshape(-1, size, *images.shape[1:]), labels.reshape(-1, size)
