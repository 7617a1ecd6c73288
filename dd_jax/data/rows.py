"""Images that stay on disk until they are asked for."""

from collections.abc import Iterator
from typing import Any

import numpy as np

CHUNK = 1024  # images read at a time


class Rows:
    """Some rows of an array, such as a memory-mapped one: indexing reads those that are asked for, and no others."""

    def __init__(self, array: np.ndarray, indices: np.ndarray | None = None):
        self._array = array
        self._indices = np.arange(len(array)) if indices is None else indices
        self.shape = (len(self._indices), *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._array[self._indices[index]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def chosen(self, indices: np.ndarray) -> "Rows":
        """Rows number `indices` of these, unread."""
        return Rows(self._array, self._indices[indices])

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in order, some at a time."""
        for start in range(0, len(self), CHUNK):
            yield self[start : start + CHUNK]
