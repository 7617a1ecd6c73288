import errno
import os
import random
import shutil
import signal
import subprocess
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import Forks

from dd_jax.errors import RunError
from dd_jax.storage import checkpoint as module
from dd_jax.storage.checkpoint import Restored, restore_latest, save


class State(NamedTuple):
    params: Any
    key: Any
    nothing: Any = None


DTYPES = [
    "bool", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16", "float32",
    "complex64", "float8_e4m3fn", "float8_e5m2",
]  # fmt: skip


def bits(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf).tobytes()


def assert_same(left, right):
    assert str(jax.tree.structure(left)) == str(jax.tree.structure(right))
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert isinstance(other, jax.Array)
        assert (one.dtype, one.shape, bits(one)) == (other.dtype, other.shape, bits(other))
        assert not getattr(other, "weak_type", False)


def tree(value=0.0):
    return State({"w": jnp.full((4, 3), value), "b": jnp.arange(3)}, jax.random.key(7))


def latest(folder, template) -> Restored:
    found = restore_latest(folder, template)
    assert found is not None
    return found


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("shape", [(), (5, 3), (0, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype, shape):
    count = int(np.prod(shape))
    raw = np.random.default_rng(0).integers(0, 2, count) if dtype == "bool" else np.arange(count) - 2
    array = jnp.asarray(raw.reshape(shape).astype(np.float32)).astype(dtype)
    save(tmp_path, 1, {"a": array})
    assert_same({"a": array}, latest(tmp_path, {"a": array}).tree)


def test_64_bit_arrays_come_back(tmp_path):
    with jax.enable_x64(True):
        arrays = [jnp.arange(3, dtype=d) for d in ("int64", "uint64", "float64", "complex128")]
        save(tmp_path, 1, arrays)
        assert_same(arrays, latest(tmp_path, arrays).tree)


def test_signed_zeros_nans_and_infinities_come_back(tmp_path):
    odd = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-42], np.float32)
    odd.view(np.uint32)[2] = 0x7FC12345  # a NaN with a payload
    arrays = {"odd": jnp.asarray(odd), "zeros": jnp.full((3,), -0.0)}
    save(tmp_path, 1, arrays)
    assert_same(arrays, latest(tmp_path, arrays).tree)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_typed_keys_come_back(tmp_path, implementation):
    key = jax.random.key(3, impl=implementation)
    keys = {"one": key, "many": jax.random.split(key, (2, 3)), "none": jax.random.split(key, 5)[:0]}
    save(tmp_path, 1, keys)
    restored = latest(tmp_path, keys).tree
    assert_same(keys, restored)
    assert jnp.array_equal(jax.random.normal(keys["one"]), jax.random.normal(restored["one"]))


def test_structure_comes_back_with_none_and_without_weak_types(tmp_path):
    state = State([(jnp.asarray(1.0), {}), None], jax.random.key(0), None)
    save(tmp_path, 12, state)
    restored = latest(tmp_path, state)
    assert restored.step == 12
    assert restored.notes == ()
    assert_same(state, restored.tree)


def test_a_template_of_shapes_will_do(tmp_path):
    save(tmp_path, 1, tree())
    assert_same(tree(), latest(tmp_path, jax.eval_shape(tree)).tree)


def test_a_tree_without_arrays_comes_back(tmp_path):
    save(tmp_path, 1, {"a": None})
    assert latest(tmp_path, {"a": None}).tree == {"a": None}


def test_the_buffers_may_be_donated_afterwards(tmp_path):
    before, state = tree(1.0), tree(1.0)
    save(tmp_path, 1, state)
    after = jax.jit(lambda s: s._replace(params=jax.tree.map(lambda x: x + 1, s.params)), donate_argnums=0)(state)
    jax.block_until_ready(after)
    assert_same(before, latest(tmp_path, before).tree)


def test_nothing_saved_is_none(tmp_path):
    assert restore_latest(tmp_path, tree()) is None
    assert restore_latest(tmp_path / "absent", tree()) is None


def test_the_newest_are_kept(tmp_path):
    for step in (0, 5, 10, 99999999, 100000000):
        save(tmp_path, step, tree(), keep=3)
    assert names(tmp_path) == ["step_00000010", "step_100000000", "step_99999999"]
    assert latest(tmp_path, tree()).step == 100000000


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 1, tree(1.0))
    save(tmp_path, 1, tree(2.0))
    assert_same(tree(2.0), latest(tmp_path, tree()).tree)
    assert names(tmp_path) == ["step_00000001"]


def test_what_killed_saves_and_removals_left_is_ignored_and_swept(tmp_path):
    save(tmp_path, 1, tree())
    for name in (".saving-step_00000002", ".removing-step_00000000"):
        shutil.copytree(tmp_path / "step_00000001", tmp_path / name)
    restored = latest(tmp_path, tree())
    assert (restored.step, restored.notes) == (1, ())
    save(tmp_path, 3, tree())
    assert names(tmp_path) == ["step_00000001", "step_00000003"]


# Damage.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(folder, 1000, tree(1.0))
    save(folder, 1234, tree(2.0))
    return folder


def damages():
    def truncate(where):
        return lambda data: data[: int(where * len(data))]

    def flip(where):
        def garble(data):
            index = min(int(where * len(data)), len(data) - 1)
            return data[:index] + bytes([data[index] ^ 0x15]) + data[index + 1 :]

        return garble

    for where in (0.0, 0.3, 0.6, 0.97):
        yield f"truncated at {where}", truncate(where)
        yield f"garbled at {where}", flip(where)
    yield "lengthened", lambda data: data + b"x"
    yield "missing", None


