"""What every test runs under: a compilation cache, no silent rank promotion, shapes checked against annotations."""

import gc
import os
from pathlib import Path

from quick import compiled_quickly

_CACHE = Path(__file__).parents[1] / ".cache"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("XDG_CACHE_HOME", str(_CACHE))
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ["XLA_FLAGS"] = compiled_quickly(os.environ.get("XLA_FLAGS", ""))

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(
    [f"dd_jax.{name}" for name in ("inner", "synthetic", "outcomes", "methods", "evaluation", "models")],
    "beartype.beartype",
)

import jax  # noqa: E402
import pytest  # noqa: E402

import dd_jax as dd  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
os.fsync = os.fstat  # what tests write needn't survive a loss of power; a descriptor that is none still fails
pytest_plugins = ["budget"]


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=5, help="kills at random moments that a run goes through (5)")


_MOST_MAPS = 40_000  # of the 65,530 that Linux allows


@pytest.fixture(scope="module", autouse=True)
def free_programs():
    """Let go of compiled programs before the process has mapped all the memory it may: thousands of them crash it."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.is_file() or maps.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.unfreeze()
        gc.collect()
    gc.freeze()  # what is compiled stays for long, and needn't be looked through again and again


@pytest.fixture
def optimised():
    """Spend more on compiling, for a test whose programs run for seconds."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


_compiled: list[str] = []


def _note_compilation(event: str, seconds: float, **about: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(str(about.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_note_compilation)


@pytest.fixture
def compilations() -> list[str]:
    """The names of the programs that are compiled, or read from the cache on the disk, from here on."""
    _compiled.clear()
    return _compiled


@pytest.fixture
def x64():
    """Float64 for the length of a test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def digits() -> dd.Dataset:
    return dd.load_dataset("digits")


@pytest.fixture(scope="session")
def digits_mlp(digits) -> dd.models.Model:
    return dd.models.mlp(digits, hidden=(16,))
