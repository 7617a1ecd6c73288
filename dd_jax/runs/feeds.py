"""The arrays that outer steps read: once for the whole run, or window by window, read ahead while the device works."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dd_jax.inner import replicate
from dd_jax.methods import Method
from dd_jax.types import Dataset


class Arrays:
    """What the outer steps of a run read. The steps of one window read the same arrays.

    The windows of a step depend on the step alone, so a run that is resumed, or goes back, reads the same ones again.
    """

    def __init__(self, method: Method, dataset: Dataset, seed: int, num_outer_steps: int, mesh: Mesh | None):
        self._method, self._dataset, self._mesh = method, dataset, mesh
        self._seed, self._last = seed, max(0, num_outer_steps - 1)
        self._stream = dataset.stream
        self._feed = method.feed
        self._feeds = [feed for feed in (self._stream, self._feed) if feed is not None]
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="windows") if self._feeds else None
        self._coming: dict[tuple[int, int], Future] = {}  # windows by feed and number
        self._held: dict[tuple[int, int], Any] = {}  # those that are read now, where one feed's outlast another's
        self._now: tuple[int, ...] | None = None
        self._there: Any = None
        self._always: Any = None  # of a dataset that is all in memory
        self.window_bytes = 0  # of the windows that are read ahead

    def at(self, step: int) -> Any:
        """The arrays of outer step `step`; raises what reading them raises."""
        numbers = self._numbers(step)
        if numbers != self._now:
            windows = [self._window(place, number) for place, number in enumerate(numbers)]
            if len(windows) > 1:
                self._held = dict(zip(enumerate(numbers), windows, strict=True))
            self.window_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(windows))
            self._there = self._now = None  # its memory is free before that of the next is taken
            self._there, self._now = self._joined(windows), numbers
            self._read_ahead(step)
        return self._there

    def left(self, step: int) -> int | None:
        """Outer steps from `step` on that read the same arrays; None for all of them."""
        return min((feed.window - step % feed.window for feed in self._feeds), default=None)

    def close(self) -> None:
        """Don't read any further."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _numbers(self, step: int) -> tuple[int, ...]:
        return tuple(step // feed.window for feed in self._feeds)

    def _window(self, place: int, number: int) -> Any:
        if (place, number) in self._held:
            return self._held[place, number]
        coming = self._coming.pop((place, number), None)
        return self._feeds[place].read(self._seed, number) if coming is None else coming.result()

    def _joined(self, windows: list[Any]) -> Any:
        if self._stream is not None:
            dataset = self._stream.join(self._dataset, windows[0])
            arrays = replicate(self._method.arrays(dataset), self._mesh)
        else:
            if self._always is None:
                self._always = replicate(self._method.arrays(self._dataset), self._mesh)
            arrays = self._always
        if self._feed is None:
            return arrays
        return self._feed.join(arrays, replicate(jax.tree.map(jnp.asarray, windows[-1]), self._mesh))

    def _read_ahead(self, step: int) -> None:
        """Begin to read the window after the present one of each feed, and forget all others."""
        assert self._pool is not None or not self._feeds
        wanted = {}
        for place, feed in enumerate(self._feeds):
            number = step // feed.window + 1
            if number * feed.window <= self._last:
                wanted[place, number] = feed.read
        for key in set(self._coming) - set(wanted):
            self._coming.pop(key).cancel()
        for key, read in wanted.items():
            if key not in self._coming and self._pool is not None:
                self._coming[key] = self._pool.submit(read, self._seed, key[1])
