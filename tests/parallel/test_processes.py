"""Two real processes give what one gives; when one dies the other says so, and the run goes on later."""

import signal
import socket
import time

import numpy as np
import pytest
from forks import Forks

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.runs import processes

OPTIONS = ["--num-outer-steps", "40", "--eval-every", "10", "--num-eval-nets", "2", "--num-nets", "4",
           "--num-inits", "3", "--no-baselines"]  # fmt: skip


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def start():
    """Starts a process of the command line that distils into `out`; with one device, as there are two of them."""
    imports = "import tyro, rich.console, sklearn.cluster, orbax.checkpoint, matplotlib.figure; import dd_jax.cli"
    body = "import sys; from dd_jax.cli import main; sys.exit(main(['distill', *sys.argv[1:]]))"
    with Forks(body, imports, JAX_NUM_CPU_DEVICES="1") as forks:
        yield lambda out, *options: forks.start("--out", out, *options)


def start_two(start, out, *options):
    meeting = ["--coordinator", f"localhost:{free_port()}", "--num-processes", "2"]
    return [start(out, *meeting, "--process-id", str(i), *options) for i in range(2)]


def end(process, timeout=300):
    """What it said, and complained of, until its end."""
    return b"".join(process.communicate(timeout)).decode()


def finish(*started):
    said = [end(process) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)
    return said


@pytest.fixture(scope="module")
def runs(start, tmp_path_factory):
    """The same experiment by one process with one device, and by two; what the two said."""
    folder = tmp_path_factory.mktemp("processes")
    finish(start(folder / "one", *OPTIONS))
    said = finish(*start_two(start, folder / "two", *OPTIONS))
    return folder, said


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(runs):
    one, two = (dd.load_distilled(runs[0] / name) for name in ("one", "two"))
    np.testing.assert_allclose(one.images, two.images, atol=2e-4)  # 40 steps of Adam on rounding
    np.testing.assert_allclose(one.step_sizes, two.step_sizes, rtol=1e-4)


@pytest.mark.slow
def test_only_the_first_process_speaks_and_writes(runs):
    first, second = runs[1]
    assert "distilled" in first
    assert "Distilling" in first
    assert "distilled" not in second
    assert (runs[0] / "two" / "results.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_run_and_it_resumes(start, tmp_path, victim):
    options = [*OPTIONS, "--num-outer-steps", "200", "--eval-every", "20"]
    started = start_two(start, tmp_path / "run", *options)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "run" / "checkpoints").glob("step_0000004*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started[victim].send_signal(signal.SIGKILL)
    said = end(started[1 - victim], 100)
    assert started[1 - victim].returncode != 0
    assert "Start all processes again" in said or "another task died" in said
    end(started[victim])
    resumed = finish(*start_two(start, tmp_path / "run", *options))
    assert "Resuming" in resumed[0]
    assert dd.load_distilled(tmp_path / "run").images.shape == (1, 10, 8, 8, 1)


def test_alone_a_process_agrees_with_itself():
    assert processes.is_first()
    assert processes.agree(3, True) == [3, 1]
    assert processes.on_first(lambda: "done") == "done"
    with pytest.raises(ZeroDivisionError):
        processes.on_first(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "localhost:1"], "belong together"),
        (["--coordinator", "localhost:1", "--num-processes", "two", "--process-id", "0"], "whole number"),
        (["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "2"], "from 0 to 1"),
        (["--coordinator"], "needs a value"),
    ],
)
def test_options_that_do_not_fit_together(options, message, capsys):
    assert main(["distill", *options]) == 2
    assert message in capsys.readouterr().err
