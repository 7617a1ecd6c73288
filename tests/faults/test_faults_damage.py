"""Damage to the files of a run is told by the file's name and with what to do; doing that loses nothing more."""

import itertools
import json
import shutil

import numpy as np
import pytest
from little_runs import assert_same, bits, run, without_clocks

import dd_jax as dd
from dd_jax.errors import DataError, RunError
from dd_jax.runs.directory import read_metrics
from dd_jax.runs.export.contents import read_contents
from dd_jax.runs.load_run import load_run
from dd_jax.runs.report.read import read_run
from dd_jax.storage import checkpoint


@pytest.fixture(scope="module")
def halfway(little, small, tmp_path_factory):
    """A run that was killed after its third validation: newest checkpoint at step 4 of 6."""
    out = tmp_path_factory.mktemp("halfway") / "run"
    save, saves = checkpoint.save, itertools.count()

    def stop(folder, step, tree):
        if next(saves) == 3:
            raise KeyboardInterrupt
        save(folder, step, tree)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(little, small, out)
    return out


@pytest.fixture
def out(halfway, tmp_path):
    shutil.copytree(halfway, tmp_path / "run")
    return tmp_path / "run"


# Metrics.

GARBAGE = {
    "cut": b'{"step": 1, "lo\n',
    "zeros": b"\0" * 300 + b"\n",
    "binary": bytes(range(11, 256)) + b"\n",
    "not UTF-8": b'{"step": 1, "text": "\xff\xfe"}\n',
    "half a character": b'{"step": 1, "text": "\xc3"}\n',
    "a list": b"[]\n",
    "a number": b"3\n",
    "null": b"null\n",
    "text": b'"step"\n',
    "a step of text": b'{"step": "2"}\n',
    "a step of a half": b'{"step": 2.5}\n',
    "a step of nothing": b'{"step": null}\n',
    "an empty line": b"\n",
    "a huge line": b'{"step": "' + b"x" * 5_000_000 + b"\n",
    "a huge number": b'{"step": ' + b"9" * 10_000 + b"}\n",
    "brackets without end": b"[" * 200_000 + b"\n",
    "a carriage return": b'{"step":\r 1, "validation": }\n',
}


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_damaged_line_is_named_and_can_be_removed(out, little, small, whole, garbage, where):
    file = out / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    number = {"first": 0, "middle": len(lines) // 2, "last": len(lines)}[where]
    file.write_bytes(b"".join([*lines[:number], garbage, *lines[number:]]))
    before = file.read_bytes()
    with pytest.raises(
        RunError, match=rf"Line {number + 1} of .*metrics\.jsonl is damaged: .* Remove the line to go on"
    ):
        read_metrics(file)
    with pytest.raises(RunError, match=rf"Line {number + 1} of .*metrics\.jsonl is damaged"):
        run(little, small, out)
    assert file.read_bytes() == before
    file.write_bytes(b"".join(lines))
    if where == "middle":  # what is done with it is the same for all of them
        run(little, small, out)
        assert_same(out, whole)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_damaged_end_without_its_line_break_is_made_again(out, little, small, whole, garbage):
    """Which is what a loss of power leaves, whatever the bytes are."""
    with open(out / "metrics.jsonl", "ab") as file:
        file.write(garbage.rstrip(b"\n"))
    run(little, small, out)
    assert_same(out, whole)


def test_a_carriage_return_is_no_end_of_the_metrics(out):
    """bytes.splitlines takes it for one: everything after it was dropped, and nobody told."""
    file = out / "metrics.jsonl"
    rows = read_metrics(file)
    file.write_bytes(file.read_bytes().replace(b", ", b",\r", 1))
    assert read_metrics(file) == rows


def test_metrics_that_cannot_be_read_are_named(out, little, small):
    (out / "metrics.jsonl").unlink()
    (out / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl can't be read: Is a directory"):
        run(little, small, out)


# The configuration and the results.

RECORDS = {
    "nothing": b"",
    "cut": b'{"config": {"met',
    "zeros": b"\0" * 500,
    "binary": bytes(range(256)),
    "not UTF-8": b'{"config": "\xff"}',
    "brackets without end": b"[" * 200_000,
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "another file": b'{"port": 80}',
    "a list inside": b'{"config": [], "results": []}',
    "null inside": b'{"config": null, "results": null}',
    "text inside": b'{"config": "a", "results": "a"}',
}


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_a_damaged_configuration_is_named_and_can_be_put_back(out, little, small, whole, content):
    file = out / "config.json"
    intact = file.read_bytes()
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json .*hoose another directory"):
        run(little, small, out)
    for read in (load_run, read_run, read_contents):
        with pytest.raises((RunError, DataError), match=r"config\.json"):
            read(out)
    assert file.read_bytes() == content
    file.write_bytes(intact)
    run(little, small, out)
    assert_same(out, whole)


@pytest.mark.parametrize("provenance", [[], None, "text", 3])
def test_a_damaged_origin_is_named(out, little, small, provenance):
    saved = json.loads((out / "config.json").read_bytes())
    (out / "config.json").write_text(json.dumps({**saved, "provenance": provenance}))
    with pytest.raises(RunError, match=r"config\.json is damaged: 'provenance' should be an object"):
        run(little, small, out)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {**c, "source": []},
        lambda c: {**c, "source": {"dataset": 3}},
        lambda c: {**c, "source": {"dataset": "digits", "modle": "mlp"}},
        lambda c: {**c, "source": {"dataset": "digits", "model": ["mlp"]}},
        lambda c: {**c, "source": {"model": "mlp"}},
        lambda c: {**c, "source": {"dataset": "digits"}, "dataset": 3},
        lambda c: {**c, "source": {"dataset": "digits"}, "dataset": {}},
    ],
)
def test_a_configuration_that_does_not_say_what_the_run_was_made_from_is_named(out, change):
    saved = json.loads((out / "config.json").read_bytes())
    (out / "config.json").write_text(json.dumps({**saved, "config": change(saved["config"])}))
    with pytest.raises(DataError, match=r"config\.json is damaged: it doesn't say what the run was made from"):
        load_run(out)


