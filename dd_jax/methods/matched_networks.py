"""The networks that gradients are matched in: drawn, trained between two matches, and drawn anew."""

from collections.abc import Callable
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from dd_jax.inner import fit, map_over, network_range, trainer
from dd_jax.inner.parallel import divided
from dd_jax.methods.base import Given
from dd_jax.methods.gradient_matching_options import GradientMatchingOptions, network_training
from dd_jax.methods.matching import MatchingArrays
from dd_jax.methods.sampling import minibatch, runs_mapped
from dd_jax.models import Model
from dd_jax.types import Batch, Feed, Networks, Params, Pretrained, Protocol

_WINDOW = 64  # outer steps that experts are read for at a time, at least


@runtime_checkable
class AdvanceFn(Interface):
    """(key, networks of the last match, matches so far, the set, arrays) -> the networks of this match."""

    def __call__(
        self, key: jax.Array, networks: Networks, matches: Int[Array, ""], distilled: Batch, arrays: MatchingArrays
    ) -> Networks: ...


def matched_networks(
    model: Model, options: GradientMatchingOptions, from_pool: bool = False, shared: bool = False
) -> AdvanceFn:
    """From one match to the next, for networks that live for `num_matches` matches and are trained between them.

    Args:
        options: with their loops.
        from_pool: whether they start as the networks of their life in `MatchingArrays`, see `expert_feed`, and not as
            random ones.
        shared: whether devices divide the images that they are trained on among them.

    Raises:
        OptionError: for settings of their training that are out of range.
    """
    training = network_training(options)
    num_matches = options.num_matches
    assert num_matches is not None
    share = divided if shared else None
    init_training, epoch = trainer(model.apply, training, share=share)
    at_once = None if runs_mapped(options.over_inits) else options.num_inits

    def draw(key: jax.Array) -> Networks:
        return jax.vmap(model.init)(jax.random.split(key, options.num_inits))

    def each(train: Callable[[jax.Array, Params], Params], key: jax.Array, networks: Networks) -> Networks:
        keys = jax.random.split(key, options.num_inits)
        return map_over(lambda item: train(*item), (keys, networks), at_once)

    def begin(key: jax.Array, matches: jax.Array, arrays: MatchingArrays) -> Networks:
        """Networks as they are at their first match."""

        def early(key: jax.Array, params: Params) -> Params:
            def one(i: jax.Array, state: Any) -> Any:
                images = minibatch(jax.random.fold_in(key, i), arrays.real.split, options.num_training_images)
                return epoch(key, state, images)

            return lax.fori_loop(0, options.early_epochs, one, init_training(params)).params

        if from_pool:
            lives = jax.tree.leaves(arrays.networks)[0].shape[0]
            networks = jax.tree.map(lambda leaf: leaf[matches // num_matches % lives], arrays.networks)
        else:
            networks = draw(key)
        return each(early, key, networks) if options.early_epochs else networks

    def advance(
        key: jax.Array, networks: Networks, matches: jax.Array, distilled: Batch, arrays: MatchingArrays
    ) -> Networks:
        def train(key: jax.Array, params: Params) -> Params:
            fit_key, data_key = jax.random.split(key)
            images = distilled
            if options.train_on == "real":
                images = minibatch(data_key, arrays.real.split, options.num_training_images)
            return fit(model.apply, params, fit_key, images, training, share=share)

        if num_matches == 1:
            return begin(key, matches, arrays)
        first = matches % num_matches == 0
        return lax.cond(first, lambda key: begin(key, matches, arrays), lambda key: each(train, key, networks), key)

    return advance


def expert_feed(experts: Pretrained, num_inits: int, num_matches: int) -> Feed:
    """The experts that networks start as, read from disk for the lives of some outer steps at a time.

    A window has them with two leading axes, lives and networks (`num_inits`), each drawn from all experts alike.
    """
    first, last = network_range(experts, Protocol(), "train")
    lives = -(-_WINDOW // num_matches)

    def read(seed: int, number: int) -> Networks:
        chosen = np.random.default_rng((seed, number)).integers(first, last, (lives, num_inits))
        networks = [experts.read("train", i, i + 1) for i in chosen.ravel().tolist()]

        def stacked(*leaves: np.ndarray) -> np.ndarray:
            return np.concatenate(leaves).reshape(lives, num_inits, *leaves[0].shape[1:])

        return jax.tree.map(stacked, *networks)

    return Feed(lives * num_matches, read, _with_networks)


def _with_networks(given: Given, networks: Networks) -> Given:
    return given._replace(arrays=given.arrays._replace(networks=networks))
