"""Networks of one kind in several widths and depths: a distribution of architectures."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dd_jax.errors import OptionError
from dd_jax.models.base import Model, Shapes, architecture, with_precision


def sized(
    make: Callable[..., Model], model: Model, widths: Sequence[int] = (), depths: Sequence[int] = ()
) -> tuple[Model, ...]:
    """`model` in each of these widths and depths, with all its other settings; itself where there are none.

    Of an MLP the width is the units of each hidden layer, and the depth how many there are.

    Args:
        make: (data, **settings) -> the network of this name.
        widths, depths: none for those that the model has.

    Raises:
        OptionError: for a network that has no such setting, or one whose layers differ where a depth is asked for.
    """
    settings = architecture(model)
    precision = str(model.settings.get("precision", "float32"))
    shapes = Shapes(model.image_shape, model.num_classes)
    found = [
        with_precision(make(shapes, **changed), precision)
        for width, depth in itertools.product(widths or (None,), depths or (None,))
        for changed in [_changed(model.name, settings, width, depth)]
    ]
    return tuple(found) if widths or depths else (model,)


def _changed(name: str, settings: Mapping[str, Any], width: int | None, depth: int | None) -> dict[str, Any]:
    """The settings with another width and depth; None leaves one as it is."""
    wanted = {"width": width, "depth": depth}
    if "hidden" in settings:
        hidden = list(settings["hidden"])
        if width is None and len(set(hidden)) != 1:
            raise OptionError(
                f"depths alone can't be varied, because the hidden layers of the {name} differ "
                f"({hidden}). Give widths with depths."
            )
        return {**settings, "hidden": [width or hidden[0]] * (depth or len(hidden))}
    for setting, value in wanted.items():
        if value is not None and setting not in settings:
            known = ", ".join(settings) or "none"
            raise OptionError(f"The {name} has no setting {setting!r} to vary. Its settings are {known}.")
    return {**settings, **{setting: value for setting, value in wanted.items() if value is not None}}
