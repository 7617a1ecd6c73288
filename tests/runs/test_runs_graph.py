"""A distilled graph as an artefact, in pictures, in a report, and exported."""

import dataclasses
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from blocks import blocks
from PIL import Image

import dd_jax as dd
from dd_jax.errors import DataError
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled
from dd_jax.figures.evolution import frame
from dd_jax.figures.graph import MAX_NODES, layout, shown_nodes, strongest
from dd_jax.parameterisation import Parameterisation
from dd_jax.runs import pictures as saved
from dd_jax.runs.report import pictures
from dd_jax.synthetic import GRAPH
from dd_jax.types import DistilledData, Protocol


@pytest.fixture(scope="module")
def distilled() -> DistilledData:
    data = blocks()
    found = as_distilled(
        MAKERS["random real"](data, 5, 0),
        SetShape(1, 1, 5),
        0.01,
        Protocol("gcond", order="random"),
        Parameterisation(GRAPH),
    )
    return dataclasses.replace(found, transform=data.transform, class_names=("a", "b", "c"))


def changed(distilled: DistilledData, **arrays: jnp.ndarray) -> DistilledData:
    return dataclasses.replace(distilled, learnt={**distilled.learnt, **arrays})


def test_a_graph_is_saved_and_loaded_without_pixels(distilled, tmp_path):
    dd.save_distilled(tmp_path, distilled, {})
    found = dd.storage.artefact.load_artefact(tmp_path)
    assert "pixels" not in found.arrays
    for name, array in distilled.arrays.items():
        np.testing.assert_array_equal(found.distilled.arrays[name], array)
    assert dd.storage.artefact.holds(tmp_path, distilled)
    other = changed(distilled, adjacency=jnp.zeros((15, 15)))
    assert not dd.storage.artefact.holds(tmp_path, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:3], r"adjacency should be \(15, 15\), found \(3, 15\)"),
        (lambda a: a.at[0, 1].set(0.7), "should be symmetric"),
        (lambda a: a.at[2, 2].set(0.5), "should have no self loops"),
        (lambda a: a * 3, r"edges should weigh 0 to 1, found 0.0 to 3.0"),
        (lambda a: a.at[0, 1].set(jnp.nan), "adjacency holds numbers that are not finite"),
    ],
)
def test_what_is_no_graph_is_not_saved(distilled, tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        dd.save_distilled(tmp_path, changed(distilled, adjacency=change(distilled.learnt["adjacency"])), {})


@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        ({"features": np.zeros((1, 15, 1, 1, 6))}, r"should be 'features' \(N, F\), found features \(1, 15, 1, 1, 6\)"),
        ({"adjacency": np.zeros((15, 15))}, r"should be 'features' \(N, F\), found adjacency"),
        ({"features": np.zeros((15, 6)), "edges/0/bias": np.zeros(4)}, "the weights of the edges should be"),
        ({"features": np.zeros((15, 6)), "hues": np.zeros(4)}, "the weights of the edges should be"),
    ],
)
def test_what_is_no_nodes_is_not_saved(distilled, tmp_path, learnt, words):
    with pytest.raises(DataError, match=words):
        dd.save_distilled(tmp_path, dataclasses.replace(distilled, learnt=learnt), {})


def test_edges_pull_nodes_together():
    """Two groups of four, all of whose edges are within them: apart in the drawing, whatever their classes."""
    groups = np.repeat([0, 1], 4)
    weights = (groups[:, None] == groups[None]) * (1.0 - np.eye(8))
    places = layout(np.arange(8) % 2, weights)
    assert np.isfinite(places).all()
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    within, between = (distances[(groups[:, None] == groups[None]) == same] for same in (True, False))
    assert between.min() > within.max()
    np.testing.assert_array_equal(layout(np.arange(8) % 2, weights), places)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_graph_can_be_laid_out(count):
    for weights in (np.zeros((count, count)), np.ones((count, count)) - np.eye(count)):
        places = layout(np.zeros(count, int), weights)
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()


def test_the_strongest_edges_come_first_and_nothing_is_no_edge():
    weights = np.zeros((4, 4))
    weights[0, 2] = weights[2, 0] = 0.9
    weights[1, 3] = weights[3, 1] = 0.4
    pairs, strengths = strongest(weights, 5)
    np.testing.assert_array_equal(pairs, [[0, 2], [1, 3]])
    np.testing.assert_allclose(strengths, [0.9, 0.4])
    np.testing.assert_array_equal(strongest(weights, 1)[0], [[0, 2]])


def test_pictures_of_a_graph(distilled, tmp_path):
    saved.save_images(tmp_path / "graph.png", distilled)
    with Image.open(tmp_path / "graph.png") as image:
        assert image.width > 800
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50
    pixels = frame(distilled)
    assert pixels.shape == (15 * 17, 15 * 17, 3)
    np.testing.assert_allclose(1 - pixels[8::17, 8::17, 0], shown_nodes(distilled)[1])


def test_of_large_graphs_some_nodes_of_each_class_are_drawn(distilled):
    count = 2 * MAX_NODES
    large = dataclasses.replace(
        distilled,
        learnt={"features": jnp.zeros((count, 2)), "adjacency": jnp.zeros((count, count))},
        labels=jnp.asarray(np.arange(count) % 3)[None],
    )
    labels, weights = shown_nodes(large)
    assert weights.shape == (MAX_NODES, MAX_NODES)
    assert (np.bincount(labels) == MAX_NODES // 3).all()
    assert f"Shown: {MAX_NODES} of {count} nodes" in pictures.images(large)


@pytest.mark.slow
def test_a_run_on_a_graph_is_reported_exported_and_judged_again(tmp_path, monkeypatch):
    data = blocks()
    model = dd.models.gcn(data, hidden=4)
    quick = dd.Training(epochs=4, batch_size=100, learning_rate=0.1, drop_last=False, keep="best")
    monkeypatch.setitem(dd.PROTOCOLS, "gcond", quick)
    method = dd.methods.graph_condensation(model, nodes_per_class=2, hidden=4)
    out = tmp_path / "run"
    run = dd.distill(method, data, num_outer_steps=4, eval_every=2, num_eval_nets=1, out=out, show_progress=False)
    text = dd.report(out).read_text()
    assert "Drawing of a distilled graph of 6 nodes" in text
    assert "How the nodes evolved" in text
    assert "images of" not in text
    assert "nodes, axes" not in text
    frames = sorted((out / "figures" / "evolution").glob("*.png"))
    assert len(frames) == 3
    with Image.open(io.BytesIO(frames[-1].read_bytes())) as image:
        assert image.width == image.height == 6 * (256 // 6)
    exported = {one.format: one for one in dd.export(out)}
    assert [name for name, one in exported.items() if one.path is not None] == ["npz"]
    assert "A graph has no pictures" in exported["images"].what
    meta = json.loads((exported["npz"].path / "distilled.json").read_text())
    assert meta["bytes"]["adjacency"] == 4 * 6 * 6
    again = dd.load_distilled(exported["npz"].path)
    assert set(again.learnt) == {"features", "adjacency"}, "plain arrays, and no perceptron"
    np.testing.assert_allclose(again.images.adjacency, run.distilled.images.adjacency, atol=1e-6)
    np.testing.assert_array_equal(
        dd.load_distilled(out).learnt["edges/2/kernel"], run.distilled.learnt["edges/2/kernel"]
    )
    options = {"num_nets": 2, "num_curve_nets": 0}
    np.testing.assert_array_equal(
        dd.evaluate(again, model, data, **options).accuracies,
        dd.evaluate(run.distilled, model, data, **options).accuracies,
    )
