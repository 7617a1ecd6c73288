"""Reads the files in a folder with little memory left; run by test_fuzz_bombs.py. Prints one JSON object for each."""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dd_jax as dd
from dd_jax.errors import DDJaxError
from dd_jax.storage.artefact import load_distilled
from dd_jax.storage.pretrained import load_pretrained
from dd_jax.storage.weights import read_state_dict

SPARE = 2**30  # bytes of address space beyond what the imports took
READERS: dict[str, Callable[[Path], Any]] = {
    "artefact": load_distilled,
    "npz": lambda path: dd.load_dataset(f"npz:{path}"),
    "folder": lambda path: dd.load_dataset(f"folder:{path}"),
    "weights": read_state_dict,
    "networks": load_pretrained,
}


def main(folder: Path) -> None:
    dd.load_dataset("digits")  # whatever is imported or allocated once
    (pages,) = (int(text) for text in Path("/proc/self/statm").read_text().split()[:1])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SPARE,) * 2)
    for path in sorted(folder.iterdir()):
        before, started, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), "read"
        try:
            READERS[path.name.split("-")[0]](path)
        except DDJaxError as error:
            said = f"{type(error).__name__}: {error}"
        except Exception as error:
            said = f"{type(error).__name__}!"
        taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found = {"name": path.name, "said": said, "seconds": time.perf_counter() - started, "mib": taken}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
