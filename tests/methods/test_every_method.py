"""What holds of every method: nothing is compiled twice, no option is lost, runs resume to the same bits."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cut_runs import cut_and_whole
from steps import arrays_of, one_step
from trajectories import random_experts

import dd_jax as dd
from dd_jax.methods import METHODS, Method, make_method
from dd_jax.methods.unrolled import protocol_of
from dd_jax.types import Protocol

# Small, and with everything switched on that a number belongs to. One setting of each method for all tests: they share
# its programs.
SMALL: dict[str, dict[str, Any]] = {
    "unrolled": {
        "num_batches": 2, "num_epochs": 1, "num_inits": 1, "batch_size": 8,
        "discount": 0.9, "smoothing": 1.0, "step_smoothing": 1.0, "schedule": "step", "learn_labels": True,
    },
    "bptt": {
        "num_inner_steps": 4, "window": 2, "first_window": 1, "first_horizon": 3, "growth_steps": 2, "batch_size": 9,
        "images": "bases", "num_bases": 3, "made_per_class": 2, "coefficient_l1": 0.1, "coefficient_l2": 0.1,
        "learn_labels": True, "outer_optimiser": "sgd", "clip_norm": 0.01, "clip_factor": 2.0, "schedule": "step",
        "remat": "steps", "protocol": "dc",
    },
    "generative_teaching": {
        "num_inner_steps": 2, "images_per_step": 3, "latent_size": 2, "hidden": 3, "filters": 2, "batch_size": 8,
        "loss_every": 1, "clip_norm": 0.01, "schedule": "step",
    },
    "gradient_matching": {
        "batch_size": 8, "num_matches": 2, "inner_epochs": 1, "learn_labels": True,
        "inner_batch_size": 1, "inner_momentum": 0.5, "inner_weight_decay": 0.1, "schedule": "step",
    },
    "trajectory_matching": {
        "num_inner_steps": 2, "batch_size": 2, "expert_epochs": 1, "max_start": 2, "first_max_start": 1,
        "augment": "none", "learn_labels": True, "max_loss": 3.0, "clip_norm": 0.01, "schedule": "step",
        "remat": "steps", "protocol": "dc",
    },
    "distribution_matching": {"batch_size": 8, "augment": "none", "schedule": "step"},
    "kernel_inducing_points": {"batch_size": 30, "schedule": "step"},
    "frepo": {"pool_size": 2, "max_updates": 3, "batch_size": 9, "schedule": "step"},
    "graph_condensation": {
        "nodes_per_class": 2, "num_matches": 2, "inner_steps": 1, "hidden": 4,
        "edge_networks": 1, "feature_networks": 1,
    },
}  # fmt: skip
QUICK = dd.Training(epochs=2, batch_size=64, optimiser="sgd", drop_last=False)

UNROLLED = ("unrolled", "generative_teaching")  # whose "auto" is decided before a step is made

every = pytest.mark.parametrize("name", METHODS)


@pytest.fixture(scope="module")
def graph():
    draw, labels = np.random.default_rng(0), np.arange(60) % 3
    features = draw.uniform(size=(60, 5)) + labels[:, None]
    edges = np.stack([np.arange(60), (np.arange(60) + 3) % 60])
    rows = draw.permutation(60)
    parts = {"train": rows[:30], "validation": rows[30:45], "test": rows[45:]}
    return dd.graph_from_arrays(features, edges, labels, **parts, normalise_rows=True)


@pytest.fixture(scope="module")
def experts(tiny):
    return random_experts(dd.models.mlp(tiny, hidden=(5,)), tiny)


@pytest.fixture
def build(tiny, graph, experts):
    """(name, options) -> (a method made of freshly built parts, its data)."""

    def built(name: str, **options: Any) -> tuple[Method, dd.Dataset]:
        assert set(SMALL) == set(METHODS), "a method without small options here"
        data = graph if name == "graph_condensation" else tiny
        if name == "kernel_inducing_points":
            model = dd.models.infinite_mlp(data)
        else:
            model = dd.models.gcn(data, hidden=4) if data is graph else dd.models.mlp(data, hidden=(5,))
        learnt_from = experts if name == "trajectory_matching" else None
        return make_method(model, METHODS[name].options(**{**SMALL[name], **options}), experts=learnt_from), data

    return built


def a_round(method: Method, data: dd.Dataset, seed: int, learning_rate: float = 0.01) -> dd.DistilledData:
    """A run, its evaluation and some baselines."""
    run = dd.distill(method, data, num_outer_steps=3, seed=seed, eval_every=2, num_eval_nets=2, show_progress=False)
    protocol = None
    if run.distilled.protocol.from_scratch and not method.model.kernel:
        protocol = dataclasses.replace(QUICK, learning_rate=learning_rate)
    given = {"num_nets": 3, "protocol": protocol}
    dd.evaluate(run.distilled, method.model, data, seed=seed, **given)
    dd.baselines(run.distilled, method.model, data, names=("random real", "class mean"), num_sets=2, seed=seed, **given)
    return run.distilled


@every
def test_a_second_round_with_fresh_equal_parts_compiles_nothing(name, build, compilations):
    """With another seed, another outer learning rate, and another rate of the networks' training."""
    compilations.clear()
    a_round(*build(name), seed=0)
    assert "jit(run_steps)" in compilations
    compilations.clear()
    a_round(*build(name, learning_rate=0.0123), seed=1, learning_rate=0.02)
    assert compilations == []


