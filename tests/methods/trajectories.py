"""Experts in memory, and what a window of theirs is matched with, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

import dd_jax as dd
from dd_jax import models
from dd_jax.inner import fit


def experts_of(snapshots, model, dataset, trained=True):
    """Networks (N, S, ...), float32 on the host, as experts."""
    leaves = jax.tree.leaves(snapshots)
    count, length = leaves[0].shape[:2]

    def read(number, chosen):
        return jax.tree.map(lambda leaf: leaf[number][list(chosen)], snapshots)

    return dd.Experts(
        f"{dataset.name}-{model.name}", model.name, models.architecture(model), model.image_shape, model.num_classes,
        dataset.fingerprint, np.zeros((count, length), np.float32), "validation",
        np.arange(length, dtype=np.float32), read, 0, {}, f"{float(leaves[-1].sum()):.6f}",
    )  # fmt: skip


def trained_experts(model, dataset, count=2, epochs=4, learning_rate=0.1):
    """Networks that really were trained, a snapshot after each epoch."""
    training = {"batch_size": 32, "learning_rate": learning_rate, "schedule": "constant", "optimiser": "sgd"}

    @jax.jit
    def trajectory(key, real):
        start = model.init(key)
        after = [fit(model.apply, start, key, real, dd.Training(epochs=n, momentum=0.0, **training))
                 for n in range(1, epochs + 1)]  # fmt: skip
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), start, *after)

    found = [trajectory(jax.random.key(i), dataset.train) for i in range(count)]
    return experts_of(jax.tree.map(lambda *leaves: np.stack(leaves), *found), model, dataset)


def random_experts(model, dataset, count=2, epochs=4):
    """Snapshots that have nothing to do with each other: networks with random weights."""
    keys = jax.random.split(jax.random.key(99), (count, epochs + 1))
    found = jax.jit(jax.vmap(jax.vmap(model.init)))(keys)
    return experts_of(jax.tree.map(np.asarray, found), model, dataset)
