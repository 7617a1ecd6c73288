"""Starting a run from what another one has learnt."""

from pathlib import Path
from typing import Any, NamedTuple

from dd_jax.errors import OptionError, RunError
from dd_jax.runs.directory import read_config
from dd_jax.storage import checkpoint


class _Learnt(NamedTuple):
    learnable: Any


class _Kept(NamedTuple):
    """Of what a run's checkpoint holds the part that another one starts from, under the names that it has there."""

    state: _Learnt


class Start(NamedTuple):
    """What a run starts from. learnable: of the method's state; notes: a sentence each."""

    learnable: Any
    notes: tuple[str, ...]


def learnt_by(run: str | Path, state: Any, dataset: dict[str, Any]) -> Start:
    """What the run in a directory had learnt after its last outer step: images, labels, step sizes.

    Args:
        state: of the method that is to go on with it, for shapes and dtypes.
        dataset: name and fingerprint, as a run's configuration has them.

    Raises:
        OptionError: for a method whose state has no `learnable`.
        RunError: if there is no run, or none of its checkpoints is intact, or what it learnt has other shapes.
    """
    path = Path(run).expanduser().absolute()
    if not hasattr(state, "learnable"):
        raise OptionError(
            "start_from needs a method whose state keeps what is learnt as its attribute learnable, but "
            f"{type(state).__name__} has none. Rename it, or leave out start_from."
        )
    config = read_config(path)["config"]
    try:
        found = checkpoint.restore_latest(path / "checkpoints", _Kept(_Learnt(state.learnable)), part=True)
    except RunError as error:
        raise RunError(f"{error} A run starts from one that learnt as many images of the same size.") from error
    if found is None:
        raise RunError(f"{path} has no checkpoints to start from. Give the directory of a run that still has them.")
    notes = [
        *found.notes,
        f"Starting from what {path} had learnt after {found.step:,} of its outer steps. The optimiser and its schedule "
        "begin anew.",
    ]
    theirs = config.get("dataset", {})
    if theirs.get("fingerprint") != dataset["fingerprint"]:
        notes.append(
            f"Note: That run learnt from {theirs.get('name')}, this one learns from {dataset['name']}: its images are "
            "taken as they are, which fits only data that were standardised alike."
        )
    return Start(found.tree.state.learnable, tuple(notes))
