"""How a distilled set is used, as a dataset card tells."""

from dd_jax.models import MODELS
from dd_jax.runs.export.about import known
from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.words import code, literal


def usage(contents: Contents) -> str:
    """The section on use, with code that fits the set."""
    protocol = contents.distilled.protocol
    pretrained = ""
    if protocol.pretrained:
        train = "params = dd.train_on(distilled, model, params=start)  # start: weights of one of the networks above"
        pretrained = ', pretrained=dd.load_pretrained("FILE-OF-THE-NETWORKS")'
    elif protocol.init == "fixed":
        train = "params = dd.train_on(distilled, model)  # the one network that the set is for"
    else:
        train = "params = dd.train_on(distilled, model, jax.random.key(0))"
    lines = [
        "## Use",
        "",
        "With dd_jax, from the model-space images in `distilled/`:",
        "",
        "```python",
        *(["import jax"] if "jax." in train else []),
        "import dd_jax as dd",
        "",
        'distilled = dd.load_distilled("PATH/distilled")  # PATH: this folder',
        f"data = {_load(contents)}",
        f"model = {_make(contents)}",
        train,
        "predictions = model.apply(params, data.test.images).argmax(-1)",
        f"print(dd.evaluate(distilled, model, data{pretrained}))  # many networks, as above",
        "```",
        "",
        "Without it: `distilled/distilled.npz` holds plain NumPy arrays, which `distilled/distilled.json` explains. "
        f"Test images have to be brought to the same model space: {_normalisation(contents)}.",
        "",
        "The pictures alone:",
        "",
        '- `datasets.load_dataset("PATH")` with Hugging Face\'s datasets; `datasets.load_dataset("PATH", "steps")` '
        "also tells the step of each.",
        '- `tfds.ImageFolder("PATH/data")` with TFDS.',
        '- `dd.load_dataset("folder:PATH/data")` with dd_jax. Put real images to test on into `data/test/CLASS/`; '
        "without them some of the pictures are set apart to test on, which takes several of a class.",
    ]
    return "\n".join(lines)


def _load(contents: Contents) -> str:
    name = known(contents, "dataset").get("name") or "arrays"
    kind, _, path = name.partition(":")
    height, width, channels = contents.pixels.shape[2:]
    size = f"image_size={height if height == width else (height, width)}"
    if name == "arrays":
        return "dd.dataset_from_arrays(images, labels)  # the real images"
    if path and kind in ("folder", "npz", "usps"):
        name = f"{kind}:PATH-OF-THE-REAL-DATA"
    form = f", {size}, channels={channels}" if channels in (1, 3) else f", {size}"
    return f"dd.load_dataset({literal(name)}{form})"


def _make(contents: Contents) -> str:
    settings = known(contents, "model")
    name = settings.pop("name", None)
    settings.pop("precision", None)
    if name is None:
        return "...  # the network that it was learnt with"
    if name not in MODELS:
        return f"...  # the network that it was learnt with, {literal(name)}: not one of dd_jax's"
    return f"dd.models.make({', '.join([literal(name), 'data', *(f'{k}={v!r}' for k, v in settings.items())])})"


def _normalisation(contents: Contents) -> str:
    if contents.meta["transform"].startswith("zca"):
        return (
            f"ZCA whitening ({code(contents.meta['transform'])}), `x = (pixel / 255 - mean) / std` and then "
            "`x.reshape(N, -1) @ axes * scales @ axes.T`, with the arrays `transform/...` as they are: fitted to "
            "the real training images, and not to test images"
        )
    if contents.meta["transform"] != "standardise":
        return f"pixels in [0, 1], then the transform {code(contents.meta['transform'])}"
    mean, std = (", ".join(f"{v:.7g}" for v in contents.arrays[f"transform/{name}"]) for name in ("mean", "std"))
    return f"(pixel / 255 - mean) / std with the mean {mean} and the std {std}"
