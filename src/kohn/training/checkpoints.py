"""Save and load checkpoints: all that a run needs to continue, in one file replaced whole.

A run that is killed and resumed from a checkpoint ends with the bytes of an unbroken run.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kohn import modelfile
from kohn.errors import ModelFileError, Place
from kohn.training.optimiser import State
from kohn.typing import Array, Document

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class RunProgress:
    """The progress of a training run.

    Attributes:
        epoch: number of finished epochs.
        best_loss: lowest validation loss; infinite before the first validation.
        best_epoch: number of finished epochs when the validation loss was lowest.
        stale: number of validations since that epoch.
        stopped: whether patience has run out.
    """

    epoch: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    stale: int = 0
    stopped: bool = False


def save(folder: Path, state: State, best: Array, progress: RunProgress, fingerprint: str) -> None:
    """Write the checkpoint of a run.

    Args:
        folder: run folder. state: last state. best: averaged weights of the best epoch.
        fingerprint: hash of settings and data, so that no other run resumes from this checkpoint.
    """
    leaves = jax.tree.leaves(state)
    arrays = {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    arrays["best"] = np.asarray(best)
    meta: Document = {k: v for k, v in asdict(progress).items() if k != "best_loss"}
    # Stored as text: JSON has no infinity, and a resumed run must compare with the same number.
    meta["best_loss"] = float(progress.best_loss).hex()
    modelfile.write(
        folder / FILE, arrays, {"kind": "checkpoint", "fingerprint": fingerprint, **meta}
    )


def load(folder: Path, like: State, fingerprint: str) -> tuple[State, Array, RunProgress]:
    """Read a checkpoint; the state gets the pytree layout and the array shapes of `like`.

    Raises:
        ModelFileError: the file is damaged, or belongs to a run with other settings or data.
    """
    arrays, meta = modelfile.read(folder / FILE)
    where = Place(file=folder / FILE)
    if meta.get("fingerprint") != fingerprint:
        raise ModelFileError(
            "the checkpoint belongs to a run with other settings or other data",
            where=where,
            fix="resume with the settings of the run, or start a new run in another folder",
        )
    leaves, layout = jax.tree.flatten(like)
    stored = [jnp.asarray(arrays[f"state.{i}"]).reshape(x.shape) for i, x in enumerate(leaves)]
    progress = RunProgress(
        epoch=meta["epoch"],
        best_loss=float.fromhex(meta["best_loss"]),
        best_epoch=meta["best_epoch"],
        stale=meta["stale"],
        stopped=meta["stopped"],
    )
    return jax.tree.unflatten(layout, stored), jnp.asarray(arrays["best"]), progress


def exists(folder: Path) -> bool:
    """Return whether the folder has a checkpoint."""
    return (folder / FILE).is_file()
