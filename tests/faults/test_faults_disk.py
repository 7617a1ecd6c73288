"""A disk that is full, wherever that shows, costs nothing: the run says so, keeps what it had, and goes on later."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from little_runs import assert_same, before_every_change, bits, run

import dd_jax as dd
from dd_jax.errors import RunError
from dd_jax.runs.directory import read_metrics
from dd_jax.runs.experiment import Report, leave
from dd_jax.runs.judging import judge

REMOVALS = ("os.remove", "os.rmdir")
SAID = r"Can't .* in .*: there is no space left on the disk.*Free some space and run the same command again"


class Full:
    """A disk that is full from a change of some kind on, the `nth` of them; things can still be removed."""

    def __init__(self, folder: Path, kind: str, nth: int):
        self.folder, self.kind, self.left, self.refused = folder, kind, nth, False

    def __call__(self, event: str, path: Path) -> None:
        self.left -= kind_of(event, path, self.folder) == self.kind
        if self.left <= 0 and event not in REMOVALS:
            self.refused = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def kind_of(event: str, path: Path, folder: Path) -> str:
    """What is done to what: numbers and random names make no difference."""
    return re.sub(r"[0-9a-f]{8,}|\d+", "N", f"{event} {os.path.relpath(path, folder)}")


def moments(folder: Path, action: Callable[[], object]) -> list[tuple[str, int]]:
    """The kinds of changes that `action` makes to `folder`, each with its first and last but one occurrence."""
    counts: Counter[str] = Counter()
    with before_every_change(folder, lambda event, path: counts.update([kind_of(event, path, folder)])):
        action()
    return [
        (kind, nth)
        for kind, count in counts.items()
        if not kind.startswith(REMOVALS)
        for nth in sorted({1, max(1, count - 1)})
    ]


def check_what_is_left(out: Path, chosen: tuple[bytes, ...]) -> None:
    read_metrics(out / "metrics.jsonl")
    if (out / "distilled" / "distilled.json").exists():
        assert bits(dd.load_distilled(out)) in chosen


@pytest.mark.slow
def test_full_at_any_change(little, small, whole, tmp_path):
    told = 0
    for number, (kind, nth) in enumerate(
        moments(tmp_path / "counted", lambda: run(little, small, tmp_path / "counted"))
    ):
        print(nth, kind)
        out = tmp_path / str(number)
        full = Full(out, kind, nth)
        with before_every_change(out, full):
            said = _told(lambda out=out: run(little, small, out))
        assert bool(said) == full.refused  # what Orbax does differs from run to run
        assert re.match(SAID, said) or not said, said
        check_what_is_left(out, whole.chosen)
        run(little, small, out)
        assert_same(out, whole)
        told += bool(said)
    assert told > 20


@pytest.mark.slow
def test_full_when_the_system_writes_at_last(little, small, whole, tmp_path, monkeypatch):
    """Some file systems find out at fsync only."""
    fsync, counts = os.fsync, Counter[str]()

    def counted(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        counts[kind_of("fsync", path, tmp_path / "counted")] += path.is_file()  # where names can't be synced we go on
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted)
        run(little, small, tmp_path / "counted")
    told = 0
    for number, (kind, nth) in enumerate((kind, nth) for kind, count in counts.items() for nth in (1, count) if count):
        print(nth, kind)
        out = tmp_path / str(number)
        full = Full(out, kind, nth)

        def refused(descriptor, full=full):
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path.is_file():
                full("fsync", path)
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refused)
            said = _told(lambda out=out: run(little, small, out))
        assert bool(said) == full.refused
        assert re.match(SAID, said) or not said, said
        check_what_is_left(out, whole.chosen)
        run(little, small, out)
        assert_same(out, whole)
        told += bool(said)
    assert told > 8


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if not done or done.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of pending writes of Orbax
def test_a_disk_that_is_really_full(disk, little, small, whole):
    """With ever more room, until it suffices: C++ code writes there too, and files may be cut off anywhere."""
    refused, fits = 0, 0
    for free in range(0, 400_000, 12_288):
        out = disk / "run"
        with open(disk / "ballast", "wb") as ballast:
            room = os.statvfs(disk)
            ballast.write(bytes(max(0, room.f_bavail * room.f_bsize - free)))
        said = _told(lambda out=out: run(little, small, out))
        if said:
            refused += 1
            assert re.match(SAID, said), said
            check_what_is_left(out, whole.chosen)
        else:
            fits = free
        (disk / "ballast").unlink()
        run(little, small, out)
        assert_same(out, whole)
        shutil.rmtree(out)
    assert refused > 5
    assert fits > 0


def _told(action: Callable[[], object]) -> str:
    """What a RunError says; nothing where there is none."""
    try:
        action()
    except RunError as error:
        return str(error)
    return ""


# The table, the pictures and the report.


@pytest.fixture(scope="module")
def report(little, small, tmp_path_factory):
    found = run(little, small, tmp_path_factory.mktemp("judged") / "run")
    rows = judge(found.distilled, little.model, small, 2, ())
    return Report(found, rows[0].evaluation, rows)


@pytest.mark.slow
def test_full_while_the_results_are_written(report, whole, tmp_path):
    """Every file that the end of an experiment writes."""

    def left(out: Path) -> Report:
        shutil.copytree(report.run.out, out)
        return dataclasses.replace(report, run=dataclasses.replace(report.run, out=out))

    counted = left(tmp_path / "counted")
    found = moments(tmp_path / "counted", lambda: leave(counted.run, counted))
    for name in ("results.json", "distilled.json", "distilled.png", "accuracy.png", "step_sizes.png", "report.html"):
        assert any(kind.startswith("os.rename") and f".{name}." in kind for kind, _ in found), (name, found)
    expected = json.loads((tmp_path / "counted" / "results.json").read_bytes())["results"]
    for number, (kind, nth) in enumerate(found):
        out = tmp_path / str(number)
        mine = left(out)
        with before_every_change(out, Full(out, kind, nth)), pytest.raises(RunError, match=SAID):
            leave(mine.run, mine)
        assert_same(out, whole)
        if (out / "results.json").exists():
            assert json.loads((out / "results.json").read_bytes())["results"] == expected
        leave(mine.run, mine)
        assert json.loads((out / "results.json").read_bytes())["results"] == expected
        assert_same(out, whole)
