"""A folder of images of one's own into one image per class, for small ConvNets drawn at random.

Command:   python experiments/own_image_folder.py FOLDER    one folder of images per class, or train/ and test/ of such
           python experiments/own_image_folder.py           scikit-learn's digits, written as PNG files first
Options:   those of dd-jax distill; --smoke to see it run
Result:    the digits: 88.0 +- 1.7 (n=50 networks; class means 79.7 +- 3.1, random images 61.0 +- 7.3; one seed; 4 min
           on one core of an AMD EPYC, others busy, 21 November 2026)
"""

import sys
from pathlib import Path

import numpy as np

import dd_jax as dd
from dd_jax.cli import run_script
from dd_jax.methods import UnrolledOptions
from dd_jax.runs.experiment import Experiment


def write_digits(folder: Path) -> Path:
    """The digits as files folder/train/3/17.png and so on."""
    from PIL import Image

    digits = dd.load_dataset("digits")
    for part in ("train", "validation", "test"):
        images, labels = getattr(digits, part)
        pixels = np.asarray(255 * dd.to_pixels(digits.transform, images)[..., 0] + 0.5).astype(np.uint8)
        for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            file = folder / part / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    return folder


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:2] if not word.startswith("-")]
    digits, asked = Path("runs/own-images/digits"), {"-h", "--help"} & set(sys.argv)
    folder = given[0] if given else digits if asked else write_digits(digits)
    experiment = Experiment(
        dataset=f"folder:{folder}",
        image_size=16,
        model="convnet:width=16,depth=2",
        method=UnrolledOptions(num_batches=1, num_epochs=5, num_inits=2, batch_size=128, init_step_size=0.1),
        num_outer_steps=500,
        num_nets=50,
        out=f"runs/own-{folder.resolve().name}",
    )
    sys.exit(run_script(experiment, paper=experiment, argv=sys.argv[1 + len(given) :]))
