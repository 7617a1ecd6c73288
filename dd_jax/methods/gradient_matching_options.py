"""The options of gradient matching, and the trainings and losses that they mean."""

import dataclasses
from typing import Literal

import jax
import numpy as np

from dd_jax.errors import OptionError, check_at_least
from dd_jax.inner import Training
from dd_jax.methods.matching import MatchingOptions
from dd_jax.methods.sampling import check_sampling
from dd_jax.models import Model
from dd_jax.synthetic import is_equal
from dd_jax.values import with_numbers

_EPOCHS = 500  # of a network's life, where several images of each class are learnt


@dataclasses.dataclass(frozen=True)
class GradientMatchingOptions(MatchingOptions):
    """Hyper-parameters of `gradient_matching`."""

    learn_labels: bool = False
    """Learn with each image of the set how probable every class is, in place of a hard label."""
    distance: Literal["unit_cosine", "cosine", "mse", "l1"] = "unit_cosine"
    """Of two gradients: cosine distance of each output unit, of the whole, or squared or absolute differences."""
    layers: Literal["all", "convolutions"] = "all"
    """Whose gradients are compared."""
    collective: bool = False
    """Compare one gradient of all classes (Lee et al. 2022), and not one of each class."""
    warmup_networks: int = 0
    """If collective: networks for whose first `warmup_matches` matches classes are nevertheless compared one by one."""
    warmup_matches: int = 10
    """How many matches of those networks that is."""
    image_steps: Literal["joint", "per_class"] = "joint"
    """A step of all images after each match, or one after each class of it (Kim et al. 2022)."""
    match_images: int | None = None
    """Images of the set of each class in a match at most, drawn anew each time; None: all (Kim et al. 2022: 128)."""
    early_epochs: int = 0
    """Epochs that a network is trained for on real images before its first match."""
    num_matches: int | None = None
    """Outer steps with a network before another one is drawn; None: as many as images of each class."""
    inner_epochs: int | None = None
    """Epochs that a network is trained for between two of its matches; None: 500 in all but for one image of each
    class, where no network is trained."""
    train_on: Literal["distilled", "real"] = "distilled"
    """What networks are trained on: the set as it now is, or real images (Kim et al. 2022)."""
    num_training_images: int = 2000
    """Real images, drawn anew each time, that networks are trained on, as far as on real ones."""
    inner_learning_rate: float = 0.01
    """Of the networks' gradient descent."""
    inner_momentum: float = 0.0
    """Of the networks' gradient descent; starts anew after each match."""
    inner_weight_decay: float = 0.0
    """Of the networks' gradient descent."""
    inner_batch_size: int = 256
    """Images in a minibatch of the networks' training."""
    inner_cutmix: bool = False
    """Whether networks are trained with CutMix."""
    rate_by_count: bool = False
    """Multiply `learning_rate` by a tenth of `images_per_class` (Kim et al. 2022)."""
    label_learning_rate: float = 1.0
    """Outer learning rate of the labels' logits, if they are learnt."""


def with_loops(options: GradientMatchingOptions) -> GradientMatchingOptions:
    """The options with numbers of matches and epochs in place of None.

    For 1, 10 and 50 images of each class these are 1 match; 10 with 50 epochs between them; 50 with 10.
    Source: Zhao et al. 2021, appendix A; the released code has a table of six cases.
    """
    count = round(float(np.mean(options.images_per_class)))
    matches = max(count, 1) if options.num_matches is None else options.num_matches
    epochs = options.inner_epochs
    if epochs is None:
        epochs = 1 if matches == 1 else max(1, round(_EPOCHS / max(matches, 1)))
    return dataclasses.replace(options, num_matches=matches, inner_epochs=epochs)


def network_training(options: GradientMatchingOptions) -> Training:
    """How networks are trained between two matches; the options with their loops."""
    assert options.inner_epochs is not None
    training = Training(
        epochs=options.inner_epochs,
        batch_size=options.inner_batch_size,
        schedule="constant",
        augment=options.augment,
        optimiser="sgd",
        cutmix=options.inner_cutmix,
        drop_last=False,
    )
    numbers = {name: getattr(options, f"inner_{name}") for name in ("learning_rate", "momentum", "weight_decay")}
    return with_numbers(training, numbers)


def check_options(model: Model, options: GradientMatchingOptions) -> None:
    """OptionError for options, with their loops, that are out of range, unknown, or not for this network."""
    check_sampling(options)
    check_at_least(1, options, "num_matches", "inner_epochs", "num_training_images")
    if not 0 < options.inner_learning_rate < float("inf"):
        raise OptionError(f"inner_learning_rate must be positive and finite, but is {options.inner_learning_rate}.")
    if options.match_images is not None and options.match_images < 1:
        raise OptionError(f"match_images must be at least 1, or None, but is {options.match_images}.")
    if not 0 < options.label_learning_rate < float("inf"):
        raise OptionError(f"label_learning_rate must be positive and finite, but is {options.label_learning_rate}.")
    if options.match_images is not None and not is_equal(options.images_per_class):
        raise OptionError("match_images are as many of each class: leave it out where images_per_class are not.")
    check_at_least(0, options, "warmup_networks", "warmup_matches", "early_epochs")
    if options.collective and options.image_steps == "per_class":
        raise OptionError('A collective match has one gradient of all classes: use image_steps="joint".')
    kernels = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
    if options.layers == "convolutions" and not any(leaf.ndim == 4 for leaf in kernels):
        raise OptionError(f'The {model.name} has no convolutions to compare; use layers="all".')
