"""What runs of two methods should have in common to be compared, and don't."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dd_jax.errors import OptionError
from dd_jax.evaluation import storage_bytes
from dd_jax.runs.listing import differences
from dd_jax.runs.report import words
from dd_jax.runs.report.record import RunRecord


def check_datasets(records: Sequence[RunRecord], names: Sequence[str]) -> None:
    """OptionError where two methods with these names are on different data.

    The same images in another form, such as another size, are no other data.
    """
    datasets = [words.dataset(record) for record in records]
    prints = [record.setting("dataset", "fingerprint") for record in records]
    forms = [_form(record) for record in records]
    if datasets[0] != datasets[1]:
        told = datasets
    elif prints[0] != prints[1] and forms[0] == forms[1]:
        told = [f"{datasets[0]} with the fingerprint {one}" for one in prints]
    else:
        return
    raise OptionError(
        f"Methods should be compared on the same dataset, but {names[0]} is of {told[0]} and {names[1]} of {told[1]}. "
        "Name runs of one dataset."
    )


def same_networks(ours: RunRecord, theirs: RunRecord) -> bool:
    """Whether networks of the same number have the same initial weights and are trained by the same protocol."""
    return ours.config.get("model") == theirs.config.get("model") and all(
        found(ours) == found(theirs) for found in (_protocol, _form)
    )


def unlike(ours: RunRecord, theirs: RunRecord) -> tuple[str, ...]:
    """What two methods differ in and should have in common, with both values, a part of a sentence each."""
    records = (ours, theirs)
    protocols = [_protocol(record) for record in records]
    protocol = {
        name: [str(each[name]) for each in protocols]
        for name in protocols[0]
        if all(protocols) and protocols[0][name] != protocols[1][name]
    }
    model = {
        name.removeprefix("model."): values
        for name, values in differences(records).items()
        if name.startswith("model.")
    }
    return (*_settings("the protocol", protocol), *_settings("the network", model), *_amounts(*records))


def _settings(what: str, differing: Mapping[str, Sequence[str]]) -> list[str]:
    """Settings that differ; of those with another name this alone, as each has settings of its own."""
    if "name" in differing:
        return [f"{what} ({' and '.join(differing['name'])})"]
    told = ", ".join(f"{name} {' and '.join(values)}" for name, values in differing.items())
    return [f"{what} ({told})"] if told else []


def _amounts(*records: RunRecord) -> list[str]:
    """Forms and numbers that differ, where both are known."""
    unit = f"{records[0].unit}s"
    found = {
        f"the form of the {unit}": [_form(record) for record in records],
        "the number of training steps": [_number(record.num_inner_steps) for record in records],
        f"the number of {unit}": [_number(record.num_images) for record in records],
        "the number of bytes": [_number(_bytes(record)) for record in records],
    }
    return [
        f"{what} ({one} and {other})"
        for what, (one, other) in found.items()
        if one != other and one is not None and other is not None
    ]


def _number(amount: int | None) -> str | None:
    return None if amount is None else f"{amount:,}"


def _bytes(record: RunRecord) -> int | None:
    return None if record.distilled is None else storage_bytes(record.distilled)


def _protocol(record: RunRecord) -> dict[str, Any]:
    """The protocol of a set; nothing where the set is gone."""
    return {} if record.distilled is None else dataclasses.asdict(record.distilled.protocol)


def _form(record: RunRecord) -> str | None:
    """The transform and shape of images; None where the set is gone."""
    if record.distilled is None:
        return None
    kind = getattr(record.distilled.transform, "kind", "as they are")
    return f"{kind}, {' x '.join(map(str, record.distilled.shape_of_images.shape[2:]))}"
