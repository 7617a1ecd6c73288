"""The cells of RememberThePast and RaT-BPTT: published settings, sets that fit into their room, and names."""

import dataclasses
import functools
import math

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.methods import make_method
from dd_jax.methods.bptt_options import check_options, images_of
from dd_jax.models import Shapes, parse_model
from dd_jax.presets import PAPERS, PRESETS, of_method, smoke
from dd_jax.presets.bptt import BPTT_METHODS, BPTT_PRESETS, bptt_cells

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "tiny-imagenet": (64, 64, 3)}
CLASSES = {"cifar100": 100, "tiny-imagenet": 200}


@functools.cache
def network(dataset, words):
    name, settings = parse_model(words)
    return models.make(name, Shapes(SHAPES.get(dataset, (32, 32, 3)), CLASSES.get(dataset, 10)), **settings)


def all_cells():
    return {
        (method, paper, name): experiment
        for method in BPTT_METHODS
        for paper in (False, True)
        for name, experiment in bptt_cells(method, paper).items()
    }


@pytest.mark.parametrize("of", [lambda one: one, smoke], ids=["cells", "in small"])
def test_every_cell_makes_a_method(of):
    """The papers' are as large as they are only in small: how much memory they need takes long to find."""
    for (method, paper, name), cell in all_cells().items():
        experiment = of(cell)
        dataset, _, count = name.replace("-convnet", "").rpartition("-ipc")
        assert experiment.method.images_per_class == int(count)
        model = network(dataset, experiment.model)
        if paper:
            assert experiment.model.startswith("convnet:width=128")
        if paper and of is not smoke:
            check_options(model, experiment.method)
        else:
            made = make_method(model, experiment.method)
            assert made.protocol.name.startswith("rtp" if method == "rtp" else "rat-bptt")


def test_what_is_learnt_fits_into_the_room_of_its_images_per_class(digits):
    """Floats of images, or of bases and coefficients; hard labels are none."""
    for (method, _, name), experiment in all_cells().items():
        dataset, _, count = name.replace("-convnet", "").rpartition("-ipc")
        model, options = network(dataset, experiment.model), experiment.method
        room = int(count) * model.num_classes * math.prod(model.image_shape)
        if options.images == "bases":
            synthetic = images_of(model, dataclasses.replace(options, init_images="noise"))
            small = jax.eval_shape(lambda key, made=synthetic: made.init(key, digits), jax.random.key(0))
            floats = sum(leaf.size for leaf in jax.tree.leaves(small))
            assert 0.9 * room < floats <= room, (method, name)
        else:
            assert options.factor == options.canvas_size == 1


def test_the_published_settings():
    rtp = bptt_cells("rtp", paper=True)
    assert list(rtp)[:4] == ["mnist-ipc1", "mnist-ipc10", "mnist-ipc50", "svhn-ipc1"]
    method = rtp["cifar10-ipc1"].method
    assert (method.num_bases, method.downscale, method.num_inner_steps, method.inner_per_class) == (16, 2, 150, 32)
    assert (method.inner_learning_rate, method.inner_momentum, method.batch_size) == (0.01, 0.9, 640)
    assert (method.outer_optimiser, method.learning_rate, method.momentum, method.clip_norm) == ("sgd", 0.1, 0.5, 2.0)
    assert rtp["cifar100-ipc1"].method.classes_per_step == 50
    rat = bptt_cells("rat-bptt", paper=True)
    method = rat["cifar10-ipc10"].method
    assert (method.window, method.num_inner_steps, method.batch_size, method.learning_rate) == (60, 200, 5000, 1e-3)
    assert (method.clip_norm, method.clip_factor, method.augment) == (None, 2.0, "flip_rotate")
    assert not method.learn_labels
    assert rat["cifar100-ipc10"].method.learn_labels
    tiny = rat["tiny-imagenet-ipc10"]
    assert (tiny.zca, tiny.method.learning_rate, tiny.method.classes_per_step) == (False, 3e-4, 50)
    assert tiny.model == "convnet:width=128,depth=4"
    with pytest.raises(OptionError, match="Did you mean 'rtp'"):
        bptt_cells("rtpp")


def test_methods_go_by_the_names_of_their_papers():
    for name in BPTT_METHODS:
        assert of_method(name) == PAPERS[name] == PRESETS[f"digits-{name}"]
    assert of_method("bptt") in BPTT_PRESETS.values()
    assert PRESETS["cifar10-rtp-paper"] == bptt_cells("rtp", True)["cifar10-ipc1"]
    assert {dd.PROTOCOLS[name].augment for name in ("rtp", "rat-bptt")} == {"flip_rotate"}
    assert np.isclose(dd.PROTOCOLS["rat-bptt"].learning_rate, 1e-3)
