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
    """Learn how probable every class is for each image, in place of a hard label."""
    distance: Literal["unit_cosine", "cosine", "mse", "l1"] = "unit_cosine"
    """Distance between two gradients: the cosine distance of each output unit or of the whole, or squared or absolute
    differences."""
    layers: Literal["all", "convolutions"] = "all"
    """Layers whose gradients are compared."""
    collective: bool = False
    """Compare one gradient of all classes (Lee et al. 2022), instead of one gradient of each class."""
    warmup_networks: int = 0
    """Networks whose first `warmup_matches` matches compare classes one by one, if collective."""
    warmup_matches: int = 10
    """Matches of each warm-up network that compare classes one by one."""
    image_steps: Literal["joint", "per_class"] = "joint"
    """"joint": one step of all images after each match. "per_class": one step after each class of it (Kim et al.
    2022)."""
    match_images: int | None = None
    """Largest number of the set's images of each class in a match, drawn anew each time (Kim et al. 2022: 128). None:
    all of them."""
    early_epochs: int = 0
    """Epochs to train a network for on real images before its first match."""
    num_matches: int | None = None
    """Outer steps with a network before another one is drawn. None: as many as there are images of each class."""
    inner_epochs: int | None = None
    """Epochs to train a network for between two matches. None: 500 in all, or no training with one image of each
    class."""
    train_on: Literal["distilled", "real"] = "distilled"
    """Images to train networks on: "distilled", the set as it now is, or "real" (Kim et al. 2022)."""
    num_training_images: int = 2000
    """Real images, drawn anew each time, to train networks on, if `train_on` is "real"."""
    inner_learning_rate: float = 0.01
    """Learning rate of the networks' gradient descent."""
    inner_momentum: float = 0.0
    """Momentum of the networks' gradient descent, which starts anew after each match."""
    inner_weight_decay: float = 0.0
    """Weight decay of the networks' gradient descent."""
    inner_batch_size: int = 256
    """Images in a minibatch of the networks' training."""
    inner_cutmix: bool = False
    """Train networks with CutMix."""
    rate_by_count: bool = False
    """Multiply `learning_rate` by a tenth of `images_per_class` (Kim et al. 2022)."""
    label_learning_rate: float = 1.0
    """Outer learning rate of the labels' logits, if labels are learnt."""


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
        raise OptionError(
            "match_images is one number for all classes, but images_per_class differs between them. "
            "Leave out match_images."
        )
    check_at_least(0, options, "warmup_networks", "warmup_matches", "early_epochs")
    if options.collective and options.image_steps == "per_class":
        raise OptionError('A collective match has one gradient for all classes. Use image_steps="joint".')
    kernels = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
    if options.layers == "convolutions" and not any(leaf.ndim == 4 for leaf in kernels):
        raise OptionError(f'layers compares convolutions, but the {model.name} has none. Use layers="all".')
