"""A whole experiment from one record: load, distil, evaluate, compare, draw."""

import ast
import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax

from dd_jax import models
from dd_jax.data import load_dataset
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation import BASELINES, Baseline, Evaluation, evaluate, iterate_baselines
from dd_jax.methods import UnrolledOptions, unrolled
from dd_jax.models import Model
from dd_jax.runs.artefact import load_distilled
from dd_jax.runs.directory import provenance
from dd_jax.runs.files import read_json, write_json
from dd_jax.runs.loop import Run, distill
from dd_jax.runs.processes import on_first
from dd_jax.runs.progress import note, table
from dd_jax.types import Dataset, DistilledData


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment: what is distilled, for which network, how long, and how it is judged."""

    dataset: str = "digits"
    """"digits", a TFDS image set such as "mnist", "folder:PATH" or "npz:PATH"."""
    image_size: int | None = None
    """Resize the images to this side while reading (TFDS sets and folders)."""
    model: str = "mlp:hidden=(64,)"
    """Network, with settings after a colon: "lenet", "mlp:hidden=(64, 64)", "convnet:width=32,depth=2"."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Of the networks' products and activations: "tf32" and "bf16" are for GPUs, faster and rougher."""
    method: UnrolledOptions = dataclasses.field(default_factory=UnrolledOptions)
    """Hyper-parameters of the method."""
    num_outer_steps: int = 1500
    """Updates of the distilled images."""
    seed: int = 0
    """Of everything random in the distillation."""
    out: str | None = None
    """Run directory; the same command with the same directory resumes. None: runs/DATASET-MODEL-INIT."""
    eval_every: int | None = None
    """Outer steps between two looks at validation; None for twenty looks."""
    num_eval_nets: int = 10
    """Networks trained at each look at validation."""
    num_nets: int = 200
    """Held-out networks of the final evaluation, and of each baseline."""
    baselines: bool = True
    """Also measure the baselines under the same protocol."""
    devices: int | None = None
    """Devices (accelerators, or else CPU cores) that share the work of an outer step; None: as many
    as make it faster."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What an experiment found. rows: (name, accuracy mean, std, n, what was chosen on validation), best first."""

    run: Run
    evaluation: Evaluation
    rows: list[tuple[str, Evaluation, str]]


def run_experiment(experiment: Experiment) -> Report:
    """Do it all, or what is left of it, in the experiment's run directory, and print the table.

    Raises what `load_dataset`, `distill` and `evaluate` raise.
    """
    data, model = load(**source(experiment))
    method = unrolled(model, experiment.method)
    out = experiment.out or default_out(experiment)
    note(describe_start(experiment, data, model, out))
    run = distill(
        method,
        data,
        num_steps=experiment.num_outer_steps,
        seed=experiment.seed,
        out=out,
        eval_every=experiment.eval_every,
        num_eval_nets=experiment.num_eval_nets,
        devices=experiment.devices,
        record={"source": source(experiment)},
    )
    note(f"Distilled in {run.seconds:.0f} s, {100 * run.validation:.1f} % on validation. Measuring on test ...")
    report = judge(run.distilled, model, data, experiment.num_nets, BASELINES if experiment.baselines else (), run)
    on_first(lambda: leave(run, report))
    return report


def leave(run: Run, report: Report) -> None:
    """Write the table and the pictures into the run directory."""
    assert run.out is not None
    save_results(run.out / "results.json", report)
    draw(run, report)


def judge(
    distilled: DistilledData, model: Model, data: Dataset, num_nets: int, names: tuple[str, ...], run: Run
) -> Report:
    """The distilled set and the baselines on the test split, printed as one table."""
    found = evaluate(distilled, model, data, num_nets=num_nets)
    rows = [("distilled", found, "")]
    if distilled.protocol.init == "fixed":
        other = evaluate(distilled, model, data, num_nets=num_nets, init="random", num_curve_nets=0)
        rows.append(("distilled, other inits", other, ""))
    for name, baseline in iterate_baselines(distilled, model, data, names=names, num_nets=num_nets):
        rows.append(baseline_row(name, baseline))
        note(f"  {name}: {baseline.evaluation}")
    images = distilled.images.shape[0] * distilled.images.shape[1]
    steps = len(distilled.step_sizes)
    print_table(f"Test accuracy on {data.name}: {images} images, {steps} gradient steps, {model.name}", rows)
    return Report(run, found, rows)


def baseline_row(name: str, baseline: Baseline) -> tuple[str, Evaluation, str]:
    """A baseline as a row of the table."""
    return name, baseline.evaluation, ", ".join(f"{key} {value}" for key, value in baseline.chosen.items())