def test_other_pretrained_networks_of_the_same_shapes_compile_nothing(tiny, tmp_path, compilations):
    for seed in range(2):
        model = dd.models.mlp(tiny, hidden=(5,))
        few = {"num_nets": 3, "num_held_out": 2, "show_progress": False}
        nets = dd.pretrain(model, tiny, seed=seed, out=tmp_path / f"{seed}.safetensors", **few,
                           training=dd.Training(epochs=1, batch_size=16, learning_rate=0.01 * (1 + seed)))  # fmt: skip
        method = dd.methods.unrolled(model, pretrained=nets, **SMALL["unrolled"])
        run = dd.distill(method, tiny, num_outer_steps=2, num_eval_nets=2, show_progress=False)
        dd.evaluate(run.distilled, model, tiny, pretrained=nets)
        if seed == 0:
            assert "jit(run_steps)" in compilations
            compilations.clear()
    assert compilations == []


def test_the_number_of_networks_and_the_split_need_no_other_training(tiny, build, compilations):
    """Only what is counted, on so many images, is another program."""
    method, data = build("unrolled")
    distilled = method.distilled(method.init(jax.random.key(0), data, 1))
    dd.evaluate(distilled, method.model, data, num_nets=2)
    compilations.clear()
    dd.evaluate(distilled, method.model, data, num_nets=7, num_curve_nets=3)
    dd.evaluate(distilled, method.model, data, num_nets=30, num_curve_nets=0, split="validation")
    assert set(compilations) <= {"jit(_count)", "jit(_pad)", "jit(reshape)"}


def test_a_method_of_ones_own_closures_works_and_its_identity_is_its_key(build, compilations):
    method, data = build("unrolled")
    mine, again = (method._replace(step=lambda key, state, arrays: method.step(key, state, arrays)) for _ in range(2))
    first = a_round(mine, data, seed=0)
    compilations.clear()
    second = a_round(mine, data, seed=0)
    assert compilations == []
    np.testing.assert_array_equal(first.images, second.images)
    a_round(again, data, seed=0)
    assert "jit(run_steps)" in compilations


