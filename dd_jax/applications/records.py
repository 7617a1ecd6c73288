"""What an application has found so far, item by item, so that it goes on where it was cut short."""

import contextlib
import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dd_jax.errors import OptionError, RunError
from dd_jax.runs.directory import open_run
from dd_jax.runs.progress import note
from dd_jax.runs.provenance import provenance
from dd_jax.runs.report import NAME
from dd_jax.storage.artefact import sealed
from dd_jax.storage.files import disk_errors, read_json, write_bytes, write_json

FOLDER, RESULTS = "items", "results.json"


def write_results(folder: Path, numbers: Mapping[str, Any], table: tuple[str, str], page: Any) -> None:
    """Write results.json with where they come from, a table (its name, csv) and report.html into `folder`.

    Raises:
        RunError: if the disk refuses.
    """
    name, rows = table
    with disk_errors("save the results", folder):
        write_json(folder / RESULTS, {**numbers, "made_with": provenance()})
        write_bytes(folder / name, rows.encode())
        write_bytes(folder / NAME, page.encode(errors="backslashreplace"))


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as text, its values apart by commas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


@dataclasses.dataclass(frozen=True)
class Records:
    """A json for each item in a directory that this process holds; nothing is kept where there is none.

    Attributes:
        path: the directory, or None.
    """

    path: Path | None

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: str | Path | None, config: Mapping[str, Any]) -> Iterator["Records"]:
        """The records in `out`, for as long as the block lasts.

        Raises what `open_run` raises; OptionError for several processes, which would write the same files.
        """
        if jax.process_count() > 1:
            raise OptionError(
                "Applications run in one process, which uses all devices of its machine, but found "
                "several processes. Start one."
            )
        if out is None:
            yield cls(None)
            return
        with open_run(out, config) as directory:
            for line in directory.notes:
                note(line)
            yield cls(directory.path)

    @property
    def begun(self) -> bool:
        """Whether anything was kept."""
        return self.path is not None and any((self.path / FOLDER).glob("*.json"))

    def read(self, item: int | str, check: Callable[[Any], Any]) -> Any:
        """What is known of an item, or None; a damaged record is told, and counts as none.

        Args:
            check: what is read -> what it says, or None where that is no record of the item.
        """
        if self.path is None or not (file := self._file(item)).exists():
            return None
        try:
            found = read_json(file)
            whole = isinstance(found, dict) and sealed(found) == found
            content = check(found) if whole else None
        except (RunError, KeyError, TypeError, AttributeError, ValueError):
            content = None
        if content is None:
            note(f"Note: {file} is damaged or belongs to another item. It is measured again.")
        return content

    def write(self, item: int | str, content: Mapping[str, Any]) -> None:
        """Keep what is known of an item, in one go."""
        if self.path is None:
            return
        with disk_errors("keep what was found", self.path):
            write_json(self._file(item), sealed(content))

    def _file(self, item: int | str) -> Path:
        assert self.path is not None
        name = f"{item:05d}" if isinstance(item, int) else item
        return self.path / FOLDER / f"{name}.json"
