"""Flags for XLA with which the tests' programs, which run for a moment, compile in a third of the time.

`conftest.py` switches off most of what is left of optimisation; the fixture `optimised` switches it on again.
"""

import importlib.util
import mmap
from pathlib import Path

_FLAGS = {
    "xla_backend_optimization_level": "1",  # LLVM's first level: hardly slower where matrix products are the work
    "xla_cpu_parallel_codegen_split_count": "1",  # in parts programs take more in all, and cores are busy
    "xla_cpu_use_fusion_emitters": "false",  # loops are written by the older of XLA's two ways, which goes no detour
}


def compiled_quickly(flags: str) -> str:
    """`flags` with those above that this jaxlib knows: a flag that it doesn't know would end the process."""
    known = [name for name in _FLAGS if name not in flags and _is_known(name.encode())]
    return " ".join([*flags.split(), *(f"--{name}={_FLAGS[name]}" for name in known)])


def _is_known(name: bytes) -> bool:
    spec = importlib.util.find_spec("jaxlib")
    folder = Path(spec.origin).parent if spec and spec.origin else Path("/nowhere")
    for library in (folder / "libjax_common.so", *folder.glob("xla_extension*.so")):
        if library.is_file():
            with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(b"\0" + name + b"\0") >= 0  # a flag, and not one of a list of those that are gone
    return False
