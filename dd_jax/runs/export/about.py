"""What a dataset card tells: what the set is, which network it is for and how it is used, and what it reaches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dd_jax.evaluation import in_percent, training_of
from dd_jax.evaluation.result import MEAN_OF_CLASSES, unbalanced
from dd_jax.inner import ADAM_BETAS, EPSILON, RMSPROP_DECAY
from dd_jax.outcomes import ACCURACIES, ACCURACY, Card, Outcome, outcome_of, read_recorded
from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.words import code, count, in_words
from dd_jax.runs.places import KINDS

_ORIGINS = {
    "noise": "noise",
    "real": "real training images, which they may still show",
    "mean": "the means of the classes with noise",
    "kmeans": "centres of clusters (k-means) of the real training images",
    "herding": "real training images chosen by herding, which they may still show",
}

_RULES = {
    "sgd": "plain gradient descent",
    "momentum": "gradient descent with a learnt momentum for each step,",
    "adam": f"Adam with the decays {ADAM_BETAS[0]} and {ADAM_BETAS[1]} and epsilon {EPSILON}",
    "rmsprop": f"RMSprop with the decay {RMSPROP_DECAY} and epsilon {EPSILON}",
}


def title(contents: Contents) -> str:
    """The set in a few words."""
    return f"{source(contents)} distilled into {count(contents.classes.size, 'image')}"


def source(contents: Contents) -> str:
    """The name of the real data, without the folders that it lay in."""
    name = known(contents, "dataset").get("name") or "a dataset"
    kind, _, path = name.partition(":")
    return path.rstrip("/").rpartition("/")[2] or "a dataset" if kind in KINDS and path else name


def known(contents: Contents, what: str) -> dict[str, Any]:
    """What the artefact says of where it came from, under a name; empty if it says nothing."""
    found = contents.meta["provenance"].get(what)
    return dict(found) if isinstance(found, Mapping) else {}


def about(contents: Contents) -> str:
    """The first section: what the set is."""
    steps, batch, height, width, channels = contents.pixels.shape
    sizes, protocol = contents.arrays["step_sizes"], contents.distilled.protocol
    epochs = sizes.size // steps
    kind = "soft labels" if contents.soft else "hard labels"
    method = known(contents, "method").get("name")
    card = Card(
        images=count(contents.classes.size, "synthetic image"),
        source=source(contents),
        method=f" by the method {code(method)}" if method else "",
        training=_trained(contents),
        class_names=[code(name) for name in contents.class_names],
    )
    lines = [
        outcome_of(protocol).card(card) + _origin(contents),
        "",
        f"- **Images**: {height} x {width}, {count(channels, 'channel')}, "
        f"{count(len(contents.class_names), 'class')}, {kind}.",
        f"- **Network**: {_network(contents)}.",
        f"- **Starts from**: {_start(contents)}.",
        f"- **Protocol**: {code(protocol.name)}: {_protocol(contents, steps, batch, epochs)}.",
        f"- **Storage**: {_storage(contents)}.",
    ]
    return "\n".join(lines)


def _origin(contents: Contents) -> str:
    start = _ORIGINS.get(str(known(contents, "method").get("init_images")))
    return f" They started as {start}." if start else ""


def _network(contents: Contents) -> str:
    settings = known(contents, "model")
    if not settings:
        return "not recorded"
    name = settings.pop("name", "not recorded")
    return code(name) + (f" ({', '.join(f'{k} {v}' for k, v in settings.items())})" if settings else "")


def _start(contents: Contents) -> str:
    protocol = contents.distilled.protocol
    if protocol.pretrained:
        networks = contents.source.get("pretrained")
        called = f" {code(str(networks).rpartition('/')[2])}" if networks else ""
        which = f"number {protocol.init_seed} of the" if protocol.init == "fixed" else "any of the"
        return f"{which} pretrained networks{called} with the fingerprint {code(protocol.pretrained)}"
    if protocol.init == "fixed":
        return f"one known network, that of seed {protocol.init_seed} in dd_jax, and no other"
    return "networks with random weights"


def _protocol(contents: Contents, steps: int, batch: int, epochs: int) -> str:
    passes = "once" if epochs == 1 else f"{epochs} times"
    training = training_of(None, contents.distilled)
    if training is not None:
        return in_words(training)
    sizes = contents.arrays["step_sizes"]
    batches = "one batch" if steps == 1 else f"{steps} batches in their order, each"
    order = f"{batches} of {count(batch, 'image')}, gone through {passes}, with a learnt step size for each step"
    if contents.random_order:
        order = f"{count(steps * epochs, 'step')}, each on {batch} of all images, drawn at random"
    size = f"step sizes from {sizes.max():.3g} to {sizes.min():.3g}"
    rule = _RULES[contents.distilled.protocol.rule]
    if "momenta" in contents.arrays:
        momenta = contents.arrays["momenta"]
        rule += f" from {momenta.min():.2g} to {momenta.max():.2g}"
    return f"{order}; {size}, {rule} on the cross-entropy"


def _trained(contents: Contents) -> str:
    if contents.distilled.protocol.from_scratch:
        return "is trained"
    return f"takes {count(contents.arrays['step_sizes'].size, 'gradient step')}"


def _storage(contents: Contents) -> str:
    sizes = contents.num_bytes
    total = sum(number for name, number in sizes.items() if name != "pixels")
    momenta = f" and {sizes['momenta']:,} of momenta" if "momenta" in sizes else ""
    return (
        f"{total:,} bytes train a network: {sizes['images']:,} of images (float32), {sizes['labels']:,} of labels, "
        f"{sizes['step_sizes']:,} of step sizes{momenta}. As 8-bit pixels the images are {sizes['pixels']:,} bytes, "
        "and not the same (see below)"
    )


def accuracy(contents: Contents) -> str:
    """The section on accuracy: the table of the run, and validation."""
    text = ["## Accuracy", ""]
    results = {row: found for row, found in contents.results.items() if "mean" in found}
    if results:
        splits = sorted({str(found["split"]) for found in results.values()})
        text += [
            f"Measured on the {' and '.join(splits)} split of {source(contents)}, in per cent: mean ± standard "
            "deviation over n networks (of nearest neighbours, sets). Below the rows of the distilled set are its "
            "baselines: as many real images under the same protocol, with what validation chose; nearest neighbours "
            "that need no network; and, where it is there, the full training set.",
            "",
            *_table(results, outcome_of(contents.distilled.protocol)),
        ]
    else:
        text.append("Not measured on test.")
    validation, protocol = known(contents, "validation"), contents.distilled.protocol
    if validation.get("accuracy", -1) >= 0:
        networks = 1 if protocol.init == "fixed" else validation.get("nets", "?")
        counted = outcome_of(protocol).counted
        counted = f" ({counted})" if counted else ""
        text += [
            "",
            f"On validation{counted} it reached {100 * validation['accuracy']:.1f} % (n={networks}). It was chosen "
            "there, so that is too high an estimate for new data.",
        ]
    return "\n".join(text)


def _table(results: Mapping[str, Mapping[str, Any]], outcome: Outcome) -> list[str]:
    if not any(read_recorded(found) for found in results.values()):
        outcome = ACCURACY
    heads = [column.head for column in outcome.columns]
    also = outcome == ACCURACY and any(_is_unbalanced(found) for found in results.values())
    heads += [MEAN_OF_CLASSES] if also else []
    lines = [f"| training set | {' | '.join(heads)} | n | chosen on validation |", "|---" * (len(heads) + 3) + "|"]
    for name, found in results.items():
        cells = [_cell(column.key, found) for column in outcome.columns]
        cells += [f"{100 * found['balanced']:.1f}" if _is_unbalanced(found) else ""] if also else []
        shown = f"**{name}**" if name == "distilled" else name
        lines.append(f"| {shown} | {' | '.join(cells)} | {found['n']} | {found.get('chosen') or ''} |")
    return lines


def _is_unbalanced(found: Mapping[str, Any]) -> bool:
    """Whether a row was measured on far more images of some classes than of others."""
    return found.get("counts") is not None and "balanced" in found and unbalanced(np.asarray(found["counts"]))


def _cell(key: str, found: Mapping[str, Any]) -> str:
    """A measure of a row; empty where the row doesn't have it."""
    if key == ACCURACIES:
        spread = f" ± {100 * found['std']:.1f}" if found["n"] > 1 else ""
        return f"{100 * found['mean']:.1f}{spread}"
    measures = read_recorded(found)
    return in_percent(np.array(measures[key])) if key in measures else ""
