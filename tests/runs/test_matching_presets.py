"""The cells of the papers' tables: every one is a method that can be made, and is what its name says."""

import dataclasses
import functools

import pytest

from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.methods import make_method
from dd_jax.models import Shapes, parse_model
from dd_jax.presets import PRESETS
from dd_jax.presets.matching import COUNTS, MATCHING_DATASETS, MATCHING_METHODS, cells, matching_experiment

SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1)}


@functools.cache
def network(dataset, words):
    name, settings = parse_model(words)
    shape = Shapes(SHAPES.get(dataset, (32, 32, 3)), 100 if dataset == "cifar100" else 10)
    return models.make(name, shape, **settings)


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize("method", MATCHING_METHODS)
def test_every_cell_makes_a_method(method, paper):
    found = cells(method, paper)
    assert len(found) == len(MATCHING_DATASETS) * len(COUNTS)
    for name, experiment in found.items():
        dataset, _, count = name.rpartition("-ipc")
        assert (experiment.dataset, experiment.method.images_per_class) == (dataset, int(count))
        made = make_method(network(dataset, experiment.model), experiment.method)
        assert made.protocol.from_scratch
        if paper:
            assert experiment.model == "convnet:width=128,depth=3"
        else:
            assert made.protocol.name == "dc", "the evaluation that takes seconds"


def test_the_papers_settings():
    steps = {m: matching_experiment(m, "cifar10", 10, paper=True).num_outer_steps for m in MATCHING_METHODS}
    assert steps == {"dc": 10_000, "dsa": 10_000, "dm": 20_000, "dcc": 10_000, "idc": 200_000}
    idc = matching_experiment("idc", "mnist", 1, paper=True).method
    assert (idc.factor, idc.distance, idc.image_steps, idc.clamp) == (2, "l1", "per_class", True)
    assert idc.learning_rate == pytest.approx(1e-4 / 0.308**2, rel=0.01), "pixels have a deviation of 0.308"
    assert matching_experiment("dsa", "svhn", 1, paper=True).method.augment == "dsa_no_flip", "digits have no mirrors"
    assert matching_experiment("dsa", "cifar10", 1, paper=True).method.augment == "dsa"
    assert matching_experiment("dcc", "cifar100", 1, paper=True).method.learning_rate == 10.0


def test_presets_are_some_of_the_cells():
    for method in MATCHING_METHODS:
        count = 10 if method == "dm" else 1
        assert PRESETS[f"mnist-{method}"] == cells(method)[f"mnist-ipc{count}"]
        assert PRESETS[f"cifar10-{method}-paper"] == cells(method, paper=True)["cifar10-ipc10"]
        assert dataclasses.asdict(PRESETS[f"mnist-{method}"].method) != dataclasses.asdict(
            PRESETS[f"mnist-{method}-paper"].method
        )


def test_unknown_cells_are_named():
    with pytest.raises(OptionError, match="Did you mean 'cifar100'"):
        matching_experiment("dc", "cifar1000", 1)
    with pytest.raises(OptionError, match="method 'dms'"):
        matching_experiment("dms", "mnist", 1)
