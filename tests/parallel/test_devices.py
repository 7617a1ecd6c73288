"""Several devices give what one gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dd_jax.runs import runtime


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = Path(__file__).with_name("eight_devices.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("runs"))],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": str(script.parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_eight_devices(found):
    assert found["devices"] == 8


def test_outer_steps_are_those_of_one_device(found):
    assert len(found["steps"]) == 6
    for case, difference in found["steps"].items():
        assert difference < 2e-6, case


def test_networks_that_are_matched_at_the_same_time_are_those_of_one_device(found):
    shared = {"trainings", "class by class", "collective"}
    assert set(found["matches"]) == {"features", "gradients", "classes", *shared}
    for case, difference in found["matches"].items():
        assert difference < 2e-4, case


def test_a_training_that_devices_share_has_the_hypergradient_of_one_device(found):
    assert found["unrolls"].keys() == {"16", "10", "3"}
    for count, difference in found["unrolls"].items():
        assert difference < 1e-12, count


def test_every_key_counts_once_however_unevenly_they_divide(found):
    division = found["division"]
    assert division["mean"] == pytest.approx(5.0)
    assert division["mapped"] == [10 * i for i in range(11)]


def test_devices_without_a_key_of_their_own_share_its_real_images(found):
    assert found["division"]["shares of one"] == pytest.approx(800 + 3.5)
    assert found["division"]["shares of four"] == pytest.approx(200 + 0.5)


def test_arrays_of_a_type_are_brought_together_at_once(found):
    together = found["together"]
    assert together["means"] == {"a": [[7.0] * 3] * 2, "b": 7.0, "c": [0.0, 7.0, 14.0, 21.0]}
    assert together["types"] == ["float32", "bfloat16", "float32"]
    assert together["collectives"] == 2


def test_an_estimate_times_all_devices_at_once(found):
    assert found["counted"] == [8, pytest.approx(1.0)]


def test_evaluation_gives_the_same_accuracies_in_the_same_order(found):
    one, eight = found["evaluations"]
    assert len(one) == 11
    assert eight == pytest.approx(one, abs=0.006)  # two images of 360 at a decision's edge
    assert len(set(one)) > 3


def test_a_run_on_several_devices_resumes_to_the_same_bits(found):
    assert found["resumed"] == [True, True]


def test_more_devices_than_there_are(found):
    assert "from 1 to 8" in found["refused"]


def test_cores_can_be_made_devices_only_before_anything_is_computed(found, monkeypatch):
    assert found["use_cores"] is False
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "3")
    assert runtime.use_cores() is False  # the user's own choice stands
    assert runtime.num_cores() >= 1


TEN_NETWORKS = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # before JAX counts its threads
import dd_jax as dd
dd.use_cores(2)
digits = dd.load_dataset("digits")
model = dd.models.mlp(digits, hidden=(64,))
ten = dd.distilled_from_arrays(digits.train.images[:10], digits.train.labels[:10], transform=digits.transform)
training = dd.Training(epochs=300, optimiser="sgd", learning_rate=0.1)
print(dd.evaluate(ten, model, digits, num_nets=10, protocol=training).n)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads can't be kept to two cores here")
def test_groups_of_networks_do_not_wait_for_each_other_on_as_many_threads_as_devices():
    """Five groups on two cores: two of them at the same time would each hold the thread that the other needs."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_NUM_CPU_DEVICES"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", TEN_NETWORKS], env=environment, capture_output=True, text=True,
                          timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "10"
