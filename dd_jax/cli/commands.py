"""What each command does."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

import dd_jax
from dd_jax.cli.apply import apply
from dd_jax.cli.completion import completion
from dd_jax.cli.options import parse, parse_experiment, sweep_cells, take_flag, take_option
from dd_jax.cli.scores import score, transfer
from dd_jax.cli.sets import audit_set, board, compare_runs, import_set
from dd_jax.errors import OptionError
from dd_jax.methods import METHODS
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.progress import note
from dd_jax.seeds import check_seed, key_of_seed
from dd_jax.synthetic import too_few_real


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Train fresh networks on the distilled set of a run and report their accuracy."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory."""
    num_nets: int = 200
    """Number of held-out networks."""
    num_epochs: int | None = None
    """Passes through the distilled batches. None: as many as were learnt."""
    split: str = "test"
    """Split to measure on: "test", "validation" or "train"."""
    init: str | None = None
    """Start of the networks, "random" or "fixed", in place of the start that the set was distilled for."""
    model: str | None = None
    """Network to train, in place of the one that the set was distilled for, e.g. "mlp:hidden=(64, 64)"."""
    dataset: str | None = None
    """Where the dataset is now, such as "npz:PATH", if it has moved. The data must be the same."""
    seed: int = 1_000_003
    """Seed of the held-out initialisations."""
    baselines: bool = False
    """Also measure the baselines."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Write the distilled set of a run in formats that others read."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or the folder of a distilled set."""
    out: Path | None = None
    """Folder to write to; an earlier export there is replaced. None: the folder "export" of the run."""
    formats: tuple[str, ...] = ()
    """Formats to write, separated by spaces: npz, sheet, images, torch, folder. None given: all that the set can
    have."""
    test_file: bool = False
    """Also write the test split of the run's dataset, as test.npz beside the script of the format torch."""
    dataset: str | None = None
    """Place of the run's dataset now, for the test file. For a set without its run: the dataset to test on."""
    tiles: int | None = None
    """Also write every canvas, tiled three by three, into the folder "tiles" of the run. Each pixel is enlarged this
    many times. For sets that are learnt on canvases."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a page on runs for a browser: results, images, curves, baselines and settings."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run directories, or folders of them; several are shown side by side. They may be unfinished."""
    out: Path | None = None
    """File to write. None: report.html in the run directory or, for several runs, in the current folder."""


_SWEEPS = (
    "--seeds 0:5, or 0,3,7, distils once with each seed. --sweep learning_rate=0.01,0.03 distils once with each "
    "value, and several --sweep with every combination. One table compares all of these runs. "
)


def distill(argv: Sequence[str], default: Experiment | None = None) -> None:
    """dd-jax distill: one experiment, from data to table and pictures; or several, with other seeds or options."""
    from dd_jax.runs.experiment import run_experiment
    from dd_jax.runs.sweep import run_sweep

    prog, what = "dd-jax distill", "Learn a distilled set and compare it with baselines."
    if any(word.partition("=")[0] in ("--seeds", "--sweep") for word in argv):
        run_sweep(*sweep_cells(argv, prog, what, default))
    else:
        run_experiment(parse_experiment(argv, prog, what, default, _SWEEPS))


def estimate(argv: Sequence[str]) -> None:
    """dd-jax estimate: time and memory of an experiment, counted, or measured on its compiled outer step."""
    from dd_jax.runs.counted import count_run
    from dd_jax.runs.experiment import load_method, quick_start

    measured, argv = take_flag(argv, "--measure")
    what = (
        "Estimate the time and memory of an experiment, without running it.\n\nThe estimate counts the arithmetic of "
        "an outer step. With --measure it compiles the outer step and times a few steps."
    )
    experiment = parse_experiment(argv, "dd-jax estimate", what)
    given: dict[str, Any] = {"num_outer_steps": experiment.num_outer_steps, "devices": experiment.devices}
    if measured:
        method, data, _ = load_method(experiment, make=False)
        note("Compiling an outer step and timing a few ...")
        print(dd_jax.estimate(method, data, **given))
    else:
        method, data, _ = load_method(quick_start(experiment), make=False)
        print(count_run(method, data, **given))


