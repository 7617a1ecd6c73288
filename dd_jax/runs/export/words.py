"""Words for a dataset card: escaped for YAML, Markdown and Python."""

from typing import Any

from dd_jax.inner import Regression, Training


def quoted(text: str) -> str:
    """A YAML string in double quotes, whatever it is made of."""

    def escaped(c: str) -> str:
        if c in '"\\':
            return "\\" + c
        if c.isprintable():
            return c
        return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def code(text: Any) -> str:
    """`text` as code in Markdown, in one line."""
    line = " ".join(str(text).replace("`", "'").split())
    return f"`{line}`"


def literal(text: str) -> str:
    """`text` as a string of Python."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "2 images", "2 classes"."""
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"


def changes(training: Training) -> str:
    """What a training does to its images; empty if nothing."""
    return " and ".join([training.augment] * (training.augment != "none") + ["cutmix"] * training.cutmix)


def in_words(training: Training | Regression) -> str:
    """A training from scratch, as a card tells of it."""
    if isinstance(training, Regression):
        return f"kernel ridge regression on centred labels with the regulariser {training.regulariser:g}"
    rate = f"at a rate of {training.learning_rate:.3g}" + " of the largest stable one" * training.relative
    if training.schedule == "drops":
        after = " and ".join(f"{drop * training.epochs:.0f}" for drop in training.drops)
        rate += f", times {training.drop_factor:g} after {after} epochs"
    elif training.schedule != "constant":
        rate += f" ({training.schedule})"
    how = f"gradient descent with momentum {training.momentum:g}" if training.optimiser == "sgd" else "Adam"
    parts = [f"{how} {rate}"]
    if training.weight_decay:
        parts.append(f"weight decay {training.weight_decay:g}")
    if changed := changes(training):
        parts.append(f"the augmentation {code(changed)}")
    length = count(training.epochs, "epoch") if training.steps is None else count(training.steps, "step")
    loss = "cross-entropy" if training.loss == "cross_entropy" else "squared error from centred labels"
    return f"{length} of shuffled minibatches of {training.batch_size}, {', '.join(parts)}, on the {loss}"
