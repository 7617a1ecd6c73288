"""The commands on distilled sets from elsewhere, and on several sets."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dd_jax.applications.auditing import AuditOptions
from dd_jax.cli.options import parse
from dd_jax.errors import OptionError
from dd_jax.outcomes.nested import CONFIDENCE
from dd_jax.storage.import_options import ImportOptions
from dd_jax.types import Dataset

if TYPE_CHECKING:
    from dd_jax.storage.imports import Imported


@dataclasses.dataclass(frozen=True)
class Import(ImportOptions):
    """Make a distilled set that others released one of this library's. Nothing in the files is run.

    An option that says otherwise than the files, or that has no meaning for their format, is refused.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Files of the released set, as the format has them."""
    format: str = ""
    """Format of the files: "gcond" (features and adjacency), "dc" (DC, DSA, DM), "mtt" (and TESLA), "idc", "frepo" or
    "npz"."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the set. A set that is in it is replaced, and other files stay."""
    preprocessing: str | None = None
    """Map from real images to the numbers that networks see: "dataset" as --dataset and --zca have it, "identity" for
    pixels in [0, 1], or the mean and deviation of released code for "mnist", "fashion_mnist", "svhn", "cifar10",
    "cifar100" or "tiny_imagenet". Files of the format idc hold pixels, all others hold these numbers. Needed for
    images."""
    dataset: str | None = None
    """Dataset that the set was distilled from, as for `dd-jax distill`. It gives names of classes, and labels of a
    released graph. Digits and letters, known by its name, are not mirrored."""
    zca: bool = False
    """Whiten the images of the dataset by ZCA, for --preprocessing dataset."""
    image_size: int | None = None
    """Resize the images of the dataset to this side."""
    channels: Literal[1, 3] | None = None
    """Make the images of the dataset grey (1) or colour (3)."""


@dataclasses.dataclass(frozen=True)
class Audit(AuditOptions, Import):
    """Say what a distilled set is good for, and where it is not better than real images.

    The set is measured by its own protocol, from scratch, on other networks, and by DC-BENCH and DD-Ranking. Random
    real images and coresets stand beside it, in the same number and in the same bytes. With --format the files are
    those of a released set, as for `dd-jax import`.
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directory, or a distilled set from elsewhere: its folder or json file. With --format: released files."""
    model: str | None = None
    """Network, with settings after a colon. None: the network that a run was distilled for."""
    dataset: str | None = None
    """Real data, as for `dd-jax distill`. Needed if the set has no run."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Directory for the results. The same command continues an interrupted one. None: audit in the directory of the
    set."""


@dataclasses.dataclass(frozen=True)
class Compare:
    """Say whether methods differ, over several distillations of each and the networks that are trained on each set.

    Runs that differ only in their seed are one method (dd-jax distill --seeds 0:5). Runs of two methods with the same
    seed are paired, and their networks if both have the same network and protocol. The interval is that of a bootstrap
    over distillations and networks. Methods must be on the same dataset.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, or folders of them."""
    confidence: float = CONFIDENCE
    """Confidence of the intervals."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for the numbers, in json."""