def pretrain(argv: Sequence[str]) -> None:
    """dd-jax pretrain: many networks on a dataset, in one file, or all along their training in a folder."""
    from dd_jax.runs.networks import PRETRAININGS, Pretraining, pretraining, run_pretraining

    name, argv = take_option(argv, "--preset")
    description = (
        "Train many networks, and keep them in one file for `dd-jax distill --pretrained FILE`.\n\nWith --snapshots "
        "the result is a folder for `dd-jax distill --experts FOLDER`, with each network at many points of its "
        "training.\n\n"
        f"--preset NAME starts from the defaults of a preset: {', '.join(PRETRAININGS)}."
    )
    start = pretraining(name) if name else Pretraining()
    made = run_pretraining(parse(tyro.conf.OmitArgPrefixes[Pretraining], argv, "dd-jax pretrain", start, description))
    if isinstance(made, dd_jax.Experts):
        along = (f"{100 * mean:.1f}" for mean in made.accuracies.mean(0))
        count = f"n={len(made.accuracies)} networks, {made.num_bytes:,} bytes"
        print(f"at each snapshot: {', '.join(along)} % on {made.split} ({count})")
        return
    for part, accuracies in made.accuracies.items():
        if len(accuracies):
            print(f"{part.replace('_', '-')}: {dd_jax.evaluation.in_percent(accuracies)} on test (n={len(accuracies)})")


def evaluate(argv: Sequence[str]) -> None:
    """dd-jax evaluate: the distilled set of a run on held-out networks, before training and after each epoch."""
    from dd_jax.runs.judging import judge
    from dd_jax.runs.load_run import load_run

    options = parse(Evaluate, argv, "dd-jax evaluate")
    distilled, model, data, pretrained = load_run(options.run, options.dataset, options.model)
    unlike_the_run = (options.num_epochs, options.init) != (None, None) or options.split != "test"
    if options.baselines and unlike_the_run:
        raise OptionError(
            "--baselines are measured on test, in the same way as the run. Leave out --num-epochs, --init and --split."
        )
    rows = judge(
        distilled,
        model,
        data,
        options.num_nets,
        None if options.baselines else (),
        pretrained,
        num_epochs=options.num_epochs,
        split=options.split,
        seed=options.seed,
        init=options.init,
    )
    found = rows[0].evaluation
    if len(found.curve) and found.outcome.truthful:
        epochs = found.curve_steps % distilled.num_batches == 0
        along = ", ".join(f"{100 * value:.1f}" for value in found.curve.mean(0)[epochs])
        print(f"before training and after each epoch (n={len(found.curve)}): {along} %")
    classes = ", ".join(
        f"{name} {'–' if math.isnan(a) else f'{100 * a:.1f}'}"
        for name, a in zip(data.class_names, found.per_class, strict=True)
    )
    print(f"per class: {classes} %")
    if found.is_unbalanced:
        print(f"mean of the classes, each counting the same: {100 * found.balanced:.1f} %")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train fresh networks on a distilled set, of a run or from elsewhere, and report their test accuracy."""

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere: its folder or json file."""
    model: str | None = None
    """Network, with settings after a colon, such as "convnet:width=32". None: the network that the set was distilled
    for."""
    protocol: str | None = None
    """Training on the set: "as-distilled" (the learnt steps), or from scratch with shuffled minibatches as in the
    papers: "dc", "dsa", "dsa-digits" (without mirrors), "mtt", "mtt-digits", "idc", "rtp". None: the set's own
    protocol."""
    dataset: str | None = None
    """Dataset to test on, in place of the one that the set was distilled from. Needed for a set from elsewhere."""
    skip_broken: bool = False
    """Leave out images of the dataset that can't be read."""
    num_nets: int = 5
    """Number of networks."""
    num_epochs: int | None = None
    """Passes through the distilled images. None: the protocol's number."""
    baselines: bool = False
    """Also train on as many real images, in the same way."""
    order: str | None = None
    """Order of the images, "fixed" or "random" (every epoch deals the images out anew), in place of the order that the
    set was learnt for."""
    seed: int = 1_000_003
    """Seed of the networks."""


def train(argv: Sequence[str]) -> None:
    """dd-jax train: networks on a distilled set, by its protocol or another one."""
    from dd_jax.runs.judging import judge
    from dd_jax.runs.load_run import in_order, load_set, protocol_named

    options = parse(Train, argv, "dd-jax train")
    distilled, model, data, pretrained = load_set(options.path, options.dataset, options.model, options.skip_broken)
    distilled = in_order(distilled, options.order)
    judge(
        distilled,
        model,
        data,
        options.num_nets,
        None if options.baselines else (),
        pretrained,
        num_epochs=options.num_epochs,
        seed=options.seed,
        protocol=protocol_named(options.protocol, options.num_epochs),
    )


