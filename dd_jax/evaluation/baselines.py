"""What a distilled set must beat: sets of real images of the same size, under the same protocol.

Every choice (step size, which random set, k and p of the neighbours) is made on the validation split; the test split
is read once, for the result.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dd_jax.errors import unknown_name
from dd_jax.evaluation.contest import (
    CANDIDATE_NETS,
    SELECTION_SEED,
    Contest,
    Step,
    best_step,
    measured_before,
    merit,
    sets,
    trained,
    trainings,
)
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_vectors
from dd_jax.evaluation.embeddings import passes, train_on_all, trained_networks
from dd_jax.evaluation.evaluate import evaluate_networks
from dd_jax.evaluation.result import Evaluation, evaluation_of
from dd_jax.inner import Regression, Training, device_mesh, networks_of, replicate
from dd_jax.models import Model
from dd_jax.outcomes import outcome_of
from dd_jax.seeds import check_seed
from dd_jax.synthetic import Counts, class_counts
from dd_jax.types import Batch, Dataset, DistilledData, Pretrained, Protocol

BASELINES = ("random real", "best of random", "class mean", "k-means", "k-NN random", "k-NN k-means")
CORESETS = ("herding", "k-center", "herding features", "k-center features", "k-means features")
FOR_GRAPHS = (
    "random real", "herding", "k-center", "herding features", "k-center features", "class mean", "k-means",
    "k-NN random", "k-NN k-means", "full training set",
)  # fmt: skip
FOR_PRETRAINED = ("no steps", "full training set")
SAME_BYTES = ", same bytes"  # after a name: as many bytes as what was learnt, where that isn't as many images

NUM_SETS = 10  # random sets of one kind
NUM_CANDIDATES = 20  # random sets that the best is chosen of

_NEIGHBOURS, _NORMS = (1, 3, 5), (1, 2)
_OF_BYTES = ("random real", "k-means")
_OF_NEIGHBOURS = {"k-NN random": "random real", "k-NN k-means": "k-means"}


class Baseline(NamedTuple):
    """What a baseline reaches.

    Attributes:
        evaluation: on the test split.
        chosen: what validation chose, e.g. {"step_size": 0.05}.
    """

    evaluation: Evaluation
    chosen: Mapping[str, Any]


def baselines(distilled: DistilledData, model: Model, dataset: Dataset, **options: Any) -> dict[str, Baseline]:
    """Measure all baselines, and return them by name. `iterate_baselines` has the options."""
    return dict(iterate_baselines(distilled, model, dataset, **options))


def baseline_names(
    protocol: Protocol, pretrained: Pretrained | None = None, compare_all: bool = False
) -> tuple[str, ...]:
    """The baselines that make sense for sets of a protocol; those in `CORESETS` do for every one of them besides.

    Args:
        compare_all: whether networks trained on all the real examples are among them, see `Kind`.
    """
    names: tuple[str, ...] = FOR_GRAPHS if compare_all else BASELINES
    truthful = outcome_of(protocol).truthful
    if not truthful:
        names = tuple(name for name in names if not name.startswith("k-NN"))
    if pretrained is None:
        return names
    full = FOR_PRETRAINED[1:] if truthful and pretrained.training else ()
    return FOR_PRETRAINED[:1] + names + full


def iterate_baselines(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    names: Sequence[str] | None = None,
    num_nets: int = 200,
    num_sets: int = NUM_SETS,
    num_candidates: int = NUM_CANDIDATES,
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
    Of a set whose images are made of something else, such as bases, a generator or several in one, also "random real,
    same bytes" and "k-means, same bytes": as many real images as take the bytes of what was learnt, to whole images of
    each class, where that is another number.
    Where they are named also "herding", "k-center": training images chosen by their pixels, whose mean is near that of
    their class, or that none of their class is far from; "herding features", "k-center features", "k-means features"
    (the images nearest to the centres): chosen by the features of one network like `model` that was trained on the
    training split; of each also its ", same bytes".
    Of a graph all but the k-means of features, and "full training set": trained on the whole graph by the protocol.
    Sets of real nodes keep the edges between them; "class mean" and "k-means" have none, and neighbours are those in
    the features.
    Where the steps of the set have momentum, those of real images have none, 0.5 or 0.9, as validation chooses.
    Sets have the labels that networks are to learn, and choices are made by the merit of their outcome, see `Outcome`.
    Of a dataset that is streamed the sets are made of the part in `dataset.train`, and nothing is trained on all of it.

    Args:
        names: None for all that make sense, without those coresets.
        protocol: how networks are trained on the sets, as for `evaluate`; the step size is chosen where it leaves one
            open.
        num_nets: networks per baseline. Where the init is fixed there is one network, and n counts sets.

    Raises:
        OptionError: for an unknown name, or a seed that is none.

    Source: Wang et al. 2018, section 4 (baselines), table 2; Cui et al. 2022 (coresets).
    """
    seed = check_seed(seed)
    names = _known_names(distilled, dataset, names, pretrained)
    protocol = protocol or distilled.protocol.name
    contest = Contest(distilled, model, dataset, protocol, pretrained, num_nets, num_sets, seed)
    contests = {False: contest, True: dataclasses.replace(contest, same_bytes=True, made={})}
    for name in names:
        yield name, _baseline(contests[name.endswith(SAME_BYTES)], name.removesuffix(SAME_BYTES), num_candidates)


