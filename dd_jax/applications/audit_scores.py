"""DC-BENCH's and DD-Ranking's scores of an audit, in words: with how many networks, and how long these were trained."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from dd_jax.evaluation.lengths import Length, name_of_scores
from dd_jax.outcomes.spread import NO_BREAK, Spread, difference, percent, read_spread

SCORES_TITLE = "Scores as DC-BENCH and DD-Ranking define them, measured here"
SCORES_HEAD = ("score", "value", "n", "training")
SCORES_SAY = (
    "Nothing here is taken from a paper. ± of an accuracy: standard deviation over n networks; of a difference in "
    "points: twice its standard error. Averages and the scores LRS and ARS have no ±. n: networks of each kind, of an "
    "average those under all augmentations."
)

Line: TypeAlias = tuple[str, str, str, str]


def scores_of(scores: Mapping[str, Any]) -> list[Line]:
    """The scores under `SCORES_HEAD`."""
    bench, ranking = (scores.get(name) for name in ("dc-bench", "dd-ranking"))
    return (_bench_lines(bench) if bench else []) + (_ranking_lines(ranking) if ranking else [])


def plain_score(score: Mapping[str, Any]) -> dict[str, Any]:
    """A score for JSON."""
    return {**score, "lengths": {kind: length._asdict() for kind, length in score["lengths"].items()}}


def _bench_lines(bench: Mapping[str, Any]) -> list[Line]:
    lengths: Mapping[str, Length] = bench["lengths"]
    name = name_of_scores("DC-BENCH", *lengths.values())
    of_all = "; ".join(f"{kind}: {length}" for kind, length in lengths.items())
    best = read_spread(bench["by augmentation"][bench["augmentation"]]["distilled"])
    lines = [(f"{name}, best over augmentations", percent(best), f"{best.n:,}", str(lengths[bench["augmentation"]]))]
    for key, kind, words in (
        ("average", "distilled", "average"),
        ("random average", "random real", "random real average"),
    ):
        n = sum(int(both[kind]["n"]) for both in bench["by augmentation"].values())
        lines.append((f"{name}, {words} over augmentations", f"{100 * bench[key]:.1f}{NO_BREAK}%", f"{n:,}", of_all))
    return lines


def _ranking_lines(ranking: Mapping[str, Any]) -> list[Line]:
    lengths: Mapping[str, Length] = ranking["lengths"]
    full, hard, own, random = (read_spread(ranking[name]) for name in ("full", "hard", "distilled", "random_real"))
    small, both = str(lengths["small sets"]), "; ".join(f"{kind}: {length}" for kind, length in lengths.items())
    with_full = name_of_scores("DD-Ranking", *lengths.values())
    without = name_of_scores("DD-Ranking", lengths["small sets"])
    n = f"{own.n:,}"
    lines = [(f"{with_full}, label-robust score (LRS)", f"{ranking['lrs']:.3f}", n, both)]
    if "ars" in ranking:
        lines.append((f"{without}, augmentation-robust score (ARS)", f"{ranking['ars']:.3f}", n, small))
    missing, more = _points(full, hard), _points(own, random)
    lines.append((f"{with_full}, missing to all data, hard labels (HLR)", missing, n, both))
    lines.append((f"{without}, more than random real (IOR)", more, n, small))
    return lines


def _points(ours: Spread, theirs: Spread) -> str:
    gap = difference(ours, theirs)
    noise = "" if gap.noise is None else f" ± {gap.noise:.1f}"
    return f"{gap.points:+.1f}{noise} points".replace(" ", NO_BREAK)
