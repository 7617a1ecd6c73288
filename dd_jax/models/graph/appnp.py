"""Personalised propagation of predictions, APPNP (Gasteiger et al. 2019)."""

import jax

from dd_jax.errors import OptionError
from dd_jax.models.base import ImageSpec, Model
from dd_jax.models.graph.base import Layer, Outputs, check_graph, dropped, graph_model
from dd_jax.models.graph.propagation import symmetric
from dd_jax.types import Nodes
from dd_jax.values import made


def appnp(
    data: ImageSpec, *, hidden: int = 256, steps: int = 10, teleport: float = 0.1, initialiser: str = "default"
) -> Model:
    """Personalised propagation: H = MLP(X); Z <- (1 - alpha) S Z + alpha H, from Z = H, K times.

    Args:
        hidden: units of the perceptron's one hidden layer.
        steps: K.
        teleport: alpha.

    Raises:
        OptionError: for sizes or alpha out of range or an unknown initialiser.
        DataError: for data that are no nodes.

    Source: Gasteiger et al. 2019, equations 4 to 6.
    """
    check_graph(data, "appnp", {"hidden": (hidden, 1), "steps": (steps, 0)})
    if not 0 <= teleport <= 1:
        raise OptionError(f"The teleport of appnp must be from 0 to 1, but is {teleport}.")
    sizes = [(data.image_shape[-1], hidden), (hidden, data.num_classes)]

    settings = {"hidden": hidden, "steps": steps, "teleport": teleport}
    return graph_model("appnp", data, sizes, initialiser, made(_outputs, steps, teleport), settings)


def _outputs(steps: int, teleport: float) -> Outputs:
    def outputs(layers: list[Layer], nodes: Nodes) -> tuple[jax.Array, jax.Array]:
        first, last = layers
        x = dropped(nodes, jax.nn.relu(nodes.features @ first["kernel"] + first["bias"][None]), 0)
        own = found = x @ last["kernel"] + last["bias"][None]
        for _ in range(steps):
            found = (1.0 - teleport) * symmetric(nodes.adjacency, found) + teleport * own
        return found, x

    return outputs
