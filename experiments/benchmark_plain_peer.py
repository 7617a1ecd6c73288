"""FRePo and kernel inducing points written down plainly in JAX, for benchmark_published.py: no part of the library.

One device, all of whose threads XLA may use; the network's convolutions are XLA's own, all real images at once.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from benchmark_serve import serve
from jax import lax

HIGHEST = lax.Precision.HIGHEST


def features(params, x):
    """Blocks of convolution, ReLU and mean pooling of images (N, H, W, C), flat."""
    for block, (kernel, bias) in enumerate(params[:-1]):
        pad = 3 if block == 0 and x.shape[1] == 28 else 1
        x = lax.conv_general_dilated(x, kernel, (1, 1), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = lax.reduce_window(jax.nn.relu(x + bias), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    return x.reshape(len(x), -1)


def ridge(gram, cross, targets, wanted, regulariser=1e-6):
    size = len(gram)
    weights = jnp.linalg.solve(gram + regulariser * jnp.trace(gram) / size * jnp.eye(size, dtype=gram.dtype), targets)
    return 0.5 * ((jnp.matmul(cross, weights, precision=HIGHEST) - wanted) ** 2).mean()


def frepo_loss(learnt, params, real, classes):
    """Half the squared error of ridge regression on the features, less the margin of the labels."""
    images, targets = learnt
    mine, theirs = features(params, images), lax.stop_gradient(features(params, real))
    wanted = jax.nn.one_hot(classes, 10, dtype=real.dtype) - 0.1
    centred = targets - 0.1
    gram, cross = (jnp.matmul(a, mine.T, precision=HIGHEST) for a in (mine, theirs))
    loss = ridge(gram, cross, centred, wanted)
    first, second = lax.top_k(centred, 2)[0].T
    return loss - jnp.minimum(first - second, 0.1).mean()


def ntk(first, second):
    """Of one hidden layer of infinitely many ReLU units; weights N(0, 2 / fan-in), biases N(0, 0.01)."""
    a, b = (x.reshape(len(x), -1) for x in (first, second))
    size = a.shape[1]
    cross = 2 * jnp.matmul(a, b.T, precision=HIGHEST) / size + 0.01
    norms = [jnp.sqrt(2 * (x * x).sum(1) / size + 0.01) for x in (a, b)]
    both = norms[0][:, None] * norms[1]
    cosine = cross / both
    sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, 1e-30))
    angle = jnp.arctan2(sine, cosine)
    slope = (jnp.pi - angle) / jnp.pi
    hidden = both * (sine + (jnp.pi - angle) * cosine) / jnp.pi + 0.01
    return hidden + slope * cross


def kip_loss(learnt, real, classes):
    images, labels = learnt
    wanted = jax.nn.one_hot(classes, 10, dtype=real.dtype) - 0.1
    return ridge(ntk(images, images), ntk(real, images), labels - 0.1, wanted)


class Kip:
    def __init__(self, size, channels, images_per_class, batch_size, **_):
        key = jax.random.key(0)
        self.learnt = drawn_set(key, size, channels, images_per_class)
        optimiser = optax.adam(0.04)
        self.state = optimiser.init(self.learnt)
        real = jax.random.normal(key, (8000, size, size, channels))

        def step(learnt, state, key):
            chosen = jax.random.randint(key, (batch_size,), 0, len(real))
            gradient = jax.grad(kip_loss)(learnt, real[chosen], chosen % 10)
            change, state = optimiser.update(gradient, state, learnt)
            return optax.apply_updates(learnt, change), state

        self.compiled, self.key = jax.jit(step), key

    def step(self):
        self.key, key = jax.random.split(self.key)
        self.learnt, self.state = jax.block_until_ready(self.compiled(self.learnt, self.state, key))


class Frepo:
    """An outer step and the step of the network after it."""

    def __init__(self, width, growth, depth, size, channels, images_per_class, batch_size, pool_size, **_):
        key = jax.random.key(0)
        self.learnt = drawn_set(key, size, channels, images_per_class)
        optimiser, training = optax.lamb(3e-4, eps=1e-6), optax.adam(3e-4)
        pool = [network(jax.random.fold_in(key, i), width, growth, depth, size, channels) for i in range(pool_size)]
        self.pool = [(params, training.init(params)) for params in pool]
        self.state, self.key = optimiser.init(self.learnt), key
        real = jax.random.normal(key, (8000, size, size, channels))

        def step(learnt, state, params, moments, key):
            chosen = jax.random.randint(key, (batch_size,), 0, len(real))
            gradient = jax.grad(frepo_loss)(learnt, params, real[chosen], chosen % 10)
            change, state = optimiser.update(gradient, state, learnt)

            def squared(params):
                weights, bias = params[-1]
                return 0.5 * ((features(params, learnt[0]) @ weights + bias - (learnt[1] - 0.1)) ** 2).mean()

            move, moments = training.update(jax.grad(squared)(params), moments, params)
            return optax.apply_updates(learnt, change), state, optax.apply_updates(params, move), moments

        self.compiled = jax.jit(step)

    def step(self):
        self.key, key = jax.random.split(self.key)
        chosen = int(jax.random.randint(key, (), 0, len(self.pool)))
        found = self.compiled(self.learnt, self.state, *self.pool[chosen], key)
        self.learnt, self.state, *network = jax.block_until_ready(found)
        self.pool[chosen] = tuple(network)


def drawn_set(key, size, channels, images_per_class):
    images = jax.random.normal(key, (10 * images_per_class, size, size, channels))
    return images, jnp.repeat(jnp.eye(10), images_per_class, 0)


def network(key, width, growth, depth, size, channels):
    params, side = [], 32 if size == 28 else size
    for block in range(depth):
        shape = (3, 3, channels, width * growth**block)
        params.append(
            (jax.random.normal(jax.random.fold_in(key, block), shape) / (9 * channels) ** 0.5, jnp.zeros(shape[3]))
        )
        channels, side = shape[3], side // 2
    last = side * side * channels
    return [*params, (jax.random.normal(key, (last, 10)) / last**0.5, jnp.zeros(10))]


KINDS = {"kip": Kip, "frepo": Frepo}


def prepare(threads, workload):
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    kind = workload.pop("kind")
    return KINDS[kind](**workload), {"jax": jax.__version__, "threads": threads, "device": jax.devices()[0].device_kind}


def check(path, workload):
    """Loss and gradients of what is in the file, in the file's precision."""
    given = np.load(path)
    with jax.enable_x64(True):
        arrays = {name: jnp.asarray(given[name]) for name in given.files}
        learnt, rest = (arrays["images"], arrays["labels"]), (arrays["real"], arrays["classes"])
        if workload["kind"] == "frepo":
            count = sum(name.startswith("kernel") for name in arrays)
            params = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(count)]
            loss, found = jax.value_and_grad(frepo_loss)(learnt, params, *rest)
        else:
            loss, found = jax.value_and_grad(kip_loss)(learnt, *rest)
        np.savez(path + ".peer.npz", loss=loss, images=found[0], labels=found[1])


if __name__ == "__main__":
    serve(prepare, check)
