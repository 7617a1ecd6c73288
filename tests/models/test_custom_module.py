"""Networks of one's own: modules and functions that become models, and those that can't, with what to do about it."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import dd_jax as dd
from dd_jax.models import Shapes, from_flax, from_functions, num_params, with_precision

SPEC = Shapes((8, 8, 1), 10)
METHOD = {"num_batches": 1, "num_epochs": 2, "num_inits": 2, "batch_size": 32}
QUICK = {"num_outer_steps": 6, "eval_every": 3, "num_eval_nets": 2, "show_progress": False}


class Net(nn.Module):
    """A small convolutional network, as a user would write it."""

    width: int = 4
    dropout: float = 0.0
    norm: str = "group"
    pair: bool = False

    @nn.compact
    def __call__(self, images, train: bool = True):
        x = nn.Conv(self.width, (3, 3), strides=2)(images)
        if self.norm == "batch":
            x = nn.BatchNorm(use_running_average=not train)(x)
        if self.norm == "group":
            x = nn.GroupNorm(2)(x)
        features = nn.relu(x).reshape(len(x), -1)
        if self.dropout:
            features = nn.Dropout(self.dropout, deterministic=not train)(features)
        logits = nn.Dense(10)(features)
        return (logits, features) if self.pair else logits


class NeedsTrain(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(10)(images.reshape(len(images), -1)) * (1.0 if train else 2.0)


class Layer(nnx.Module):
    """A small NNX network, which may be told to keep a state or to draw random numbers."""

    def __init__(self, width=12, norm="layer", dropout=0.0, pair=False, *, rngs):
        self.hidden = nnx.Linear(64, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs) if norm == "layer" else nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None
        self.layer = nnx.Linear(width, 10, rngs=rngs)
        self.pair = pair

    def __call__(self, images):
        x = self.norm(nnx.relu(self.hidden(images.reshape(len(images), -1))))
        x = x if self.dropout is None else self.dropout(x)
        return (self.layer(x), x) if self.pair else self.layer(x)


def evaluating(rngs):
    module = Layer(dropout=0.5, rngs=rngs)
    module.eval()
    return module


def linear_init(key):
    return {"w": 0.1 * jax.random.normal(key, (64, 10)), "scale": 1.0}


def linear(params, images):
    return params["scale"] * images.reshape(len(images), -1) @ params["w"]


def by_hand(spec):
    """A Model that none of the library's functions made."""
    return dd.models.Model("by hand", linear_init, linear, linear, spec.image_shape, spec.num_classes, {"version": 1})


OWN = {
    "module": lambda spec: from_flax(Net(pair=True), spec),
    "functions": lambda spec: from_functions(linear_init, linear, spec),
    "nnx": lambda spec: from_flax(functools.partial(Layer, pair=True), spec),
    "by hand": by_hand,
}


@pytest.mark.slow
def test_the_whole_path_from_estimate_to_a_dataset_card(digits, tmp_path):
    """Distil, be cut short, resume to the same bits, measure, compare, export: as with a network of the library."""

    def method():
        return dd.methods.unrolled(from_flax(Net(pair=True), digits), **METHOD)

    model = method().model
    assert dd.estimate(method(), digits, num_outer_steps=1).num_params == num_params(model)
    whole = dd.distill(method(), digits, out=tmp_path / "run", **QUICK)
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: path.name)
    next(path for path in sorted(newest.rglob("*")) if path.is_file()).unlink()
    resumed = dd.distill(method(), digits, out=tmp_path / "run", **QUICK)
    np.testing.assert_array_equal(whole.distilled.images, resumed.distilled.images)
    distilled = dd.load_distilled(tmp_path / "run")
    named = dd.baselines(distilled, model, digits, names=["class mean"], num_nets=2, num_sets=1)
    assert named["class mean"].evaluation.n == 2
    dd.export(tmp_path / "run", tmp_path / "export", formats=["folder"])
    card = (tmp_path / "export" / "folder" / "README.md").read_text()
    assert "models.make" not in card
    assert 'it was learnt with, "Net": not one of dd_jax' in card
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["model"] == {"name": "Net", **model.settings}


@pytest.mark.parametrize("name", OWN)
def test_every_kind_of_own_network_is_distilled_for_and_measured(name, digits):
    model = OWN[name](digits)
    method = dd.methods.unrolled(model, **METHOD)
    run = dd.distill(method, digits, **QUICK)
    assert np.isfinite(run.distilled.images).all()
    found = dd.evaluate(run.distilled, model, digits, num_nets=3, curve="steps")
    assert found.curve.shape == (3, 3)
    trained = dd.train_on(run.distilled, model, jax.random.key(5))
    assert jax.jit(model.apply)(trained, digits.test.images[:7]).shape == (7, 10)


@pytest.mark.slow
def test_a_module_learns_the_digits(digits):
    model = from_flax(Net(width=8), digits)
    method = dd.methods.unrolled(model, num_batches=1, num_epochs=3, init_step_size=0.5, num_inits=2, batch_size=64)
    run = dd.distill(method, digits, num_outer_steps=60, eval_every=30, num_eval_nets=3, show_progress=False)
    start = dd.evaluate(run.distilled, model, digits, num_nets=5, num_epochs=0)
    assert dd.evaluate(run.distilled, model, digits, num_nets=5).mean > start.mean + 0.3


