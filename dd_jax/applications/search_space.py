"""Which networks are searched: a grid of small ConvNets, or any networks by their names and settings."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dd_jax import models
from dd_jax.errors import DDJaxError, OptionError
from dd_jax.models import ImageSpec, Model, convnet_family, family_member, parse_model
from dd_jax.models.base import InitFn
from dd_jax.models.layers import BATCH
from dd_jax.runs.progress import note
from dd_jax.types import Params
from dd_jax.values import Made, made


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Every combination of these settings of `convnet`."""

    widths: tuple[int, ...] = (4, 8, 16)
    """Channels of each block."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Blocks."""
    norms: tuple[str, ...] = ("none", "instance", "layer", "group")
    """Normalisations."""
    activations: tuple[str, ...] = ("sigmoid", "relu", "leaky_relu")
    """Activations."""
    poolings: tuple[str, ...] = ("none", "max", "avg")
    """Poolings."""

    def models(self) -> tuple[str, ...]:
        """The networks, as `parse_model` reads them."""
        grid = itertools.product(self.widths, self.depths, self.norms, self.activations, self.poolings)
        return tuple(
            f"convnet:width={width},depth={depth},norm={norm},activation={activation},pooling={pooling}"
            for width, depth, norm, activation, pooling in grid
        )


# The grid of Zhao et al. 2021, section 4.4: 720 ConvNets. Batch normalisation is by the batch at hand, after training
# too, where theirs keeps running statistics.
DC_SPACE = SearchSpace(
    widths=(32, 64, 128, 256), depths=(1, 2, 3, 4), norms=("none", "batch", "layer", "instance", "group")
)


class Candidate(NamedTuple):
    """A network that is searched.

    Attributes:
        name: with its settings, as it was given.
        family: a network of which all candidates of the same family are members; compiled once for all of them.
        choice: what makes it this member; empty of a network that is alone.
        num_params: how many numbers it has.
    """

    name: str
    family: Model
    choice: Mapping[str, np.ndarray]
    num_params: int


def candidates(names: Sequence[str], data: ImageSpec) -> list[Candidate]:
    """The networks of these names for the data; those that can't be built for it are left out, and told.

    Raises:
        OptionError: for a name that can't be read or stands twice, or where no candidate is left.
    """
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise OptionError(f"Every candidate must be in the space once, but {twice[0]} is in it several times.")
    found, reasons = [], []
    for name in names:
        parse_model(name)
        try:
            found.append(_candidate(name, data))
        except DDJaxError as error:
            reasons.append(f"{name}: {error}")
    if not found:
        raise OptionError(
            "No candidate can be built for this dataset. The reason for the first: "
            f"{(reasons[0] if reasons else 'there are no candidates')}"
        )
    if reasons:
        note(
            f"Note: {len(reasons)} of {len(names)} candidates can't be built and are left out. "
            f"The reason for the first: {reasons[0]}"
        )
    return found


def drawn(names: Sequence[str], count: int | None, seed: int) -> tuple[str, ...]:
    """`count` of the names at random, in their order; all of them for None or where there are no more."""
    if count is None or count >= len(names):
        return tuple(names)
    chosen = np.random.default_rng((seed, len(names))).choice(len(names), count, replace=False)
    return tuple(names[i] for i in sorted(chosen.tolist()))


def members_of(family: Model) -> Made:
    """(choice, key) -> the untrained member of a family."""
    return made(_member_of, family.init)


def _member_of(init: InitFn) -> Any:
    def start(source: tuple[Mapping[str, Any], jax.Array]) -> Params:
        choice, key = source
        params: Any = init(key)
        return {**params, "choice": choice} if choice else params

    return start


def _candidate(name: str, data: ImageSpec) -> Candidate:
    model = models.from_spec(name, data)
    if model.kernel is not None:
        raise OptionError(
            f"The search trains networks in steps, but {name} is infinitely wide and has no weights. "
            "Use networks with weights."
        )
    size = models.num_params(model)
    if parse_model(name)[0] != "convnet":
        return Candidate(name, model, {}, size)
    own = dict(model.settings)
    shape: dict[str, Any] = {key: own[key] for key in ("width", "depth", "initialiser")}
    over_batch = own["norm"] == BATCH
    family = convnet_family(data, **shape, pooled=own["pooling"] != "none", over_batch=over_batch)
    norm = "none" if over_batch else own["norm"]
    return Candidate(name, family, family_member(norm, own["activation"], own["pooling"]), size)
