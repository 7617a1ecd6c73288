"""Real images that a step draws: each with its own label, in parts that together are the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.methods.sampling import minibatch
from dd_jax.types import Batch

# Each image says in all of its pixels which label it has.
LABELS = jnp.asarray(np.random.default_rng(0).integers(0, 7, 50), jnp.int32)
SPLIT = Batch(jnp.broadcast_to(LABELS[:, None, None, None].astype(jnp.float32), (50, 4, 4, 1)), LABELS)


@pytest.mark.parametrize("change", ["none", "flip_rotate"])
def test_every_image_has_its_own_label(change):
    batch = jax.jit(lambda key: minibatch(key, SPLIT, 40, change=change))(jax.random.key(0))
    assert len(np.unique(batch.labels)) > 3
    np.testing.assert_allclose(np.asarray(batch.images)[:, 1:3, 1:3, 0].mean((1, 2)), batch.labels, atol=1e-4)


def test_parts_are_the_whole_one_after_another():
    whole, *parts = (
        minibatch(jax.random.key(1), SPLIT, 12, part, 3 if n else 1) for n, part in enumerate([0, 0, 1, 2])
    )
    for field in ("images", "labels"):
        together = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(together, getattr(whole, field))
