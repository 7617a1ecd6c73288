"""Run by test_devices.py in a process of its own with eight virtual devices: prints what it finds as JSON."""

import json
import sys
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import dd_jax as dd
from dd_jax.inner import chunks, device_mesh, map_over, mean_over, momentum, on_each, on_one, replicate, unroll
from dd_jax.inner.parallel import AXIS, agreed
from dd_jax.methods.sampling import minibatch
from dd_jax.runs import counted
from dd_jax.runs.dispatch import run_steps, start_state
from dd_jax.types import Batch

STEPS = 6


def outer_steps(method, data, devices):
    """The images, step sizes and losses after a few outer steps."""
    mesh = device_mesh(devices)
    state = start_state(method, jax.random.key(0), data, STEPS, mesh)
    key, real, first, count = replicate((jax.random.key(1), method.arrays(data), jnp.int32(0), jnp.int32(STEPS)), mesh)
    state, info = run_steps(method.step, mesh, key, state, real, first, count)
    learnable = on_one(state).learnable
    return np.concatenate([np.ravel(leaf) for leaf in (*jax.tree.leaves(learnable), np.asarray(info.loss)[:STEPS])])


def unrolled(model):
    """The method of most of what is done here, so that it is compiled once for each number of devices."""
    return dd.methods.unrolled(model, num_batches=1, num_epochs=2, num_inits=4, batch_size=64, init_step_size=1.0)


class Learnt(NamedTuple):
    """The state of `light`, and what it learns."""

    learnable: tuple[jax.Array]


class Lost(NamedTuple):
    loss: jax.Array


def light(method, num_inits, batch_size):
    """`method` with a step that compiles quickly: images learn from drawn networks after one step, by plain descent."""

    def answers(weights, images):
        return images.reshape(len(images), -1) @ weights

    def loss(weights, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(answers(weights, images), labels).mean()

    def trained(images, weights):
        return weights - jax.grad(loss)(weights, images, jnp.arange(10))

    def step(key, state, real):
        def one(key, part, parts):
            init_key, data_key = jax.random.split(key)
            images, labels = minibatch(data_key, real, batch_size, part, parts)
            start = 0.1 * jax.random.normal(init_key, (64, 10))
            return jax.value_and_grad(lambda learnt: loss(trained(learnt, start), images, labels))(state.learnable[0])

        found, gradient = mean_over(one, jax.random.split(key, num_inits), batch_size, None)
        return Learnt((state.learnable[0] - gradient,)), Lost(found)

    def init(key, data, num_outer_steps):
        return Learnt((jax.random.normal(key, (10, 8, 8, 1)),))

    return method._replace(init=init, step=step, arrays=lambda data: data.train)


def same_steps(data, model):
    """Largest difference to one device, by number of initialisations, size of the batch and number of devices.

    Whatever the method is, `mean_over` divides its work: most divisions are tried on one that is compiled quickly.
    """
    found = {}
    for num_inits, batch_size, devices in [(4, 64, 2), (4, 64, 8), (3, 64, 8), (11, 64, 8), (1, 64, 8), (1, 60, 8)]:
        whole = (num_inits, batch_size, devices) == (4, 64, 8)
        method = unrolled(model) if whole else light(unrolled(model), num_inits, batch_size)
        difference = np.abs(outer_steps(method, data, devices) - outer_steps(method, data, 1)).max()
        found[f"{num_inits} inits, batch {batch_size}, {devices} devices"] = float(difference)
    return found


def same_matches(data, model):
    """Largest difference of eight devices to one, where networks are matched, and trained, at the same time."""
    methods = {
        "features": dd.methods.distribution_matching(model, num_inits=3, batch_size=16, learning_rate=0.01),
        "gradients": dd.methods.gradient_matching(
            model, num_inits=3, batch_size=16, num_matches=4, inner_epochs=2, inner_learning_rate=0.1
        ),
        "classes": dd.methods.gradient_matching(model, num_inits=1, batch_size=16),
    }
    return {name: difference(method, data) for name, method in methods.items()}


def same_shares(data, model):
    """The same of methods that divide the images of one wide network: of inner steps, of a match and a training.

    Of the 100 real images of a training the second minibatch has 36 in 64 places, so that some devices have none.
    """
    trainings = dd.methods.bptt(model, num_inner_steps=3, window=2, batch_size=80, learning_rate=0.01)
    settings = {"num_inits": 1, "batch_size": 16, "num_matches": 4, "inner_epochs": 1}
    by_class = {"image_steps": "per_class", "train_on": "real", "num_training_images": 100, "inner_batch_size": 64}
    steps = dd.methods.gradient_matching(model, **settings, **by_class)
    collective = dd.methods.gradient_matching(model, **settings, collective=True)
    methods = {"trainings": trainings, "class by class": steps, "collective": collective}
    assert {method.useful_devices(8) for method in methods.values()} == {8}
    return {name: difference(method, data) for name, method in methods.items()}


def difference(method, data):
    """The largest of eight devices to one."""
    return float(np.abs(outer_steps(method, data, 8) - outer_steps(method, data, 1)).max())


def shared_unrolls(model):
    """Relative difference of the hypergradient of a shared unroll to one device's, by how many images a step has.

    The loss has a share of its own on each device, as the loss on real images does; images, a step size and the start
    are what it is differentiated in.
    """
    targets = jnp.linspace(0.0, 1.0, 8)

    def hypergradient(images, devices):
        labels = jnp.arange(len(images)) % 10

        def loss(learnt, part, parts):
            images, size, start = learnt
            after = unroll(
                model.apply,
                start,
                jnp.arange(3),
                momentum(size * jnp.ones(3), 0.9),
                batch_of=lambda t: Batch(images * (1 + t), labels),
                shared=True,
            )
            mine = targets.reshape(parts, -1)[part]
            return sum(jnp.square(leaf[..., None] - mine).mean(-1).sum() for leaf in jax.tree.leaves(after))

        def one(key, part, parts):
            return jax.grad(loss)((images, jnp.asarray(0.1), model.init(key)), part, parts)

        mesh = device_mesh(devices)
        keys = jax.random.split(jax.random.key(0), 1)
        found = jax.jit(on_each(lambda keys: mean_over(one, keys, 8, None), mesh))(replicate(keys, mesh))
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])

    differences = {}
    with jax.enable_x64(True):
        for count in (16, 10, 3):
            images = jax.random.normal(jax.random.key(count), (count, 8, 8, 1))
            exact = hypergradient(images, 1)
            differences[count] = float(np.abs(hypergradient(images, 8) - exact).max() / np.abs(exact).max())
    return differences


