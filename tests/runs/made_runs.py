"""Run directories as a run leaves them, made without running anything."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from dd_jax.storage.artefact import save_distilled
from dd_jax.storage.files import write_json
from dd_jax.types import DistilledData, Protocol, Transform

DIGITS = tuple("0123456789")


def row(mean: float, std: float = 0.01, n: int = 20, num_classes: int = 10, **more: Any) -> dict[str, Any]:
    """A row of the results: n accuracies of exactly this mean and standard deviation (n even, or 1)."""
    accuracies = [mean] if n == 1 else [mean - std, mean + std] * (n // 2)
    spread = np.linspace(-0.04, 0.04, num_classes) if num_classes > 1 else np.zeros(1)
    return {
        "mean": mean,
        "std": float(np.std(accuracies)),
        "n": len(accuracies),
        "split": "test",
        "accuracies": accuracies,
        "per_class": np.clip(mean + spread, 0, 1),
        "curve": [],
        "chosen": "",
        **more,
    }


def attacked(success: float, others: float, n: int = 20, std: float = 0.05) -> dict[str, Any]:
    """A row of the results of an attack."""

    def around(mean: float) -> list[float]:
        return [mean] if n == 1 else [mean - std, mean + std] * (n // 2)

    both = {"success": around(success), "others": around(others), "fooled": around(0.9 * others + 0.1 * success)}
    return row(0.9 * others, n=n, attacked=both)


RESULTS: Mapping[str, dict[str, Any]] = {
    "distilled": row(0.9),
    "random real": row(0.6, 0.05, chosen="step_size 0.5"),
    "class mean": row(0.8, 0.02, chosen="step_size 0.1"),
    "k-NN random": row(0.65, 0.03, n=10, chosen="k 1, p 2"),
}


def confusion(num_classes: int, seed: int = 0) -> np.ndarray:
    """Rows that sum to one, with most on the diagonal."""
    drawn = np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.3), num_classes)
    return 0.85 * np.eye(num_classes) + 0.15 * drawn


def make_run(
    path: Path,
    results: Mapping[str, Mapping[str, Any]] | None = RESULTS,
    *,
    classes: Sequence[str] = DIGITS,
    num_batches: int = 2,
    num_epochs: int = 2,
    shape: tuple[int, int, int] = (8, 8, 1),
    protocol: Protocol = Protocol(),  # noqa: B008 (frozen)
    distilled: bool = True,
    dataset: str = "digits",
    model: str = "mlp",
    pretrained: str | None = None,
    outer_steps: tuple[int, int] = (100, 100),
    events: Sequence[Mapping[str, Any]] = (),
    frames: int = 0,
    memory: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    split_sizes: Mapping[str, int] | None = None,
    best: int | None = None,
) -> Path:
    """A run directory with these contents.

    outer_steps: those done and those asked for. results: None if unfinished. options: of the method. best: the outer
    step of the highest validation, the last one if None.
    """
    random, (done, asked) = np.random.default_rng(seed), outer_steps
    method = {
        "name": "unrolled", "num_batches": num_batches, "num_epochs": num_epochs, "images_per_class": 1,
        "init": protocol.init, "attack_class": None, "target_class": None, **(options or {}),
    }  # fmt: skip
    about = {
        "method": method,
        "model": {"name": model, "hidden": [64]},
        "dataset": {"name": dataset, "fingerprint": f"{abs(len(dataset)) % 10}" * 16},
    }
    asked_for = {"num_outer_steps": asked, "seed": seed, "eval_every": 20, "num_eval_nets": 10}
    source = {"source": {"dataset": dataset, "model": model, "pretrained": pretrained}}
    made_with = {
        "dd_jax": "0.1.0", "jax": "0.10.2", "python": "3.11.7", "device": "cpu", "num_devices": 1,
        "revision": "0123abcd+dirty", "argv": ["dd-jax", "distill", "--out", "a b"], "started": "2026-11-21",
    }  # fmt: skip
    write_json(path / "config.json", {"config": about | asked_for | source, "provenance": made_with})
    metrics: list[dict[str, Any]] = []
    for step in range(0, done + 1, 20):
        rate = 1 - 0.6 * np.exp(-step / 25)
        metrics += [{"step": s, "loss": 2.2 / (1 + 0.2 * s)} for s in range(max(1, step - 15), step + 1, 5)]
        validation = {
            "step": step,
            "validation": 0.95 if step == best else 0.91 * rate,
            "validation_std": 0.02,
            "validation_nets": 10,
            "seconds": step / 2,
        }
        metrics.append(validation | ({} if memory is None else {"memory": memory}))
    metrics += events
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in sorted(metrics, key=lambda m: m["step"]))
    )
    height, width, channels = shape
    images = random.normal(size=(num_batches, len(classes), *shape))
    if distilled:
        made = DistilledData(
            {"images": jnp.asarray(images, jnp.float32)},
            labels=jnp.tile(jnp.arange(len(classes), dtype=jnp.int32), (num_batches, 1)),
            step_sizes=jnp.linspace(0.5, 0.1, num_batches * num_epochs),
            transform=Transform("standardise", {"mean": jnp.full(channels, 0.5), "std": jnp.full(channels, 0.2)}),
            class_names=tuple(classes),
            protocol=protocol,
        )
        known = {
            "validation": {"accuracy": 0.9, "nets": 10, "step": done if best is None else best},
            "outer_steps_done": done,
        }
        known |= {} if split_sizes is None else {"split_sizes": split_sizes}
        save_distilled(path / "distilled", made, about | known)
    if results is not None:
        distilling = {"seconds": done / 2, "validation": 0.9, "memory": memory}
        write_json(path / "results.json", {"results": results, "distilling": distilling, "made_with": made_with})
    for frame in range(frames):
        sheet = random.uniform(0, 255, (num_batches * height, len(classes) * width)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        (path / "figures" / "evolution").mkdir(parents=True, exist_ok=True)
        (path / "figures" / "evolution" / f"step_{20 * frame:08d}.png").write_bytes(buffer.getvalue())
    return path
