"""A distilled graph, drawn: nodes in the colours of their classes, its strongest edges, and its adjacency."""

from typing import Any

import numpy as np

from dd_jax.figures.plots import COLOURS, DPI, FAINT, FONT, INK
from dd_jax.types import DistilledData

MAX_NODES = 300  # that are drawn; more can't be told apart
EDGES_PER_NODE = 3  # on average: all pairs have an edge, most of them much alike

_MARKERS = "osD^vP*X"
_ROUNDS = 150  # of the layout
_SIDE = 3.4  # inches, of the drawing and of the matrix


def graph_figure(distilled: DistilledData) -> Any:
    """The nodes near those that they have strong edges with, and beside it all weights, in the order of the classes."""
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    labels, weights = shown_nodes(distilled)
    names = distilled.class_names or tuple(map(str, range(int(labels.max()) + 1)))
    pairs, strengths = strongest(weights, EDGES_PER_NODE * len(labels))
    places = layout(labels, weights)
    rows = -(-len(names) // 3)
    width, below = 2 * _SIDE + 0.5, 0.22 * rows + 0.3
    height = _SIDE + below + 0.35
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    drawn = figure.add_axes((0.1 / width, below / height, _SIDE / width, _SIDE / height))
    if len(pairs):
        lines = LineCollection(places[pairs], colors=FAINT, linewidths=0.3 + 1.2 * strengths, zorder=1)
        drawn.add_collection(lines)
    for index, name in enumerate(names):
        mine = places[labels == index]
        style: dict[str, Any] = {
            "c": COLOURS[index % len(COLOURS)],
            "marker": _MARKERS[index // len(COLOURS) % len(_MARKERS)],
        }
        drawn.scatter(mine[:, 0], mine[:, 1], s=26, edgecolors="white", linewidths=0.6, zorder=2, label=name, **style)
    drawn.margins(0.06)
    drawn.set_axis_off()
    matrix = figure.add_axes(((_SIDE + 0.4) / width, below / height, _SIDE / width, _SIDE / height))
    matrix.imshow(weights, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    for edge in np.flatnonzero(np.diff(labels)) + 0.5:
        matrix.axhline(edge, color=COLOURS[0], linewidth=0.4)
        matrix.axvline(edge, color=COLOURS[0], linewidth=0.4)
    matrix.set_xticks([])
    matrix.set_yticks([])
    text: dict[str, Any] = {"fontsize": FONT, "color": INK, "parse_math": False}
    figure.text(0.1 / width, 1 - 0.1 / height, f"Nodes, and {len(pairs)} strongest edges", va="top", **text)
    title = "Weights of all edges, white: 0, black: 1; classes apart"
    figure.text((_SIDE + 0.4) / width, 1 - 0.1 / height, title, va="top", **text)
    figure.legend(*drawn.get_legend_handles_labels(), loc="lower left", ncols=3, fontsize=FONT, frameon=False)
    return figure


def adjacency_picture(distilled: DistilledData, side: int = 256) -> np.ndarray:
    """The weights of all edges as pixels (H, W, 3), white: 0, black: 1, about as large as `side`."""
    weights = shown_nodes(distilled)[1]
    factor = max(1, side // len(weights))
    pixels = 1.0 - weights.repeat(factor, axis=0).repeat(factor, axis=1)
    return np.broadcast_to(pixels[..., None], (*pixels.shape, 3))


def shown_nodes(distilled: DistilledData) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,), class after class, and weights (N, N) of the nodes that are drawn: all, or evenly spread ones."""
    labels = np.asarray(distilled.labels[0])
    classes = labels if labels.ndim == 1 else labels.argmax(-1)
    order = np.argsort(classes, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(len(order), MAX_NODES)).round().astype(int)]
    return classes[order], np.asarray(distilled.images.adjacency)[np.ix_(order, order)]


def strongest(weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` edges of most weight, or as many as there are, (E, 2), and their weights (E,)."""
    first, second = np.triu_indices(len(weights), 1)
    found = weights[first, second]
    chosen = np.argsort(-found, kind="stable")[:count]
    chosen = chosen[found[chosen] > 0]
    return np.stack([first, second], 1)[chosen], found[chosen]


def layout(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Places (N, 2): edges pull, all nodes push each other away; classes start side by side on a circle.

    Source: Fruchterman & Reingold 1991, with the edges' weights, as far as they are above their mean, as strengths.
    """
    count = len(labels)
    angles = 2 * np.pi * (labels + 0.5 * np.linspace(0, 1, count)) / (labels.max() + 1)
    places = np.stack([np.cos(angles), np.sin(angles)], 1) * np.linspace(0.8, 1.2, count)[:, None]
    if count == 1:
        return places
    pull = np.maximum(weights - weights.sum() / (count * (count - 1)), 0)
    pull = pull / max(pull.max(), 1e-9)
    length = 2.0 / np.sqrt(count)
    for step in range(_ROUNDS):
        apart = places[:, None] - places[None]
        distances = np.maximum(np.linalg.norm(apart, axis=-1, keepdims=True), 1e-3)
        forces = apart / distances * (length**2 / distances - pull[..., None] * distances**2 / length)
        moves = forces.sum(1) - 0.3 * places  # towards the middle, or nodes without strong edges would be gone
        sizes = np.maximum(np.linalg.norm(moves, axis=1, keepdims=True), 1e-9)
        places = places + moves / sizes * np.minimum(sizes, 0.2 * (1 - step / _ROUNDS))
    return places
