"""The dataset card: front matter in YAML, and what whoever is handed the set should know."""

from collections.abc import Sequence

import numpy as np

from dd_jax.runs.export.about import about, accuracy, source, title
from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.usage import usage
from dd_jax.runs.export.words import code, quoted

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def card(contents: Contents, folders: Sequence[str]) -> str:
    """The text of README.md. folders: of the K classes, in data/train."""
    sections = (about(contents), accuracy(contents), usage(contents), _warnings(contents), _files(contents, folders))
    return "\n\n".join((_front_matter(contents), f"# {title(contents)}", *sections)) + "\n"


def _front_matter(contents: Contents) -> str:
    """Two configurations: classes that the folders name, or labels with step and position that metadata.csv has.

    `datasets` caches what it has read of a folder by the folder's last name and by this text alone, so the text has to
    tell one set from another.
    """
    which = f"  description: {quoted('set ' + contents.meta['sha256'][:12])}"
    size = next((name for most, name in _SIZES if contents.classes.size < most), "1M<n<10M")
    return "\n".join(
        [
            "---",
            "license: unknown",
            f"pretty_name: {quoted(title(contents))}",
            "task_categories:",
            "- image-classification",
            "size_categories:",
            f"- {size}",
            "tags:",
            "- dataset-distillation",
            "- dataset-condensation",
            "- synthetic",
            "- dd_jax",
            "configs:",
            "- config_name: default",
            which,
            "  data_files:",
            "  - split: train",
            "    path: data/train/*/*.png",
            "- config_name: steps",
            which,
            "  data_files:",
            "  - split: train",
            "    path: data/train/**",
            "---",
        ]
    )


def _warnings(contents: Contents) -> str:
    protocol = contents.distilled.protocol
    points = [
        f"**The pictures are not the set.** Distilled images go beyond black and white: {100 * contents.clipped:.1f} % "
        "of their values were clipped to make pictures, and the rest was rounded to 8 bits. What reproduces the "
        "accuracy above are the float images in `distilled/`.",
        "**Other networks**: the images are fitted to the network and the start named above. Others may learn less "
        "from them, or nothing; measure before relying on it.",
    ]
    if protocol.init == "fixed":
        points.append(
            "**Fixed init**: the set is for one known network. Networks with other initial weights, even of the same "
            "architecture, are not expected to learn from it."
        )
    if protocol.from_scratch:
        points.append("**Order**: the set has none, and no step sizes: it is trained on as any other data.")
    elif contents.random_order:
        points.append("**Order**: the batches were learnt to be drawn at random; their order doesn't matter.")
    else:
        points.append(
            "**Order and step sizes belong to the set**: batch follows batch as `step` in metadata.csv says, each with "
            "its learnt step size. Shuffled, or trained with another optimiser, learning rate or number of steps, the "
            "accuracy is another one, and may be much lower."
        )
    if not protocol.from_scratch:
        points.append("**Augmentation, dropout and batch normalisation** were not part of learning the set.")
    points += [
        f"**Licence**: fill in `license` above. It depends on that of {source(contents)}, which they derive from.",
    ]
    return "\n".join(["## Before you use it", "", *(f"- {point}" for point in points)])


def _files(contents: Contents, folders: Sequence[str]) -> str:
    images = np.bincount(contents.classes.ravel(), minlength=len(folders))
    renamed = [
        f"- {code(folder)} holds class {number}, {code(name)}."
        for number, (folder, name) in enumerate(zip(folders, contents.class_names, strict=True))
        if folder != name and images[number]
    ]
    empty = [code(name) for name, count in zip(contents.class_names, images, strict=True) if not count]
    lines = [
        "## Files",
        "",
        "- `data/train/CLASS/step_SS-BB.png`: image BB of the batch of step SS, both counted from 0; "
        "`data/train/metadata.csv` lists them with their labels, which are numbered from 0.",
        "- `distilled/distilled.npz`, `distilled/distilled.json`: the set itself, and where it comes from.",
    ]
    if renamed:
        lines += ["", "Folders that are not called as their class:", "", *renamed]
    if empty:
        lines += ["", f"Classes without an image: {', '.join(empty)}. Who reads class folders counts the others alone."]
    return "\n".join(lines)