def print_table(title: str, rows: list[tuple[str, Evaluation, str]]) -> None:
    """The accuracies of `rows` on stdout."""
    cells = [(name, e.percent, str(e.n), chosen) for name, e, chosen in rows]
    table(title, ("training set", "accuracy", "n", "chosen on validation"), cells)


def save_results(path: Path, report: Report) -> None:
    """The table, per network and per class, with where it was measured."""
    rows = {
        name: {
            "mean": e.mean,
            "std": e.std,
            "n": e.n,
            "split": e.split,
            "accuracies": e.accuracies,
            "per_class": e.per_class,
            "curve": e.curve,
            "chosen": chosen,
        }
        for name, e, chosen in report.rows
    }
    distilling = {"seconds": report.run.seconds, "validation": report.run.validation}
    write_json(path, {"results": rows, "distilling": distilling, "made_with": provenance()})


def draw(run: Run, report: Report) -> None:
    """The pictures of a run: its images, its curve, its step sizes."""
    from dd_jax.runs import figures

    assert run.out is not None
    folder = run.out / "figures"
    figures.save_images(folder / "distilled.png", run.distilled)
    means = {name: e.mean for name, e, _ in report.rows if not name.startswith("distilled")}
    figures.save_curve(folder / "accuracy.png", run.history, means)
    figures.save_steps(folder / "step_sizes.png", run.distilled.step_sizes)
    note(f"Pictures, metrics and the distilled set are in {run.out}.")


def source(experiment: Experiment) -> dict[str, Any]:
    """What `load` makes the experiment's data and network from; recorded with a run."""
    return {name: getattr(experiment, name) for name in ("dataset", "model", "image_size", "precision")}


def load(dataset: str, model: str, image_size: int | None = None, precision: str = "float32") -> tuple[Dataset, Model]:
    """The data and the network that their names in an experiment mean."""
    name, settings = parse_model(model)
    data = load_dataset(dataset, image_size=image_size)
    return data, models.with_precision(models.make(name, data, **settings), precision)


def load_run(out: str | Path) -> tuple[DistilledData, Model, Dataset]:
    """What is needed to evaluate the run in `out` again: its distilled set, and its network and data, rebuilt.

    Raises DataError if there is no run, or if its dataset is no longer the one that it was made from.
    """
    path = Path(out)
    distilled = load_distilled(path)
    if not (path / "config.json").is_file():
        raise DataError(f"{path} is not a run directory: it has no config.json.")
    config = read_json(path / "config.json")["config"]
    if "source" not in config:
        raise DataError(f"The run in {path} was made from arrays in memory: evaluate it with dd_jax.evaluate instead.")
    data, model = load(**config["source"])
    if data.fingerprint != config["dataset"]["fingerprint"]:
        raise DataError(
            f"The dataset {data.name!r} is no longer the one that {path} was distilled from "
            f"(fingerprint {data.fingerprint}, then {config['dataset']['fingerprint']})."
        )
    return distilled, model, data


def parse_model(spec: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings in "convnet:width=32,norm='none'"; bare words are strings.

    Raises OptionError if it can't be read.
    """
    name, _, rest = spec.partition(":")
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("not a list of SETTING=VALUE")
        values = {str(k.arg): k.value for k in call.keywords}
        return name, {k: v.id if isinstance(v, ast.Name) else ast.literal_eval(v) for k, v in values.items()}
    except (SyntaxError, ValueError) as error:
        raise OptionError(
            f"Can't read the settings in model {spec!r}: expected NAME or NAME:SETTING=VALUE,..., e.g. "
            "'convnet:width=32,depth=2' or 'mlp:hidden=(64, 64)'."
        ) from error


def default_out(experiment: Experiment) -> str:
    """runs/DATASET-MODEL-INIT."""
    dataset = experiment.dataset.partition(":")[2] if ":" in experiment.dataset else experiment.dataset
    stem = "-".join([Path(dataset).stem, experiment.model.partition(":")[0], experiment.method.init])
    return str(Path("runs") / stem)


def describe_start(experiment: Experiment, data: Dataset, model: Model, out: str) -> str:
    """One line on what is about to happen."""
    method = experiment.method
    images = method.num_steps * method.images_per_class * data.num_classes
    return (
        f"Distilling {len(data.train.labels):,} images of {data.name} into {images} for {model.name} "
        f"({models.num_params(model):,} parameters), {method.num_steps * method.num_epochs} inner steps, "
        f"{method.init} init, on {jax.devices()[0].device_kind}; run directory {out}"
    )
