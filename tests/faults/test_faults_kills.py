"""A run that is killed, wherever that is, has lost nothing, and ends with the bits of one that was not."""

import hashlib
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from forks import Fork, Forks
from little_runs import (
    OPTIONS,
    assert_same,
    before_every_change,
    bits,
    run,
    toy_method,
    toy_validation,
    uninterrupted,
    without_clocks,
)

import dd_jax as dd
from dd_jax.runs.directory import read_metrics


def copy(source: Path, target: Path) -> None:
    """The files of `source` as they are at this moment; some of Orbax's come and go meanwhile."""
    target.mkdir()
    for entry in source.iterdir():
        try:
            if entry.is_dir():
                copy(entry, target / entry.name)
            else:
                shutil.copyfile(entry, target / entry.name)
        except FileNotFoundError:
            continue


def fingerprint(folder: Path) -> str:
    """Equal for two states that a run takes for the same: of what is not finished only the names count."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        unfinished = any(part.startswith((".saving-", ".removing-")) for part in file.relative_to(folder).parts[:-1])
        if unfinished:
            continue
        name = file.relative_to(folder).as_posix()
        content = b"" if file.is_dir() or name.endswith(".tmp") else file.read_bytes()
        digest.update(repr((name if not name.endswith(".tmp") else "tmp", content)).encode())
    return digest.hexdigest()


def states(method, data, place: Path) -> list[tuple[str, Path]]:
    """Every state that the directory of a run goes through, in order, each with what was about to change."""
    found: dict[str, tuple[str, Path]] = {}
    out = place / "run"
    place.mkdir(exist_ok=True)

    def keep(event: str, path: Path) -> None:
        state = place / f"state-{len(found):04}"
        copy(out, state)
        about = f"{event} {path.relative_to(out)}"
        if found.setdefault(fingerprint(state), (about, state))[1] != state:
            shutil.rmtree(state)

    out.mkdir()
    with before_every_change(out, keep):
        run(method, data, out)
    keep("end", out)
    return list(found.values())


@pytest.fixture(scope="module")
def seen(little, small, tmp_path_factory):
    return states(little, small, tmp_path_factory.mktemp("states"))


def ended(state: Path) -> bool:
    return (state / "checkpoints" / f"step_{OPTIONS['num_outer_steps']:08d}").exists()


def check_what_is_left(state: Path, chosen: tuple[bytes, ...], had: bool) -> bool:
    """Whether there is a set, and there must be if it had one; it is whole, and one that a validation chose."""
    read_metrics(state / "metrics.jsonl")
    if not (state / "distilled" / "distilled.json").exists():
        assert not had, "the set is lost"
        return False
    assert bits(dd.load_distilled(state)) in chosen
    return True


def test_there_are_states_of_every_kind(seen):
    """Or the next tests would say little."""
    about = [about for about, _ in seen]
    for kind in ("config.json", "open metrics.jsonl", ".saving-step_00000006", ".npz.", "distilled.json.", "end"):
        assert any(kind in line for line in about), kind
    assert len(about) > 30


def test_killed_before_any_change_nothing_is_lost(seen, whole):
    had = False
    for about, state in seen:
        print(about)
        had = check_what_is_left(state, whole.chosen, had)
    assert had


@pytest.mark.slow
def test_killed_before_any_change_it_ends_with_the_same_bits(seen, little, small, whole, tmp_path):
    for about, state in seen:
        if ended(state):
            continue  # the next test
        print(about)
        out = tmp_path / state.name
        shutil.copytree(state, out)
        again = run(little, small, out)
        assert bits(again.distilled) == whole.distilled
        assert without_clocks(again.history) == whole.metrics
        assert_same(out, whole)
        shutil.rmtree(out)


@pytest.mark.slow
def test_killed_within_a_line_of_metrics_it_ends_with_the_same_bits(seen, little, small, whole, tmp_path):
    """Between the two states around it, an append may have put any part of its lines on the disk."""
    before = b""
    for number, (_, state) in enumerate(seen):
        file = state / "metrics.jsonl"
        content = file.read_bytes() if file.exists() else b""
        if len(content) <= len(before):
            continue
        for at in (len(before) + 1, (len(before) + len(content)) // 2, len(content) - 1):
            out = tmp_path / f"{number}-{at}"
            shutil.copytree(state, out)
            (out / "metrics.jsonl").write_bytes(content[:at])
            read_metrics(out / "metrics.jsonl")
            run(little, small, out)
            assert_same(out, whole)
        before = content
    assert before


@pytest.fixture
def toy(small):
    """A method that learns nothing, and validations that measure nothing: what is left of a run is its files."""
    with pytest.MonkeyPatch.context() as patch:
        toy_validation(patch)
        yield toy_method(small)


def test_killed_after_its_last_checkpoint_the_set_is_written_again(toy, small, tmp_path):
    whole = uninterrupted(toy, small, tmp_path / "whole")
    assert len(set(whole.chosen)) == 4  # or the set before would do
    late = [(about, state) for about, state in states(toy, small, tmp_path / "states") if ended(state)]
    assert len(late) > 3
    for about, state in late:
        print(about)
        out = tmp_path / state.name
        shutil.copytree(state, out)
        assert bits(run(toy, small, out).distilled) == whole.distilled
        assert_same(out, whole)


@pytest.mark.slow
def test_killed_while_it_goes_back_it_ends_with_the_same_bits(toy, small, tmp_path):
    stumbling = toy_method(small, stumbles_at=3)
    whole = uninterrupted(stumbling, small, tmp_path / "whole")
    assert sum("event" in row for row in whole.metrics) == 1
    for about, state in states(stumbling, small, tmp_path / "states"):
        print(about)
        out = tmp_path / state.name
        shutil.copytree(state, out)
        run(stumbling, small, out)
        assert without_clocks(read_metrics(out / "metrics.jsonl")) == whole.metrics


# Real kills, of a process, at moments that nobody chose.

IMPORTS = """
import os, sys, orbax.checkpoint
from pathlib import Path
from little_runs import before_every_change, little_data, little_method, run, toy_validation, toy_method
"""
SCRIPT = f"""
{IMPORTS}
out, kind, steps, every, kill_at = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
data, changes = little_data(), 0
method = little_method(data) if kind == "little" else toy_method(data)
if kind == "toy":
    toy_validation()

