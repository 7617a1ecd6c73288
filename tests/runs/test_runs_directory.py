import errno
import json
import os
import signal
import subprocess
import sys

import jax.numpy as jnp
import pytest

from dd_jax.errors import RunError
from dd_jax.runs import directory as module
from dd_jax.runs.directory import append_metrics, close, open_run, read_metrics, truncate_metrics

CONFIG = {"dataset": "mnist", "method": {"name": "unrolled", "num_batches": 10, "shape": (28, 28)}, "seed": 0}


def test_a_new_run_records_what_produced_it(tmp_path):
    with open_run(tmp_path / "runs" / "a", CONFIG) as run:
        saved = json.loads(run.config_path.read_bytes())
        assert not run.resuming
        assert run.notes == ()
        assert run.path == tmp_path / "runs" / "a"
        assert all(folder.is_dir() for folder in (run.checkpoints, run.distilled, run.figures))
    assert saved["config"] == json.loads(json.dumps(CONFIG))
    expected = {
        "dd_jax", "jax", "jaxlib", "flax", "optax", "numpy", "python", "device", "num_devices", "revision", "argv",
        "started", "settings",
    }  # fmt: skip
    assert set(saved["provenance"]) == expected
    assert saved["provenance"]["jax"]
    assert saved["provenance"]["started"].endswith("+00:00")


def test_the_same_configuration_resumes_and_keeps_the_first_record(tmp_path):
    with open_run(tmp_path, CONFIG) as run:
        first = run.config_path.read_bytes()
    with open_run(str(tmp_path), {**CONFIG, "seed": jnp.int32(0)}) as run:
        assert run.resuming
        assert run.notes == ()
        assert run.config_path.read_bytes() == first


def test_another_configuration_is_refused_key_by_key(tmp_path):
    open_run(tmp_path, CONFIG).__exit__()
    asked = {"dataset": "mnist", "method": {"name": "unrolled", "num_batches": 20, "shape": [28, 32]}, "lr": None}
    with pytest.raises(RunError) as caught:
        open_run(tmp_path, asked)
    message = str(caught.value)
    assert "  method.num_batches: 10 there, 20 asked for\n" in message
    assert "  method.shape: [28, 28] there, [28, 32] asked for\n" in message
    assert "  seed: 0 there, absent asked for\n" in message
    assert "  lr: absent there, null asked for\n" in message
    assert "dataset" not in message
    assert "Choose another directory, or delete" in message
    with open_run(tmp_path, CONFIG):  # the refusal let go of the lock
        pass


def test_other_versions_are_noted_not_refused(tmp_path):
    with open_run(tmp_path, CONFIG) as run:
        saved = json.loads(run.config_path.read_bytes())
    saved["provenance"]["jax"] = "0.4.1"
    run.config_path.write_text(json.dumps(saved))
    with open_run(tmp_path, CONFIG) as run:
        assert len(run.notes) == 1
        assert "jax 0.4.1 then" in run.notes[0]
        assert "last bits" in run.notes[0]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("prng", "rbg", "prng rbg then, threefry2x32 now"),
        ("x64", True, "x64 True then, False now"),
        ("matmul_precision", "highest", "matmul_precision highest then, None now"),
        ("threefry_partitionable", "no", "threefry_partitionable no then"),
    ],
)
def test_other_settings_of_jax_are_recorded_and_noted(tmp_path, setting, value, words):
    with open_run(tmp_path, CONFIG) as run:
        saved = json.loads(run.config_path.read_bytes())
    assert setting in saved["provenance"]["settings"]
    saved["provenance"]["settings"][setting] = value
    run.config_path.write_text(json.dumps(saved))
    with open_run(tmp_path, CONFIG) as run:
        (note,) = run.notes
    assert f"other settings of JAX ({words}" in note
    assert "random numbers and results differ" in note


def test_other_flags_of_the_compiler_are_noted(tmp_path, monkeypatch):
    close(open_run(tmp_path, CONFIG))
    flags = os.environ["XLA_FLAGS"]
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_dump_to=/tmp --xla_force_host_platform_device_count=3")
    with open_run(tmp_path, CONFIG) as run:
        assert run.notes == ()
    monkeypatch.setenv("XLA_FLAGS", f"{flags} --xla_gpu_autotune_level=0")
    with open_run(tmp_path, CONFIG) as run:
        assert "--xla_gpu_autotune_level=0 now): results may differ in the last bits" in run.notes[0]


def test_runs_from_before_settings_were_recorded_go_on(tmp_path):
    with open_run(tmp_path, CONFIG) as run:
        saved = json.loads(run.config_path.read_bytes())
    del saved["provenance"]["settings"]
    run.config_path.write_text(json.dumps(saved))
    with open_run(tmp_path, CONFIG) as run:
        assert run.notes == ()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_start_that_fails_leaves_nothing_behind(tmp_path, error):
    with pytest.raises(error), open_run(tmp_path / "runs" / "a", CONFIG):
        raise error
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(error), open_run(tmp_path / "mine", CONFIG):
        raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]  # which was there before


def test_empty_folders_within_are_nothing_that_was_kept(tmp_path):
    run = open_run(tmp_path / "a", CONFIG)
    (run.figures / "evolution").mkdir()
    run.__exit__(RuntimeError)
    assert list(tmp_path.iterdir()) == []
    run = open_run(tmp_path / "a", CONFIG)
    (run.figures / "evolution").mkdir()
    (run.figures / "evolution" / "mine.png").write_bytes(b"x")
    run.__exit__(RuntimeError)
    assert (run.figures / "evolution" / "mine.png").read_bytes() == b"x"
    assert run.config_path.is_file()


