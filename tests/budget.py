"""Processor seconds of each test file, held against a budget: a plugin of pytest, at work in every run.

What is counted is processor time, of all threads and child processes, in units of a calibration loop: neither a busy
machine nor a slower one changes it much. A run says where a file takes more than twice its budget in `budgets.json`,
which `--write-budgets` writes anew, and fails for it only if `--hold-budgets` asks for that: how long something takes
on a machine that others use too says nothing about whether it is right. That file also names the tests that took long:
they are slow, as marked ones are.
"""

import json
import resource
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

BUDGETS = Path(__file__).with_name("budgets.json")
REPORT = Path(__file__).parents[1] / ".cache" / "test-seconds.json"
ALLOWED = 2.0  # times its budget
BESIDES = 15.0  # seconds: what it shares with others it may be the first to compile
SLOW = 1.0  # seconds that make a test slow
_REFERENCE = 0.09  # processor seconds of the calibration loop on the machine that the budgets are for


def pytest_addoption(parser):
    parser.addoption("--write-budgets", action="store_true", help="write tests/budgets.json from this run")
    parser.addoption("--hold-budgets", action="store_true", help="fail where a test file is far above its budget")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Keeper(config), "budget-keeper")


def processor_seconds() -> float:
    """Of this process, all of its threads, and its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def calibration() -> float:
    """Processor seconds of a fixed piece of work, in Python and in NumPy: the least of three times."""
    found = []
    for _ in range(3):
        started = time.process_time()
        total, matrix = 0, np.linspace(0, 1, 160_000).reshape(400, 400)
        for number in range(1_000_000):
            total += number & 7
        for _ in range(10):
            matrix = matrix @ matrix / 400
        found.append(time.process_time() - started)
    return min(found)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Files that take long come first, so that no worker is left with one of them at the end; slow tests are marked."""
    files, slow = read_budgets()
    items.sort(key=lambda item: -files.get(item.nodeid.partition("::")[0], 0.0))
    for item in items:
        if item.nodeid in slow:
            item.add_marker("slow")


def read_budgets() -> tuple[dict[str, float], set[str]]:
    """Processor seconds of the files, and the names of the tests that are slow."""
    found = json.loads(BUDGETS.read_text()) if BUDGETS.is_file() else {"files": {}, "slow": []}
    return found["files"], set(found["slow"])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    before, started = processor_seconds(), time.perf_counter()
    item.user_properties.append(("started", (before, started)))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        (before, started) = next(value for name, value in item.user_properties if name == "started")
        spent = processor_seconds() - before, time.perf_counter() - started
        report.user_properties = [("spent", spent)]
    return report


class _Keeper:
    """Adds up what the tests of each file took, in the process that all reports come to."""

    def __init__(self, config):
        self.config = config
        self.tests: dict[str, tuple[float, float]] = {}

    def pytest_runtest_logreport(self, report):
        for name, value in report.user_properties:
            if name == "spent":
                self.tests[report.nodeid] = tuple(value)

    def pytest_sessionfinish(self, session, exitstatus):
        speed = min(
            1.0, _REFERENCE / calibration()
        )  # a faster machine is not held to more: the loop is short, and jumps
        files: dict[str, float] = defaultdict(float)
        for name, (processor, _) in self.tests.items():
            files[name.partition("::")[0]] += processor * speed
        REPORT.parent.mkdir(exist_ok=True)
        found = {"speed": round(speed, 3), "files": _rounded(files), "tests": _rounded(dict(self.tests))}
        REPORT.write_text(json.dumps(found, indent=1))
        if self.config.getoption("--write-budgets"):
            # What children took is counted when they end, which may be in another test: hence the smaller one.
            slow = sorted(name for name, spent in self.tests.items() if min(spent) * speed >= SLOW)
            found = {"files": _rounded(dict(sorted(files.items()))), "slow": slow}
            BUDGETS.write_text(json.dumps(found, indent=1) + "\n")
        budgets, _ = read_budgets()
        self.over = {
            name: (spent, budgets[name])
            for name, spent in files.items()
            if name in budgets and spent > ALLOWED * budgets[name] + BESIDES
        }
        if self.over and exitstatus == 0 and self.config.getoption("--hold-budgets"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        for name, (spent, budget) in sorted(self.over.items()):
            terminalreporter.write_line(
                f"{name} took {spent:.0f} processor seconds, more than twice its budget of {budget:.0f} "
                "(tests/budgets.json; after a change that is worth it, make test PYTEST_ARGS=--write-budgets)."
            )


def _rounded(values):
    return {
        name: [round(v, 2) for v in value] if isinstance(value, tuple) else round(value, 1)
        for name, value in values.items()
    }
