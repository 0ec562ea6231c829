"""The stage of a save: the directory where new files are written before they take their names."""

from contextlib import contextmanager
from pathlib import Path

from ..files import SaveError, saving
from .base import CheckpointError
from .tf_bundle import remove_unused

__all__ = ["saving_checkpoint"]


@contextmanager
def saving_checkpoint(directory):
    """Context like `files.saving` that raises `CheckpointError`, and removes old shards."""
    try:
        with saving(directory) as stage:
            yield stage
            bundles = [path.stem for path in stage.glob("*.index")]
    except SaveError as error:
        raise CheckpointError(str(error)) from error
    for name in bundles:
        remove_unused(Path(directory) / name)
