"""The contract of a parameterisation: what is learnt, and how it becomes batches."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Transform


class InitFn(Protocol):
    """(key, dataset) -> learnable pytree."""

    def __call__(self, key: jax.Array, dataset: Dataset) -> Learnable: ...


class BatchFn(Protocol):
    """(learnable, key, t) -> the batch of inner step t; t may be traced."""

    def __call__(self, learnable: Learnable, key: jax.Array, t: jax.Array) -> Batch: ...


class DecodeFn(Protocol):
    """learnable -> the whole distilled set, for evaluation and export, with its parameterisation."""

    def __call__(self, learnable: Learnable) -> DistilledData: ...


@runtime_checkable
class ProjectFn(Protocol):
    """(learnable, transform) -> the nearest valid learnable, applied after each outer step.

    Args:
        transform: of the dataset, where what is valid is said in pixels; a parameterisation without bounds needs none.
    """

    def __call__(self, learnable: Learnable, transform: Transform | None = None) -> Learnable: ...


class Synthetic(NamedTuple):
    """How a distilled set is learnt, as pure functions, with its number of inner steps T."""

    init: InitFn
    batch: BatchFn
    decode: DecodeFn
    project: ProjectFn
    num_inner_steps: int


def unbounded(learnable: Learnable, transform: Transform | None = None) -> Learnable:
    """The learnable as it is: the projection where anything is valid."""
    del transform
    return learnable


def describe(arrays: Mapping[str, Any]) -> str:
    """The names of arrays with their shapes, for messages."""
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