def networks_to_train(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    names: Sequence[str] | None = None,
    num_nets: int = 200,
    pretrained: Pretrained | None = None,
    protocol: str | Training | Regression | None = None,
) -> dict[str, int]:
    """How many networks `iterate_baselines`, whose arguments these are, measures for each baseline, about."""
    contest = Contest(distilled, model, dataset, protocol or distilled.protocol.name, pretrained, num_nets, NUM_SETS, 0)
    contests = {False: contest, True: dataclasses.replace(contest, same_bytes=True, made={})}

    def of(name: str) -> int:
        if name.startswith("k-NN"):
            return 0
        if name in FOR_PRETRAINED:
            return num_nets
        return trainings(contests[name.endswith(SAME_BYTES)], name.removesuffix(SAME_BYTES), NUM_CANDIDATES)

    return {name: of(name) for name in _known_names(distilled, dataset, names, pretrained)}


def _known_names(
    distilled: DistilledData, dataset: Dataset, names: Sequence[str] | None, pretrained: Pretrained | None
) -> Sequence[str]:
    """The names that are meant, all of them known."""
    known = baseline_names(distilled.protocol, pretrained, distilled.parameterisation.kind.compare_all)
    if dataset.stream is not None:
        known = tuple(name for name in known if name != "full training set")
    if SetShape.of(distilled, dataset.num_classes) != SetShape.of_bytes(distilled, dataset):
        known += tuple(name + SAME_BYTES for name in _OF_BYTES)
    names = known if names is None else names
    every = (*known, *CORESETS, *(name + SAME_BYTES for name in MAKERS))
    for name in names:
        if name not in every:
            raise unknown_name("baseline", name, every)
    return names


def same_bytes_note(distilled: DistilledData, dataset: Dataset) -> str:
    """How many real images have the bytes of what was learnt, in a sentence."""
    each = SetShape.of_bytes(distilled, dataset).per_class
    count = int(class_counts(each, dataset.num_classes).sum())
    return f"What was learnt of {distilled.num_examples:,} images has the bytes of {count:,} real ones."


def _baseline(contest: Contest, name: str, num_candidates: int) -> Baseline:
    """The baseline of a name that is known."""
    if name == "no steps":
        return Baseline(measured_before(contest, contest.num_nets), {})
    if name == "full training set":
        return Baseline(_full(contest), {})
    if name.startswith("k-NN"):
        candidates = sets(contest, _OF_NEIGHBOURS[name], contest.num_sets)
        return _neighbours(candidates, contest.shape.per_class, contest.dataset)
    if name == "best of random":
        return _best_of_random(contest, num_candidates)
    candidates = sets(contest, name, contest.num_sets)
    step = best_step(contest, candidates)
    return Baseline(trained(contest, candidates, step, "test"), _said(contest, step))


def _said(contest: Contest, step: Step) -> dict[str, Any]:
    if not contest.leaves_size_open:
        return {}
    return {"step_size": step.size, **({"momentum": step.momentum} if contest.own.rule == "momentum" else {})}


def _best_of_random(contest: Contest, num_candidates: int) -> Baseline:
    """The random set that is worth most on validation, at the step size that most of them do well with."""
    candidates = sets(contest, "random real", num_candidates)
    step = best_step(contest, candidates[: contest.num_sets])
    winner = int(np.argmax([merit(contest, [images], step, CANDIDATE_NETS) for images in candidates]))
    found = trained(contest, [candidates[winner]], step, "test")
    return Baseline(found, {**_said(contest, step), "set": winner, "of": num_candidates})


def _full(contest: Contest) -> Evaluation:
    """Networks trained on all the training images."""
    model, dataset = contest.model, contest.dataset
    if contest.pretrained is not None:
        return _fully_trained(contest.pretrained, contest.distilled.protocol, model, dataset, contest.num_nets)
    assert isinstance(contest.training, Training)
    networks = trained_networks(model, dataset, contest.num_nets, SELECTION_SEED, contest.training)
    return evaluate_networks(networks, model, dataset)


def _fully_trained(
    pretrained: Pretrained, protocol: Protocol, model: Model, dataset: Dataset, num_nets: int
) -> Evaluation:
    """The networks trained on with all the training images of the dataset."""
    networks = networks_of(pretrained, protocol, "held_out", num_nets)
    training = Training(epochs=passes(dataset))
    keys = jax.random.split(jax.random.key(SELECTION_SEED), jax.tree.leaves(networks)[0].shape[0])
    mesh = device_mesh() if len(keys) > 1 else None
    after = train_on_all(model.apply, training, mesh, *replicate((keys, networks, dataset.train), mesh))
    return evaluate_networks(jax.tree.map(np.asarray, after), model, dataset)


def _neighbours(candidates: list[Any], per_class: Counts, dataset: Dataset) -> Baseline:
    """Nearest neighbours on each candidate set, k and p chosen on validation over all of them."""
    options = list(itertools.product(_NEIGHBOURS, _NORMS))
    vectors = [as_vectors(candidate, per_class) for candidate in candidates]
    options = [(k, p) for k, p in options if k <= len(vectors[0][1])]
    scores = [np.mean([_hits(v, dataset.validation, k, p).mean() for v in vectors]) for k, p in options]
    k, p = options[int(np.argmax(scores))]
    labels = np.asarray(dataset.test.labels)
    right = [labels[_hits(v, dataset.test, k, p)] for v in vectors]
    hits = np.stack([np.bincount(mine, minlength=dataset.num_classes) for mine in right])
    counts = np.bincount(labels, minlength=dataset.num_classes)
    return Baseline(evaluation_of(np.stack([hits, 0 * hits], 1), counts, "test"), {"k": k, "p": p})


def _hits(vectors: tuple[np.ndarray, np.ndarray], split: Batch, k: int, p: int) -> np.ndarray:
    from sklearn.neighbors import KNeighborsClassifier

    metric = "euclidean" if p == 2 else "manhattan"
    neighbours = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(*vectors)
    queries = np.asarray(split.images).reshape(len(split.labels), -1)
    return neighbours.predict(queries) == np.asarray(split.labels)
