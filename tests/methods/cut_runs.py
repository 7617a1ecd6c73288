"""A run that is cut off and goes on, beside one that nothing happens to."""

from pathlib import Path

import pytest

import dd_jax as dd
from dd_jax.runs import loop


def cut_and_whole(method, data, folder: Path, step: int, **options) -> list[dd.Run]:
    """The run that ends after validating at `step` and is resumed, in folder/cut, and the other, in folder/whole."""
    validate = loop._Loop.validate

    def interrupted(self, show):
        validate(self, show)
        if self.step == step:
            raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "validate", interrupted)
        with pytest.raises(SystemExit):
            dd.distill(method, data, out=folder / "cut", **options)
    return [dd.distill(method, data, out=folder / name, **options) for name in ("cut", "whole")]
