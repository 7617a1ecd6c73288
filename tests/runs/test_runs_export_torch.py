"""The script for PyTorch trains networks as dd_jax does: to the same logits, and so to the same accuracy."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.inner import draw_network
from dd_jax.runs.export.contents import read_contents

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def exported(folder, distilled, **provenance):
    """The script of the exported set as a module, and the set as it loads it."""
    dd.save_distilled(folder / "distilled", distilled, provenance)
    dd.export(folder, folder / "out", formats=["torch"])
    spec = importlib.util.spec_from_file_location("train_torch", folder / "out" / "torch" / "train_torch.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script, script.load()


def random_set(shape, num_classes, epochs=2, soft=False, **changes):
    rng = np.random.default_rng(0)
    steps, batch, *_, channels = shape
    labels = rng.integers(0, num_classes, (steps, batch)).astype(np.int32)
    if soft:
        labels = rng.dirichlet(np.ones(num_classes), (steps, batch)).astype(np.float32)
    statistics = {"mean": jnp.linspace(0.2, 0.4, channels), "std": jnp.linspace(0.2, 0.3, channels)}
    fields = {
        "images": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "labels": jnp.asarray(labels),
        "step_sizes": jnp.asarray(rng.uniform(0.02, 0.2, steps * epochs), jnp.float32),
        "transform": dd.Transform("standardise", statistics),
        "class_names": tuple(map(str, range(num_classes))),
    }
    fields |= changes
    return dd.DistilledData({"images": fields.pop("images")}, **fields)


def mlp_of(params, shape):
    """A torch MLP with these weights; torch flattens images as (C, H, W), Flax as (H, W, C)."""
    first = np.asarray(params["Dense_0"]["kernel"]).reshape(*shape, -1).transpose(2, 0, 1, 3)
    kernels = [first.reshape(-1, first.shape[-1])]
    kernels += [np.asarray(params[f"Dense_{i}"]["kernel"]) for i in range(1, len(params))]
    layers = [torch.nn.Flatten()]
    for i, kernel in enumerate(kernels):
        layers += [linear(kernel.T, params[f"Dense_{i}"]["bias"]), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def lenet_of(params):
    convolutions = []
    for i, padding in enumerate((2, 0)):
        kernel = np.asarray(params[f"Conv_{i}"]["kernel"]).transpose(3, 2, 0, 1)
        layer = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 5, padding=padding)
        convolutions += [with_weights(layer, kernel, params[f"Conv_{i}"]["bias"]), torch.nn.ReLU()]
        convolutions.append(torch.nn.MaxPool2d(2))
    return torch.nn.Sequential(
        *convolutions, *mlp_of({f"Dense_{i}": params[f"Dense_{i}"] for i in range(3)}, (5, 5, 16))
    )


def linear(weight, bias):
    return with_weights(torch.nn.Linear(weight.shape[1], weight.shape[0]), weight, bias)


def with_weights(layer, weight, bias):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(weight)))
        layer.bias.copy_(torch.tensor(np.asarray(bias)))
    return layer


def logits(net, images):
    with torch.no_grad():
        return net(images).numpy()


def class_means(digits):
    """A set of real worth that takes no distilling: the mean image of each class."""
    shape = SetShape(1, 30, 1)
    found = as_distilled(mean_images(digits, shape.per_class), shape, 0.1, dd.Protocol())
    return dataclasses.replace(found, transform=digits.transform, class_names=digits.class_names)


def test_an_mlp_ends_at_the_same_logits(tmp_path, digits):
    distilled, model = class_means(digits), dd.models.mlp(digits, hidden=(64,))
    script, loaded = exported(tmp_path, distilled)
    params = model.init(jax.random.key(3))
    pixels = np.round(255 * np.asarray(dd.load_dataset("digits", transform="identity").test.images)).astype(np.uint8)
    images = script.normalise(pixels, loaded)
    real = dd.data.transforms.to_model(digits.transform, jnp.asarray(pixels / 255, jnp.float32))
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), real, atol=1e-5)

    net = mlp_of(params, (8, 8, 1))
    np.testing.assert_allclose(logits(net, images), model.apply(params, real), atol=1e-4)
    trained = dd.train_on(distilled, model, params=params)
    net = script.train(net, loaded)
    expected = model.apply(trained, real)
    np.testing.assert_allclose(logits(net, images), expected, atol=1e-4)
    labels = np.asarray(digits.test.labels)
    found = script.accuracy(net, images, labels)
    assert found == pytest.approx(float((expected.argmax(-1) == labels).mean()), abs=2 / len(labels))
    assert found > 0.75


def test_training_from_scratch_ends_at_the_same_logits(tmp_path, digits, monkeypatch):
    few = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=30, learning_rate=0.1)
    monkeypatch.setitem(dd.evaluation.protocols.PROTOCOLS, "dc", few)
    distilled = dataclasses.replace(class_means(digits), protocol=dd.Protocol("dc", order="random"))
    model = dd.models.mlp(digits, hidden=(16,))
    script, loaded = exported(tmp_path, distilled)
    assert loaded["drops"].tolist() == [15]
    params = model.init(jax.random.key(3))
    images = digits.test.images[:50]
    # All of the set is in each minibatch: their order does not matter.
    assert distilled.labels.size <= few.batch_size
    expected = model.apply(dd.train_on(distilled, model, jax.random.key(0), params=params), images)
    net = script.train(mlp_of(params, (8, 8, 1)), loaded)
    found = logits(net, torch.tensor(np.asarray(images)).permute(0, 3, 1, 2))
    assert np.abs(expected - model.apply(params, images)).max() > 1
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("soft", [False, True])
def test_a_lenet_ends_at_the_same_logits(tmp_path, soft):
    distilled = random_set((2, 10, 28, 28, 1), 10, soft=soft)
    script, loaded = exported(tmp_path, distilled)
    assert loaded["labels"].dtype == (torch.float32 if soft else torch.int64)
    model = dd.models.lenet(dd.models.Shapes((28, 28, 1), 10))
    params = model.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (20, 28, 28, 1))
    before = model.apply(params, images)
    expected = model.apply(dd.train_on(distilled, model, params=params), images)
    net = script.train(lenet_of(params), loaded)
    assert np.abs(expected - before).max() > 0.1
    np.testing.assert_allclose(logits(net, torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)), expected, atol=1e-4)


@pytest.mark.parametrize("rule", ["momentum", "adam", "rmsprop"])
def test_every_rule_ends_at_the_same_logits(tmp_path, rule):
    momenta = jnp.linspace(0.2, 0.9, 6) if rule == "momentum" else None
    distilled = random_set((3, 4, 5, 6, 3), 4, epochs=2)
    distilled = dataclasses.replace(
        distilled, momenta=momenta, step_sizes=0.1 * distilled.step_sizes, protocol=dd.Protocol(rule=rule)
    )
    script, loaded = exported(tmp_path, distilled)
    model = dd.models.mlp(dd.models.Shapes((5, 6, 3), 4), hidden=(7,))
    params, images = model.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (20, 5, 6, 3))
    expected = model.apply(dd.train_on(distilled, model, params=params), images)
    net = script.train(mlp_of(params, (5, 6, 3)), loaded)
    found = logits(net, torch.tensor(np.asarray(images)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found, expected, atol=1e-3)
    plain = dataclasses.replace(distilled, momenta=None, protocol=dd.Protocol())
    other = model.apply(dd.train_on(plain, model, params=params), images)
    assert np.abs(expected - other).max() > 0.01


def test_the_order_of_the_steps_counts(tmp_path):
    distilled = random_set((3, 4, 5, 6, 3), 4, epochs=3)
    script, loaded = exported(tmp_path, distilled)
    model = dd.models.mlp(dd.models.Shapes((5, 6, 3), 4), hidden=(7,))
    params = model.init(jax.random.key(0))
    expected = mlp_of(dd.train_on(distilled, model, params=params), (5, 6, 3)).state_dict()

    def furthest(changed):
        found = script.train(mlp_of(params, (5, 6, 3)), changed).state_dict()
        return max(float((found[name] - weight).abs().max()) for name, weight in expected.items())

    assert furthest(loaded) < 1e-5
    assert furthest({**loaded, "order": loaded["order"].flip(0)}) > 1e-3
    assert furthest({**loaded, "step_sizes": loaded["step_sizes"].flip(0)}) > 1e-3


def test_the_networks_of_both_reach_the_same_accuracy(tmp_path, digits):
    distilled = class_means(digits)
    script, loaded = exported(tmp_path, distilled)
    ours = dd.evaluate(distilled, dd.models.mlp(digits, hidden=(64,)), digits, num_nets=50)
    torch.manual_seed(0)
    images, found = torch.tensor(np.asarray(digits.test.images)).permute(0, 3, 1, 2), []
    for _ in range(50):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        script.start_as_learnt(net)
        found.append(script.accuracy(script.train(net, loaded), images, np.asarray(digits.test.labels)))
    standard_error = np.sqrt((np.var(found) + ours.std**2) / 50)
    assert abs(np.mean(found) - ours.mean) < 3 * standard_error
    assert standard_error < 0.01


def test_images_are_dealt_out_anew_each_epoch_where_the_set_has_no_order(tmp_path):
    distilled = random_set((3, 4, 5, 6, 3), 4, protocol=dd.Protocol(order="random"))
    script, loaded = exported(tmp_path, distilled)
    assert loaded["order"].shape == (0,)
    assert read_contents(tmp_path).random_order
    seen = []

    class Watched(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(90, 4))

        def forward(self, images):
            seen.append(images[:, 0, 0, 0].tolist())
            return self.inner(images)

    torch.manual_seed(0)
    script.train(Watched(), loaded)
    pool = loaded["images"][:, :, 0, 0, 0].flatten().tolist()
    assert len(seen) == 6
    for epoch in (seen[:3], seen[3:]):
        assert sorted(image for step in epoch for image in step) == sorted(pool)
    batches = [set(batch) for batch in loaded["images"][:, :, 0, 0, 0].tolist()]
    assert not all(set(step) in batches for step in seen)
    assert seen[:3] != seen[3:]


def test_a_set_for_one_known_network_brings_it_along(tmp_path):
    shapes = dd.models.Shapes((5, 6, 3), 4)
    model = dd.models.mlp(shapes, hidden=(7,))
    distilled = random_set((3, 4, 5, 6, 3), 4, protocol=dd.Protocol(init="fixed", init_seed=5))
    script, loaded = exported(tmp_path, distilled, model={"name": model.name, **model.settings, "precision": "bf16"})
    with np.load(tmp_path / "out" / "torch" / "init.npz", allow_pickle=False) as npz:
        params = {}
        for name in npz.files:
            layer, _, weight = name.partition("/")
            params.setdefault(layer, {})[weight] = npz[name]
    expected = mlp_of(dd.train_on(distilled, model), (5, 6, 3)).state_dict()
    found = script.train(mlp_of(params, (5, 6, 3)), loaded).state_dict()
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, atol=1e-5)


@pytest.mark.parametrize("model", [{}, {"name": "someones own"}])
def test_a_known_network_that_is_not_at_hand_is_told(tmp_path, model):
    distilled = random_set((1, 2, 3, 3, 1), 2, protocol=dd.Protocol(init="fixed"))
    dd.save_distilled(tmp_path, distilled, {"model": model})
    (written,) = dd.export(tmp_path, formats=["torch"])
    assert "not at hand" in written.what
    assert not (written.path / "init.npz").exists()


def test_without_a_transform_pixels_are_divided_alone(tmp_path):
    script, loaded = exported(tmp_path, random_set((1, 2, 3, 3, 1), 2, transform=dd.Transform("identity", {})))
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(script.normalise(pixels, loaded), [[[[0, 0.2, 1]]]])


@pytest.mark.parametrize("kind", ["zca", "zca-kip"])
def test_a_whitened_set_brings_its_whitening_along(tmp_path, digits, kind):
    pixels = np.asarray(dd.to_pixels(digits.transform, digits.train.images)).clip(0, 1)
    distilled = random_set((1, 2, 8, 8, 1), 2, transform=dd.data.fit_transform(kind, pixels))
    script, loaded = exported(tmp_path, distilled)
    images = np.round(255 * pixels[:20]).astype(np.uint8)
    expected = dd.to_model(distilled.transform, images.astype(np.float32) / 255)
    np.testing.assert_allclose(script.normalise(images, loaded).permute(0, 2, 3, 1), expected, atol=1e-4)
    np.testing.assert_allclose(script.normalise(images[..., 0], loaded), script.normalise(images, loaded), atol=0)


IMAGES = {"bytes": lambda pixels: pixels, "floats": lambda pixels: np.float64(pixels) / 255,
          "tensors": lambda pixels: torch.tensor(pixels).float() / 255}  # fmt: skip


@pytest.mark.parametrize("made", IMAGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_as_bytes_or_floats_and_with_channels_first_or_last(tmp_path, made, channels):
    distilled = random_set((1, 2, 5, 6, channels), 2)
    script, loaded = exported(tmp_path, distilled)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, channels), dtype=np.uint8)
    real = np.asarray(dd.to_model(distilled.transform, jnp.float32(pixels / 255)))
    shapes = [pixels, pixels.transpose(0, 3, 1, 2), *([pixels[..., 0]] if channels == 1 else [])]
    for shaped in shapes:
        found = script.normalise(IMAGES[made](shaped), loaded)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.permute(0, 2, 3, 1), real, atol=1e-5)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            np.zeros((4, 5, 6, 1), np.uint8),
            r"\(N, 5, 6, 3\) or \(N, 3, 5, 6\), like those of the set, but are \(4, 5, 6, 1\)",
        ),
        (np.zeros((4, 5, 6), np.uint8), r"but are \(4, 5, 6\)"),
        (np.full((4, 5, 6, 3), 255.0), r"floats in \[0, 1\], but are torch.float64 from 255 to 255"),
        (np.zeros((4, 5, 6, 3), np.int32), r"but are torch.int32"),
    ],
)
def test_other_images_are_refused(tmp_path, images, words):
    script, loaded = exported(tmp_path, random_set((1, 2, 5, 6, 3), 2))
    with pytest.raises(ValueError, match=words):
        script.normalise(images, loaded)


NETWORKS = {
    "mlp": ((5, 6, 3), lambda spec: dd.models.mlp(spec, hidden=(7, 5))),
    "lenet": ((28, 28, 1), dd.models.lenet),
    "convnet": ((9, 8, 3), lambda spec: dd.models.convnet(spec, width=8, depth=2)),
    "convnet of 28": ((28, 28, 1), lambda spec: dd.models.convnet(spec, width=4, depth=2, norm="group", pooling="max")),
    "convnet of batches": ((8, 8, 1), lambda spec: dd.models.convnet(spec, width=4, depth=2, norm="batch")),
    "convnet of others": (
        (8, 8, 1),
        lambda spec: dd.models.convnet(spec, width=4, depth=2, norm="layer", pooling="none", activation="swish"),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_script_has_the_network_that_the_set_is_for(tmp_path, name):
    shape, make = NETWORKS[name]
    model = make(dd.models.Shapes(shape, 4))
    distilled = random_set((1, 4, *shape), 4, protocol=dd.Protocol(init="fixed", init_seed=5))
    script, _ = exported(tmp_path, distilled, model={"name": model.name, **model.settings})
    folder = tmp_path / "out" / "torch"
    params = draw_network(model, jax.random.key(5))
    images = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    net = script.network(folder / "images_nchw.npz")
    expected = jax.jit(model.apply)(params, images)
    np.testing.assert_allclose(logits(net, torch.tensor(images).permute(0, 3, 1, 2)), expected, atol=1e-4)


@pytest.mark.parametrize("initialiser", ["xavier", "xavier_uniform", "kaiming", "kaiming_out", "orthogonal", "default"])
def test_networks_of_the_script_start_as_those_of_the_library(tmp_path, initialiser):
    model = dd.models.mlp(dd.models.Shapes((20, 20, 1), 4), hidden=(300,), initialiser=initialiser)
    script, _ = exported(tmp_path, random_set((1, 4, 20, 20, 1), 4), model={"name": "mlp", **model.settings})
    torch.manual_seed(0)
    layer = script.network()[1]
    params = jax.jit(model.init)(jax.random.key(0))["Dense_0"]
    ours, theirs = np.asarray(params["kernel"]), layer.weight.detach().numpy()
    assert theirs.std() == pytest.approx(float(ours.std()), rel=0.02)
    assert np.abs(theirs).max() == pytest.approx(float(np.abs(ours).max()), rel=0.35)
    assert bool(np.asarray(params["bias"]).any()) == bool(layer.bias.detach().numpy().any())


def test_a_network_that_the_script_has_not_is_told(tmp_path):
    script, _ = exported(tmp_path, random_set((1, 2, 3, 3, 1), 2), model={"name": "Net", "width": 3})
    with pytest.raises(ValueError, match=r"for the network 'Net', but this file only has mlp, convnet, lenet"):
        script.network()


def test_the_test_split_is_shipped_where_it_is_asked_for(tmp_path, digits):
    data = dd.load_dataset("digits")
    sizes = {"init_step_size": 0.1, "init_step_decay": 1.0}
    method = dd.methods.unrolled(dd.models.mlp(data, hidden=(64,)), num_batches=1, num_epochs=30, **sizes)
    options = {"num_outer_steps": 0, "num_eval_nets": 1, "show_progress": False}
    dd.distill(method, data, out=tmp_path / "run", **options)
    (written,) = dd.export(tmp_path / "run", formats=["torch"], test_file=True)
    assert "359 test images of digits" in written.what
    with np.load(written.path / "test.npz", allow_pickle=False) as test:
        assert test["images"].shape == (359, 8, 8, 1)
        pixels = jnp.float32(test["images"] / (255 if test["images"].dtype == np.uint8 else 1))
        images = dd.to_model(data.transform, pixels)
        np.testing.assert_allclose(images, data.test.images, atol=1e-4)
        np.testing.assert_array_equal(test["labels"], data.test.labels)
    command = [sys.executable, "-I", str(written.path / "train_torch.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, after = accuracies(done.stdout)
    assert before < 0.4 < 0.5 < after


def test_a_test_file_goes_with_the_format_torch_and_needs_the_data(tmp_path):
    dd.save_distilled(tmp_path, random_set((1, 2, 3, 3, 1), 2), {})
    with pytest.raises(dd.OptionError, match="test_file needs the format torch, but the formats are npz"):
        dd.export(tmp_path, formats=["npz"], test_file=True)
    with pytest.raises(dd.DataError, match="not a run directory"):
        dd.export(tmp_path, formats=["torch"], test_file=True)
    assert not (tmp_path / "export").exists()
    with pytest.raises(dd.OptionError, match="dataset is only needed for the test file"):
        dd.export(tmp_path, formats=["torch"], dataset="digits")


def test_the_test_split_of_data_that_moved_or_of_a_set_without_its_run(tmp_path, digits, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.savez("mine.npz", images=random.integers(0, 256, (60, 2, 2), dtype=np.uint8), labels=np.arange(60) % 2)
    data = dd.load_dataset("npz:mine.npz")
    method = dd.methods.unrolled(dd.models.mlp(data, hidden=(4,)), num_batches=1, num_epochs=1, batch_size=8)
    dd.distill(method, data, num_outer_steps=0, num_eval_nets=1, show_progress=False, out="run")
    Path("mine.npz").rename("other.npz")
    with pytest.raises(dd.DataError, match="Give the place of the same data with --dataset"):
        dd.export("run", formats=["torch"], test_file=True)
    for path in ("run", "run/distilled"):
        (written,) = dd.export(path, "out", formats=["torch"], test_file=True, dataset="npz:other.npz")
        with np.load(written.path / "test.npz", allow_pickle=False) as test:
            np.testing.assert_array_equal(test["labels"], data.test.labels)


def accuracies(said):
    return tuple(float(word.strip(",")) for word in said.split() if word.strip(",\n")[0].isdigit())


def test_the_script_runs_by_itself_without_dd_jax(tmp_path, digits):
    exported(tmp_path, class_means(digits), model={"name": "mlp", "hidden": [64], "initialiser": "xavier"})
    real = dd.load_dataset("digits", transform="identity").test
    pixels = np.round(255 * np.asarray(real.images)).astype(np.uint8)
    np.savez(tmp_path / "test.npz", images=pixels, labels=np.asarray(real.labels))
    command = [sys.executable, "-I", str(tmp_path / "out" / "torch" / "train_torch.py")]
    done = subprocess.run([*command, str(tmp_path / "test.npz")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    before, after = accuracies(done.stdout)
    assert before < 0.4 < 0.7 < after
    assert "TEST.npz" in subprocess.run(command, capture_output=True, text=True, timeout=120).stderr
