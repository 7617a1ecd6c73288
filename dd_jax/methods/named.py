"""The methods by name, for experiments and the command line: their options, and what is made of them."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from dd_jax.errors import OptionError, unknown_name
from dd_jax.methods.base import Method
from dd_jax.methods.distribution_matching import DistributionMatchingOptions, distribution_matching
from dd_jax.methods.frepo import FrepoOptions, frepo
from dd_jax.methods.gradient_matching import GradientMatchingOptions, gradient_matching
from dd_jax.methods.graph_condensation import GraphCondensationOptions, graph_condensation
from dd_jax.methods.kernel_inducing_points import KernelInducingPointsOptions, kernel_inducing_points
from dd_jax.methods.unrolled import UnrolledOptions, unrolled
from dd_jax.models import Model
from dd_jax.types import Pretrained

MethodOptions: TypeAlias = (
    UnrolledOptions
    | DistributionMatchingOptions
    | GradientMatchingOptions
    | KernelInducingPointsOptions
    | FrepoOptions
    | GraphCondensationOptions
)


class NamedMethod(NamedTuple):
    """A method as experiments know it.

    options: its dataclass of hyper-parameters.
    make: (model, options, networks from elsewhere if it takes them) -> the method.
    words: options -> what tells its runs on one dataset and network apart, for the names of run directories.
    small: options, by name, with which a step takes a moment.
    networks: what networks from elsewhere are to it: "pretrained", which its sets are for; "experts", which it only
        learns from, its sets being for networks drawn at random; "" where it takes none.
    """

    options: type
    make: Callable[..., Method]
    words: Callable[[Any], tuple[str, ...]]
    small: Mapping[str, Any]
    networks: str = ""


def _unrolled_words(options: UnrolledOptions) -> tuple[str, ...]:
    attack = () if options.attack_class is None else (f"attack-{options.attack_class}-{options.target_class}",)
    return (options.init, *attack)


def _distribution_words(options: DistributionMatchingOptions) -> tuple[str, ...]:
    return ("dm", *_set_words(options))


def _gradient_words(options: GradientMatchingOptions) -> tuple[str, ...]:
    name = "dsa" if options.augment.startswith("dsa") else "dc"
    if options.train_on == "real":
        name = "idc"
    if options.collective:
        name = {"dc": "dcc", "dsa": "dsac"}.get(name, f"{name}-collective")
    return (name, *_set_words(options))


def _kernel_words(options: KernelInducingPointsOptions) -> tuple[str, ...]:
    name = {"images": "kip-images", "labels": "kip-labels", "both": "kip"}[options.learn]
    return name, f"ipc{options.images_per_class}"


def _frepo_words(options: FrepoOptions) -> tuple[str, ...]:
    return "frepo", f"ipc{options.images_per_class}"


def _graph_words(options: GraphCondensationOptions) -> tuple[str, ...]:
    name = "doscond" if options.one_step else "gcond"
    return (name if options.structure else f"{name}-x", f"npc{options.nodes_per_class}")


def _set_words(options: Any) -> tuple[str, ...]:
    factor = () if options.factor == 1 else (f"factor{options.factor}",)
    return (f"ipc{options.images_per_class}", *factor)


METHODS: Mapping[str, NamedMethod] = {
    "unrolled": NamedMethod(
        UnrolledOptions, unrolled, _unrolled_words, {"num_inits": 1, "batch_size": 64}, "pretrained"
    ),
    "distribution_matching": NamedMethod(
        DistributionMatchingOptions, distribution_matching, _distribution_words, {"num_inits": 1, "batch_size": 16}
    ),
    "gradient_matching": NamedMethod(
        GradientMatchingOptions,
        gradient_matching,
        _gradient_words,
        {"num_inits": 1, "batch_size": 16, "inner_epochs": 1, "num_training_images": 64},
        "experts",
    ),
    "graph_condensation": NamedMethod(
        GraphCondensationOptions, graph_condensation, _graph_words, {"inner_steps": 1, "hidden": 8}
    ),
    "kernel_inducing_points": NamedMethod(
        KernelInducingPointsOptions, kernel_inducing_points, _kernel_words, {"batch_size": 100}
    ),
    "frepo": NamedMethod(FrepoOptions, frepo, _frepo_words, {"batch_size": 64, "pool_size": 2, "max_updates": 10}),
}


def method_named(name: str) -> NamedMethod:
    """The method called `name`, with - or _ between its words; OptionError for an unknown one."""
    plain = name.replace("-", "_")
    if plain not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[plain]


def name_of(options: MethodOptions) -> str:
    """The name of the method that these are the options of."""
    return next(name for name, method in METHODS.items() if type(options) is method.options)


def make_method(
    model: Model, options: MethodOptions, pretrained: Pretrained | None = None, experts: Pretrained | None = None
) -> Method:
    """The method with these options.

    pretrained: networks that its sets are to be for. experts: networks that it learns from.
    Raises what the method raises; OptionError for networks that it doesn't take.
    """
    name = name_of(options)
    method, given = METHODS[name], {"pretrained": pretrained, "experts": experts}
    given = {role: networks for role, networks in given.items() if networks is not None}
    for role in given:
        if role != method.networks:
            raise OptionError(_other_role(name, role))
    return method.make(model, options, **given)


def _other_role(name: str, role: str) -> str:
    """What is wrong with networks of this role, in a sentence."""
    own = METHODS[name].networks
    able = ", ".join(other for other, its in METHODS.items() if its.networks == role)
    if own == "experts":
        return f"{name} learns from networks, and its sets are for others, drawn at random: say --experts."
    if own == "pretrained":
        return f"{name} makes sets for the networks that it learns from: say --pretrained, or use {able}."
    return f"{name} starts from networks drawn at random: leave out --{role}, or use {able}."
