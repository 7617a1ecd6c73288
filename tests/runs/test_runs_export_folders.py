"""An export appears as a whole or not at all, and takes the place of nothing but another export."""

import errno
import json
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import RunError
from dd_jax.runs.export import pictures
from dd_jax.runs.export.folders import MANIFEST, whole_folder


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 3, 4, 4, 1)), jnp.float32)
    labels, sizes = jnp.tile(jnp.arange(3, dtype=jnp.int32), (2, 1)), jnp.full(2, 0.1)
    identity = dd.Transform("identity", {})
    made = dd.DistilledData({"images": images}, labels, sizes, identity, ("a", "b", "c"))
    dd.save_distilled(tmp_path / "run", made, {})
    return tmp_path / "run"


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(out, name, text="x"):
    with whole_folder(out, {}) as new:
        (new / name).write_text(text)


def test_an_export_is_replaced_by_the_next_as_a_whole(run, tmp_path):
    out = tmp_path / "deep" / "in" / "out"
    dd.export(run, out, formats=["npz", "images"])
    inode = out.stat().st_ino
    dd.export(run, out, formats=["torch"])
    assert sorted(p.name for p in out.iterdir()) == [MANIFEST, "torch"]
    assert out.stat().st_ino != inode
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert json.loads((out / MANIFEST).read_bytes())["formats"] == ["torch"]


def test_an_empty_folder_may_be_there_and_a_link_is_followed(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    dd.export(run, tmp_path / "link", formats=["npz"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "npz" / "distilled.npz").is_file()


def test_others_may_read_what_the_umask_lets_them(run, tmp_path):
    dd.export(run, tmp_path / "out", formats=["npz"])
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda out: (out / "mine.txt").write_text("x"), r"added or changed since: mine\.txt"),
        (lambda out: (out / "images" / "mine.txt").write_text("x"), r"changed since: images/mine\.txt"),
        (lambda out: (out / "images" / "index.csv").write_text("x"), r"changed since: images/index\.csv"),
        (lambda out: (out / "images" / "link").symlink_to(out.parent), "changed since: images/link"),
        (lambda out: (out / MANIFEST).unlink(), rf"it has no {MANIFEST}, but holds images/.*, …"),
        (lambda out: (out / MANIFEST).write_text("[]"), "added or changed since: images/"),
        (lambda out: (out / MANIFEST).write_text("{"), "damaged"),
        (lambda out: (shutil.rmtree(out), out.write_text("x")), "it is a file, but must be a folder"),
    ],
)
def test_what_no_export_has_left_is_not_replaced(run, tmp_path, spoil, words):
    out = tmp_path / "out"
    dd.export(run, out, formats=["images"])
    spoil(out)
    before = files_of(tmp_path)
    with pytest.raises(RunError, match=words):
        dd.export(run, out, formats=["images"])
    assert files_of(tmp_path) == before


def test_what_file_managers_leave_is_no_obstacle(run, tmp_path):
    dd.export(run, tmp_path / "out", formats=["images"])
    (tmp_path / "out" / ".DS_Store").write_text("x")
    dd.export(run, tmp_path / "out", formats=["images"])
    assert not (tmp_path / "out" / ".DS_Store").exists()


def test_a_file_that_comes_while_the_export_is_written_is_not_lost(tmp_path):
    write(tmp_path / "out", "a")
    with pytest.raises(RunError, match="changed since: mine"), whole_folder(tmp_path / "out", {}):
        (tmp_path / "out" / "mine").write_text("x")
    assert sorted(files_of(tmp_path)) == ["out/a", f"out/{MANIFEST}", "out/mine"]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "place", ["a picture", "the manifest", "the folder"], ids=lambda place: place.replace(" ", "-")
)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(run, tmp_path, monkeypatch, there, place):
    out = tmp_path / "new" / "out"
    if there:
        dd.export(run, out, formats=["images"])
    before = files_of(tmp_path)
    folders = sorted(tmp_path.rglob("*"))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {
        "a picture": (pictures, "png"),
        "the manifest": (dd.storage.files, "atomic_write"),
        "the folder": (os, "rename"),
    }[place]
    monkeypatch.setattr(*target, full)
    with pytest.raises(RunError, match=r"Can't export in .*no space left.*run the same command again\.$"):
        dd.export(run, out, formats=["images"])
    assert files_of(tmp_path) == before
    assert sorted(tmp_path.rglob("*")) == folders


def test_the_old_export_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    write(tmp_path / "out", "old")
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(Path(source).suffix)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(RunError, match="input/output error"):
        write(tmp_path / "out", "new")
    assert calls == ["", ".new", ".old"]
    assert sorted(files_of(tmp_path)) == [f"out/{MANIFEST}", "out/old"]


def test_a_mount_point_is_refused_in_words(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def busy(*_):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(RunError, match=r"can't be replaced as a whole\. Choose a folder inside it"):
        write(tmp_path / "out", "a")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_ctrl_c_leaves_nothing(run, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "png", stopped)
    with pytest.raises(KeyboardInterrupt):
        dd.export(run, tmp_path / "deep" / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_what_a_killed_export_leaves_in_a_run_does_not_keep_it_from_going_on(tmp_path):
    """The run directory sweeps the temporary files of killed writers, which are no folders."""
    (tmp_path / "run" / ".export.1234abcd.new" / "npz").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"config": {}}))
    dd.runs.directory.open_run(tmp_path / "run", {}).__exit__()
