"""Seeds: every whole number from 0 to 2**63 - 1 is one, and no two of them give the same random numbers."""

from typing import Any

import jax
import numpy as np

from dd_jax.errors import OptionError

MOST = 2**63 - 1

_WORD = 2**32  # jax.random.key takes this many different seeds; of others it takes the lowest bits


def check_seed(seed: Any, name: str = "seed") -> int:
    """The seed as an integer of Python.

    Raises:
        OptionError: it isn't an integer, or outside 0 to 2**63 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MOST:
        raise OptionError(f"{name} must be an integer from 0 to 2**63 - 1 ({MOST}), but is {seed!r}.")
    return int(seed)


def key_of_seed(seed: int) -> jax.Array:
    """The key of a seed: that of `jax.random.key` below 2**32, with the higher bits folded in above.

    Without x64, `jax.random.key` itself gives 2**32 the key of 0.
    """
    key, rest = jax.random.key(np.uint32(seed % _WORD)), max(seed, 0) // _WORD  # old sets may have a negative one
    while rest:
        key, rest = jax.random.fold_in(key, np.uint32(rest % _WORD)), rest // _WORD
    return key


def word_of_seed(seed: int) -> int:
    """A number below 2**32 for who takes no other seeds: the seed itself, or one drawn from it."""
    return seed if seed < _WORD else int(np.random.SeedSequence(seed).generate_state(1)[0])
