"""Graph condensation: a small graph on which a network has the gradients of a large one (Jin et al. 2022)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, OptionError, check_at_least, check_choices
from dd_jax.inner import batch_loss, by_class, distance_named, draw_network, each_class
from dd_jax.inner.losses import Apply
from dd_jax.methods.base import Advice, Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.outer import OuterOptimiser, OuterState, outer_adam, scale_learning_rate
from dd_jax.models import Model, propagated, sgc
from dd_jax.synthetic import GraphSet, Synthetic, graph_set
from dd_jax.types import Dataset, DistilledData, Nodes, Params, Protocol
from dd_jax.values import made


class GraphCondensationState(NamedTuple):
    """The state of graph condensation, carried from one outer step to the next.

    Attributes:
        learnable: features and weights of the adjacency, each with the state of its optimiser.
        network, moments: the network in training, and its optimiser's state.
        matches: outer steps so far.
    """

    learnable: GraphSet
    features_outer: OuterState
    edges_outer: OuterState
    network: Params
    moments: optax.OptState
    matches: Int[Array, ""]


class GraphCondensationInfo(NamedTuple):
    """What an outer step of graph condensation reports.

    Attributes:
        loss: distance of the gradients, summed over classes.
        hypergradient_norm: global norm of its gradient.
        feature_norm: mean length of the nodes' features: the loss doesn't see it, so that it may drift.
        density: mean weight of the edges.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    feature_norm: Float[Array, ""]
    density: Float[Array, ""]


class RealClasses(NamedTuple):
    """Training nodes by class. inputs: those nodes, or their propagated features, as a network takes them.

    table (K, P): which of them each class has, repeated where it has fewer than the largest; sizes (K,): how many.
    """

    inputs: Any
    table: Int[Array, "classes largest"]
    sizes: Int[Array, " classes"]