def count(event, path):
    global changes
    changes += 1
    if changes == kill_at:
        os.kill(os.getpid(), 9)
    if changes == 30:
        print("busy", flush=True)

with before_every_change(out, count):
    run(method, data, out, num_outer_steps=steps, eval_every=every)
"""


@pytest.fixture(scope="module")
def start():
    """Starts a process that makes a run in `out`, and kills itself before the `kill_at`th change to it."""
    with Forks(SCRIPT, IMPORTS, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0") as forks:
        yield lambda out, kind, steps, every, kill_at=0: forks.start(out, kind, steps, every, kill_at)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_the_states_say(start, little, small, whole, tmp_path):
    """SIGKILL itself is what the copies of the directory stand for."""
    out, had, changes = tmp_path / "run", False, []
    with before_every_change(tmp_path / "counted", lambda event, path: changes.append(event)):
        run(little, small, tmp_path / "counted")
    for kill_at in (len(changes) // 2, len(changes) // 4):
        process = start(out, "little", OPTIONS["num_outer_steps"], OPTIONS["eval_every"], kill_at)
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors[-2000:]
        had = check_what_is_left(out, whole.chosen, had)
    assert had
    run(little, small, out)
    assert_same(out, whole)


def busy(process: Fork) -> None:
    """Wait until the process has begun to write."""
    assert process.stdout.readline() == b"busy\n", process.communicate()


@pytest.mark.slow
def test_kills_at_random_moments(start, toy, small, tmp_path, request):
    """Five, or as many as --kills says: that nothing is lost wherever a kill comes is what the states above prove."""
    kills, seed = request.config.getoption("kills"), 20261121
    steps, every = 50 + 5 * kills, 1
    whole = uninterrupted(toy, small, tmp_path / "whole", num_outer_steps=steps, eval_every=every)
    draw, out, had = random.Random(seed), tmp_path / "killed", False
    for _ in range(kills):
        process, wait = start(out, "toy", steps, every), draw.uniform(0.0, 0.6)
        busy(process)
        time.sleep(wait)
        process.kill()
        process.communicate()
        print(f"seed {seed}: killed {wait:.3f} s after its first changes ({process.returncode})")
        assert process.returncode == -signal.SIGKILL
        had = check_what_is_left(out, whole.chosen, had)
    assert had
    run(toy, small, out, num_outer_steps=steps, eval_every=every)
    assert_same(out, whole)


# Two processes.


@pytest.mark.slow
def test_a_second_process_is_refused_at_once_and_the_first_goes_on(start, toy, small, tmp_path):
    options = {"num_outer_steps": 40, "eval_every": 1}
    whole = uninterrupted(toy, small, tmp_path / "whole", **options)
    first = start(tmp_path / "run", "toy", *options.values())
    busy(first)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(dd.RunError, match=rf"in use by process {first.pid}\. Wait until it ends, stop it, or"):
            run(toy, small, tmp_path / "run", **options)
    assert time.monotonic() - began < 3
    errors = first.communicate()[1]
    assert first.returncode == 0, errors[-2000:]
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_the_directory_of_a_process_that_was_killed_is_free(start, toy, small, tmp_path):
    options = {"num_outer_steps": 40, "eval_every": 1}
    first = start(tmp_path, "toy", *options.values())
    busy(first)
    with pytest.raises(dd.RunError, match="in use"):
        run(toy, small, tmp_path, **options)
    first.kill()
    first.communicate()
    assert (tmp_path / ".lock").read_text() == f"{first.pid}\n"
    run(toy, small, tmp_path, **options)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 81