def test_a_module_is_what_flax_says(digits):
    module = Net(pair=True)
    model = from_flax(module, digits)
    images = jnp.asarray(np.asarray(digits.test.images)[:5])
    variables = jax.jit(module.init)(jax.random.key(3), jnp.zeros((1, 8, 8, 1)))
    params = jax.jit(model.init)(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, params, variables["params"])
    logits, features = jax.jit(module.apply)(variables, images)
    np.testing.assert_allclose(jax.jit(model.apply)(params, images), logits, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(model.features)(params, images), features, rtol=1e-6)
    assert (model.name, model.image_shape, model.num_classes) == ("Net", (8, 8, 1), 10)


@pytest.mark.parametrize("make", [Layer, functools.partial(Layer, pair=True), lambda streams: Layer(rngs=streams)])
def test_an_nnx_module_is_what_flax_says(make, digits):
    module = Layer(pair=True, rngs=nnx.Rngs(jax.random.key(3)))
    model = from_flax(make, digits)
    images = jnp.asarray(np.asarray(digits.test.images)[:5])
    params = jax.jit(model.init)(jax.random.key(3))
    assert params.keys() == {"hidden", "layer", "norm"}
    np.testing.assert_allclose(params["hidden"]["kernel"], module.hidden.kernel[...], rtol=1e-6)
    logits, features = module(images)
    np.testing.assert_allclose(jax.jit(model.apply)(params, images), logits, rtol=1e-5, atol=1e-6)
    if isinstance(make, functools.partial):
        np.testing.assert_allclose(jax.jit(model.features)(params, images), features, rtol=1e-5, atol=1e-6)
    assert (model.name, model.image_shape, model.num_classes) == ("Layer", (8, 8, 1), 10)


def test_networks_of_an_nnx_module_differ_by_their_keys():
    model = from_flax(Layer, SPEC)
    several = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    assert len(np.unique(np.asarray(several["hidden"]["kernel"]).reshape(3, -1), axis=0)) == 3


def test_values_that_make_an_nnx_module_are_recorded_and_tell_programs_apart():
    one, again, other = (from_flax(functools.partial(Layer, width), SPEC) for width in (6, 6, 8))
    assert one.settings == {"args": [6], "parameters": num_params(one)}
    assert one.apply == again.apply
    assert one.init == again.init
    assert one.apply != other.apply


def test_the_same_nnx_module_given_again_is_not_compiled_again():
    traced = []

    def make(rngs):
        return Layer(rngs=rngs)

    @functools.partial(jax.jit, static_argnums=0)
    def answers(model_apply, params):
        traced.append(1)
        return model_apply(params, jnp.zeros((2, 8, 8, 1)))

    for _ in range(2):
        model = from_flax(make, SPEC)
        answers(model.apply, model.init(jax.random.key(0)))
    assert len(traced) == 1


def test_dropout_of_nnx_that_is_switched_off_is_no_obstacle():
    model = from_flax(evaluating, SPEC)
    answer = jax.jit(lambda key: model.apply(model.init(key), jnp.zeros((2, 8, 8, 1))))
    assert answer(jax.random.key(0)).shape == (2, 10)


def test_settings_tell_one_module_from_another():
    net = from_flax(Net(width=6), SPEC)
    assert net.settings == {
        "width": 6, "dropout": 0.0, "norm": "group", "pair": False, "parameters": num_params(net)
    }  # fmt: skip
    other = from_flax(Net(width=6), SPEC, arguments={"train": False}, name="other", settings={"version": 2})
    assert other.name == "other"
    assert other.settings["arguments"] == {"train": False}
    assert other.settings["version"] == 2


def test_settings_of_nested_modules_hold_no_addresses():
    layers = [lambda x: x.reshape(len(x), -1), nn.Dense(5), functools.partial(nn.leaky_relu, negative_slope=0.2)]
    model = from_flax(nn.Sequential([*layers, nn.Dense(10, kernel_init=nn.initializers.zeros)]), SPEC)
    assert "0x" not in json.dumps(model.settings)
    _, dense, leaky, last = model.settings["layers"]
    assert (dense["module"], dense["features"]) == ("Dense", 5)
    assert leaky == ["leaky_relu", [], {"negative_slope": 0.2}]
    assert last["kernel_init"] == "zeros"


def test_a_run_of_another_module_is_refused(digits, tmp_path):
    def run(width):
        method = dd.methods.unrolled(from_flax(Net(width=width), digits), **METHOD)
        return dd.distill(method, digits, out=tmp_path, **{**QUICK, "num_outer_steps": 0})

    run(4)
    with pytest.raises(dd.RunError, match="width"):
        run(6)


def test_precision_can_be_chosen():
    model = from_functions(linear_init, linear, SPEC)
    half = with_precision(model, "bf16")
    params, images = model.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    exact, rough = (jax.jit(network.apply)(params, images) for network in (model, half))
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=0.05)
    assert np.abs(rough - exact).max() > 1e-4
    assert half.settings["precision"] == "bf16"


