"""Handing a distilled set on, in formats that others read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dd_jax.errors import DataError, OptionError, RunError, unknown_name
from dd_jax.runs.export.arrays import write_npz, write_test, write_torch
from dd_jax.runs.export.contents import Contents, read_contents
from dd_jax.runs.export.folders import whole_folder
from dd_jax.runs.export.image_folder import write_folder
from dd_jax.runs.export.pictures import write_images
from dd_jax.runs.export.sheets import write_sheet
from dd_jax.types import Dataset

__all__ = ["FORMATS", "Exported", "export"]

# A writer fills an empty folder, and says in words what is in it.
FORMATS: Mapping[str, Callable[[Contents, Path], str]] = {
    "npz": write_npz,
    "sheet": write_sheet,
    "images": write_images,
    "torch": write_torch,
    "folder": write_folder,
}


class Exported(NamedTuple):
    """A format that was written. path: its folder; num_files, num_bytes: in it. what: in words.

    path is None of a format that the set can't have, with the reason in `what`.
    """

    format: str
    path: Path | None
    num_files: int
    num_bytes: int
    what: str


def export(
    path: str | Path,
    out: str | Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    test_file: bool = False,
    dataset: str | None = None,
) -> tuple[Exported, ...]:
    """Write the distilled set at `path` into the folder `out`, each format in a folder of its name.

    Returns one record for each format, in the order asked for.

    Args:
        path: a run directory, or an artefact; it is left as it is.
        out: None for the folder "export" of the run. An earlier export there is replaced as a whole, when the new one
            is complete.
        formats: "npz" (plain NumPy arrays and json; `load_distilled` reads them), "sheet" (all images at a glance),
            "images" (a PNG for each), "torch" (arrays and a script for PyTorch), "folder" (class folders of PNGs with a
            dataset card: Hugging Face's imagefolder, TFDS's ImageFolder, "folder:PATH/data" here). None for all that
            the set can have: images that are neither grey nor RGB have no "folder".
        test_file: whether to write the test split of the run's dataset too, as test.npz into the folder of "torch",
            where the script finds it.
        dataset: for that, where the dataset of the run is now; of a set without its run, what to test on.

    Raises:
        OptionError: a format is unknown, a test file is asked for without the format "torch", or a dataset without it.
        DataError: there is no distilled set, it is damaged, or it can't have a format that was asked for;
            with `test_file` also if the dataset isn't there.
        RunError: `out` holds files that aren't an export's, or the disk refuses; what was there is left as it is.
    """
    wanted = list(dict.fromkeys(FORMATS if formats is None else [formats] if isinstance(formats, str) else formats))
    for name in wanted:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    if not wanted:
        raise OptionError(f"formats is empty. Give some of {', '.join(FORMATS)}, or None for all.")
    if test_file and "torch" not in wanted:
        raise OptionError(f"test_file needs the format torch, but the formats are {', '.join(wanted)}. Add torch.")
    if dataset is not None and not test_file:
        raise OptionError(
            "The dataset is only needed for the test file. Ask for test_file too, or leave out the dataset."
        )
    contents = read_contents(path)
    data = _dataset(contents.run, path, dataset) if test_file else None
    target = (contents.run / "export" if out is None else Path(out).expanduser()).resolve()
    if target in contents.file.resolve().parents:
        raise RunError(f"{target} holds the set that is to be exported and would be replaced. Choose another folder.")
    done = []
    with whole_folder(target, {"set": contents.meta["sha256"], "formats": wanted}) as new:
        for name in wanted:
            (new / name).mkdir()
            try:
                what = FORMATS[name](contents, new / name)
            except DataError as error:
                if formats is not None:
                    raise
                (new / name).rmdir()  # writers refuse before they write
                done.append(Exported(name, None, 0, 0, str(error)))
                continue
            if name == "torch" and data is not None:
                what += f", with {write_test(contents, data, new / name)}"
            if contents.drawn:
                what += " (images that steps see anew at random: one draw of them)"
            sizes = [file.stat().st_size for file in (new / name).rglob("*") if file.is_file()]
            done.append(Exported(name, target / name, len(sizes), sum(sizes), what))
    return tuple(done)


def _dataset(run: Path, path: str | Path, place: str | None) -> Dataset:
    """The dataset that a run was made from, or another one for a set without a run; DataError where it isn't there."""
    from dd_jax.runs.load_run import load_run, load_set
    from dd_jax.runs.naming import DEFAULT_MODEL

    if place is not None and not (run / "config.json").is_file():
        return load_set(path, place, DEFAULT_MODEL)[2]
    return load_run(run, place, DEFAULT_MODEL)[2]  # the network makes no difference, and one's own may be missing