def division():
    """Which keys and shares of the real images the devices take, and what comes together again."""
    keys = jnp.arange(11)
    mean = jax.jit(on_each(lambda k: mean_over(lambda key, part, parts: key * 1.0, k, 64, None), device_mesh()))
    mapped = jax.jit(on_each(lambda k: map_over(lambda key: key * 10, k, None), device_mesh()))
    shares = jax.jit(on_each(lambda k: mean_over(lambda key, part, parts: part + 100.0 * parts, k, 64, None),
                             device_mesh()))  # fmt: skip
    return {
        "mean": float(mean(replicate(keys, device_mesh()))),
        "mapped": np.asarray(mapped(replicate(keys, device_mesh()))).tolist(),
        "shares of one": float(shares(replicate(keys[:1], device_mesh()))),
        "shares of four": float(shares(replicate(keys[:4], device_mesh()))),
    }


def brought_together():
    """Means of cotangents of two types, of devices 0 to 7, and how often these meet for them: once for each type."""

    def cotangents(scale):
        mine = scale * lax.axis_index(AXIS)
        given = {"a": mine * jnp.ones((2, 3)), "b": mine.astype(jnp.bfloat16), "c": mine * jnp.arange(4.0)}
        return jax.vjp(agreed, given)[1](given)[0]

    scale = replicate(jnp.float32(2), device_mesh())
    mean = on_each(cotangents, device_mesh())
    found = jax.jit(mean)(scale)
    return {
        "means": {name: np.asarray(leaf, np.float64).tolist() for name, leaf in found.items()},
        "types": [str(leaf.dtype) for leaf in jax.tree.leaves(found)],
        "collectives": str(jax.make_jaxpr(mean)(scale)).count("= psum["),
    }


def evaluations(data, model):
    """Accuracies on one device and on eight."""
    method = unrolled(model)
    distilled = method.distilled(method.init(jax.random.key(0), data, 1))
    return [dd.evaluate(distilled, model, data, num_nets=11, num_curve_nets=3, devices=d).accuracies for d in (1, 8)]


def counted_on_all(data, model):
    """How many devices an estimate timed at once, and its time of a step, in shares of one on that many."""
    meshes = []

    def seen(function, mesh):
        meshes.append(mesh.size)
        return on_each(function, mesh)

    with mock.patch.object(counted, "on_each", seen), mock.patch.object(counted, "_TIMED_SECONDS", 0.01):
        found = counted.count_run(unrolled(model), data, num_outer_steps=1, devices=8)
    return [*meshes, found.seconds_per_step * found.rate * found.devices / found.flops]


def resumed(data, model, folder):
    """The images of a run that was cut in two, and of one that was not."""
    method = unrolled(model)

    def run(name, **changes):
        options = {
            "num_outer_steps": 8,
            "eval_every": 4,
            "num_eval_nets": 2,
            "show_progress": False,
            "devices": 8,
        } | changes
        return dd.distill(method, data, out=f"{folder}/{name}", **options)

    from dd_jax.runs import loop

    validate = loop._Loop.validate

    def interrupted(self, show):
        validate(self, show)
        if self.step == 4:
            raise SystemExit

    loop._Loop.validate = interrupted
    try:
        run("cut")
    except SystemExit:
        loop._Loop.validate = validate
    return [np.asarray(run(name).history[-1]["validation"]) for name in ("cut", "whole")] + [
        np.asarray(dd.load_distilled(f"{folder}/{name}").images).tobytes().hex()[-4000:] for name in ("cut", "whole")
    ]


def main(folder):
    data = dd.load_dataset("digits")
    model = dd.models.mlp(data, hidden=(16,))
    before = dd.use_cores(2)  # too late: the model was initialised
    accuracies = evaluations(data, model)
    cut = resumed(data, model, folder)
    try:
        device_mesh(9)
        refused = ""
    except dd.OptionError as error:
        refused = str(error)
    with mock.patch.object(chunks, "_CACHED", 1):  # every network is wide
        unrolls, shares = shared_unrolls(model), same_shares(data, model)
    found = {
        "devices": len(jax.devices()),
        "use_cores": before,
        "steps": same_steps(data, model),
        "matches": same_matches(data, model) | shares,
        "unrolls": unrolls,
        "division": division(),
        "together": brought_together(),
        "counted": counted_on_all(data, model),
        "evaluations": [a.tolist() for a in accuracies],
        "resumed": [float(cut[0]) == float(cut[1]), cut[2] == cut[3]],
        "refused": refused,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
