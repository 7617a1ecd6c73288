"""What to try next: where a set is no better than a baseline, or was chosen by too few images to be chosen well."""

from collections.abc import Mapping
from typing import Any

from dd_jax.outcomes.spread import Spread, difference, known_to, percent
from dd_jax.runs.report.amounts import count, fraction
from dd_jax.runs.report.record import Measured, RunRecord
from dd_jax.runs.report.words import NEIGHBOURS, outcome, own, rivals

_FEW = 300  # images of a split below which an accuracy is known to some points only
_TINY = 100  # of a validation split, below which no choice by it should be trusted
_MORE_IMAGES = (
    "Keep more images for validation: a folder of its own for the split, or validation_fraction in load_dataset."
)


def advised(record: RunRecord) -> list[str]:
    """A sentence or two each; empty where there is nothing to say, or nothing was measured."""
    found = own(record)
    if found is None or not advised_on(record):
        return []
    said = [_few(record, found, "test"), _chosen(record)]
    best = rivals(record)[:1]
    if best and not _better(found.accuracy, best[0].accuracy):
        said += [_no_gain(best[0]), *_options(record)]
    near = max(_neighbours(record), key=lambda row: row.accuracy.mean, default=None)
    if near is not None and _better(near.accuracy, found.accuracy):
        said.append(
            f"Where a classifier is wanted, and not a network: {near.name} takes as many images, no training, and gets "
            f"{percent(near.accuracy)}."
        )
    return [sentence for sentence in said if sentence]


def advised_on(record: RunRecord) -> bool:
    """Whether a run was measured, by accuracy."""
    return own(record) is not None and outcome(record).truthful


def _better(ours: Spread, theirs: Spread) -> bool:
    gap = difference(ours, theirs)
    return gap.real and gap.points > 0


def _neighbours(record: RunRecord) -> list[Measured]:
    return [row for name, row in record.rows.items() if name.startswith(NEIGHBOURS)]


def _few(record: RunRecord, found: Measured, split: str) -> str:
    """Of a split with few images, how far its accuracy is known; the test split of the run is the same for all rows."""
    images = _images(record, split)
    if not 0 < images < _FEW or found.split != split:
        return ""
    known = f"± {100 * known_to(found.accuracy.mean, images):.0f} points"
    return (
        f"The {split} split has {count(images, 'image')}: on others an accuracy may differ by {known}, which no ± here "
        "has in it. Differences below that say little; more images to test on would."
    )


def _chosen(record: RunRecord) -> str:
    """Which of the sets was kept, where that was hardly a choice."""
    if record.best is None:
        return ""
    images, step = _images(record, "validation"), record.best["step"]
    last = max(row["step"] for row in record.validation)
    luck, act = _luck(record)
    said = f"{luck} {_MORE_IMAGES} " if act else ""
    if step == 0 and last > 0:
        start, other = record.setting("method", "init_images"), record.setting("start_from")
        as_it_was = f" (what {other} had learnt)" if other else f" ({start})" if start else ""
        said += (
            f"No validation was better than the first, before any outer step, so the set is as it started{as_it_was}: "
            f"nothing that {'this run' if other else 'was'} learnt is in it. Try a smaller learning rate, or more "
            "outer steps."
        )
    elif step == last and last > 0 and len(record.validation) > 1 and images >= _FEW:
        said += "The last validation was the best one: more outer steps may give more."
    return said.strip()


def chance(record: RunRecord) -> str:
    """How much luck there is in the choice of a run that was measured: how many sets are as good as the best, as far as
    few images can tell; empty where they are many, or where `advised` says it.
    """
    said, act = _luck(record) if advised_on(record) else ("", False)
    return "" if act else said


def _luck(record: RunRecord) -> tuple[str, bool]:
    """The same, and whether something should be done about it."""
    best, validations, images = record.best, record.validation, _images(record, "validation")
    if best is None or len(validations) < 2 or not 0 < images < _FEW:
        return "", False
    accuracy = best["validation"]
    known = known_to(accuracy, images, _networks(best))
    as_good = [row["step"] for row in validations if row["validation"] >= accuracy - known]
    if len(as_good) >= len(validations):
        luck = f"all {len(validations)} validations lie within that, the first one too: which set was kept is luck."
    elif len(as_good) > 1:
        luck = (
            f"{len(as_good)} of {len(validations)} validations lie within that, the first at outer step "
            f"{min(as_good):,}: which of these was kept is luck, that it was one of these is not."
        )
    else:
        luck = "no other validation lies within that."
    said = (
        f"The set was chosen by {count(images, 'validation image')}, on which {fraction(accuracy)} is known to ± "
        f"{100 * known:.0f} points, and {luck}"
    )
    return said, images < _TINY or len(as_good) >= len(validations)


def _networks(row: Mapping[str, Any]) -> Spread | None:
    """What the networks of a validation scatter, where that was recorded."""
    std, nets = row.get("validation_std"), row.get("validation_nets")
    return Spread(row["validation"], std, nets) if isinstance(std, float) and isinstance(nets, int) and nets else None


def _no_gain(rival: Measured) -> str:
    return (
        f"The set is not better than {rival.name}, which costs nothing: take that, or try the following, one at a time."
    )


def _options(record: RunRecord) -> list[str]:
    """Changes of options that this run's method has, and that it didn't use."""
    method = record.setting("method", default={})
    steps = record.num_outer_steps or 0
    tips = [f"More outer steps than {steps:,}, or another learning rate: up to three times larger, or smaller."]
    if method.get("factor") == 1:
        tips.append("Several images stored in each one: factor 2 (IDC), for the same storage.")
    per_class = method.get("images_per_class", 1)
    most = max(per_class) if isinstance(per_class, list) and per_class else per_class
    if method.get("init_images") not in (None, "kmeans") and record.num_images and most > 1:
        tips.append("Images that start as k-means centres: init_images kmeans.")
    if "images_per_class" in method:
        each = ", ".join(map(str, per_class)) if isinstance(per_class, list) else str(per_class)
        tips.append(f"More images of each class than {each}.")
    return tips


def _images(record: RunRecord, split: str) -> int:
    """Images of a split; 0 where that wasn't recorded."""
    sizes = record.about.get("split_sizes")
    found = sizes.get(split) if isinstance(sizes, dict) else None
    return found if isinstance(found, int) else 0
