"""Sets that the first schema saved, one of each method that there was, are what they were."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.storage.artefact import load_artefact

Like = dd.models.Shapes
SAVED = sorted((Path(__file__).parent / "data" / "schema_1").iterdir())


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_it_is_loaded_as_it_was_and_saved_as_it_is_now(folder, tmp_path):
    with np.load(next(folder.glob("*.npz"))) as npz:
        saved = dict(npz)
    found = dd.load_distilled(folder)
    np.testing.assert_array_equal(np.asarray(found.images), saved["images"])
    np.testing.assert_array_equal(found.labels, saved["labels"])
    np.testing.assert_array_equal(found.step_sizes, saved["step_sizes"])
    assert found.unit == ("node" if "adjacency" in saved else "image")
    if "adjacency" in saved:
        np.testing.assert_array_equal(found.images.adjacency, saved["adjacency"])
    dd.save_distilled(tmp_path, found, {})
    again = load_artefact(tmp_path)
    assert again.meta["schema_version"] == 2
    assert (again.distilled.parameterisation, again.distilled.protocol) == (found.parameterisation, found.protocol)
    for name, array in found.arrays.items():
        np.testing.assert_array_equal(again.distilled.arrays[name], array)


def test_networks_are_trained_on_them():
    (graph,) = [folder for folder in SAVED if folder.name == "graph_condensation"]
    (images,) = [folder for folder in SAVED if folder.name == "unrolled"]
    assert jnp.isfinite(trained(graph, dd.models.gcn(Like((1, 1, 5), 3), hidden=4), protocol="gcond", num_epochs=2))
    assert jnp.isfinite(trained(images, dd.models.mlp(Like((6, 6, 1), 3), hidden=(5,))))


def trained(folder, model, **options):
    """The sum of the weights of a network that was trained on what is there."""
    params = dd.train_on(dd.load_distilled(folder), model, jax.random.key(0), **options)
    return sum(leaf.sum() for leaf in jax.tree.leaves(params))
