"""Windows of arrays: in the right steps, read ahead, the same after a resume, and nothing lost where reading fails."""

import dataclasses
import threading

import numpy as np
import pytest
from cut_runs import cut_and_whole

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.methods import unrolled
from dd_jax.runs.feeds import Arrays
from dd_jax.types import Feed

SMALL = {"images_per_class": 1, "num_batches": 1, "num_epochs": 1, "num_inits": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def streamed():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (120, 4, 4, 1), dtype=np.uint8)
    return dd.dataset_from_arrays(images, np.arange(120) % 3, resident_images=30)


@pytest.fixture(scope="module")
def network(streamed):
    return dd.models.mlp(streamed, hidden=(5,))


def numbered(method, window, read=lambda seed, number: np.full((2,), 100 * seed + number)):
    """The method with a feed whose windows tell their seed and number; its arrays are (arrays, window)."""
    plain = method.arrays
    return method._replace(arrays=lambda data: (plain(data), None), feed=Feed(window, read, lambda a, w: (a[0], w)))


def test_a_step_reads_its_window_and_the_next_is_read_ahead(digits, digits_mlp):
    read, threads = [], set()

    def reading(seed, number):
        read.append(number)
        threads.add(threading.current_thread())
        return np.full((2,), 100 * seed + number)

    arrays = Arrays(numbered(unrolled(digits_mlp, **SMALL), 4, reading), digits, 7, 12, None)
    seen = [int(arrays.at(step)[1][0]) for step in range(12)]
    assert seen == [700] * 4 + [701] * 4 + [702] * 4
    assert read == [0, 1, 2], "each window once, and none after the last step"
    assert len(threads) == 2, "the first where it is asked for, the others beside"
    assert [arrays.left(step) for step in (0, 3, 4, 6)] == [4, 1, 4, 2]
    assert int(arrays.at(2)[1][0]) == 700, "going back reads again"
    arrays.close()


def test_a_window_that_outlasts_another_is_read_once(streamed, network):
    read = []

    def reading(seed, number):
        read.append(number)
        return np.full((2,), number)

    data = _with_stream(streamed, streamed.stream._replace(window=2))
    arrays = Arrays(numbered(unrolled(network, **SMALL), 5, reading), data, 0, 10, None)
    parts = [arrays.at(step) for step in range(10)]
    assert [int(window[0]) for _, window in parts] == [0] * 5 + [1] * 5
    assert len({id(given) for given, _ in parts}) >= 5, "another part every other step"
    arrays.close()
    assert read == [0, 1]


def test_a_run_without_feeds_reads_its_arrays_once(digits, digits_mlp):
    arrays = Arrays(unrolled(digits_mlp, **SMALL), digits, 0, 10, None)
    assert arrays.at(0) is arrays.at(9)
    assert arrays.left(3) is None
    assert arrays.window_bytes == 0


def test_a_streamed_dataset_gives_every_window_another_part(streamed, network):
    arrays = Arrays(unrolled(network, **SMALL), streamed, 3, 500, None)
    window = streamed.stream.window
    first, again, second = (arrays.at(step).arrays.images for step in (0, window - 1, window))
    assert first is again
    assert first.shape == second.shape
    assert not np.array_equal(first, second)
    expected = streamed.stream.join(streamed, streamed.stream.read(3, 1)).train.images
    np.testing.assert_array_equal(second, expected)
    arrays.close()


def test_a_streamed_run_goes_on_to_the_same_bits(streamed, network, tmp_path):
    """Cut in the middle of a window, with dispatches of other lengths."""
    data, method = _with_stream(streamed, streamed.stream._replace(window=4)), unrolled(network, **SMALL)
    cut, whole = cut_and_whole(method, data, tmp_path, 6, num_outer_steps=12, eval_every=3, num_eval_nets=1)
    np.testing.assert_array_equal(cut.distilled.images, whole.distilled.images)
    assert [row["loss"] for row in cut.history if "loss" in row] == [r["loss"] for r in whole.history if "loss" in r]


def test_what_can_not_be_read_costs_no_work(streamed, network, tmp_path):
    broken = []

    def reading(seed, number):
        if number == 2 and not broken:
            broken.append(number)
            raise DataError("the disk is gone")
        return streamed.stream.read(seed, number)

    data = _with_stream(streamed, streamed.stream._replace(window=4, read=reading))
    method, options = unrolled(network, **SMALL), {"num_outer_steps": 12, "eval_every": 12, "num_eval_nets": 1}
    with pytest.raises(DataError, match="the disk is gone"):
        dd.distill(method, data, out=tmp_path / "run", **options)
    run = dd.distill(method, data, out=tmp_path / "run", **options)
    whole = dd.distill(method, data, **options)
    assert [row["step"] for row in run.history if "loss" in row][-1] == 12
    np.testing.assert_array_equal(run.distilled.images, whole.distilled.images)


def test_windows_that_are_read_ahead_count_as_memory(streamed, network, monkeypatch):
    method = unrolled(network, **SMALL)
    need = dd.estimate(method, streamed, num_outer_steps=1)
    part = streamed.stream.read(0, 0)
    less = dd.estimate(method, _with_stream(streamed, None), num_outer_steps=1)
    assert need.program_memory - less.program_memory == sum(array.nbytes for array in part)
    monkeypatch.setattr("dd_jax.runs.estimates.free_memory", lambda: need.program_memory - 1)
    with pytest.raises(OptionError, match="An outer step needs"):
        dd.distill(method, streamed, num_outer_steps=1)


def test_runs_on_other_parts_are_other_runs(streamed, network):
    configs = [
        dd.runs.loop.run_config(unrolled(network, **SMALL), data)["dataset"]
        for data in (streamed, _with_stream(streamed, None))
    ]
    assert configs[0] != configs[1]
    assert "resident_images" not in configs[1]


def _with_stream(dataset, stream):
    return dataclasses.replace(dataset, stream=stream)