def baselines(argv: Sequence[str]) -> None:
    """dd-jax baselines: real images in the shape of an experiment's distilled set."""
    from dd_jax.runs.experiment import load_method
    from dd_jax.runs.judging import baseline_row, print_table

    names, argv = take_option(argv, "--names")
    what = (
        "Measure the baselines of an experiment, without distilling.\n\n--names NAME,NAME,... measures only these "
        f"baselines. More of them can be named: {', '.join(dd_jax.evaluation.CORESETS)}."
    )
    experiment = parse_experiment(argv, "dd-jax baselines", what)
    if experiment.out is not None:
        kept = "dd-jax distill --num-outer-steps 0 would leave baselines there"
        note(f"Note: nothing is written to {experiment.out}; {kept}.")
    method, data, pretrained = load_method(experiment)
    template = method.distilled(method.init(key_of_seed(check_seed(experiment.seed)), data, 1))
    if template.labels.ndim == 2:
        real = np.asarray(data.train.labels)
        if repeats := too_few_real(np.asarray(template.labels), real, data.class_names):
            note(f"Note: {repeats}")
    chosen = None if names is None else [name.strip() for name in names.split(",")]
    options: dict[str, Any] = {"names": chosen, "num_nets": experiment.num_nets, "pretrained": pretrained}
    rows = []
    for name, found in dd_jax.evaluation.iterate_baselines(template, method.model, data, **options):
        rows.append(baseline_row(name, found))
        note(f"  {name}: {rows[-1].evaluation}")  # the next one may take long
    print_table(f"Baselines on {data.name}, {template.num_examples} {template.unit}s, {method.model.name}", rows)


def export(argv: Sequence[str]) -> None:
    """dd-jax export: the distilled set of a run, for others."""
    from dd_jax.runs.processes import on_first

    options = parse(Export, argv, "dd-jax export")
    asked: dict[str, Any] = {"formats": options.formats or None, "test_file": options.test_file}
    asked["dataset"] = options.dataset
    for written in on_first(lambda: dd_jax.export(options.run, options.out, **asked)) or ():
        if written.path is None:
            print(f"{written.format}: left out. {written.what}")
        else:
            count = f"{written.num_files} file{'s' if written.num_files > 1 else ''}, {written.num_bytes:,} bytes"
            print(f"{written.format}: {written.path} ({count}): {written.what}")
    if options.tiles is not None:
        files = on_first(lambda: dd_jax.save_tiles(options.run, scale=options.tiles)) or ()
        print(f"tiles: {len(files)} pictures without seams in {options.run / 'tiles'}")


def report(argv: Sequence[str]) -> None:
    """dd-jax report DIR [DIR ...]: a page on one run, or on several side by side."""
    from dd_jax.runs.listing import runs_in

    options = parse(Report, argv, "dd-jax report")
    if not options.runs:
        raise OptionError("There is no run to report on. Name at least one run directory: dd-jax report RUN [RUN ...].")
    paths = [run for path in options.runs for run in runs_in(path) or [path]]
    print(dd_jax.report(paths, options.out))


@dataclasses.dataclass(frozen=True)
class Runs:
    """List runs, or compare some: results, best baselines, and the settings that differ."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("runs"),)
    """Folders with runs in them, or run directories. For several run directories the table also has their
    differences."""
    sort: str = "name"
    """Order of the rows: "name", "result" (best first), "validation" or "started"."""


def runs(argv: Sequence[str]) -> None:
    """dd-jax runs [DIR ...]: what runs there are, and what they found."""
    from dd_jax.runs.listing import show_runs

    options = parse(Runs, argv, "dd-jax runs")
    show_runs(options.paths, options.sort)


@dataclasses.dataclass(frozen=True)
class Info:
    """Describe a dataset, a run, networks or experts. Without a name: versions, devices, methods and presets."""

    what: Annotated[str, tyro.conf.Positional] = ""
    """Name of a dataset (see `dd-jax distill --help`), a run directory, a file of pretrained networks, or a folder of
    experts."""
    image_size: int | None = None
    """Resize the images of the dataset to this side while reading."""
    channels: Literal[1, 3] | None = None
    """Make the images of the dataset grey (1) or colour (3)."""
    zca: bool = False
    """Whiten the images of the dataset by ZCA."""
    skip_broken: bool = False
    """Leave out images of the dataset that can't be read."""