@dataclasses.dataclass(frozen=True)
class Board:
    """Rank sets by accuracy, robustness, bytes and time, on one page that can be sorted and filtered in a browser.

    Runs that differ only in their seed are one set with several distillations. The accuracy on other networks comes
    from the results of `dd-jax audit` or `dd-jax transfer` beside a set.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, folders of them, or audited sets from elsewhere."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("board.html")
    """File for the page."""


def import_set(argv: Sequence[str]) -> None:
    """dd-jax import FILE ...: a released set as an artefact."""
    from dd_jax.evaluation import storage_bytes
    from dd_jax.runs.progress import note
    from dd_jax.storage.artefact import save_artefact

    options = parse(Import, argv, "dd-jax import")
    out = _folder_for(options)
    (distilled, taken), data = _imported(options)
    files = [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in options.files]
    about = {} if data is None else {"dataset": {"name": data.name, "fingerprint": data.fingerprint}}
    said = {name: value for name, value in _said(options).items() if value is not None}
    made_from = {"format": options.format, "files": files, **said, **({"taken": taken} if taken else {})}
    replaced = (out / "distilled.json").is_file()
    save_artefact(out, distilled, {"imported": made_from, **about}, resumes=False)
    if replaced:
        note(f"Note: the set that was in {out} is replaced.")
    soft = "soft labels" if distilled.labels.ndim == 3 else "labels"
    print(
        f"{out}: {distilled.num_examples} {distilled.unit}s with {soft}, {storage_bytes(distilled):,} bytes, "
        f"transform {getattr(distilled.transform, 'kind', None)!r}, protocol {distilled.protocol.name!r}."
    )


def audit_set(argv: Sequence[str]) -> None:
    """dd-jax audit RUN|SET|FILE ...: a set beside real images, in every way that it may be used in."""
    from dd_jax.applications.audit_page import HEAD, SPREADS, lines_of
    from dd_jax.applications.audit_scores import SCORES_HEAD, SCORES_SAY, SCORES_TITLE, scores_of
    from dd_jax.applications.auditing import audit
    from dd_jax.runs.load_run import load_set, made
    from dd_jax.runs.progress import note, table

    options = parse(Audit, argv, "dd-jax audit")
    if not options.files or (len(options.files) > 1 and not options.format):
        raise OptionError(
            "Name one run directory or distilled set, or released files with their --format: dd-jax audit RUN."
        )
    if options.format:
        if options.model is None or options.dataset is None or options.out is None:
            raise OptionError("Released files need --model, --dataset and -o, a directory for the results.")
        (distilled, _), data = _imported(options)
        assert data is not None
        model, out = made(options.model, data), options.out
    else:
        (path,) = options.files
        distilled, model, data, _ = load_set(path, options.dataset, options.model)
        out = options.out or (path if path.is_dir() else path.parent) / "audit"
    chosen = AuditOptions(**{field.name: getattr(options, field.name) for field in dataclasses.fields(AuditOptions)})
    found = audit(distilled, model, data, chosen, name=options.files[0].name, out=out)
    table(f"{found.name}: {found.size} of {data.name}", HEAD, lines_of(found))
    print(SPREADS)
    if scores := scores_of(found.scores):
        table(SCORES_TITLE, SCORES_HEAD, scores)
        print(SCORES_SAY)
    for words in (*found.sentences(), *found.notes):
        print(words)
    note(f"The numbers and a page are in {out}: open {out}/report.html")


def compare_runs(argv: Sequence[str]) -> None:
    """dd-jax compare RUN ...: whether methods differ."""
    from dd_jax.runs.comparing import compare_groups, groups_of, lines_of
    from dd_jax.runs.progress import note, table
    from dd_jax.storage.files import disk_errors, write_json

    options = parse(Compare, argv, "dd-jax compare")
    groups = groups_of(options.runs) if options.runs else []
    if len(groups) < 2:
        alone = f", but these are of one: {groups[0].name}" if groups else ""
        raise OptionError(
            f"A comparison needs runs of at least two methods{alone}. Name more: dd-jax compare RUN [RUN ...]."
        )
    pairs = list(itertools.combinations(groups, 2))
    gaps = [compare_groups(ours, theirs, options.confidence) for ours, theirs in pairs]
    table("Methods (mean ± standard deviation over distillations)", *lines_of(groups))
    found = []
    for (ours, theirs), gap in zip(pairs, gaps, strict=True):
        print(gap.sentence(ours.name, theirs.name))
        found.append({**gap._asdict(), "ours": ours.name, "theirs": theirs.name, "real": gap.real})
    if len(found) > 1:
        chance = 1 / (1 - options.confidence)
        print(
            f"{len(found)} comparisons. Where nothing differs, about one interval in {chance:.0f} still leaves out 0."
        )
    if options.out is not None:
        methods = {
            group.name: {"seeds": group.seeds, **found._asdict(), "result": found.result._asdict()}
            for group, found in ((group, group.nested) for group in groups)
        }
        with disk_errors("save the comparison", options.out):
            options.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.out, {"methods": methods, "comparisons": found})
        note(f"The numbers are in {options.out}.")


def board(argv: Sequence[str]) -> None:
    """dd-jax board RUN ...: sets ranked on one page."""
    from dd_jax.runs.report.board import write_board

    options = parse(Board, argv, "dd-jax board")
    if not options.runs:
        raise OptionError(
            "There is no run to show. Name run directories, or folders of them: dd-jax board RUN [RUN ...]."
        )
    print(write_board(options.runs, options.out))


def _said(options: Import) -> dict[str, Any]:
    """What the options say that files don't."""
    return {field.name: getattr(options, field.name) for field in dataclasses.fields(ImportOptions)}


def _folder_for(options: Import) -> Path:
    """Where the set will be; OptionError for a command that lacks something, or for a place where no set may be."""
    from dd_jax.storage.released import FORMATS

    out, needed = options.out, ""
    if options.format == "gcond" and options.labels is None:
        needed = "the labels of a graph"
    elif options.preprocessing == "dataset":
        needed = "the preprocessing"
    lacking = [
        what
        for what, there in (
            ("the files", options.files),
            (f"--format, one of {', '.join(FORMATS)}", options.format),
            (f"--dataset, which gives {needed}", options.dataset or not needed),
            ("-o, a folder for the set", out),
        )
        if not there
    ]
    if lacking or out is None:
        raise OptionError(
            f"The command lacks {'; '.join(lacking)}. Expected, for example: dd-jax import FILE [FILE ...] --format "
            "gcond --dataset cora -o FOLDER."
        )
    if out.exists() and not out.is_dir():
        raise OptionError(f"-o should be a folder for the set, but {out} is a file. Name another one.")
    if (out / "config.json").is_file():
        raise OptionError(f"-o should be a folder for the set, but {out} is a run directory. Name another one.")
    return out


def _imported(options: Import) -> tuple["Imported", Dataset | None]:
    """The set in released files with what was taken for granted, and what it was distilled from."""
    from dd_jax.data import load_dataset
    from dd_jax.storage.imports import read_released

    form: dict[str, Any] = {"zca": options.zca, "image_size": options.image_size, "channels": options.channels}
    _check_form(options, form)
    data = None if options.dataset is None else load_dataset(options.dataset, **form)
    return read_released(options.files, options.format, data, **_said(options)), data


def _check_form(options: Import, form: dict[str, Any]) -> None:
    """OptionError for options about the images of the dataset that would do nothing."""
    asked = [f"--{name.replace('_', '-')}" for name, value in form.items() if value]
    if asked and options.dataset is None:
        raise OptionError(f"{asked[0]} is about the images of the dataset, but none is named. Give --dataset too.")
    if options.zca and options.preprocessing != "dataset":
        raise OptionError(
            f"--zca is for --preprocessing dataset, but the preprocessing is {options.preprocessing!r}. Give "
            "--preprocessing dataset, or leave out --zca."
        )
