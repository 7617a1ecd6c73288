"""What a process asks of JAX before it starts: kept programs, CPU cores as devices."""

import os
from pathlib import Path

import jax

from dd_jax.data.missing import install_command
from dd_jax.errors import OptionError

_DETERMINISTIC = ("--xla_gpu_exclude_nondeterministic_ops=true", "--xla_gpu_autotune_level=0")
_MOST_CORES = 8  # each core as a device holds a copy of the real data


def keep_compiled_programs() -> None:
    """Keep compiled programs in the user's cache folder, so that the next process need not compile them again."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dd_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def use_cores(count: int | None = None) -> bool:
    """Make `count` CPU cores devices, or up to eight of them. Returns whether that was possible.

    Distillation consists of small operations, and XLA uses several cores badly within one operation. Networks or real
    images that are divided over cores are 1.3 to 1.7 times faster. Call this before anything is computed. It changes
    nothing if there is an accelerator, or if JAX_NUM_CPU_DEVICES or XLA_FLAGS set a number.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return False
    try:
        jax.config.update("jax_num_cpu_devices", count or min(num_cores(), _MOST_CORES))
    except RuntimeError:  # too late: devices were counted already
        return False
    return True


def be_deterministic() -> None:
    """Ask for the same bits every time on the same machine and with the same versions.

    Programs for CPUs give them anyway; on GPUs some sums are taken in whatever order is quickest, unless XLA is told
    not to, and the quickest of several kernels is found by timing them. Call this before anything is computed.
    """
    there = os.environ.get("XLA_FLAGS", "")
    missing = [flag for flag in _DETERMINISTIC if flag.partition("=")[0] not in there]
    os.environ["XLA_FLAGS"] = " ".join([*there.split(), *missing])


def check_settings() -> None:
    """Raise OptionError for settings of JAX under which the library can't work."""
    promotion = jax.config.values["jax_numpy_dtype_promotion"]
    promotion = getattr(promotion, "value", promotion)
    if promotion != "standard":
        raise OptionError(
            f"dd_jax and flax need JAX's standard promotion of types, but it is {promotion!r}. Unset "
            "JAX_NUMPY_DTYPE_PROMOTION."
        )


def platform_problem() -> str | None:
    """Why JAX can't start on the platforms that it was told to use, and which there are; None where it can."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked, why = jax.config.values["jax_platforms"], str(error).partition("\n")[0]
    else:
        return None
    jax.config.update("jax_platforms", "")
    try:
        there = ", ".join(sorted({device.platform for device in jax.devices()}))
    except (RuntimeError, AssertionError) as error:
        there, why = "none", str(error).partition("\n")[0]
    finally:
        jax.config.update("jax_platforms", asked)
    said = f" JAX says: {why:.100} ..." if why else ""
    return (
        f"JAX can't use the platforms {asked!r} (JAX_PLATFORMS); there are: {there}. Set it to one of these, or "
        f"leave it unset. For NVIDIA GPUs: {install_command('cuda')}. For TPUs: {install_command('tpu')}.{said}"
    )


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