def info(argv: Sequence[str]) -> None:
    """dd-jax info [DATASET | RUN]: what there is."""
    from dd_jax.data import describe
    from dd_jax.storage import load_provenance
    from dd_jax.storage.expert_files import INDEX, describe_experts
    from dd_jax.storage.pretrained import describe_networks

    options = parse(Info, argv, "dd-jax info")
    what, form = options.what, dict(vars(options))
    form.pop("what")
    if not what:
        _print_all()
    elif (Path(what) / INDEX).is_file():
        _print_tree(describe_experts(what))
    elif Path(what).is_dir():
        _print_tree({**_described_set(what), **load_provenance(what), **_made_from(Path(what))})
    elif Path(what).is_file():
        _print_tree(describe_networks(dd_jax.load_pretrained(what)))
    else:
        try:
            dataset = dd_jax.load_dataset(what, **form)
        except OptionError as error:
            if ":" in what or "Unknown dataset" not in str(error):
                raise
            raise OptionError(f"There is no file or folder {what} and no dataset of that name. {error}") from error
        _print_tree(describe(dataset))


def _described_set(path: str) -> Mapping[str, Any]:
    """Size, classes, protocol and form of the distilled set at `path`."""
    from dd_jax.evaluation import storage_bytes
    from dd_jax.storage.import_options import needs_step_size

    distilled = dd_jax.load_distilled(path)
    shape, soft = distilled.images.shape[2:], distilled.labels.ndim == 3
    known = distilled.class_names or (distilled.labels.shape[2] if soft else int(distilled.labels.max()) + 1)
    return {
        "set": {
            "size": f"{distilled.num_examples} {distilled.unit}s",
            **({"image_shape": shape} if distilled.unit == "image" else {"features": shape[-1]}),
            "classes": known,
            "labels": "soft" if soft else "classes",
            "protocol": distilled.protocol.name,
            **({"step_sizes": _range_of(distilled.step_sizes)} if needs_step_size(distilled.protocol.name) else {}),
            "transform": getattr(distilled.transform, "kind", None),
            "bytes": storage_bytes(distilled),
        }
    }


def _range_of(step_sizes: Any) -> str:
    low, high = float(step_sizes.min()), float(step_sizes.max())
    return f"{low:.4g}" if low == high else f"{len(step_sizes)}, from {low:.4g} to {high:.4g}"


def _made_from(path: Path) -> Mapping[str, Any]:
    """Where data, networks and code of a run were read from, and what else it was asked for; nothing of a mere set."""
    from dd_jax.runs.directory import read_config

    if not (path / "config.json").is_file():
        return {}
    saved = read_config(path)
    asked = {name: value for name, value in saved["config"].items() if name not in ("method", "model", "dataset")}
    return {**asked, **({"reading": saved["reading"]} if saved["reading"] else {})}


def _print_all() -> None:
    """Versions, devices, networks; methods and presets, one in a line."""
    from dd_jax.presets import PRESETS, told
    from dd_jax.runs.networks import PRETRAININGS
    from dd_jax.runs.provenance import provenance

    _print_tree({**provenance(), "models": list(dd_jax.models.MODELS)})
    print("methods: of dd-jax distill --method NAME")
    width = max(map(len, METHODS))
    for name in METHODS:
        print(f"  {name.replace('_', '-'):{width}}  {_summary(name)}")
    print("presets: of dd-jax distill --preset NAME")
    width = max(map(len, PRESETS))
    for name, experiment in PRESETS.items():
        print(f"  {name:{width}}  {told(name, experiment)}")
    print("pretrain: of dd-jax pretrain --preset NAME")
    width = max(map(len, PRETRAININGS))
    for name, nets in PRETRAININGS.items():
        kind = "experts" if nets.snapshots else "networks"
        print(f"  {name:{width}}  {nets.dataset}: {nets.num_nets} {kind} {nets.model}, {nets.training.epochs} epochs")


def _summary(name: str) -> str:
    """What the method called `name` learns, in a sentence: the first of its docstring."""
    return (inspect.getdoc(getattr(dd_jax.methods, name)) or "").partition("\n")[0]


COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "distill": distill,
    "pretrain": pretrain,
    "estimate": estimate,
    "evaluate": evaluate,
    "train": train,
    "baselines": baselines,
    "export": export,
    "import": import_set,
    "audit": audit_set,
    "score": score,
    "transfer": transfer,
    "report": report,
    "runs": runs,
    "compare": compare_runs,
    "board": board,
    "info": info,
    "apply": apply,
    "completion": lambda argv: completion(argv, COMMANDS),
}


def _print_tree(value: Any, indent: int = 0, name: str = "") -> None:
    if isinstance(value, Mapping):
        if name:
            print(f"{' ' * indent}{name}:")
        for key, item in value.items():
            _print_tree(item, indent + 2 if name else indent, str(key))
    else:
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        print(f"{' ' * indent}{name}: {shown}")
