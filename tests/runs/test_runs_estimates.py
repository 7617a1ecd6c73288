"""What a run will need is said before it starts, and refused with advice where it cannot fit."""

import re

import jax
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.data import memory
from dd_jax.runs import arithmetic, counted
from dd_jax.runs import estimates as estimating


def test_an_estimate(method, digits, monkeypatch):
    monkeypatch.setattr(estimating, "_TIMED_SECONDS", 0.05)
    found = dd.estimate(method, digits, num_outer_steps=1000)
    assert found.num_params == dd.models.num_params(method.model)
    assert found.argument_memory >= digits.train.images.nbytes
    assert 0 < found.program_memory < 2**26
    assert 2**24 < found.free_memory < 2**45
    assert 1e-6 < found.seconds_per_step < 1.0
    assert found.total_seconds == pytest.approx(1000 * found.seconds_per_step)
    assert "ms per outer step" in str(found)


def test_a_counted_estimate(method, digits, monkeypatch):
    """The operations are those of the traced step; the time is what they take at the rate that it says."""
    monkeypatch.setattr(counted, "_TIMED_SECONDS", 0.01)
    found = counted.count_run(method, digits, num_outer_steps=1000, devices=1)
    state = method.init(jax.random.key(0), digits, 1000)
    assert found.flops == arithmetic.count(method.step, jax.random.key(1), state, method.arrays(digits)).flops > 1e5
    assert found.total_seconds == pytest.approx(1000 * found.flops / found.rate)
    assert found.argument_memory >= digits.train.images.nbytes
    assert "Assumed: " in str(found)


def test_twice_the_steps_are_twice_the_work(digits, digits_mlp):
    def flops(steps):
        made = dd.methods.unrolled(digits_mlp, num_batches=1, num_epochs=steps, remat="none", batch_size=2)
        return counted.count_run(made, digits, num_outer_steps=1, devices=1).flops

    first, second, third = flops(50), flops(100), flops(200)
    assert (third - second) == pytest.approx(2 * (second - first))


@pytest.mark.parametrize(("short", "words"), [(2.0, "which 8 of these steps"), (0.0, "kernel on 2048 and 64 images")])
def test_networks_without_weights_are_timed_by_their_steps_or_their_kernel(short, words, digits, monkeypatch):
    monkeypatch.setattr(counted, "_TIMED_SECONDS", 0.01)
    monkeypatch.setattr(counted, "_SHORT_STEP", short)
    method = dd.methods.kernel_inducing_points(dd.models.infinite_mlp(digits), init_images="noise", batch_size=100)
    assert words in str(counted.count_run(method, digits, num_outer_steps=1))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("unrolled", {"num_batches": 1}, "a gradient through 4 steps of the mlp on 10 images"),
        ("bptt", {"made_per_class": 9, "images": "bases", "downscale": 1}, "a gradient through .* on 16 images"),
        ("generative_teaching", {"images_per_step": 8}, "a gradient through .* on 8 images"),
        ("distribution_matching", {}, "which a gradient of the mlp on 64 images"),
        ("frepo", {"pool_size": 2}, "which a pass of the mlp over 64 images"),
    ],
)
def test_what_is_timed_is_what_a_method_does_most(name, options, words, digits, digits_mlp, monkeypatch):
    monkeypatch.setattr(counted, "_TIMED_SECONDS", 0.01)
    method = getattr(dd.methods, name)(digits_mlp, **options)
    assert re.search(words, str(counted.count_run(method, digits, num_outer_steps=1)))


def test_the_command_counts(capsys):
    assert main(["estimate", "--model", "mlp:hidden=(4,)", "--images-per-class", "2"]) == 0
    assert "--measure compiles the step" in capsys.readouterr().out


@pytest.mark.slow
def test_longer_unrolls_need_more(digits, digits_mlp, monkeypatch):
    monkeypatch.setattr(estimating, "_TIMED_SECONDS", 0.0)
    need = {
        (remat, steps): dd.estimate(
            dd.methods.unrolled(digits_mlp, num_batches=1, num_epochs=steps, remat=remat), digits, num_outer_steps=1
        ).program_memory
        for remat, steps in (("none", 50), ("none", 200), ("steps", 200))
    }
    assert need["none", 200] > 3 * need["none", 50]
    assert need["steps", 200] < need["none", 200]


def test_what_cannot_fit_is_refused_with_advice(method, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(estimating, "free_memory", lambda: 1000)
    with pytest.raises(dd.OptionError, match=r"needs .* MiB on each device, but only 0\.0 MiB") as caught:
        dd.distill(method, digits, num_outer_steps=3, out=tmp_path / "run", show_progress=False)
    for remedy in ("nested", "num_inits", "batch_size", "more devices"):
        assert remedy in str(caught.value)
    monkeypatch.undo()
    dd.distill(method, digits, num_outer_steps=1, num_eval_nets=1, show_progress=False)


def test_containers_limit_the_memory(tmp_path, monkeypatch):
    (tmp_path / "limit").write_text("3000000\n")
    (tmp_path / "used").write_text("1000000\n")
    monkeypatch.setattr(memory, "_CGROUPS", ((str(tmp_path / "limit"), str(tmp_path / "used")),))
    assert estimating.free_memory() == 2_000_000 // jax.local_device_count()
    (tmp_path / "limit").write_text("max\n")
    assert estimating.free_memory() > 2_000_000


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (12_000, "3 h 20 min")]
)
def test_durations(seconds, said):
    assert estimating.duration(seconds) == said
