"""Sets that are graphs: trained on with their edges, kept by validation, beside real nodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from blocks import blocks

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import CORESETS, baseline_names, iterate_baselines
from dd_jax.evaluation.baselines import FOR_GRAPHS
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled
from dd_jax.parameterisation import Parameterisation
from dd_jax.synthetic import GRAPH as KIND
from dd_jax.synthetic.graph import edges_between
from dd_jax.types import DistilledData, Protocol

QUICK = dd.Training(
    epochs=40, batch_size=100, learning_rate=0.05, schedule="constant", weight_decay=5e-4, drop_last=False
)
GRAPH = Protocol("gcond", order="random")


@pytest.fixture(scope="module")
def data() -> dd.Dataset:
    return blocks()


@pytest.fixture(scope="module")
def model(data) -> dd.models.Model:
    return dd.models.gcn(data, hidden=8)


@pytest.fixture(scope="module")
def distilled(data) -> DistilledData:
    """Two real nodes of each class and the edges between them."""
    return as_distilled(MAKERS["random real"](data, 2, 0), SetShape(1, 1, 2), 0.01, GRAPH, Parameterisation(KIND))


def with_edges(distilled: DistilledData, adjacency: jax.Array) -> DistilledData:
    return dataclasses.replace(distilled, learnt={**distilled.learnt, "adjacency": adjacency})


def test_edges_between_nodes_are_those_of_the_graph(data):
    nodes = data.test.images
    whole = np.zeros((60, 60))
    whole[nodes.adjacency.receivers, nodes.adjacency.senders] = 1
    rows = np.array([40, 3, 7, 3, 59])  # one of them twice
    expected = whole[np.ix_(rows, rows)]
    found = edges_between(dataclasses.replace(nodes, rows=jnp.asarray(rows)))
    np.testing.assert_array_equal(found, expected)
    dense = dataclasses.replace(nodes, adjacency=jnp.asarray(whole), rows=jnp.asarray(rows))
    np.testing.assert_array_equal(edges_between(dense), expected)


def test_networks_are_trained_on_the_edges_too(distilled, model):
    """By hand: all nodes at once, Adam, the gradient of the whole graph."""
    adjacency = distilled.learnt["adjacency"].at[0, 5].set(0.9).at[5, 0].set(0.9)
    distilled = with_edges(distilled, adjacency)
    training = dataclasses.replace(QUICK, epochs=3, weight_decay=0.1)
    params = model.init(jax.random.key(3))
    found = dd.train_on(distilled, model, params=params, protocol=training)
    nodes = dd.Nodes(distilled.learnt["features"], adjacency, jnp.arange(6))
    optimiser = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.05))
    moments = optimiser.init(params)

    def loss(params):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, nodes), distilled.labels[0]).mean()

    @jax.jit
    def step(params, moments):
        updates, moments = optimiser.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    for _ in range(3):
        params, moments = step(params, moments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, params)
    alone = with_edges(distilled, jnp.zeros((6, 6)))
    other = dd.train_on(alone, model, params=model.init(jax.random.key(3)), protocol=training)
    assert float(abs(other["Dense_0"]["kernel"] - found["Dense_0"]["kernel"]).max()) > 1e-3


def test_the_network_that_is_kept_is_the_best_on_validation_along_the_way(distilled, model, data):
    """On validation the best of the validations is found, and never less than without keeping it."""
    options = {"num_nets": 4, "num_curve_nets": 4, "split": "validation"}
    wild = dataclasses.replace(QUICK, learning_rate=0.5)
    last = dd.evaluate(distilled, model, data, protocol=wild, **options)
    best = dd.evaluate(distilled, model, data, protocol=dataclasses.replace(wild, keep="best"), **options)
    np.testing.assert_allclose(best.accuracies, last.curve[:, 1:].max(1), atol=1e-6)
    np.testing.assert_allclose(best.curve[:, 1:], np.maximum.accumulate(last.curve[:, 1:], 1), atol=1e-6)
    assert best.mean > last.mean, "a case in which it matters"


def test_dropout_is_drawn_in_training(distilled, model, data):
    options = {"num_nets": 3, "num_curve_nets": 0}
    plain, dropped = (
        dd.train_on(distilled, model, jax.random.key(0), protocol=dataclasses.replace(QUICK, dropout=share))
        for share in (0.0, 0.5)
    )
    assert float(abs(plain["Dense_1"]["kernel"] - dropped["Dense_1"]["kernel"]).max()) > 1e-3
    assert dd.evaluate(distilled, model, data, protocol=dataclasses.replace(QUICK, dropout=0.5), **options).mean > 0.5


def test_graphs_take_no_augmentation_and_no_learnt_steps(distilled, model, data):
    with pytest.raises(OptionError, match=r"augment is 'dsa'\. Use \"none\""):
        dd.train_on(distilled, model, jax.random.key(0), protocol=dataclasses.replace(QUICK, augment="dsa"))
    with (
        pytest.raises(OptionError, match=r'a distilled graph has none\. Use the protocol "gcond"'),
        pytest.warns(dd.ProtocolWarning),
    ):
        dd.evaluate(distilled, model, data, num_nets=1, protocol="as-distilled")


@pytest.mark.slow
def test_every_network_can_be_trained_on_a_graph(distilled, data):
    labels = distilled.labels[0]
    alike = (labels[:, None] == labels[None]) & ~np.eye(6, dtype=bool)
    distilled = with_edges(distilled, jnp.asarray(alike, jnp.float32))
    for name, settings in {
        "sgc": {},
        "graphsage": {"hidden": 16},
        "appnp": {"hidden": 16, "steps": 2},
        "mlp": {"hidden": (16,)},
    }.items():
        model = dd.models.make(name, data, **settings)
        found = dd.evaluate(distilled, model, data, num_nets=2, num_curve_nets=0, protocol=QUICK)
        assert found.mean > 0.6, name


@pytest.mark.slow
def test_baselines_of_a_graph(distilled, model, data):
    assert baseline_names(GRAPH, compare_all=True) == FOR_GRAPHS
    assert set(FOR_GRAPHS) & set(CORESETS) == {"herding", "k-center", "herding features", "k-center features"}
    options = {"num_nets": 2, "num_sets": 2, "protocol": QUICK}
    found = dict(iterate_baselines(distilled, model, data, **options))
    assert tuple(found) == FOR_GRAPHS
    assert all(np.isfinite(baseline.evaluation.mean) for baseline in found.values())
    assert found["full training set"].evaluation.mean > 0.8
