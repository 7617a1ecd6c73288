"""Networks on graphs: what they compute of a list of edges and of a matrix, and of closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax import models
from dd_jax.errors import DataError, OptionError
from dd_jax.models import Shapes
from dd_jax.models.graph.propagation import gather, neighbour_mean, symmetric
from dd_jax.types import Edges, Nodes

SPEC = Shapes((1, 1, 5), 3)
GRAPHS = {"sgc": {}, "gcn": {"hidden": 4}, "graphsage": {"hidden": 4}, "appnp": {"hidden": 4, "steps": 3}}


def dense_graph(size=7):
    """Weights of a random undirected graph in which the last node has no neighbours."""
    generator = np.random.default_rng(3)
    weights = np.triu(generator.uniform(size=(size, size)) * (generator.uniform(size=(size, size)) < 0.5), 1)
    weights[:, -1] = 0
    return weights + weights.T


def as_edges(weights):
    receivers, senders = np.nonzero(weights)
    return Edges(
        *(jnp.asarray(end, jnp.int32) for end in (receivers, senders)), jnp.asarray(weights[receivers, senders])
    )


def nodes_of(adjacency, size=7, rows=(4, 0, 6)):
    features = jnp.asarray(np.random.default_rng(4).normal(size=(size, 5)))
    return Nodes(features, adjacency, jnp.asarray(rows, jnp.int32))


def params_of(model):
    generator = np.random.default_rng(5)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape)), shapes)


def test_the_normalised_adjacency_of_a_path(x64):
    """Of a - b - c: the degrees with self loops are 2, 3, 2."""
    path = np.array([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    root = 1 / np.sqrt(6)
    expected = np.array([[1 / 2, root, 0], [root, 1 / 3, root], [0, root, 1 / 2]])
    propagate = jax.jit(symmetric, static_argnums=2)
    for adjacency in (jnp.asarray(path), as_edges(path)):
        np.testing.assert_allclose(propagate(adjacency, jnp.eye(3), 1), expected, atol=1e-12)
        np.testing.assert_allclose(propagate(adjacency, jnp.eye(3), 2), expected @ expected, atol=1e-12)


def test_lists_of_edges_are_as_good_as_matrices(x64):
    weights, values = dense_graph(), jnp.asarray(np.random.default_rng(0).normal(size=(7, 2)))
    for propagate in (gather, symmetric, neighbour_mean):
        dense, sparse = (jax.jit(propagate)(a, values) for a in (jnp.asarray(weights), as_edges(weights)))
        np.testing.assert_allclose(sparse, dense, atol=1e-12)
    mean = np.asarray(jax.jit(neighbour_mean)(jnp.asarray(weights), values))
    np.testing.assert_allclose(mean[-1], 0)
    np.testing.assert_allclose(mean[0], weights[0] @ np.asarray(values) / weights[0].sum(), atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_networks_answer_for_their_rows_on_edges_and_on_matrices_alike(name, x64):
    model = models.make(name, SPEC, **GRAPHS[name])
    params, weights = params_of(model), dense_graph()
    dense, sparse = nodes_of(jnp.asarray(weights)), nodes_of(as_edges(weights))

    @jax.jit
    def found(params, nodes):
        """Logits, features and the gradient of the sum of the logits."""
        gradient, logits = jax.grad(lambda p: (model.apply(p, nodes).sum(), model.apply(p, nodes)), has_aux=True)(
            params
        )
        return (logits, model.features(params, nodes)), gradient

    (ours, gradient), (theirs, their_gradient) = found(params, dense), found(params, sparse)
    everyones, _ = found(params, nodes_of(jnp.asarray(weights), rows=range(7)))
    for mine, other, everyone in zip(ours, theirs, everyones, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-10)
        np.testing.assert_allclose(mine, np.asarray(everyone)[[4, 0, 6]], atol=1e-12)
    assert ours[0].shape == (3, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), gradient, their_gradient)


def test_formulas(x64):
    """Each network against NumPy, on a graph with an isolated node."""
    weights = dense_graph()
    nodes = nodes_of(jnp.asarray(weights), rows=range(7))
    x = np.asarray(nodes.features)
    scale = 1 / np.sqrt(1 + weights.sum(1))
    s = scale[:, None] * (weights + np.eye(7)) * scale[None]
    sums = weights.sum(1, keepdims=True)
    mean = np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)

    def found(name, **settings):
        model = models.make(name, SPEC, **settings)
        params = params_of(model)
        layers = [
            (np.asarray(params[f"Dense_{i}"]["kernel"]), np.asarray(params[f"Dense_{i}"]["bias"]))
            for i in range(len(params))
        ]
        return np.asarray(jax.jit(model.apply)(params, nodes)), layers

    logits, [(w, b)] = found("sgc", steps=3)
    np.testing.assert_allclose(logits, s @ s @ s @ x @ w + b, atol=1e-10)
    logits, [(w, b), (v, c)] = found("gcn", hidden=4)
    np.testing.assert_allclose(logits, s @ np.maximum(s @ x @ w + b, 0) @ v + c, atol=1e-10)
    logits, [(w, b), (v, c)] = found("graphsage", hidden=4)
    h = np.maximum(np.hstack([x, mean @ x]) @ w + b, 0)
    np.testing.assert_allclose(logits, np.hstack([h, mean @ h]) @ v + c, atol=1e-10)
    logits, [(w, b), (v, c)] = found("appnp", hidden=4, steps=2, teleport=0.3)
    own = np.maximum(x @ w + b, 0) @ v + c
    np.testing.assert_allclose(logits, 0.7 * s @ (0.7 * s @ own + 0.3 * own) + 0.3 * own, atol=1e-10)


@pytest.mark.parametrize("name", [*GRAPHS, "mlp"])
def test_images_without_a_graph_are_nodes_without_edges(name, x64):
    model = models.make(name, SPEC, **GRAPHS.get(name, {"hidden": (4,)}))
    params, nodes = params_of(model), nodes_of(jnp.zeros((7, 7)))
    apply = jax.jit(model.apply)
    np.testing.assert_allclose(apply(params, nodes.alone), apply(params, nodes), atol=1e-12)


def test_a_perceptron_sees_no_edges():
    model = models.mlp(SPEC, hidden=(4,))
    params, apply = jax.jit(model.init)(jax.random.key(0)), jax.jit(model.apply)
    one, other = (nodes_of(jnp.asarray(w)) for w in (dense_graph(), np.zeros((7, 7))))
    np.testing.assert_array_equal(apply(params, one), apply(params, other))


def test_propagated_features_are_all_that_sgc_needs(x64):
    model = models.sgc(SPEC)
    params, nodes = params_of(model), nodes_of(as_edges(dense_graph()))
    once, apply = jax.jit(lambda nodes: models.propagated(model, nodes))(nodes), jax.jit(model.apply)
    assert once.shape == (3, 1, 1, 5)
    np.testing.assert_allclose(apply(params, once), apply(params, nodes), atol=1e-10)
    np.testing.assert_allclose(jax.jit(model.features)(params, nodes), once[:, 0, 0], atol=1e-12)
    other = models.gcn(SPEC)
    assert models.propagated(other, nodes) is nodes


@pytest.mark.parametrize("name", ["gcn", "graphsage", "appnp"])
def test_dropout_is_unbiased_and_only_in_training(name):
    """With one hidden layer and a linear last one the mean over masks is the answer without dropout."""
    model = models.make(name, SPEC, **GRAPHS[name])
    params, nodes = jax.jit(model.init)(jax.random.key(0)), nodes_of(jnp.asarray(dense_graph(), jnp.float32))
    plain = jax.jit(model.apply)(params, nodes)
    keys = jax.random.split(jax.random.key(1), 4000)
    noisy = jax.vmap(lambda key: model.apply(params, dataclasses.replace(nodes, key=key, dropout=0.5)))
    noisy = np.asarray(jax.jit(noisy)(keys))
    assert float(noisy.std(0).max()) > 0.01
    np.testing.assert_allclose(noisy.mean(0), plain, atol=5 * float(noisy.std(0).max()) / 4000**0.5)


def test_precision_leaves_the_numbers_of_nodes_alone():
    model = models.with_precision(models.gcn(SPEC, hidden=4), "bf16")
    params, nodes = jax.jit(model.init)(jax.random.key(0)), nodes_of(as_edges(dense_graph().astype(np.float32)))
    logits = jax.jit(model.apply)(params, nodes)
    assert logits.dtype == nodes.dtype
    exact = jax.jit(models.gcn(SPEC, hidden=4).apply)(params, nodes)
    np.testing.assert_allclose(logits, exact, atol=0.05 * float(abs(exact).max()))


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("gcn", {"hidden": 0}, OptionError, "gcn's hidden must be at least 1, but is 0"),
        ("sgc", {"steps": -1}, OptionError, "sgc's steps must be at least 0"),
        ("appnp", {"teleport": 2.0}, OptionError, "teleport of appnp must be from 0 to 1, but is 2.0"),
        ("gcn", {"initialiser": "kaimin"}, OptionError, "Did you mean 'kaiming'"),
    ],
)
def test_bad_settings(name, settings, error, words):
    with pytest.raises(error, match=words):
        models.make(name, SPEC, **settings)


def test_images_have_no_graph():
    with pytest.raises(
        DataError,
        match=r"gcn is for the nodes of a graph, whose shape is \(1, 1, F\), but the images are \(28, 28, 1\)",
    ):
        models.gcn(Shapes((28, 28, 1), 10))
