"""What the command line does where standard output is closed, full or of few characters, or JAX can't start."""

import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from dd_jax.cli import main, streams
from dd_jax.cli.streams import open_streams
from dd_jax.errors import DataWarning
from dd_jax.runs.progress import warnings_as_notes

TINY = ["--num-outer-steps", "1", "--num-eval-nets", "1", "--num-nets", "2", "--no-baselines", "--batch-size", "16"]
NAMES = ["дом", "猫"]


def command(*words, shell="", **environment):
    """A command in a process of its own; `shell` is what a shell puts behind it."""
    line = [sys.executable, "-m", "dd_jax.cli", *words]
    env = {**os.environ, **environment}
    return subprocess.run(["sh", "-c", f'"$@" {shell}', "sh", *line], capture_output=True, env=env, timeout=120)


@pytest.fixture
def named(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(60) % 2, class_names=NAMES)
    return f"npz:{tmp_path / 'mine.npz'}"


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "дом 猫 ± – …"),
        ("cp1252", "\\u0434\\u043e\\u043c \\u732b ± – …"),
        ("ascii", "\\u0434\\u043e\\u043c \\u732b +- - ..."),
    ],
)
def test_every_character_can_be_printed_in_every_encoding(encoding, written, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    open_streams()
    print(*NAMES, "±", "–", "…", flush=True)
    assert buffer.getvalue().decode(encoding).rstrip() == written


def test_streams_that_are_not_there_take_what_is_written(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    open_streams()
    print("nobody reads this", file=sys.stdout, flush=True)
    print("nor this", file=sys.stderr, flush=True)
    for name in ("stdout", "stderr"):
        getattr(sys, name).close()


def test_a_run_in_ascii_leaves_its_results_and_its_table(named, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert main(["distill", "--dataset", named, *TINY, "--out", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())["results"]["distilled"]
    assert f"{100 * found['mean']:.1f} +- {100 * found['std']:.1f} %" in buffer.getvalue().decode("ascii")


def test_a_command_whose_output_and_error_are_closed_works_in_silence(named):
    done = command("info", named, shell=">&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_results_are_saved_before_they_are_printed(named, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("dd_jax.runs.experiment.print_table", full)
    monkeypatch.setattr("dd_jax.cli.give_up_output", lambda: None)
    assert main(["distill", "--dataset", named, *TINY, "--out", str(tmp_path / "run")]) == 2
    assert "Standard output can't be written: No space left on device" in capsys.readouterr().err
    for name in ("results.json", "report.html", "figures/distilled.png"):
        assert (tmp_path / "run" / name).is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_an_output_that_is_full_is_a_sentence(named):
    done = command("info", named, shell=">/dev/full")
    assert done.returncode == 2
    assert b"dd-jax: Standard output can't be written: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_other_errors_of_the_system_are_not_taken_for_those_of_output():
    assert streams.why_full(OSError(28, "No space left", "/some/file")) is None
    assert streams.why_full(FileNotFoundError(2, "No such file")) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"JAX_PLATFORMS": "cuda"}, "JAX can't use the platforms 'cuda' (JAX_PLATFORMS); there are: cpu"),
        ({"JAX_PLATFORMS": "vax,cpu"}, "JAX can't use the platforms 'vax,cpu' (JAX_PLATFORMS); there are: cpu"),
        (
            {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
            "dd_jax and flax need JAX's standard promotion of types, but it is 'strict'",
        ),
    ],
)
def test_settings_that_cannot_work_are_one_line(settings, words):
    done = command("info", "digits", **settings)
    text = done.stderr.decode()
    assert (done.returncode, len(text.splitlines())) == (2, 1), text
    assert f"dd-jax: {words}" in text


def test_what_the_library_warns_of_is_a_note_once(named, tmp_path, capsys):
    with np.load(named.partition(":")[2]) as arrays:
        np.savez(tmp_path / "more.npz", **arrays, extra=np.ones(3))
    assert main(["info", f"npz:{tmp_path / 'more.npz'}"]) == 0
    assert capsys.readouterr().err == f"Note: {tmp_path}/more.npz: left out 'extra'.\n"


def test_warnings_of_others_stay_warnings(capsys):
    def warned():
        with warnings_as_notes():
            warnings.simplefilter("always")
            for _ in range(2):
                warnings.warn("told", DataWarning, stacklevel=1)
            warnings.warn("mine", RuntimeWarning, stacklevel=1)

    with pytest.warns(RuntimeWarning, match="mine"):
        warned()
    assert capsys.readouterr().err == "Note: told\n"
