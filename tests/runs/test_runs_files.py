import errno
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.errors import OptionError, RunError
from dd_jax.storage.files import atomic_write, disk_errors, plain, read_json, remove_temporary, write_bytes, write_json


def test_json_comes_back(tmp_path):
    value = {"name": "mnist", "sizes": [1, 2.5, None, True], "nested": {"é": "π"}}
    write_json(tmp_path / "new" / "a.json", value)
    assert read_json(tmp_path / "new" / "a.json") == value


def test_a_failing_writer_leaves_the_old_file_and_no_temporary_one(tmp_path):
    write_bytes(tmp_path / "a", b"old")

    def fail(file):
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_while_renaming_leaves_no_temporary_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="no space left"), disk_errors("save", tmp_path):
        write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == []


def test_temporary_files_of_killed_writers_are_removed(tmp_path):
    (tmp_path / ".a.json.12345678.tmp").write_bytes(b"half")
    write_bytes(tmp_path / "a.json", b"{}")
    remove_temporary(tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 10_000])
def test_garbled_json_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        read_json(tmp_path / "config.json")


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RunError, match="can't be read: Is a directory"):
        read_json(tmp_path)


def test_missing_json_is_named(tmp_path):
    with pytest.raises(RunError, match=r"config\.json is missing"):
        read_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk.*Free some space and run the same command again: it resumes"),
        (errno.EDQUOT, "quota is used up.*Free some space"),
        (errno.EROFS, "read-only.*choose another directory"),
        (errno.EACCES, "permission is denied.*choose another directory"),
        (errno.EPERM, "permission is denied"),
        (errno.ENOTDIR, "a file where a directory is expected"),
    ],
)
def test_disk_errors_say_what_failed_why_and_what_to_do(number, words):
    with (
        pytest.raises(RunError, match=rf"Can't save the checkpoint in runs/a: .*{words}"),
        disk_errors("save the checkpoint", "runs/a"),
    ):
        raise OSError(number, os.strerror(number))


def test_what_does_not_resume_is_not_said_to():
    with (
        pytest.raises(RunError, match=r"Free some space and run the same command again\.$"),
        disk_errors("export", "out", resumes=False),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_other_os_errors_pass():
    with pytest.raises(ConnectionResetError), disk_errors("save", "out"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_plain_knows_arrays_paths_and_tuples(tmp_path):
    value = {"a": jnp.float32(0.5), "b": np.arange(2), "c": (1, tmp_path), 4: {"x", "w"}, "d": np.bool_(True)}
    expected = {"a": 0.5, "b": [0, 1], "c": [1, str(tmp_path)], "4": ["w", "x"], "d": True}
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value))) == expected


def test_plain_keeps_json_valid():
    assert plain([float("inf"), np.float32("nan")]) == ["inf", "nan"]
    assert plain(float("-inf"), nonfinite=lambda _: None) is None


def test_plain_refuses_what_has_no_meaning_as_json():
    with pytest.raises(OptionError, match="function"):
        plain({"loss": test_json_comes_back})
