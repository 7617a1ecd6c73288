"""What is written for TensorBoard: the metrics and pictures of a run, once each, whatever its interruptions."""

import importlib.util
import struct

import pytest

import dd_jax as dd
from dd_jax.runs import loop
from dd_jax.runs.loop import RunInterrupted

board_written = pytest.mark.skipif(
    importlib.util.find_spec("tensorboardX") is None, reason="needs pip install -e '.[tensorboard]'"
)


def run(method, digits, out, **changes):
    options = {"num_outer_steps": 10, "eval_every": 5, "num_eval_nets": 1, "show_progress": False, "tensorboard": True}
    return dd.distill(method, digits, out=out, **{**options, **changes})


def events(folder):
    """(step, tag, kind) of every summary, in the order in which they count: later files purge what is after them."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == 1:
                found = [one for one in found if one[0] < event.step]
            found += [(event.step, value.tag, value.WhichOneof("value")) for value in event.summary.value]
    return found


@board_written
def test_rows_and_pictures_are_there(method, digits, tmp_path):
    rows = run(method, digits, tmp_path).history
    found = events(tmp_path / "tensorboard")
    assert [step for step, tag, _ in found if tag == "validation"] == [0, 5, 10]
    assert [step for step, tag, kind in found if tag == "distilled" and kind == "image"] == [0, 5, 10]
    assert [step for step, tag, _ in found if tag == "loss"] == [row["step"] for row in rows if "loss" in row]


@board_written
def test_a_resumed_run_has_each_of_them_once(method, digits, tmp_path, monkeypatch):
    asked = iter([False, False, False, True])

    class Asked:
        def __enter__(self):
            return lambda: next(asked, False)

        def __exit__(self, *_):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_requests", Asked)
        patch.setattr(loop.Pace, "start", lambda self, left: min(3, left))
        with pytest.raises(RunInterrupted):
            run(method, digits, tmp_path)
    run(method, digits, tmp_path)
    found = events(tmp_path / "tensorboard")
    assert [step for step, tag, _ in found if tag == "loss"] == list(range(1, 11))
    assert [step for step, tag, _ in found if tag == "validation"] == [0, 5, 10]


def test_without_the_package_it_says_so_at_once(method, digits, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else found(name))
    with pytest.raises(dd.OptionError, match=r'not installed: pip install -e ".*\[tensorboard\]"'):
        run(method, digits, tmp_path / "run")
    assert not (tmp_path / "run").exists()
