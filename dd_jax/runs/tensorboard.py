"""Metrics and pictures for TensorBoard, by tensorboardX, which is an extra."""

import contextlib
import importlib.util
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dd_jax.data.missing import install_command
from dd_jax.errors import OptionError
from dd_jax.figures.evolution import frame
from dd_jax.storage.files import disk_errors
from dd_jax.types import DistilledData


class TensorBoard(NamedTuple):
    """What writes for TensorBoard.

    Attributes:
        metrics: (rows of metrics) -> None.
        picture: (outer step, distilled set) -> None.
    """

    metrics: Callable[[Sequence[Mapping[str, Any]]], None]
    picture: Callable[[int, DistilledData], None]


def check_tensorboard() -> None:
    """Raise OptionError if TensorBoard can't be written for."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise OptionError(
            f"TensorBoard logs need tensorboardX, which is not installed: {install_command('tensorboard')}"
        )


@contextlib.contextmanager
def open_tensorboard(folder: Path, step: int) -> Iterator[TensorBoard]:
    """Write into `folder`; what an earlier process wrote there after `step` is hidden.

    Raises:
        OptionError: without tensorboardX.
        RunError: if the disk refuses.
    """
    check_tensorboard()
    from tensorboardX import SummaryWriter

    with disk_errors("write for TensorBoard", folder):
        # Its files' names tell the second only: a run resumed within it would write over what there is.
        writer = SummaryWriter(str(folder), purge_step=step + 1, filename_suffix=f".{step:08d}.{secrets.token_hex(4)}")

    def metrics(found: Sequence[Mapping[str, Any]]) -> None:
        with disk_errors("write for TensorBoard", folder):
            for row in found:
                for name, value in row.items():
                    if name != "step" and isinstance(value, int | float):
                        writer.add_scalar(name, value, row["step"])
                if "event" in row:
                    writer.add_text("events", row["text"], row["step"])
            writer.flush()

    def picture(step: int, distilled: DistilledData) -> None:
        with disk_errors("write for TensorBoard", folder):
            pixels = np.nan_to_num(frame(distilled), nan=1.0)  # white where there is nothing
            writer.add_image("distilled", pixels, step, dataformats="HWC")

    try:
        yield TensorBoard(metrics, picture)
    finally:
        writer.close()
