"""Published scores of a distilled set, and its use on other networks: measured, kept as json, and shown as tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dd_jax.errors import OptionError
from dd_jax.evaluation import DCBench, DDRanking, Evaluation, Transfer, cross_architecture, dc_bench, dd_ranking
from dd_jax.evaluation.baselines import networks_to_train
from dd_jax.evaluation.embeddings import passes
from dd_jax.evaluation.lengths import Length, length_of, name_of_scores
from dd_jax.evaluation.protocols import minibatches
from dd_jax.evaluation.transfer import Compared
from dd_jax.inner import Training
from dd_jax.models import Model
from dd_jax.runs.judging import watching
from dd_jax.runs.load_run import load_set, made, protocol_named
from dd_jax.runs.processes import on_first
from dd_jax.runs.progress import note, table
from dd_jax.storage.files import disk_errors, write_json
from dd_jax.types import Dataset, DistilledData

SCORES, TRANSFER = "scores.json", "transfer.json"

Plain = dict[str, Any]  # for json: accuracies as fractions, each with mean, std and n


def score(
    path: Path,
    *,
    others: Sequence[str],
    augments: Sequence[str] | None,
    rates: Sequence[float],
    num_nets: int,
    num_sets: int,
    epochs: int | None,
    dataset: str | None = None,
    model: str | None = None,
    full_training: Training | None = None,
    out: Path | None = None,
) -> Plain:
    """DC-BENCH's and DD-Ranking's scores of a set, in a json and as tables; raises what these and `load_set` raise.

    Args:
        path: run directory, or a distilled set from elsewhere.
        others: networks for the transfer average.
        augments: the last one is that of DD-Ranking; None for none and "dsa", without mirrors where the set's protocol
            has none.
        rates: learning rates, of which validation chooses in DD-Ranking.
        epochs: in place of those of the protocols.
        out: the json; None for scores.json beside the set.
    """
    distilled, own, data, _ = load_set(path, dataset, model)
    if augments is None:
        augments = ("none", "dsa_no_flip" if distilled.protocol.name.endswith("-digits") else "dsa")
    networks = {name: made(name, data) for name in others}
    rounds = len(augments) * (3 if len(augments) > 1 else 2) + 2 * len(networks)
    kinds = ranked_kinds(distilled)
    total = num_nets * (rounds + 1 + kinds * (1 + (len(rates) if len(rates) > 1 else 0)))
    counts: dict[str, Any] = {"num_nets": num_nets, "num_sets": num_sets}
    training = minibatches("dc")
    training = dataclasses.replace(training, epochs=epochs or training.epochs)
    of_bench = bench_lengths(augments, distilled, epochs)
    with watching(total) as about:
        about("DC-BENCH")
        bench = dc_bench(distilled, own, data, others=networks, augments=augments, epochs=epochs, **counts)
        called = name_of_scores("DC-BENCH", *of_bench.values())
        note(f"  {called}: best {_percent(bench.best)}, average {_percent(bench.average)}")
        about("DD-Ranking")
        counts |= {"training": training, "full_training": full_training, "augment": augments[-1], "rates": rates}
        ranking = dd_ranking(distilled, own, data, **counts)
    whole = passes(data)
    full = Length(whole if full_training is None else full_training.epochs, whole)
    of_ranking = ranking_lengths(distilled, epochs, full)
    found = {
        "storage_bytes": bench.num_bytes,
        "dc-bench": {**plain_bench(bench), "lengths": plain_lengths(of_bench)},
        "dd-ranking": {**plain_ranking(ranking), "lengths": plain_lengths(of_ranking)},
    }
    kept = _keep(found, out or _beside(path, SCORES))
    _show_bench(bench, of_bench, own, distilled, data)
    _show_ranking(ranking, of_ranking)
    note(f"The scores are in {kept}.")
    return found


def bench_lengths(augments: Sequence[str], distilled: DistilledData, epochs: int | None) -> dict[str, Length]:
    """How long DC-BENCH's networks are trained, by augmentation. epochs: in place of those of its protocols."""
    protocols = {augment: "dc" if augment == "none" else "dc-bench" for augment in augments}
    return {kind: length_of(name, distilled, distilled.num_examples, epochs) for kind, name in protocols.items()}


def ranking_lengths(distilled: DistilledData, epochs: int | None, full: Length) -> dict[str, Length]:
    """How long DD-Ranking's networks are trained. epochs: in place of those on small sets; full: on all data."""
    return {"small sets": length_of("dc", distilled, distilled.num_examples, epochs), "all data": full}


def plain_lengths(lengths: Mapping[str, Length]) -> Plain:
    """Lengths of trainings for a json."""
    return {kind: length._asdict() for kind, length in lengths.items()}


def ranked_kinds(distilled: DistilledData) -> int:
    """Trainings that DD-Ranking compares; of soft labels also that on the hard ones."""
    return 5 if distilled.labels.ndim == 3 else 4


