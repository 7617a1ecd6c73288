"""The format "folder": class folders of PNGs, and a dataset card.

README.md            the card, with the front matter that Hugging Face's hub and `datasets` read
data/train/CLASS/    step_SS-BB.png
data/train/metadata.csv
distilled/           the set itself, for `load_distilled`: the pictures can't hold it
"""

from pathlib import Path

from dd_jax.errors import DataError
from dd_jax.runs.export.arrays import write_npz
from dd_jax.runs.export.card import card
from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.names import folder_names
from dd_jax.runs.export.pictures import PICTURE_CHANNELS, padded, png, soft_label, write_table


def write_folder(contents: Contents, folder: Path) -> str:
    """Raises:
    DataError: where images are neither grey nor RGB.
    """
    channels = contents.pixels.shape[-1]
    if channels not in PICTURE_CHANNELS:
        raise DataError(
            f"The folder format is for grey or RGB images, but these have {channels} channels. Export them as "
            "npz, torch or images (one picture for each channel)."
        )
    train = folder / "data" / "train"
    names, classes = folder_names(contents.class_names), contents.classes
    steps, batch = classes.shape
    rows = []
    for step in range(steps):
        for position in range(batch):
            label = int(classes[step, position])
            file = train / names[label] / f"step_{padded(step, steps)}-{padded(position, batch)}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(contents.pixels[step, position]))
            about = {"file_name": file.relative_to(train).as_posix(), "label": label, "step": step}
            rows.append({**about, "position": position, **soft_label(contents, step, position)})
    write_table(train / "metadata.csv", rows)
    (folder / "distilled").mkdir()
    write_npz(contents, folder / "distilled")
    (folder / "README.md").write_text(card(contents, names), encoding="utf-8", errors="backslashreplace")
    return f"{len(rows)} pictures in {len(set(classes.ravel().tolist()))} class folders, a dataset card, and the set"
