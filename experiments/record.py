"""Runs that differ in their seed alone as a compact record in experiments/results, and the tables of the pages anew.

Command:   python experiments/record.py RUN [RUN ...] --name mnist-dc --title "MNIST, 10 images, ConvNet: DC"
               --hardware "one core of an AMD EPYC" --published 91.7 --source "Zhao et al. 2021, table 1"
               --sure "also in the released code" --published-steps 1000
           A RUN is a run directory, finished or not, or a folder of them, such as a sweep over seeds; or the directory
           of an application, such as an audit.
Then:      python experiments/published.py, which writes the tables; this command calls it
"""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import tyro
from published import write_pages

from dd_jax.cli import run_function
from dd_jax.errors import OptionError
from dd_jax.runs.compact import About, compact_record, compact_results, is_application
from dd_jax.runs.progress import note
from dd_jax.storage.files import plain, write_bytes

RESULTS = Path(__file__).parent / "results"

_LIST = re.compile(r"\[[^][{}]*\]")  # without lists or objects in it: such a list is one line of the file


def main(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    /,
    name: str,
    about: Annotated[About, tyro.conf.arg(name="")],
    baselines_of: Path | None = None,
    folder: Path | None = None,
    pages: bool = True,
) -> None:
    """Write the record.

    Args:
        runs: run directories, or folders of them.
        name: of the record.
        about: what the run directories don't say.
        baselines_of: run that measured the baselines, if none of the runs did.
        folder: for the record; None for experiments/results and, of distillations, cells in it.
        pages: write the tables of the pages, too.
    """
    if Path(name).name != name:
        raise OptionError(f"The name of a record is that of its file, without folders, but is '{name}'.")
    if len(runs) == 1 and is_application(runs[0]):
        record, folder = compact_results(runs[0], about), folder or RESULTS
    else:
        record, folder = compact_record(runs, about, baselines_of), folder or RESULTS / "cells"
    out = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(record), indent=1, allow_nan=False)
    write_bytes(out, (_LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n").encode())
    note(f"Written to {out}, {out.stat().st_size:,} bytes.")
    if pages:
        note(f"Written anew: {', '.join(write_pages()) or 'no page'}.")


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
