"""What a distilled set must beat: sets of real images of the same size, under the same protocol.

Every choice (step size, which random set, k and p of the neighbours) is made on the validation split; the test split
is read once, for the result.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dd_jax.errors import unknown_name
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled, as_vectors, is_only_one
from dd_jax.evaluation.embeddings import passes, train_on_all, trained_features, trained_networks
from dd_jax.evaluation.evaluate import evaluate, evaluate_networks
from dd_jax.evaluation.protocols import PROTOCOLS, training_of
from dd_jax.evaluation.result import Evaluation, concatenated, evaluation_of
from dd_jax.inner import Regression, Training, device_mesh, networks_of, replicate
from dd_jax.models import Model
from dd_jax.seeds import check_seed
from dd_jax.types import Batch, Dataset, DistilledData, Pretrained, Protocol

STEP_SIZES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
BASELINES = ("random real", "best of random", "class mean", "k-means", "k-NN random", "k-NN k-means")
CORESETS = ("herding", "k-center", "herding features", "k-center features", "k-means features")
FOR_GRAPHS = (
    "random real", "herding", "k-center", "herding features", "k-center features", "class mean", "k-means",
    "k-NN random", "k-NN k-means", "full training set",
)  # fmt: skip
FOR_PRETRAINED = ("no steps", "full training set")

_NEIGHBOURS, _NORMS = (1, 3, 5), (1, 2)
_SELECTION_SEED = 4_000_037  # networks that choices are made with: neither trained with nor reported on
_SELECTION_NETS = 5  # pretrained networks that choices are made with ...
_SIZE_SETS = 3  # ... and sets that the step size is, where each is tried on all of them
_TOLERATED_LOSS = 0.15  # of accuracy on the other classes, where an attack's step size is chosen

# From scratch: sets of real images have no order, and aren't for one network.
_FREE: dict[str, Any] = {"init": "random", "order": "random"}


class Baseline(NamedTuple):
    """evaluation: on the test split; chosen: what validation chose, e.g. {"step_size": 0.05}."""

    evaluation: Evaluation
    chosen: Mapping[str, Any]


def baselines(distilled: DistilledData, model: Model, dataset: Dataset, **options: Any) -> dict[str, Baseline]:
    """All of `iterate_baselines`, which has the options, by name."""
    return dict(iterate_baselines(distilled, model, dataset, **options))


def baseline_names(
    protocol: Protocol, pretrained: Pretrained | None = None, compare_all: bool = False
) -> tuple[str, ...]:
    """The baselines that make sense for sets of a protocol; those in `CORESETS` do for every one of them besides.

    compare_all: whether networks trained on all the real examples are among them, see `Kind`.
    """
    names: tuple[str, ...] = FOR_GRAPHS if compare_all else BASELINES
    if protocol.attack is not None:
        names = tuple(name for name in names if not name.startswith("k-NN"))
    if pretrained is None:
        return names
    full = () if protocol.attack is not None or not pretrained.training else FOR_PRETRAINED[1:]
    return FOR_PRETRAINED[:1] + names + full


def iterate_baselines(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    names: Sequence[str] | None = None,
    num_nets: int = 200,
    num_sets: int = 10,
    num_candidates: int = 20,
    seed: int = 0,
    pretrained: Pretrained | None = None,
    protocol: str | Training | Regression | None = None,
) -> Iterator[tuple[str, Baseline]]:
    """The baselines in `names` for sets of the size and protocol of `distilled`, one at a time as they are done.

    "random real": `num_sets` random sets, the networks spread over them. "best of random": the best of
    `num_candidates` random sets. "class mean". "k-means": centres per class. "k-NN random", "k-NN k-means": nearest
    neighbours instead of a network, with k and p chosen; their n counts sets.
    With `pretrained` networks also "no steps", which is those networks as they are, and "full training set": trained
    on, with Adam, on all the training images. Every set is then tried on every held-out network, and n counts both.
    Where they are named also "herding", "k-center": training images chosen by their pixels, whose mean is near that of
    their class, or that none of their class is far from; "herding features", "k-center features", "k-means features"
    (the images nearest to the centres): chosen by the features of one network like `model` that was trained on the
    training split.
    Of a graph all but the k-means of features, and "full training set": trained on the whole graph by the protocol.
    Sets of real nodes keep the edges between them; "class mean" and "k-means" have none, and neighbours are those in
    the features.
    Under an attack (K, T) sets have their images of class K labelled T, and what is chosen is what succeeds most where
    the other classes lose at most 15 points.
    Of a dataset that is streamed the sets are made of the part in `dataset.train`, and nothing is trained on all of it.
    names: None for all that make sense, without those coresets.
    protocol: how networks are trained on the sets, as for `evaluate`; the step size is chosen where it leaves one open.
    num_nets: networks per baseline. Where the init is fixed there is one network, and n counts sets.
    Raises OptionError for an unknown name, or a seed that is none.
    Source: Wang et al. 2018, section 4 (baselines), table 2; Cui et al. 2022 (coresets).
    """
    seed = check_seed(seed)
    known = baseline_names(distilled.protocol, pretrained, distilled.parameterisation.kind.compare_all)
    if dataset.stream is not None:
        known = tuple(name for name in known if name != "full training set")
    names = known if names is None else names
    for name in names:
        if name not in (*known, *CORESETS):
            raise unknown_name("baseline", name, (*known, *CORESETS))
    shape = SetShape.of(distilled, dataset.num_classes)
    protocol = protocol or distilled.protocol.name
    training = training_of(protocol, distilled)
    own = distilled.protocol if training is None else dataclasses.replace(distilled.protocol, **_FREE)

    open_size = training is None or _leaves_open(protocol)

    def said(size: float) -> dict[str, Any]:
        return {"step_size": size} if open_size else {}

    @functools.cache
    def features() -> np.ndarray:
        return trained_features(model, dataset, seed)

    @functools.cache
    def sets(name: str, count: int) -> list[Any]:
        vectors = {"vectors": features()} if name.endswith("features") else {}
        count = 1 if is_only_one(name, shape.per_class) else count
        return [MAKERS[name](dataset, shape.per_class, seed + i, **vectors) for i in range(count)]

    def trained(candidates: list[Any], step_size: float, split: str, nets: int) -> Evaluation:
        choosing = split == "validation"
        per_set = max(1, nets // len(candidates))
        if pretrained is not None:
            per_set = _SELECTION_NETS if choosing else nets
        return concatenated(
            [
                evaluate(
                    as_distilled(images, shape, step_size, own, distilled.parameterisation),
                    model,
                    dataset,
                    num_nets=per_set,
                    split=split,
                    seed=(_SELECTION_SEED if choosing else 1_000_003) + 7919 * i,
                    pretrained=pretrained,
                    part="selection" if choosing else "held_out",
                    num_curve_nets=0,
                    protocol=protocol,
                )
                for i, images in enumerate(candidates)
            ]
        )

    @functools.cache
    def others_before() -> float:
        options: dict[str, Any] = {
            "num_nets": _SELECTION_NETS,
            "num_epochs": 0,
            "split": "validation",
            "num_curve_nets": 0,
        }
        found = evaluate(distilled, model, dataset, pretrained=pretrained, part="selection", **options)
        return 0.0 if found.attacked is None else float(found.attacked.others.mean())

    def merit(found: Evaluation) -> float:
        if found.attacked is None:
            return found.mean
        loss = others_before() - float(found.attacked.others.mean())
        return float(found.attacked.success.mean()) if loss <= _TOLERATED_LOSS else -loss

    def best_size(candidates: list[Any]) -> float:
        if not open_size:
            return STEP_SIZES[0]  # not used
        few = candidates if pretrained is None else candidates[:_SIZE_SETS]
        scores = {size: merit(trained(few, size, "validation", 10)) for size in STEP_SIZES}
        return max(scores, key=lambda size: scores[size])

    for name in names:
        chosen: dict[str, Any] = {}
        if name == "no steps":
            evaluation = evaluate(
                distilled, model, dataset, num_nets=num_nets, num_epochs=0, pretrained=pretrained, num_curve_nets=0
            )
        elif name == "full training set" and pretrained is not None:
            evaluation = _fully_trained(pretrained, distilled.protocol, model, dataset, num_nets)
        elif name == "full training set":
            assert isinstance(training, Training)
            networks = trained_networks(model, dataset, num_nets, _SELECTION_SEED, training)
            evaluation = evaluate_networks(networks, model, dataset)
        elif name.startswith("k-NN"):
            evaluation, chosen = _neighbours(
                sets("random real" if name == "k-NN random" else "k-means", num_sets), dataset
            )
        elif name == "best of random":
            candidates = sets("random real", num_candidates)
            size = best_size(candidates[:num_sets])
            scores = [merit(trained([images], size, "validation", 5)) for images in candidates]
            winner = int(np.argmax(scores))
            evaluation = trained([candidates[winner]], size, "test", num_nets)
            chosen = {**said(size), "set": winner, "of": num_candidates}
        else:
            candidates = sets(name, num_sets)
            size = best_size(candidates)
            chosen = said(size)
            evaluation = trained(candidates, size, "test", num_nets)
        yield name, Baseline(evaluation, chosen)


def _leaves_open(protocol: str | Training | Regression) -> bool:
    """Whether a training from scratch takes its rate from the set."""
    training = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    return isinstance(training, Training) and training.learning_rate is None


def _fully_trained(
    pretrained: Pretrained, protocol: Protocol, model: Model, dataset: Dataset, num_nets: int
) -> Evaluation:
    """The networks trained on with all the training images of the dataset."""
    networks = networks_of(pretrained, protocol, "held_out", num_nets)
    training = Training(epochs=passes(dataset))
    keys = jax.random.split(jax.random.key(_SELECTION_SEED), jax.tree.leaves(networks)[0].shape[0])
    mesh = device_mesh() if len(keys) > 1 else None
    trained = train_on_all(model.apply, training, mesh, *replicate((keys, networks, dataset.train), mesh))
    return evaluate_networks(jax.tree.map(np.asarray, trained), model, dataset)


def _neighbours(candidates: list[Any], dataset: Dataset) -> tuple[Evaluation, dict[str, Any]]:
    """Nearest neighbours on each candidate set, k and p chosen on validation over all of them."""
    options = list(itertools.product(_NEIGHBOURS, _NORMS))
    options = [(k, p) for k, p in options if k <= candidates[0].shape[0] * candidates[0].shape[1]]
    scores = [np.mean([_hits(c, dataset.validation, k, p).mean() for c in candidates]) for k, p in options]
    k, p = options[int(np.argmax(scores))]
    labels = np.asarray(dataset.test.labels)
    right = [labels[_hits(c, dataset.test, k, p)] for c in candidates]
    hits = np.stack([np.bincount(mine, minlength=dataset.num_classes) for mine in right])
    counts = np.bincount(labels, minlength=dataset.num_classes)
    return evaluation_of(np.stack([hits, 0 * hits], 1), counts, "test"), {"k": k, "p": p}


def _hits(images: Any, split: Batch, k: int, p: int) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    metric = "euclidean" if p == 2 else "manhattan"
    neighbours = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(*as_vectors(images))
    queries = np.asarray(split.images).reshape(len(split.labels), -1)
    return neighbours.predict(queries) == np.asarray(split.labels)
