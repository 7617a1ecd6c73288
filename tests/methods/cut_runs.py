"""A run that is cut off and goes on, beside one that nothing happens to."""

from pathlib import Path

import pytest

import dd_jax as dd
from dd_jax.runs import loop


def cut_and_whole(method, data, folder: Path, step: int, **options) -> list[dd.Run]:
    """The run that ends after its look at `step` and is resumed, in folder/cut, and the other one, in folder/whole."""
    look = loop._Loop.look

    def interrupted(self, show):
        look(self, show)
        if self.step == step:
            raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "look", interrupted)
        with pytest.raises(SystemExit):
            dd.distill(method, data, out=folder / "cut", **options)
    return [dd.distill(method, data, out=folder / name, **options) for name in ("cut", "whole")]
