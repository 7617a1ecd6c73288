"""Reports of runs: one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from pathlib import Path

from dd_jax.errors import OptionError
from dd_jax.storage.files import disk_errors, write_bytes

NAME = "report.html"


def write_report(paths: str | Path | Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write a report on the runs in `paths` and return its path: one self-contained HTML page.

    It shows the distilled images and how they evolved, what they are worth beside every baseline, and how they were
    learnt; of several runs also all of that side by side. What a run doesn't have, such as results before it is
    finished, is left out, and said. The same runs give the same bytes.

    Args:
        paths: run directories, one or several.
        out: the file; None for report.html in the run directory or, of several runs, in the current folder.

    Raises:
        DataError: if one is no run directory, or if a file in it is damaged, which is named.
        RunError: if the disk refuses.
        OptionError: if there are no paths.
    """
    from dd_jax.runs.report.page import page
    from dd_jax.runs.report.read import read_run

    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise OptionError("There is nothing to report on. Name at least one run directory.")
    text = page([read_run(path) for path in paths])
    if out is None:
        out = Path(paths[0]).expanduser() / NAME if len(paths) == 1 else Path(NAME)
    out = Path(out).expanduser()
    with disk_errors("write the report", out):
        write_bytes(out, text.encode(errors="backslashreplace"))
    return out