def changed(option: dataclasses.Field, value: Any) -> Any:
    """Another value of an option that is as valid, or None if there is none that is easily found."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 1.5 if isinstance(value, float) and value else value + 1
    choices = getattr(option.type, "__args__", ())
    return next((choice for choice in choices if isinstance(choice, str) and choice != value), None)


@every
def test_two_options_that_change_the_program_give_two(name, build):
    """Every option, one by one, is in the key of the step, a number that enters as an argument, or outside of it."""
    method, data = build(name)
    options = METHODS[name].options(**SMALL[name])
    numbers = dict(method.arrays(data).numbers)
    again, _ = build(name)
    assert method.step == again.step
    unlike = 0
    for option in dataclasses.fields(options):
        value = changed(option, getattr(options, option.name))
        if value is None or (option.name in ("dtype", "over_inits")):
            continue
        try:
            other, _ = build(name, **{option.name: value})
        except dd.OptionError:
            continue  # such a value needs others beside it
        if other.step != method.step:
            unlike += 1
            continue
        theirs = dict(other.arrays(data).numbers)
        entered = [key for key in numbers if float(numbers[key]) != float(theirs[key])]
        if entered:
            assert entered == [option.name]
        else:
            assert option.name in OUTSIDE[name], f"{option.name} is lost"
    assert unlike >= 3


OUTSIDE: dict[str, tuple[str, ...]] = {
    "unrolled": ("init_images", "init_step_size", "init_step_decay", "attack_weight", "remat", "attack_labels"),
    "bptt": ("init_images", "protocol", "remat"),
    "generative_teaching": ("init_step_size", "init_momentum", "remat"),
    "gradient_matching": ("init_images", "protocol"),
    "trajectory_matching": (
        "init_images", "init_labels", "init_correct", "expert_epochs", "min_start", "max_start", "first_max_start",
        "growth_steps", "protocol", "remat",
    ),
    "distribution_matching": ("init_images", "protocol"),
    "kernel_inducing_points": ("init_images", "init_labels", "protocol"),
    "frepo": ("init_images", "protocol"),
    "graph_condensation": ("protocol",),
}  # fmt: skip


@every
def test_the_options_outside_of_a_step_make_no_difference_to_it(name, build):
    """Or another value would be lost: what is traced without the key is the same."""
    method, data = build(name)
    state, arrays = method.init(jax.random.key(0), data, 3), arrays_of(method, data)

    def program(options: Any) -> str:
        make, model, _, _, *rest = method.step.values
        return str(jax.make_jaxpr(make(model, options, *rest))(jax.random.key(1), state, arrays.arrays))

    resolved = {"remat": "steps"} if name in UNROLLED else {}
    options = dataclasses.replace(METHODS[name].options(**SMALL[name]), **resolved)
    expected = program(options)
    for option in dataclasses.fields(options):
        if option.name in OUTSIDE[name] and option.name not in ("remat", "attack_labels"):
            value = changed(option, getattr(options, option.name))
            assert program(dataclasses.replace(options, **{option.name: value or "dsa"})) == expected, option.name


@every
def test_every_number_reaches_the_program(name, build):
    """Each of the numbers that enter as arguments changes what three steps lead to, in the same program."""
    method, data = build(name)
    given, programs = arrays_of(method, data), one_step._cache_size()
    start = method.init(jax.random.key(0), data, 3)

    def after(numbers: Any) -> list[np.ndarray]:
        state = start
        for i in range(4):
            state, _ = one_step(method.step, jax.random.key(i), state, given._replace(numbers=numbers))
        return [
            np.asarray(leaf) for leaf in jax.tree.leaves(state) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        ]

    numbers = dict(given.numbers)
    expected = after(numbers)
    for one, value in numbers.items():
        other = jnp.asarray(1) if one == "decay_every" else value * 0.25
        found = after({**numbers, one: other})
        assert any(not np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), one
    assert one_step._cache_size() <= programs + 1


def under_way(state):
    """A state with second moments of one: at zero, where they start, Adam makes a whole step of a rounding error."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ones_like(leaf) if ".nu" in jax.tree_util.keystr(path) else leaf, state
    )


@every
def test_a_number_that_enters_gives_what_one_that_is_compiled_in_gives(name, build):
    method, data = build(name)
    make, model, _, _, *rest = method.step.values
    resolved = {"remat": "steps"} if name in UNROLLED else {}
    options = METHODS[name].options(**{**SMALL[name], **resolved})
    state, given = under_way(method.init(jax.random.key(0), data, 3)), arrays_of(method, data)
    found = one_step(method.step, jax.random.key(1), state, given)
    expected = jax.jit(make(model, options, *rest))(jax.random.key(1), state, given.arrays)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        elif not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)


@every
def test_a_run_that_is_cut_off_resumes_to_the_same_bits_and_is_told_from_others(name, build, tmp_path):
    method, data = build(name)
    options = {"num_outer_steps": 4, "eval_every": 2, "num_eval_nets": 2, "show_progress": False}
    cut, whole = cut_and_whole(method, data, tmp_path, 2, **options)
    for field, array in whole.distilled.arrays.items():
        np.testing.assert_array_equal(cut.distilled.arrays[field], array)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    other, _ = build(name, learning_rate=0.0123)
    with pytest.raises(dd.RunError, match="learning_rate"):
        dd.distill(other, data, out=tmp_path / "cut", **options)
    loaded = dd.load_distilled(tmp_path / "cut")
    assert loaded.protocol == method.protocol
    np.testing.assert_array_equal(loaded.images, cut.distilled.images)


@every
def test_half_the_learning_rate_is_half_the_way(name, build):
    method, data = build(name)
    state, arrays = method.init(jax.random.key(0), data, 3), arrays_of(method, data)
    assert method.scale_learning_rate is not None
    moves = []
    for start in (state, method.scale_learning_rate(state, 0.5)):
        after = one_step(method.step, jax.random.key(1), start, arrays)[0].learnable
        moves.append(jax.tree.leaves(jax.tree.map(lambda a, b: np.asarray(a - b), after, state.learnable)))
    assert max(abs(leaf).max() for leaf in moves[0]) > 0
    for whole, half in zip(*moves, strict=True):
        np.testing.assert_allclose(half, 0.5 * whole, rtol=2e-2, atol=1e-5)


def test_the_protocol_of_unrolled_is_that_of_its_options():
    assert protocol_of(METHODS["unrolled"].options()) == Protocol()