@dataclasses.dataclass(frozen=True)
class GraphCondensationOptions:
    """Hyper-parameters of `graph_condensation`."""

    nodes_per_class: int = 5
    """Distilled nodes of each class."""
    structure: bool = True
    """Learn edges too. Without them the method is GCond-X."""
    one_step: bool = False
    """Match each network once, as it is drawn (DosCond). Sets num_matches to 1 and inner_steps to 0."""
    learner: Literal["sgc", "model"] = "sgc"
    """Networks whose gradients are matched: linear ones on propagated features, or those of the model."""
    sgc_steps: int = 2
    """Propagations for the learner "sgc"."""
    num_matches: int = 20
    """Outer steps with a network before another one is drawn."""
    inner_steps: int = 15
    """Steps to train a network for on the distilled graph between two matches."""
    inner_learning_rate: float = 0.01
    """Learning rate of the networks' Adam."""
    learning_rate: float = 1e-4
    """Outer learning rate of the features."""
    edge_learning_rate: float = 1e-3
    """Outer learning rate of the perceptron that makes the edges."""
    edge_networks: int = 10
    """Networks in a row that serve to learn the edges. Edges and features take turns."""
    feature_networks: int = 40
    """Networks in a row that serve to learn the features. Edges and features take turns."""
    hidden: int = 128
    """Units of the perceptron's two hidden layers."""
    distance: Literal["unit_cosine", "cosine", "mse", "l1"] = "unit_cosine"
    """Distance between two gradients: the cosine distance of each output unit or of the whole, or squared or absolute
    differences."""
    batch_size: int = 256
    """Real nodes of each class that a match compares with: all nodes of the class, or this many drawn with
    replacement."""
    protocol: str = "gcond"
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`."""


@described(GraphCondensationOptions)
def graph_condensation(model: Model, options: GraphCondensationOptions | None = None, **overrides: Any) -> Method:
    """Learn node features X', and edges A' that are computed from them, with the gradients of a large graph (A, X).

    min over X', g of E_{theta_0 ~ p} sum_t sum_c D(grad l_c(theta_t; A, X), grad l_c(theta_t; g(X'), X'))

    An outer step is one match, at one t, and moves X' or g, in turns. Before the next one the network is trained on the
    distilled graph, or after `num_matches` drawn anew. l_c: mean loss on the nodes of class c.

    Args:
        model: the network that judges sets, and that is matched with learner="model".
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. graph_condensation(model, nodes_per_class=10).

    Raises:
        OptionError: for options out of range or unknown names; at the start DataError for data that are no graph.

    Source: Jin et al. 2022, *Graph Condensation for Graph Neural Networks*, Algorithm 1 and the released code;
    Jin et al. 2022, *Condensing Graphs via One-Step Gradient Matching* (one_step).
    """
    opts = with_loops(with_overrides(options or GraphCondensationOptions(), overrides))
    _check(opts)
    learner = _learner(model, opts)
    synthetic = _graph(model, opts)
    features_optimiser, edges_optimiser = _optimisers(opts)
    protocol = Protocol(opts.protocol, order="random")

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> GraphCondensationState:
        learnable = synthetic.init(key, dataset)
        # This network only holds the place: the step that begins a network's life draws it.
        network = draw_network(learner, key)
        return GraphCondensationState(
            learnable,
            features_optimiser.init(learnable.features, num_outer_steps),
            edges_optimiser.init(learnable.edges, num_outer_steps),
            network,
            optax.adam(opts.inner_learning_rate).init(network),
            jnp.int32(0),
        )

    def distilled(state: GraphCondensationState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def real(dataset: Dataset) -> RealClasses:
        return real_classes(learner, dataset)

    def scale_both_learning_rates(state: GraphCondensationState, factor: float) -> GraphCondensationState:
        features, edges = (scale_learning_rate(outer, factor) for outer in (state.features_outer, state.edges_outer))
        return state._replace(features_outer=features, edges_outer=edges)

    step, arrays = compiled_step(_step, model, opts, _ROLES, real)
    return Method(
        "graph_condensation",
        init,
        step,
        distilled,
        model,
        dataclasses.asdict(opts),
        lambda _: 1,
        arrays,
        scale_learning_rate=scale_both_learning_rates,
        summary=f"{opts.nodes_per_class * model.num_classes} nodes {'with' if opts.structure else 'without'} edges",
        protocol=protocol,
        advice=Advice("a smaller learning_rate or edge_learning_rate", ("a smaller batch_size",)),
    )


_ROLES = Roles(
    numbers={"learning_rate": None, "edge_learning_rate": None, "inner_learning_rate": None}, outside=("protocol",)
)


def _step(model: Model, opts: GraphCondensationOptions) -> StepFn:
    learner, synthetic = _learner(model, opts), _graph(model, opts)
    features_optimiser, edges_optimiser = _optimisers(opts)
    inner_optimiser = optax.adam(opts.inner_learning_rate)
    matching_loss = _matching_loss(learner, opts)
    inner_loss = batch_loss(learner.apply)

    def advance(key: jax.Array, state: GraphCondensationState) -> tuple[Params, optax.OptState]:
        """The network of this match: a new one, or that of the last match after some more training."""

        def draw() -> tuple[Params, optax.OptState]:
            network = learner.init(key)
            return network, inner_optimiser.init(network)

        def trained() -> tuple[Params, optax.OptState]:
            batch = synthetic.batch(state.learnable, key, jnp.int32(0))
            batch = batch._replace(images=propagated(learner, batch.images))

            def step(_: jax.Array, carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
                network, moments = carry
                updates, moments = inner_optimiser.update(jax.grad(inner_loss)(network, batch), moments, network)
                return optax.apply_updates(network, updates), moments

            return lax.fori_loop(0, opts.inner_steps, step, (state.network, state.moments))

        if opts.num_matches == 1:
            return draw()
        return lax.cond(state.matches % opts.num_matches == 0, draw, trained)

    def step(
        key: jax.Array, state: GraphCondensationState, arrays: RealClasses
    ) -> tuple[GraphCondensationState, GraphCondensationInfo]:
        network_key, data_key = jax.random.split(key)
        network, moments = advance(network_key, state)
        real = real_nodes(data_key, arrays, opts.batch_size)

        def objective(learnable: GraphSet) -> tuple[jax.Array, jax.Array]:
            nodes: Any = synthetic.batch(learnable, key, jnp.int32(0)).images
            return matching_loss(network, nodes, arrays.inputs, *real), nodes.adjacency.mean()

        (loss, density), gradient = jax.value_and_grad(objective, has_aux=True)(state.learnable)

        def move_features(state: GraphCondensationState) -> GraphCondensationState:
            moved, outer = features_optimiser.update(gradient.features, state.features_outer, state.learnable.features)
            return state._replace(learnable=state.learnable._replace(features=moved), features_outer=outer)

        def move_edges(state: GraphCondensationState) -> GraphCondensationState:
            moved, outer = edges_optimiser.update(gradient.edges, state.edges_outer, state.learnable.edges)
            return state._replace(learnable=state.learnable._replace(edges=moved), edges_outer=outer)

        if opts.structure:
            turn = state.matches // opts.num_matches % (opts.edge_networks + opts.feature_networks)
            state = lax.cond(turn < opts.edge_networks, move_edges, move_features, state)
        else:
            state = move_features(state)
        norm = jnp.linalg.norm(state.learnable.features, axis=1).mean()
        info = GraphCondensationInfo(loss, optax.global_norm(gradient), norm, density)
        return state._replace(network=network, moments=moments, matches=state.matches + 1), info

    return step


def _learner(model: Model, options: GraphCondensationOptions) -> Model:
    """The network whose gradients are matched."""
    return sgc(model, steps=options.sgc_steps) if options.learner == "sgc" else model


def _graph(model: Model, options: GraphCondensationOptions) -> Synthetic:
    return graph_set(model.num_classes, options.nodes_per_class, options.structure, options.hidden)


def _optimisers(options: GraphCondensationOptions) -> tuple[OuterOptimiser, OuterOptimiser]:
    """Those of the features and of the edges."""
    features, edges = (
        outer_adam(rate, b1=0.9, b2=0.999, schedule="constant")
        for rate in (options.learning_rate, options.edge_learning_rate)
    )
    return features, edges


def with_loops(options: GraphCondensationOptions) -> GraphCondensationOptions:
    """The options with the loops of DosCond, if it is that."""
    return dataclasses.replace(options, num_matches=1, inner_steps=0) if options.one_step else options


def real_classes(learner: Model, dataset: Dataset) -> RealClasses:
    """The training nodes of a dataset, propagated once where that is all that the learner does with the graph.

    Raises:
        DataError: if they are no nodes, or a class has none.
    """
    if not isinstance(dataset.train.images, Nodes):
        raise DataError(
            f"graph_condensation needs a graph, but {dataset.name} is a set of images. Use one "
            "such as 'cora', or make one with dd_jax.graph_from_arrays."
        )
    classes = by_class(dataset.train, learner.num_classes)
    places = np.arange(int(classes.sizes.max()))[None] % np.asarray(classes.sizes)[:, None]
    table = np.asarray(classes.order)[np.asarray(classes.first)[:, None] + places]
    inputs = _computed(made(_propagation, learner), dataset.train.images)
    return RealClasses(inputs, jnp.asarray(table), classes.sizes)


def _propagation(learner: Model) -> Callable[[Any], Any]:
    return lambda nodes: propagated(learner, nodes)


@functools.partial(jax.jit, static_argnums=0)
def _computed(function: Callable[[Any], Any], nodes: Any) -> Any:
    return function(nodes)


def real_nodes(
    key: jax.Array, real: RealClasses, size: int
) -> tuple[Int[Array, "classes rows"], Float[Array, "classes rows"]]:
    """Which training nodes of each class to compare with, and their weights: all, or `size` drawn with replacement."""
    largest = real.table.shape[1]
    if largest <= size:
        counts = jnp.arange(largest)[None] < real.sizes[:, None]
        return real.table, counts / real.sizes[:, None]
    places = jax.random.randint(key, (len(real.sizes), size), 0, real.sizes[:, None])
    return jnp.take_along_axis(real.table, places, 1), jnp.full(places.shape, 1.0 / size)


def class_gradients(apply: Apply, params: Params, inputs: Any, rows: jax.Array, weights: jax.Array) -> Params:
    """The gradient of the loss on the nodes of each class, with a leading axis for these.

    Args:
        rows, weights: (K, B) which nodes of `inputs` each class has, and their shares in its loss.
    """

    def of_class(item: tuple[jax.Array, jax.Array, jax.Array]) -> Params:
        c, mine, shares = item

        def loss(params: Params) -> jax.Array:
            chances = jax.nn.log_softmax(apply(params, inputs[mine]))
            return -jnp.vdot(shares.astype(chances.dtype), chances[:, c])

        return jax.grad(loss)(params)

    return each_class(of_class, (jnp.arange(len(rows)), rows, weights))


def _matching_loss(learner: Model, options: GraphCondensationOptions) -> Callable[..., jax.Array]:
    """(params, distilled nodes, real inputs, their rows, their weights) -> sum_c D: the loss of a match."""
    distance, count = distance_named(options.distance), options.nodes_per_class
    rows = np.arange(learner.num_classes * count).reshape(-1, count)

    def loss(params: Params, nodes: Nodes, real: Any, real_rows: jax.Array, weights: jax.Array) -> jax.Array:
        goal = lax.stop_gradient(class_gradients(learner.apply, params, real, real_rows, weights))
        mine = propagated(learner, nodes)
        shares = jnp.full(rows.shape, 1.0 / count)
        found = class_gradients(learner.apply, params, mine, jnp.asarray(rows), shares)
        return jax.vmap(distance)(goal, found).sum()

    return loss


def _check(options: GraphCondensationOptions) -> None:
    check_at_least(1, options, "num_matches", "batch_size", "feature_networks", "sgc_steps")
    check_at_least(0, options, "inner_steps", "edge_networks")
    if not 0 < options.inner_learning_rate < float("inf"):
        raise OptionError(f"inner_learning_rate must be positive and finite, but is {options.inner_learning_rate}.")
    check_choices(options)


def _words(options: GraphCondensationOptions) -> tuple[str, ...]:
    name = "doscond" if options.one_step else "gcond"
    return (name if options.structure else f"{name}-x", f"npc{options.nodes_per_class}")


_SMALL = {"inner_steps": 1, "hidden": 8}
SPEC = MethodSpec("graph_condensation", GraphCondensationOptions, graph_condensation, _words, _SMALL)