def test_full_float32_is_asked_for_as_of_the_librarys_networks():
    """On accelerators products of float32 are rounded unless someone says otherwise."""
    for model in (from_functions(linear_init, linear, SPEC), from_flax(Net(), SPEC)):
        params = jax.eval_shape(model.init, jax.random.key(0))
        jaxpr = str(jax.make_jaxpr(model.apply)(params, jnp.zeros((2, 8, 8, 1))))
        assert "HIGHEST" in jaxpr


def test_logits_in_another_type_come_in_that_of_the_images():
    model = from_flax(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(10, dtype=jnp.bfloat16)]), SPEC)
    answer = jax.jit(lambda key: model.apply(model.init(key), jnp.zeros((2, 8, 8, 1))))
    assert answer(jax.random.key(0)).dtype == jnp.float32


def test_dropout_that_is_switched_off_is_no_obstacle():
    model = from_flax(Net(dropout=0.5), SPEC, arguments={"train": False})
    answer = jax.jit(lambda key: model.apply(model.init(key), jnp.zeros((2, 8, 8, 1))))
    assert answer(jax.random.key(0)).shape == (2, 10)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: from_flax(Net(norm="batch"), SPEC), ["Net keeps more", "batch_stats", "GroupNorm", "BatchNorm"]),
        (lambda: from_flax(Net(dropout=0.5), SPEC), ["Net draws random", '"dropout"', "deterministic=True"]),
        (lambda: from_flax(NeedsTrain(), SPEC), ["NeedsTrain can't be called", "'train'", 'arguments, for instance']),
        (lambda: from_flax(Net(), SPEC, arguments={"training": False}), ["training=False", "unexpected", "'training'"]),
        (lambda: from_flax(Net, SPEC), ["instance", "found the class Net"]),
        (lambda: from_flax(Layer(rngs=nnx.Rngs(0)), SPEC), ["Linen", "a value of type Layer", "NNX", "from_functions"]),
        (lambda: from_flax(functools.partial(Layer, norm="batch"), SPEC), ["norm.mean (BatchStat)", "GroupNorm"]),
        (lambda: from_flax(functools.partial(Layer, dropout=0.5), SPEC), ["Layer draws random", "eval()"]),
        (lambda: from_flax(functools.partial(Layer, depth=2), SPEC), ["Layer(rngs=rngs)", "'depth'", "lambda rngs"]),
        (lambda: from_flax(lambda rngs: 3, SPEC), ["should make a Flax NNX module", "int", "from_functions"]),
        (lambda: from_functions(lambda key, images: {}, linear, SPEC), ["init(key)", "'images'"]),
        (lambda: from_functions(linear_init, lambda p, key, x: x, SPEC), ["apply(params, images)", "hk."]),
        (lambda: from_functions(lambda key: {"act": nnx.relu}, linear, SPEC), ["pytree of arrays", "eqx.filter"]),
        (lambda: from_flax(nn.Sequential([lambda x: x[:, 0, 0]]), SPEC), ["Sequential has no parameters"]),
        (lambda: from_functions(lambda key: {"w": jnp.arange(3)}, linear, SPEC), ["int32", "(3,)", "floating"]),
    ],
)  # fmt: skip
def test_what_is_no_function_of_parameters_and_images_is_refused(build, words):
    with pytest.raises(dd.OptionError) as caught:
        build()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (lambda logits: logits[:, :7], ["(3, 10)", "float32[3, 7]", "10 classes", "one unit for each class"]),
        (lambda logits: logits[0], ["float32[10]", "the first axis is that of the images"]),
        (lambda logits: logits.argmax(-1), ["int32[3]", "floating-point"]),
        (lambda logits: {"logits": logits}, ["gives a value of type dict"]),
        (lambda logits: (logits, logits, logits), ["(float32[3, 10], float32[3, 10], float32[3, 10])"]),
        (lambda logits: (logits, logits[:, None]), ["features of shape (3, F)", "float32[3, 1, 10]", "Flatten"]),
    ],
)
def test_outputs_of_other_shapes_are_refused(out, words):
    with pytest.raises(dd.DataError) as caught:
        from_functions(linear_init, lambda params, images: out(linear(params, images)), SPEC)
    for word in words:
        assert word in str(caught.value)


def test_features_that_are_missing_are_asked_for():
    model = from_flax(Net(), SPEC)
    with pytest.raises(dd.OptionError, match=r"Net returns logits only.*\(logits, features\)"):
        model.features(jax.jit(model.init)(jax.random.key(0)), jnp.zeros((2, 8, 8, 1)))


def test_other_data_and_pretraining_are_refused(digits, tmp_path):
    model = from_flax(Net(), SPEC)
    with pytest.raises(dd.DataError, match=r"Net was built for .* Build the model from the same data\.$"):
        dd.models.check_fits(model, jnp.zeros((2, 9, 9, 1)), 10)
    with pytest.raises(dd.DataError, match=r"must be in dd_jax\.models\. Unknown model 'Net'"):
        dd.pretrain(model, digits, out=tmp_path / "nets.safetensors")
