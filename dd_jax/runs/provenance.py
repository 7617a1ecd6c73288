"""Where a run came from: versions, device, settings of JAX, source revision; and what has changed since."""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

_PACKAGES = {"dd_jax": "dd_jax", "jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "optax": "optax", "numpy": "numpy"}
_BIT_RELEVANT = (*_PACKAGES, "python", "device", "num_devices", "revision")  # may change the last bits of a result
_NUMBERS = {  # settings of JAX that change every number
    "x64": "jax_enable_x64",
    "prng": "jax_default_prng_impl",
    "threefry_partitionable": "jax_threefry_partitionable",
    "matmul_precision": "jax_default_matmul_precision",
}
_LEAST_OPTIMISED = "jax_disable_most_optimizations"  # a setting that changes the last bits
_NO_MATTER = ("--xla_dump", "--xla_force_host_platform_device_count")  # flags that change no bit, or are told otherwise


def provenance() -> dict[str, Any]:
    """Versions, device, settings of JAX, source revision, command and time of this process."""
    devices = jax.devices()
    return {
        **{name: _version(package) for name, package in _PACKAGES.items()},
        "python": platform.python_version(),
        "device": devices[0].device_kind,
        "num_devices": len(devices),
        "settings": settings(),
        "revision": _revision(),
        "argv": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def settings() -> dict[str, Any]:
    """The settings of JAX and XLA that numbers depend on, as plain values."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_NO_MATTER)]
    found = {name: jax.config.values.get(setting) for name, setting in _NUMBERS.items()}
    return {
        **{name: getattr(value, "value", value) for name, value in found.items()},
        "most_optimisations": not jax.config.values.get(_LEAST_OPTIMISED),
        "xla_flags": " ".join(sorted(flags)),
    }


def changes_since(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two provenances and may make numbers differ, one sentence each."""
    changed = _changed(then, now, _BIT_RELEVANT)
    before, after = (record.get("settings", {}) for record in (then, now))
    if not isinstance(before, Mapping):
        before = {}
    numbers = _changed(before, after, tuple(_NUMBERS))
    changed += _changed(before, after, ("most_optimisations", "xla_flags"))
    notes = []
    if numbers:
        notes.append(
            f"This run was started under other settings of JAX ({'; '.join(numbers)}): from here on random numbers and "
            "results differ from what it would have given."
        )
    if changed:
        notes.append(
            f"This run was started with other versions ({'; '.join(changed)}): results may differ in the last bits."
        )
    return tuple(notes)


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [f"{name} {then[name]} then, {now[name]} now" for name in names if then.get(name, now[name]) != now[name]]


def _version(package: str) -> str | None:
    """What the code at work says of itself; of a package that doesn't, what was written when it was installed."""
    said = getattr(sys.modules.get(package), "__version__", None)
    with contextlib.suppress(metadata.PackageNotFoundError):
        return said or metadata.version(package)
    return said


def _revision() -> str | None:
    """The git revision of the source, "+dirty" if tracked files were changed; None if it is no checkout."""
    source = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails if installed inside another project's checkout
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+dirty" if dirty else "")
    return None
