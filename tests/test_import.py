"""`import dd_jax` costs what jax, flax and optax cost, and its names are all there and documented."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dd_jax as dd

HEAVY = ("tensorflow", "tensorflow_datasets", "orbax", "matplotlib", "sklearn", "rich", "tyro", "PIL")
BASE = "import jax, flax.linen, optax"
CPU_SECONDS = "import resource; spent = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])"


def run(*statements: str, **settings: str) -> str:
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **settings}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(statements)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_heavy_libraries_stay_out():
    """Beyond what flax brings by itself, which is rich."""
    heavy = f"[name for name in {HEAVY!r} if name in sys.modules]"
    found = run(
        f"import sys, {BASE[7:]}", f"before = {heavy}", "import dd_jax", f"print(set({heavy}) - set(before) or [])"
    )
    assert found.strip() == "[]"


def test_import_touches_neither_device_nor_config():
    found = run(
        "import jax, flax.linen, optax",
        "from jax._src import xla_bridge",
        "before = dict(jax.config.values), xla_bridge.backends_are_initialized()",
        "import dd_jax",
        "print(before == (dict(jax.config.values), xla_bridge.backends_are_initialized()))",
    )
    assert found.strip() == "True"


def test_import_costs_what_jax_flax_and_optax_cost(tmp_path):
    """CPU seconds of the child, not the clock's, and the least of them: other jobs on the machine hardly count.

    With compiled bytecode, as pip leaves it, whatever the settings here say.
    """
    ours = (CPU_SECONDS, BASE, "before = spent()", "import dd_jax", "print(spent() - before)")
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    more = [float(run(*ours, **compiled)) for _ in range(4)]
    assert min(more) < 0.3, more


@pytest.mark.parametrize("name", dd.__all__)
def test_public_names_exist_and_are_documented(name):
    documentation = getattr(dd, name).__doc__
    assert documentation
    assert not documentation.startswith(f"{name}("), "the signature that dataclasses and NamedTuples write themselves"


def test_no_public_name_twice():
    assert len(set(dd.__all__)) == len(dd.__all__)