def transfer(
    path: Path,
    *,
    models: Sequence[str],
    protocol: str | None,
    num_nets: int,
    num_sets: int,
    epochs: int | None,
    dataset: str | None = None,
    out: Path | None = None,
) -> Plain:
    """A set on other networks than its own, beside random real images, in a json and as a table.

    Raises what `cross_architecture` and `load_set` raise.

    Args:
        path: run directory, or a distilled set from elsewhere.
        models: networks, with settings after a colon, besides the one that a run was distilled for.
        protocol: how they are trained, by name; None for the set's own; epochs: in place of its own.
        out: the json; None for transfer.json beside the set.
    """
    has_run = (path / "config.json").is_file()
    if not models:
        raise OptionError(
            "No network is named. Name at least one with --models, such as mlp or convnet:width=32,depth=2."
        )
    distilled, own, data, _ = load_set(path, dataset, None if has_run else models[0])
    networks = {**({_name(own): own} if has_run else {}), **{name: made(name, data) for name in models}}
    how = protocol_named(protocol or (distilled.protocol.name if epochs else None), epochs)
    options: dict[str, Any] = {"names": ["random real"], "num_nets": num_nets, "protocol": how}
    random = [networks_to_train(distilled, network, data, **options)["random real"] for network in networks.values()]
    with watching(num_nets * len(networks) + sum(random)) as about:
        about("transfer")
        found = cross_architecture(distilled, networks, data, protocol=how, num_nets=num_nets, num_sets=num_sets)
    name = protocol or distilled.protocol.name
    length = length_of(name, distilled, distilled.num_examples, epochs)
    plain = {
        "storage_bytes": found.num_bytes,
        "own network": _name(own) if has_run else None,
        "protocol": name,
        "length": length._asdict(),
        **plain_transfer(found),
    }
    kept = _keep(plain, out or _beside(path, TRANSFER))
    title = f"Test accuracy on {data.name}: {distilled.num_examples} {distilled.unit}s on {len(networks)} networks, "
    title += f"{name!r}, {length}"
    results = found.results.items()
    rows = [(name, both.distilled.both_means, both.random_real.both_means, both.distilled.n) for name, both in results]
    average = ("average of the networks", _percent(found.mean), _percent(found.random_mean), len(rows))
    table(title, ("network", "distilled", "random real", "n"), [*rows, average])
    note(f"The table is in {kept}.")
    return plain


def plain_bench(bench: DCBench) -> Plain:
    """DC-BENCH's scores for a json."""
    other = bench.transfer
    return {
        "best": bench.best,
        "average": bench.average,
        "random average": bench.random_average,
        "augmentation": bench.chosen,
        "transfer average": None if other is None else other.mean,
        "random transfer average": None if other is None else other.random_mean,
        "by augmentation": _both(bench.results),
        "by network": {} if other is None else _both(other.results),
    }


def plain_ranking(ranking: DDRanking) -> Plain:
    """DD-Ranking's scores for a json, and what they are made of."""
    parts = ("full", "hard", "distilled", "random_real", "distilled_augmented", "random_augmented")
    scores = {name: getattr(ranking, name) for name in ("lrs", "ars", "hlr", "ior", "rates")}
    return {**scores, **{name: _of(getattr(ranking, name)) for name in parts}}


def plain_transfer(found: Transfer) -> Plain:
    """A transfer for a json."""
    return {"average": found.mean, "random average": found.random_mean, "by network": _both(found.results)}


def _of(found: Evaluation) -> Plain:
    return {"mean": found.mean, "std": found.std, "n": found.n, "balanced": found.balanced}


def _both(results: Mapping[str, Any]) -> Plain:
    return {name: {"distilled": _of(own), "random real": _of(random)} for name, (own, random) in results.items()}


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _name(model: Model) -> str:
    return f"{model.name} (its own)"


def _beside(path: Path, name: str) -> Path:
    return (path if path.is_dir() else path.parent) / name


def _keep(found: Plain, out: Path) -> Path:
    def write() -> None:
        with disk_errors("save the scores", out):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_json(out, found)

    on_first(write)
    return out


def _show_bench(
    bench: DCBench, lengths: Mapping[str, Length], model: Model, distilled: DistilledData, dataset: Dataset
) -> None:
    rows: list[tuple[Any, ...]] = []

    def add(name: str, found: Compared, length: Length, said: str) -> None:
        both = found.distilled.both_means, found.random_real.both_means
        rows.append((name, *both, found.distilled.n, str(length), said))

    for name, found in bench.results.items():
        add(f"{model.name}, {name}", found, lengths[name], "best on validation" if name == bench.chosen else "")
    for name, found in ({} if bench.transfer is None else bench.transfer.results).items():
        add(f"{name}, {bench.chosen}", found, lengths[bench.chosen], "transfer")
    averages = _percent(bench.average), _percent(bench.random_average)
    rows.append(("average over augmentations", *averages, len(bench.results), "", ""))
    if bench.transfer is not None:
        averages = _percent(bench.transfer.mean), _percent(bench.transfer.random_mean)
        rows.append(("transfer average", *averages, len(bench.transfer.results), "", ""))
    title = f"{name_of_scores('DC-BENCH', *lengths.values())}, on {dataset.name}: {distilled.num_examples} "
    title += f"{distilled.unit}s, {bench.num_bytes:,} bytes"
    table(title, ("network, augmentation", "distilled", "random real", "n", "training", ""), rows)


def _show_ranking(ranking: DDRanking, lengths: Mapping[str, Length]) -> None:
    full = "all training images"
    parts = {
        full: ranking.full,
        "distilled, hard labels": ranking.hard,
        "distilled": ranking.distilled,
        "random real": ranking.random_real,
        "distilled, augmented": ranking.distilled_augmented,
        "random real, augmented": ranking.random_augmented,
    }
    scores = f"LRS {ranking.lrs:.3f}, ARS {ranking.ars:.3f}, HLR {_percent(ranking.hlr)}, IOR {_percent(ranking.ior)}"
    rows = [
        (name, found.both_means, found.n, str(lengths["all data" if name == full else "small sets"]))
        for name, found in parts.items()
    ]
    title = f"{name_of_scores('DD-Ranking', *lengths.values())}: {scores}"
    table(title, ("trained on", "accuracy", "n", "training"), rows)
