"""The networks that gradients are matched in: drawn, trained between two matches, and drawn anew."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
from jax import lax
from jaxtyping import Array, Int

from dd_jax.inner import fit, map_over, trainer
from dd_jax.inner.init import pretrained_init
from dd_jax.methods.gradient_matching_options import GradientMatchingOptions, network_training
from dd_jax.methods.matching import MatchingArrays
from dd_jax.methods.sampling import minibatch, runs_mapped
from dd_jax.models import Model
from dd_jax.types import Batch, Networks, Params


@runtime_checkable
class AdvanceFn(Protocol):
    """(key, networks of the last match, matches so far, the set, arrays) -> the networks of this match."""

    def __call__(
        self, key: jax.Array, networks: Networks, matches: Int[Array, ""], distilled: Batch, arrays: MatchingArrays
    ) -> Networks: ...


def matched_networks(model: Model, options: GradientMatchingOptions, from_pool: bool = False) -> AdvanceFn:
    """From one match to the next, for networks that live for `num_matches` matches and are trained between them.

    options: with their loops.
    from_pool: whether they start as some of the networks in `MatchingArrays`, and not as random ones.
    Raises OptionError for settings of their training that are out of range.
    """
    training = network_training(options)
    num_matches = options.num_matches
    assert num_matches is not None
    init_training, epoch = trainer(model.apply, training)
    at_once = None if runs_mapped(options.over_inits) else options.num_inits

    def draw(key: jax.Array) -> Networks:
        return jax.vmap(model.init)(jax.random.split(key, options.num_inits))

    def each(train: Callable[[jax.Array, Params], Params], key: jax.Array, networks: Networks) -> Networks:
        keys = jax.random.split(key, options.num_inits)
        return map_over(lambda item: train(*item), (keys, networks), at_once)

    def begin(key: jax.Array, arrays: MatchingArrays) -> Networks:
        """Networks as they are at their first match."""

        def early(key: jax.Array, params: Params) -> Params:
            def one(i: jax.Array, state: Any) -> Any:
                images = minibatch(jax.random.fold_in(key, i), arrays.real.split, options.num_training_images)
                return epoch(key, state, images)

            return lax.fori_loop(0, options.early_epochs, one, init_training(params)).params

        networks = draw(key)
        if from_pool:
            keys = jax.random.split(key, options.num_inits)
            networks = jax.vmap(lambda key: pretrained_init(key, arrays.networks))(keys)
        return each(early, key, networks) if options.early_epochs else networks

    def advance(
        key: jax.Array, networks: Networks, matches: jax.Array, distilled: Batch, arrays: MatchingArrays
    ) -> Networks:
        def train(key: jax.Array, params: Params) -> Params:
            fit_key, data_key = jax.random.split(key)
            images = distilled
            if options.train_on == "real":
                images = minibatch(data_key, arrays.real.split, options.num_training_images)
            return fit(model.apply, params, fit_key, images, training)

        if num_matches == 1:
            return begin(key, arrays)
        first = matches % num_matches == 0
        return lax.cond(first, lambda key: begin(key, arrays), lambda key: each(train, key, networks), key)

    return advance