@pytest.mark.parametrize("content", RECORDS.values(), ids=RECORDS)
def test_damaged_results_are_named_and_do_not_harm_the_run(out, little, small, whole, content):
    (out / "results.json").write_bytes(content)
    for read in (read_run, read_contents):
        with pytest.raises((RunError, DataError), match=r"results\.json"):
            read(out)
    run(little, small, out)
    assert_same(out, whole)


# The artefact.


def damages(data: bytes):
    yield b""
    yield data[: len(data) // 2]
    yield data[:-3]
    yield b"\0" * len(data)
    yield data[: len(data) // 3] + bytes([data[len(data) // 3] ^ 4]) + data[len(data) // 3 + 1 :]


@pytest.mark.parametrize("which", ["distilled.json", "distilled-*.npz"])
@pytest.mark.parametrize("number", range(5))
def test_a_damaged_set_is_named_and_the_run_makes_it_again(out, little, small, whole, which, number):
    (file,) = (out / "distilled").glob(which)
    file.write_bytes(list(damages(file.read_bytes()))[number])
    with pytest.raises(DataError, match=file.name.replace(".", r"\.")):
        dd.load_distilled(out)
    run(little, small, out)
    assert_same(out, whole)


def test_a_damaged_set_of_a_run_that_is_done_is_made_again(out, little, small, whole):
    run(little, small, out)
    (file,) = (out / "distilled").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-1])
    run(little, small, out)
    assert_same(out, whole)


def test_a_set_that_is_gone_is_made_again(out, little, small, whole):
    shutil.rmtree(out / "distilled")
    run(little, small, out)
    assert_same(out, whole)


# The checkpoints; what damage to their files does is in tests/runs/test_runs_checkpoint.py.


@pytest.mark.parametrize("kind", ["a file in its place", "an empty folder", "a manifest of something else"])
def test_a_checkpoint_that_is_none_is_passed_over(out, little, small, whole, kind, capsys):
    newest = sorted((out / "checkpoints").iterdir())[-1]
    assert newest.name == "step_00000004"
    shutil.rmtree(newest)
    if kind == "a file in its place":
        newest.write_bytes(b"x")
    else:
        newest.mkdir()
        if kind == "a manifest of something else":
            (newest / "manifest.json").write_bytes(b"[" * 100_000)
    run(little, small, out)
    assert_same(out, whole)
    said = capsys.readouterr().err
    assert ("step_00000004 is damaged" in said) == (kind != "a file in its place")
    assert "at step 2 of 6" in said


def test_a_run_that_was_done_is_read_back_as_it_was(out, little, small, whole):
    first = run(little, small, out)
    again = run(little, small, out)
    assert bits(again.distilled) == whole.distilled
    assert without_clocks(again.history) == whole.metrics
    assert first.history == again.history
    np.testing.assert_array_equal(again.distilled.images, dd.load_distilled(out).images)
