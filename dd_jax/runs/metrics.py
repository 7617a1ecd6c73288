"""The rows of a run's metrics."""

from typing import Any

import jax
import numpy as np

from dd_jax.evaluation import Evaluation


def validation_metrics(step: int, found: Evaluation, seconds: float, memory: int | None) -> dict[str, Any]:
    """What a validation found: "validation" is the score, and its outcome may record more.

    Args:
        seconds: spent so far.
        memory: peak so far, in bytes.
    """
    outcome, values = found.outcome, found.values[found.outcome.score]
    return {
        "step": step,
        "validation": float(values.mean()),
        "validation_std": float(values.std()),
        "validation_nets": found.n,
        **{name: float(found.values[measure].mean()) for name, measure in outcome.metrics},
        "seconds": round(seconds, 3),
        **({} if memory is None else {"memory": memory}),
    }


def training_metrics(step: int, pending: list[Any], every: int) -> list[dict[str, Any]]:
    """Infos of the outer steps up to `step`, averaged over windows of about `every`."""
    if not pending:
        return []
    infos = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pending)
    count = len(infos.loss)
    windows = np.array_split(np.arange(count), max(1, round(count / every)))
    first = step - count
    fields = infos._asdict()
    return [
        {"step": int(first + w[-1] + 1), **{name: float(np.mean(value[w])) for name, value in fields.items()}}
        for w in windows
    ]


def rollback_metrics(step: int, rollbacks: int, text: str) -> dict[str, Any]:
    """That the run went back to `step`, for which time, and why."""
    return {"step": step, "event": "rolled back", "rollbacks": rollbacks, "text": text}
