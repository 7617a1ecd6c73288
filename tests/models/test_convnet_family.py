"""Many ConvNets as one: each member is the ConvNet that it stands for, before and after training."""

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.inner import Training, fit
from dd_jax.models import Shapes, convnet, convnet_family, family_member
from dd_jax.models.convnet import ACTIVATIONS
from dd_jax.models.layers import NORMS

SHAPES = Shapes((8, 8, 1), 3)
KEY = jax.random.key(0)
# Every norm, activation and pooling, but not all of their combinations.
MEMBERS = [
    ("instance", "relu", "avg"),
    ("group", "leaky_relu", "max"),
    ("layer", "sigmoid", "avg"),
    ("none", "swish", "max"),
    ("group", "softplus", "none"),
    ("batch", "relu", "max"),
]


def shared(member, params):
    """The weights of a member as its own network has them."""
    own = {}
    for name, leaves in params.items():
        if name.startswith("_AnyNorm"):
            own[name.replace("_AnyNorm", "GroupNorm")] = leaves
        elif name != "choice":
            own[name] = leaves
    return own if member[0] != "none" else {name: own[name] for name in own if not name.startswith("GroupNorm")}


def networks(member, layout):
    norm, activation, pooling = member
    own = convnet(SHAPES, width=8, depth=2, norm=norm, activation=activation, pooling=pooling, layout=layout)
    pooled, over_batch = pooling != "none", norm == "batch"
    family = convnet_family(SHAPES, width=8, depth=2, pooled=pooled, over_batch=over_batch, layout=layout)
    params = {**family.init(KEY), "choice": family_member("none" if over_batch else norm, activation, pooling)}
    bias = jax.random.normal(KEY, (8,))  # they start at zero, where an error could hide
    params["_AnyNorm_0"] = {**params["_AnyNorm_0"], "bias": bias}
    return own, family, params


def test_the_members_have_every_norm_activation_and_pooling():
    assert {norm for norm, _, _ in MEMBERS} == set(NORMS)
    assert {activation for _, activation, _ in MEMBERS} == set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("member", "layout"),
    [*((member, "NHWC") for member in MEMBERS), *((member, "CHWN") for member in (*MEMBERS[:2], MEMBERS[-1]))],
)
def test_a_member_is_the_network_that_it_stands_for(member, layout):
    own, family, params = networks(member, layout)
    images = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    assert jax.tree.map(np.shape, own.init(KEY)) == jax.tree.map(np.shape, shared(member, params))
    np.testing.assert_allclose(
        jax.jit(family.apply)(params, images),
        jax.jit(own.apply)(shared(member, params), images),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.slow
def test_members_train_as_their_own_networks_do_all_in_one_vmap():
    images = dd.Batch(jax.random.normal(jax.random.key(1), (12, 8, 8, 1)), jax.numpy.arange(12) % 3)
    training = Training(epochs=3, batch_size=4, learning_rate=0.05, optimiser="sgd", weight_decay=0.1)
    every = [networks(member, "NHWC") for member in MEMBERS[:3]]
    family = every[0][1]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(params for _, _, params in every))
    trained = jax.jit(jax.vmap(lambda params: fit(family.apply, params, KEY, images, training)))(stacked)
    for i, (own, _, params) in enumerate(every):
        member = jax.tree.map(lambda leaf, i=i: leaf[i], trained)
        alone = fit(own.apply, shared(MEMBERS[i], params), KEY, images, training)
        there = shared(MEMBERS[i], member)
        for name in alone:
            if name.startswith("Conv") and MEMBERS[i][0] == "instance":  # its bias is taken away again, and not added
                np.testing.assert_allclose(there[name]["kernel"], alone[name]["kernel"], rtol=1e-3, atol=1e-4)
            else:
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), there[name], alone[name]
                )
        for name, entries in params["choice"].items():
            assert member["choice"][name].argmax() == entries.argmax()
        assert jax.tree.map(np.shape, member) == jax.tree.map(np.shape, params)
