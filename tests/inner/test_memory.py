"""What an unroll is said to need is what XLA allocates, and the way of rematerialising is chosen by it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax import models
from dd_jax.errors import OptionError
from dd_jax.inner import batch_loss, choose_remat, gradient_descent, memory, unroll, unroll_memory
from dd_jax.models import Shapes
from dd_jax.types import Batch

GIB = 2**30


@pytest.fixture(scope="module")
def mlp():
    model = models.mlp(Shapes((8, 8, 1), 10), hidden=(64, 64))
    batch = Batch(jnp.zeros((50, 8, 8, 1)), jnp.asarray(np.arange(50) % 10))
    return model, jax.jit(model.init)(jax.random.key(1)), batch


def allocated(model, params, batch, num_inner_steps, remat):
    """Bytes of temporaries in the compiled hypergradient, without the batches that are its arguments."""

    def outer(params, images):
        batches = Batch(images, jnp.broadcast_to(batch.labels, (num_inner_steps, *batch.labels.shape)))
        trained = unroll(model.apply, params, batches, gradient_descent(jnp.full((num_inner_steps,), 0.1)), remat=remat)
        return batch_loss(model.apply)(trained, batch)

    images = jax.ShapeDtypeStruct((num_inner_steps, *batch.images.shape), jnp.float32)
    compiled = jax.jit(jax.grad(outer)).lower(params, images).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("remat", ["none", "steps", "nested"])
def test_the_estimate_is_hardly_below_and_not_far_above_what_is_allocated(mlp, remat):
    for num_inner_steps in (30, 120):
        found = allocated(*mlp, num_inner_steps, remat)
        said = unroll_memory(mlp[0].apply, *mlp[1:], num_inner_steps, remat)
        assert 0.8 < said / found < 2.5, (num_inner_steps, said, found)


def test_rematerialised_unrolls_are_smaller_and_grow_less(mlp):
    images = {r: 4 * 64 * 50 if r == "nested" else 0 for r in memory.REMATS}  # bytes a step of distilled images
    need = {r: [unroll_memory(mlp[0].apply, *mlp[1:], t, r) - t * images[r] for t in (100, 400)] for r in memory.REMATS}
    assert need["nested"][0] < need["steps"][0] < need["none"][0]
    assert need["none"][1] / need["none"][0] == pytest.approx(4, rel=0.01)
    assert need["nested"][1] / need["nested"][0] < 2.1


def test_wide_networks_keep_their_gradients_and_what_convolutions_give(monkeypatch):
    """Which changes nothing but the memory: one more set of parameters a step, what Winograd gives and takes."""
    model = models.convnet(Shapes((8, 8, 1), 10), width=64, depth=2)
    params = jax.jit(model.init)(jax.random.key(1))
    batch = Batch(jax.random.normal(jax.random.key(2), (4, 8, 8, 1)), jnp.arange(4))

    def hypergradient():
        def outer(images, step_sizes):
            batches = Batch(images, jnp.broadcast_to(batch.labels, (30, 4)))
            trained = unroll(model.apply, params, batches, gradient_descent(step_sizes), remat="steps")
            return batch_loss(model.apply)(trained, batch)

        given = jnp.broadcast_to(batch.images, (30, *batch.images.shape)), jnp.full(30, 0.1)
        compiled = jax.jit(jax.grad(outer, (0, 1))).lower(*given).compile()
        return compiled(*given), compiled.memory_analysis().temp_size_in_bytes

    def said():
        return unroll_memory(model.apply, params, batch, 30, "steps")

    kept, whole = hypergradient(), said()
    monkeypatch.setattr(sys.modules["dd_jax.inner.unroll"], "kept_names", lambda *_: ())
    monkeypatch.setattr(memory, "_named_in_a_step", lambda *_: 0)
    plain, without = hypergradient(), said()
    for found, expected in zip(kept[0], plain[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * float(jnp.abs(expected).max()))
    more = 4 * (sum(leaf.size for leaf in jax.tree.leaves(params)) + 2 * 4 * 4 * 4 * 64)
    assert whole - without == 30 * more
    assert 0.8 * 30 * more < kept[1] - plain[1] < 1.5 * 30 * more


def test_no_steps_need_nothing(mlp):
    assert unroll_memory(mlp[0].apply, *mlp[1:], 0, "none") == 0


@pytest.mark.parametrize("num_inner_steps", [1, 2, 3, 7, 30, 1000])
def test_segments_cover_the_unroll(num_inner_steps):
    count, length = memory.segments(num_inner_steps)
    assert 0 <= num_inner_steps - count * length < length
    assert count + length <= 2 * num_inner_steps**0.5 + 2


def test_batches_that_are_made_in_the_step_never_exist_all_at_once(mlp):
    """Each a changed copy of the same images: 48 steps more need no more memory than a few batches."""
    model, params, batch = mlp

    def allocated(num_inner_steps, within):
        keys = jax.random.split(jax.random.key(0), num_inner_steps)
        rule = gradient_descent(jnp.full((num_inner_steps,), 0.1))

        def loss(images):
            def changed(key):
                return Batch(images + jax.random.normal(key, images.shape), batch.labels)

            steps, options = (keys, {"batch_of": changed}) if within else (jax.vmap(changed)(keys), {})
            trained = unroll(model.apply, params, steps, rule, remat="nested", **options)
            return batch_loss(model.apply)(trained, batch)

        return jax.jit(jax.grad(loss)).lower(batch.images).compile().memory_analysis().temp_size_in_bytes

    size = batch.images.nbytes
    kept = 8 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))  # starts of four segments more, of four steps more
    assert allocated(64, True) - allocated(16, True) < 3 * size + 2 * kept
    assert allocated(64, False) - allocated(16, False) > 48 * size


def test_the_choice_follows_the_memory_there_is(mlp, monkeypatch):
    steps, nested = (unroll_memory(mlp[0].apply, *mlp[1:], 1000, r) for r in ("steps", "nested"))
    assert nested < steps

    def chosen(room):
        monkeypatch.setattr(memory, "device_memory", lambda: room)
        return choose_remat(mlp[0].apply, *mlp[1:], 1000, nets=2)

    assert chosen(4 * steps) == "steps"
    assert chosen(4 * steps - 4) == "nested"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chosen(1000 * GIB) == "none"
    assert chosen(4 * steps) == "steps"


def test_a_device_has_memory():
    assert 2**28 < memory.device_memory() < 2**45


def test_an_unknown_way(mlp):
    with pytest.raises(OptionError, match="steps"):
        unroll_memory(mlp[0].apply, *mlp[1:], 3, "step")


@pytest.mark.slow
def test_a_thousand_steps_of_four_lenets_fit_into_four_gibibytes():
    """One outer step of 1,000 inner ones with four initialisations, in a process of its own, compiled to run fast."""
    script = """
import json, jax, jax.numpy as jnp, dd_jax as dd, numpy as np
from pathlib import Path
from dd_jax.models import Shapes
model = dd.models.lenet(Shapes((28, 28, 1), 10))
options = {"num_epochs": 100, "num_inits": 4, "init_images": "noise", "init_step_size": 0.01}
method = dd.methods.unrolled(model, num_batches=10, **options)
images = np.random.default_rng(0).random((400, 28, 28, 1), np.float32)
data = dd.dataset_from_arrays(images, np.arange(400) % 10)
state = method.init(jax.random.key(0), data, 1)
state, info = jax.jit(method.step)(jax.random.key(1), state, method.arrays(data))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0])  # not getrusage's, which begins with the peak of the process that forked
print(json.dumps([float(info.loss), float(info.hypergradient_norm), peak]))
"""
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2],
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loss, norm, kibibytes = json.loads(done.stdout)
    assert 0 < loss < 10
    assert norm > 0
    assert kibibytes < 4 * 2**20
