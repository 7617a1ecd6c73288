"""The contract of a method: a factory closes over hyper-parameters and returns pure functions.

What is compiled depends on the step alone, by equality: see `compiled_step`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar, runtime_checkable
from typing import Protocol as Interface

import jax
import jax.numpy as jnp

from dd_jax.errors import unknown_name
from dd_jax.models import Model
from dd_jax.renamed import refuse_old_option, renamed
from dd_jax.types import Batch, Dataset, DistilledData, Feed, Pretrained, Protocol
from dd_jax.values import made, with_numbers, without_numbers

State: TypeAlias = Any  # a NamedTuple named after its method: carried from step to step and checkpointed
Options = TypeVar("Options")
Info: TypeAlias = Any  # a NamedTuple of scalars and small arrays: reported and forgotten; has `loss`


class InitFn(Interface):
    """(key, dataset, num_outer_steps) -> State. The horizon is what learning-rate schedules run to.

    Host code: it looks at the values of real images, for instance to find k-means centres, so it can't be traced by
    `jax.jit` or `jax.vmap`. For several seeds it is called once for each, and the states are stacked.
    """

    def __call__(self, key: jax.Array, dataset: Dataset, num_outer_steps: int) -> State: ...


@runtime_checkable
class StepFn(Interface):
    """(key, state, arrays as `Method.arrays` gives them) -> (State, Info); pure, to be jitted by the caller."""

    def __call__(self, key: jax.Array, state: State, arrays: Any) -> tuple[State, Info]: ...


class DistilledFn(Interface):
    """state -> the distilled set as it now is, in model space."""

    def __call__(self, state: State) -> DistilledData: ...


class ScaleLearningRateFn(Interface):
    """(state, factor) -> the same state with its outer learning rates multiplied by a factor, for good."""

    def __call__(self, state: State, factor: float) -> State: ...


def _all(available: int) -> int:
    return available


def _train(dataset: Dataset) -> Batch:
    return dataset.train


class Advice(NamedTuple):
    """What a user may change where a run can't go on: words that follow "Try".

    Attributes:
        diverged: where its loss is no longer finite, or validation accuracy has collapsed.
        memory: where an outer step doesn't fit into memory, one thing each.
    """

    diverged: str = "a smaller learning_rate"
    memory: tuple[str, ...] = ()


@renamed(slower="scale_learning_rate")
class Method(NamedTuple):
    """A distillation method as pure functions, with what is needed to record and repeat it.

    Attributes:
        init: the state that a run starts from. Host code, which can't be jitted or vmapped: see `InitFn`.
        step, distilled: pure functions, to be jitted by the caller.
        useful_devices: of so many devices, how many make an outer step faster; all of them unless the method knows
            better.
        arrays: what every step reads besides its state, out of a dataset: its training split and, say, pretrained
            networks.
        pretrained: the networks that it distils for, if they don't start from scratch.
        scale_learning_rate: how a run that diverged goes on from an earlier state; None where that isn't possible.
        summary: what it is about to do, in a few words, e.g. "100 images, 30 inner steps, random init".
        protocol: how its sets are to be used.
        feed: arrays that are too many to have them all in memory; its `join` puts a window of them into what `arrays`
            gave.
        shown: the numbers of its infos that are shown while it runs.
        advice: what to change where a run can't go on.
        inner_images: images in each inner step that it differentiates through; 0 where there are none.
        forward_only: whether a step is mostly the answers of a network to real images, without their derivatives.
    """

    name: str
    init: InitFn
    step: StepFn
    distilled: DistilledFn
    model: Model
    hyperparameters: Mapping[str, Any]
    useful_devices: Callable[[int], int] = _all
    arrays: Callable[[Dataset], Any] = _train
    pretrained: Pretrained | None = None
    scale_learning_rate: ScaleLearningRateFn | None = None
    summary: str = ""
    protocol: Protocol = Protocol()
    feed: Feed | None = None
    shown: tuple[str, ...] = ("loss",)
    advice: Advice = Advice()
    inner_images: int = 0
    forward_only: bool = False


class MethodSpec(NamedTuple):
    """A method as experiments and the command line know it; each method's file has its own.

    Attributes:
        options: its dataclass of hyper-parameters.
        make: (model, options, networks from elsewhere if it takes them) -> the method.
        words: options -> what tells its runs on one dataset and network apart, for the names of run directories.
        small: options, by name, with which a step takes a moment.
        networks: what networks from elsewhere are to it: "pretrained", which its sets are for; "experts", which it only
            learns from, its sets being for networks drawn at random; "" where it takes none.
    """

    name: str
    options: type
    make: Callable[..., Method]
    words: Callable[[Any], tuple[str, ...]]
    small: Mapping[str, Any]
    networks: str = ""


class Roles(NamedTuple):
    """Options that a compiled step does not depend on.

    Attributes:
        numbers: those that enter it as arguments, so that other values need no other program. A value that switches
            something off stays out of the program with it; None for an option without such a value.
        outside: those that only the start, the real data or the record of a run depend on.
    """

    numbers: Mapping[str, float | None]
    outside: tuple[str, ...]


class Given(NamedTuple):
    """What a step reads besides its state. numbers: options by name; arrays: real data and, say, networks."""

    numbers: Mapping[str, jax.Array]
    arrays: Any


def compiled_step(
    build: Callable[..., StepFn],
    model: Model,
    options: Any,
    roles: Roles,
    arrays: Callable[[Dataset], Any] = _train,
    rest: tuple[Any, ...] = (),
) -> tuple[StepFn, Callable[[Dataset], Given]]:
    """The step of a method, and `Method.arrays` for it: equal steps need one program, whatever their numbers.

    Args:
        build: (model, options, *rest) -> the step, a function at the top of a file; its options have `roles.numbers` in
            them as they are in the step, traced, and `roles.outside` at their defaults.
        arrays: what the step reads besides its state, out of a dataset.
        rest: values that it depends on besides options.
    """
    build(model, options, *rest)  # raises what is wrong with the options
    defaults = type(options)()
    fixed = {name: getattr(defaults, name) for name in roles.outside}
    static, numbers = without_numbers(dataclasses.replace(options, **fixed), roles.numbers)

    def given(dataset: Dataset) -> Given:
        return Given(numbers, arrays(dataset))

    return made(_with_numbers, build, model, static, tuple(numbers), *rest), given


def _with_numbers(
    build: Callable[..., StepFn], model: Model, options: Any, numbers: tuple[str, ...], *rest: Any
) -> StepFn:
    def step(key: jax.Array, state: State, arrays: Given) -> tuple[State, Info]:
        assert set(arrays.numbers) == set(numbers)  # of this method's own `arrays`
        return build(model, with_numbers(options, arrays.numbers), *rest)(key, state, arrays.arrays)

    return step


def first_arrays(method: Method, dataset: Dataset, seed: int = 0) -> Any:
    """The arrays that the first outer steps of a run read."""
    arrays = method.arrays(dataset)
    if method.feed is None:
        return arrays
    return method.feed.join(arrays, jax.tree.map(jnp.asarray, method.feed.read(seed, 0)))


def with_overrides(options: Options, overrides: Mapping[str, Any]) -> Options:
    """`options`, a dataclass, with some fields replaced; OptionError for a field that it doesn't have."""
    known = [field.name for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    for name in overrides:
        if name not in known:
            refuse_old_option(name, known)
            raise unknown_name("option", name, known)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items()}
    return dataclasses.replace(options, **given)  # type: ignore[type-var]