def test_what_was_kept_stays_when_a_run_fails(tmp_path):
    run = open_run(tmp_path / "a", CONFIG)
    append_metrics(run, [{"step": 1}])
    run.__exit__(RuntimeError)
    run = open_run(tmp_path / "a", CONFIG)
    assert run.resuming
    run.__exit__(RuntimeError)
    assert read_metrics(run.metrics_path) == [{"step": 1}]
    with pytest.raises(RunError, match="another configuration"):
        open_run(tmp_path / "a", {**CONFIG, "seed": 1})
    assert read_metrics(run.metrics_path) == [{"step": 1}]


def test_a_directory_of_someone_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match=r"has no config\.json, but holds thesis\.tex"):
        open_run(tmp_path, CONFIG)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_config_of_someone_else_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"port": 80}')
    with pytest.raises(RunError, match="was not written by dd_jax"):
        open_run(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_bytes()) == {"port": 80}


def test_a_start_that_was_killed_can_be_repeated(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    (tmp_path / ".config.json.0badcafe.tmp").write_text('{"conf')
    with open_run(tmp_path, CONFIG) as run:
        assert not run.resuming
    assert not list(tmp_path.glob("*.tmp"))


def test_a_file_in_place_of_the_directory_is_told(tmp_path):
    (tmp_path / "a").write_text("")
    for out in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(RunError, match="a file where a directory is expected"):
            open_run(out, CONFIG)


@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_directory_that_cannot_be_written_fails_at_once(tmp_path, monkeypatch, number, resuming):
    if resuming:
        close(open_run(tmp_path, CONFIG))

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(RunError, match="Can't use the run directory"):
        open_run(tmp_path, CONFIG)
    monkeypatch.undo()
    with open_run(tmp_path, CONFIG) as run:
        assert run.resuming == resuming


# The lock.

HOLD = """
import sys
from dd_jax.runs.directory import open_run
run = open_run(sys.argv[1], {})
print(1, flush=True)
input()
"""


def test_a_second_process_is_refused_until_the_first_dies(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"1\n"
    with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
        open_run(tmp_path, {})
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with open_run(tmp_path, {}) as run:
        assert run.resuming


def test_the_same_process_is_refused_until_it_closes(tmp_path):
    run = open_run(tmp_path, {})
    with pytest.raises(RunError, match="this process itself"):
        open_run(tmp_path, {})
    close(run)
    close(run)
    close(open_run(tmp_path, {}))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with open_run(tmp_path, CONFIG) as run:
        assert len(run.notes) == 1
        assert "has no locks, so a second process could write there too" in run.notes[0]


def test_a_garbled_lock_still_refuses(tmp_path):
    run = open_run(tmp_path, {})
    (tmp_path / ".lock").write_bytes(b"\xff\xfe")
    with pytest.raises(RunError, match="is in use by process"):
        open_run(tmp_path, {})
    close(run)


# Metrics.


@pytest.fixture
def run(tmp_path):
    with open_run(tmp_path, CONFIG) as run:
        yield run


def test_metrics_come_back(run):
    append_metrics(run, [{"step": 1, "loss": jnp.float32(0.5)}, {"step": 2, "loss": 0.25, "validation": 0.1}])
    append_metrics(run, [])
    append_metrics(run, [{"step": 3, "loss": float("nan"), "sizes": [1.0, float("inf")]}])
    assert read_metrics(run.metrics_path) == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.25, "validation": 0.1},
        {"step": 3, "loss": None, "sizes": [1.0, None]},
    ]
    for line in run.metrics_path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_no_metrics_are_no_rows(run):
    assert read_metrics(run.metrics_path) == []
    truncate_metrics(run, 0, 0)
    assert not run.metrics_path.exists()


def test_a_last_line_cut_short_is_left_out_and_does_not_harm_the_next(run):
    append_metrics(run, [{"step": 1}, {"step": 2, "text": "x" * 10_000}])
    whole = run.metrics_path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (1, 5, first + 1, first + 5000, len(whole) - 1):
        run.metrics_path.write_bytes(whole[:cut])
        before = [{"step": 1}] if cut > first else []
        assert read_metrics(run.metrics_path) == before
        append_metrics(run, [{"step": 3}])
        assert read_metrics(run.metrics_path) == [*before, {"step": 3}]


def test_a_damaged_line_in_between_is_named(run):
    run.metrics_path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"Line 2 of .*metrics\.jsonl is damaged"):
        read_metrics(run.metrics_path)


def test_shortened_metrics_go_on_as_if_never_interrupted(run):
    rows = [{"step": step, "loss": 1 / (step + 1)} for step in range(6)]
    append_metrics(run, rows)
    uninterrupted = run.metrics_path.read_bytes()
    with open(run.metrics_path, "ab") as file:
        file.write(b'{"step": 6, "lo')
    truncate_metrics(run, 3, 0)
    assert read_metrics(run.metrics_path) == rows[:4]
    append_metrics(run, rows[4:])
    assert run.metrics_path.read_bytes() == uninterrupted


def test_a_full_disk_is_told(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_end_of_last_line", full)
    with pytest.raises(RunError, match="Can't append to the metrics"):
        append_metrics(run, [{"step": 1}])
