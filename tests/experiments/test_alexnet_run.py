"""AlexNet from a weight file in torchvision's layout, on images of 224 pixels: from the command to the run."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import dd_jax as dd
from dd_jax.cli import main

SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def gratings(labels, generator):
    """Stripes, of another frequency for each class."""
    y, x = np.mgrid[:224, :224] / 224
    waves = [np.sin(2 * np.pi * (6 + 8 * c) * x + generator.uniform(0, 6)) + 0 * y for c in labels]
    return np.uint8(128 + 90 * np.stack(waves)[..., None] * generator.uniform(0.3, 1, (len(labels), 1, 1, 3)))


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
def test_alexnet_learns_from_one_image_per_class(tmp_path):
    generator, labels = np.random.default_rng(0), np.arange(12) % 2
    np.savez(tmp_path / "gratings.npz", images=gratings(labels, generator), labels=labels)
    state = {
        f"{name}.weight": generator.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        for name, shape in SHAPES.items()
    }
    save_file(state | {f"{n}.bias": np.zeros(s[0], np.float32) for n, s in SHAPES.items()}, tmp_path / "alexnet.pth")
    out = tmp_path / "run"
    argv = ["--dataset", f"npz:{tmp_path / 'gratings.npz'}", "--model", "alexnet", "--init", "fixed"]
    argv += ["--num-batches", "1", "--num-epochs", "2", "--remat", "none"]
    argv += ["--pretrained", str(tmp_path / "alexnet.pth"), "--batch-size", "2", "--init-step-size", "0.001"]
    argv += ["--init-images", "mean", "--augment", "resized_crop_flip", "--num-outer-steps", "1", "--num-nets", "1"]
    assert main(["distill", *argv, "--no-baselines", "--out", str(out)]) == 0
    (tmp_path / "alexnet.pth").unlink()
    row = json.loads((out / "results.json").read_text())["results"]["distilled"]
    assert row["n"] == 1
    assert row["curve"][0][0] == pytest.approx(0.5), "an empty head takes everything for one class"
    distilled = dd.load_distilled(out)
    assert distilled.images.shape == (1, 2, 224, 224, 3)
    kept = dd.load_pretrained(out / "networks.safetensors")
    assert kept.fingerprint == distilled.protocol.pretrained
    assert not kept.read("train", 0, 1)["Dense_2"]["kernel"].any()
