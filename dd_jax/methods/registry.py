"""The methods by name, for experiments and the command line."""

from importlib import import_module
from typing import Any, TypeAlias

from dd_jax.errors import OptionError, unknown_name
from dd_jax.methods.base import Method, MethodSpec
from dd_jax.methods.own import own_method
from dd_jax.models import Model
from dd_jax.own import is_own
from dd_jax.types import Experts, Pretrained

MethodOptions: TypeAlias = Any  # the options of one of the methods, a dataclass

# Each is a file here with a `SPEC`; a new method adds its own.
_FILES = (
    "unrolled",
    "bptt",
    "generative_teaching",
    "distribution_matching",
    "gradient_matching",
    "trajectory_matching",
    "graph_condensation",
    "kernel_inducing_points",
    "frepo",
)
METHODS: dict[str, MethodSpec] = {name: import_module(f"dd_jax.methods.{name}").SPEC for name in _FILES}


YOUR_OWN = "A method of your own is MODULE:FUNCTION, such as mymethod:make for make in mymethod.py."
_own: dict[str, MethodSpec] = {}  # methods of the user's own that were asked for


def method_named(name: str) -> MethodSpec:
    """The method called `name`, with - or _ between its words, or MODULE:FUNCTION; OptionError for an unknown one."""
    if is_own(name):
        return _own.setdefault(name, own_method(name))
    plain = name.replace("-", "_")
    if plain not in METHODS:
        raise unknown_name("method", name, METHODS, YOUR_OWN)
    return METHODS[plain]


def name_of(options: MethodOptions) -> str:
    """The name of the method that these are the options of."""
    return next(name for name, method in {**METHODS, **_own}.items() if type(options) is method.options)


def spec_of(options: MethodOptions) -> MethodSpec:
    """The method that these are the options of."""
    return {**METHODS, **_own}[name_of(options)]


def make_method(
    model: Model,
    options: MethodOptions,
    pretrained: Pretrained | None = None,
    experts: Pretrained | Experts | None = None,
) -> Method:
    """The method with these options.

    Raises what the method raises; OptionError for networks that it doesn't take.

    Args:
        pretrained: networks that its sets are to be for.
        experts: networks that it learns from, at the end of their training or all along it.
    """
    given = {"pretrained": pretrained, "experts": experts}
    given = {role: networks for role, networks in given.items() if networks is not None}
    check_networks(options, *given)
    return spec_of(options).make(model, options, **given)


def check_networks(options: MethodOptions, *roles: str) -> None:
    """OptionError for networks from elsewhere in a role that they don't have in the method with these options."""
    spec = spec_of(options)
    for role in roles:
        if role != spec.networks:
            raise OptionError(_other_role(name_of(options), spec.networks, role))


def _other_role(name: str, own: str, role: str) -> str:
    """What is wrong with networks of this role, in a sentence.

    Args:
        own: the role that the method has for networks.
    """
    able = ", ".join(other for other, its in METHODS.items() if its.networks == role)
    if own == "experts":
        return (
            f"{name} learns from networks, but its sets are for randomly drawn ones. Give the networks with --experts."
        )
    if own == "pretrained":
        return f"{name} makes sets for the networks that it learns from. Give them with --pretrained, or use {able}."
    return f"{name} starts from randomly drawn networks. Leave out --{role}, or use {able}."
