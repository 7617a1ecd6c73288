"""The options that make canvases of images, in the methods that have them."""

import dataclasses

from dd_jax.errors import OptionError, check_at_least
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic, on_canvas
from dd_jax.synthetic.canvas import CanvasStart, check_canvas_start


@dataclasses.dataclass(frozen=True)
class CanvasOptions:
    """What is learnt in place of images."""

    canvas_size: int = 1
    """Factor by which a canvas is higher and wider than an image. Canvases have no edges, and networks see random crops
    of them (Wearable ImageNet: 2). 1: plain images."""
    canvas_samples: int = 1
    """Crops of each canvas that networks see at the same time."""
    canvas_start: CanvasStart = "side_by_side"
    """What a canvas starts as, of images by `init_images`: different ones of its class side by side, or one that is
    mirrored at every second place ("mirrored"), so that it has no seams."""


def as_asked(synthetic: Synthetic, model: Model, options: CanvasOptions) -> Synthetic:
    """`synthetic`, on canvases where the options `canvas_size` and `canvas_samples` ask for them."""
    if options.canvas_size == 1:
        return synthetic
    return on_canvas(synthetic, model.image_shape, options.canvas_size, options.canvas_samples, options.canvas_start)


def check_canvas_options(options: CanvasOptions) -> None:
    """OptionError for sizes and samples below one, for samples or a start of what is no canvas, and odd mirrors."""
    check_at_least(1, options, "canvas_size", "canvas_samples")
    if options.canvas_size == 1 and options.canvas_samples != 1:
        raise OptionError(
            "canvas_samples is the number of crops of a canvas, but there is no canvas "
            f"(canvas_samples is {options.canvas_samples}). Set canvas_size to 2 or more, or "
            "leave out canvas_samples."
        )
    check_canvas_start(options.canvas_start, options.canvas_size)


def canvas_words(model: Model, options: CanvasOptions) -> str:
    """What a set has so many of, in words: images, or canvases with their size."""
    if options.canvas_size == 1:
        return "images"
    height, width, _ = model.image_shape
    each = "" if options.canvas_samples == 1 else f", {options.canvas_samples} crops each"
    return f"canvases of {options.canvas_size * height} x {options.canvas_size * width} pixels{each}"