@pytest.mark.parametrize("damage", [pytest.param(function, id=name) for name, function in damages()])
def test_damage_to_any_file_falls_back_to_the_checkpoint_before(saved, tmp_path, damage):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    files = sorted(file for file in (folder / "step_00001234").rglob("*") if file.is_file())
    assert len(files) >= 3
    for file in files:
        intact = file.read_bytes()
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage(intact))
        restored = latest(folder, tree())
        file.write_bytes(intact)
        assert restored.step == 1000
        assert len(restored.notes) == 1
        assert restored.notes[0].startswith("checkpoint step_00001234 is damaged (")
        assert restored.notes[0].endswith("); fell back to step_00001000")
        assert_same(tree(1.0), restored.tree)
    assert latest(folder, tree()).step == 1234


def test_a_half_deleted_checkpoint_is_passed_over(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    shutil.rmtree(folder / "step_00001234" / "arrays")
    assert latest(folder, tree()).step == 1000


def test_if_all_are_damaged_it_says_what_to_do(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    for checkpoint in folder.iterdir():
        (checkpoint / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"Delete .* to start again"):
        latest(folder, tree())


def test_saving_after_a_fall_back_never_drops_what_was_just_saved(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    for step in (1235, 1236, 1237):
        shutil.copytree(folder / "step_00001234", folder / f"step_{step:08d}")
    (folder / "step_00001234" / "manifest.json").write_bytes(b"")
    assert len(latest(folder, tree()).notes) == 4  # a copy under another step's name is no checkpoint
    save(folder, 1100, tree(3.0))
    restored = latest(folder, tree())
    assert (restored.step, restored.notes) == (1100, ())


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (State({"w": jnp.zeros((4, 4)), "b": jnp.arange(3)}, jax.random.key(0)), r"\['w'\] is float32\[4, 3\] there"),
        (State({"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}, jax.random.key(0)), r"int32\[3\] there, float32\[3\] here"),
        (State({"w": jnp.zeros((4, 3))}, jax.random.key(0)), r"\['b'\] is int32\[3\] there, absent here"),
        (State(tree().params, jax.random.key(0, impl="rbg")), r"\.key is key<fry>\[\] there, key<rbg>\[\] here"),
        (State(tree().params, jax.random.key(0), jnp.zeros(2)), r"\.nothing is absent there"),
    ],
)
def test_a_template_that_does_not_fit_is_told_leaf_by_leaf(saved, template, words):
    with pytest.raises(RunError, match=words):
        latest(saved, template)


# The disk and the process.


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save(tmp_path, 1, tree(1.0))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(RunError, match=r"Can't save the checkpoint of step 2 .* no space left"):
        save(tmp_path, 2, tree(2.0))
    assert names(tmp_path) == ["step_00000001"]
    assert_same(tree(1.0), latest(tmp_path, tree()).tree)


def test_a_full_disk_within_the_storage_library_is_translated():
    text = "RESOURCE_EXHAUSTED: Failed to write 1283938 bytes: No space left on device [os_error_code='28']"
    with pytest.raises(OSError, match="No space") as caught, module._as_os_error():
        raise ValueError(text)
    assert caught.value.errno == errno.ENOSPC


def test_a_really_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        save(disk, 1, tree(1.0))
        with pytest.raises(RunError, match="no space left on the disk"):
            save(disk, 2, {"a": jax.random.normal(jax.random.key(0), (200_000,))})
        assert names(disk) == ["step_00000001"]
        assert_same(tree(1.0), latest(disk, tree()).tree)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


IMPORTS = """
import sys, jax, jax.numpy as jnp, orbax.checkpoint
from dd_jax.storage.checkpoint import save, restore_latest
"""
SAVE_FOREVER = f"""
{IMPORTS}
template = {{"a": jnp.zeros((300,)), "key": jax.random.key(0)}}
restored = restore_latest(sys.argv[1], template)
step = restored.step if restored else 0
print("ready", flush=True)
while True:
    step += 1
    save(sys.argv[1], step, {{"a": jnp.full((300,), step, jnp.float32), "key": jax.random.key(step)}})
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_costs_at_most_the_save_that_was_going_on(tmp_path):
    template, draw, reached = {"a": jnp.zeros((300,)), "key": jax.random.key(0)}, random.Random(0), 0
    with Forks(SAVE_FOREVER, IMPORTS) as forks:
        for number in range(10):
            process = forks.start(tmp_path)
            assert process.stdout.readline() == b"ready\n"
            first = process.stdout.readline().split() if number % 2 else []  # half of them get somewhere on any machine
            time.sleep(draw.uniform(0.0, 0.6))
            process.send_signal(signal.SIGKILL)
            printed = [*first, *process.communicate()[0].split()]
            assert process.returncode == -signal.SIGKILL
            reached = max([reached, *map(int, printed)])
            restored = restore_latest(tmp_path, template)
            if restored is None:
                assert reached == 0
                continue
            assert restored.notes == ()
            assert restored.step in (reached, reached + 1)  # it may have been whole before that was printed
            reached = restored.step
            expected = {"a": jnp.full((300,), reached, jnp.float32), "key": jax.random.key(reached)}
            assert_same(expected, restored.tree)
    assert reached >= 5


def test_saving_is_quick_and_silent(tmp_path, capfd, caplog):
    big = {f"{index}": jnp.ones((10, 28, 28)) for index in range(30)}
    save(tmp_path, 0, big)  # imports
    times = []
    for step in range(1, 6):
        start = time.process_time()  # waiting for a disk that others use too does not count
        save(tmp_path, step, big)
        times.append(time.process_time() - start)
    latest(tmp_path, big)
    assert min(times) < 0.15
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
