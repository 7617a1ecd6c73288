"""Functions as values: which are equal, so that they share what is compiled, and which never are."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.models import Shapes
from dd_jax.values import key_of, made, with_numbers, without_numbers

SPEC = Shapes((8, 8, 1), 3)


def adding(number):
    return lambda x: x + number


def multiplying(number):
    return lambda x: x * number


@dataclasses.dataclass(frozen=True)
class Options:
    rate: float = 0.1
    count: int = 3
    momentum: float = 0.0
    clip: float | None = None
    name: str = "a"


class Net(nn.Module):
    width: int = 4
    scale: Any = 1.0
    activation: Any = nn.relu

    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(self.scale * self.activation(nn.Dense(self.width)(images.reshape(len(images), -1))))


def test_equal_makers_and_values_are_one_function():
    assert made(adding, 2.0) == made(adding, 2.0)
    assert hash(made(adding, 2.0)) == hash(made(adding, 2.0))
    assert made(adding, 2.0)(3) == 5.0
    assert made(adding, 2.0) != made(multiplying, 2.0)
    assert made(adding, made(adding, 1)) == made(adding, made(adding, 1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (0.1, 0.1 + 1e-17 + 1e-16),
        ("1", b"1"),
        ((1, 2), [1, 2]),
        ((1, (2,)), (1, 2)),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"b": 1}),
        (Options(), Options(rate=0.2)),
        (Options(count=3), Options(count=3.0)),
        (Net(width=4), Net(width=5)),
        (Net(scale=1), Net(scale=1.0)),
        (Net(), Net(activation=nn.tanh)),
        (functools.partial(adding, 1), functools.partial(adding, 2)),
        (None, False),
        (jnp.float32, jnp.float64),
    ],
)
def test_different_values_are_different_functions(one, other):
    assert made(adding, one) == made(adding, one)
    assert made(adding, one) != made(adding, other)


def test_what_has_no_value_is_itself_alone():
    """Arrays may be changed, and of two functions only Python knows whether they are the same."""
    for make in (lambda: np.ones(2), lambda: jnp.ones(2), lambda: adding(1), lambda: object()):
        value = make()
        assert key_of(value) == key_of(value)
        assert key_of(value) != key_of(make())


def test_a_not_a_number_is_itself():
    assert key_of(float("nan")) == key_of(float("nan"))


def test_numbers_leave_a_key_and_come_back():
    options = Options(rate=0.5, count=7, momentum=0.9, clip=2.0, name="b")
    roles = {"rate": None, "count": None, "momentum": 0.0, "clip": None}
    static, numbers = without_numbers(options, roles)
    assert static == Options(name="b")
    assert numbers == {"rate": 0.5, "count": 7, "momentum": 0.9, "clip": 2.0}
    assert with_numbers(static, numbers) == options
    assert without_numbers(Options(), roles) == (Options(), {"rate": 0.1, "count": 3})  # what is off stays off


def same_networks():
    """Pairs that are built twice from equal values."""
    nodes = Shapes((1, 1, 5), 3)
    return [
        lambda: dd.models.mlp(SPEC, hidden=(6,)),
        lambda: dd.models.convnet(SPEC, width=4, depth=1),
        lambda: dd.models.convnet(SPEC, width=4, depth=1, norm="none"),
        lambda: dd.models.with_precision(dd.models.mlp(SPEC, hidden=(6,)), "bf16"),
        lambda: dd.models.gcn(nodes, hidden=4),
        lambda: dd.models.sgc(nodes, steps=1),
        lambda: dd.models.sgc(nodes, steps=2),
        lambda: dd.models.appnp(nodes, hidden=4, steps=2),
        lambda: dd.models.appnp(nodes, hidden=4, steps=2, teleport=0.2),
        lambda: dd.models.graphsage(nodes, hidden=4),
        lambda: dd.models.infinite_mlp(SPEC),
        lambda: dd.models.infinite_mlp(SPEC, depth=2),
        lambda: dd.models.infinite_convnet(SPEC),
        lambda: dd.models.from_flax(Net(), SPEC),
        lambda: dd.models.from_flax(Net(width=8), SPEC),
        lambda: dd.models.lenet(Shapes((28, 28, 1), 10)),
    ]


def test_networks_built_from_equal_values_are_equal_and_from_others_are_not():
    functions = ("init", "apply", "features")
    built = [(build(), build()) for build in same_networks()]
    for one, again in built:
        for name in functions:
            assert getattr(one, name) == getattr(again, name), (one.name, name)
        assert one.kernel == again.kernel
        assert one.apply != one.features
    applies = {one.apply for one, _ in built}
    assert len(applies) == len(built)


def test_networks_of_ones_own_functions_are_equal_where_the_functions_are_the_same():
    def init(key):
        return {"w": jax.random.normal(key, (64, 3))}

    def apply(params, images):
        return images.reshape(len(images), -1) @ params["w"]

    one, again = (dd.models.from_functions(init, apply, SPEC) for _ in range(2))
    assert one.apply == again.apply
    other = dd.models.from_functions(init, lambda params, images: 2 * apply(params, images), SPEC)
    assert one.apply != other.apply
