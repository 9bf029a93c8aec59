"""The directory that a run works in: whose it is, and the options that it keeps."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.utils.errors import InputError
from train.fit.checkpoints import OPTIONS, Checkpoints


def is_untouched(workdir: Path) -> bool:
    """Whether a run may start in a directory: there is nothing of anybody's in it."""
    if not workdir.is_dir():
        return not workdir.exists()
    # A run that was killed as it started leaves its options half-written.
    return all(path.name.startswith(f".{OPTIONS}.") for path in workdir.iterdir())


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run in a directory has saved anything."""
    return bool(Checkpoints(workdir, 1).steps())


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes a work directory, if need be, and keeps other runs out of it.

    Raises:
        InputError: another run is in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    handle = os.open(workdir, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InputError(
            f"{workdir} is in use by another run; wait for its end, or name another --workdir"
        ) from error
    except OSError:  # some network file systems have no locks
        pass
    try:
        yield
    finally:
        os.close(handle)  # which unlocks


def is_run(workdir: Path) -> bool:
    """Whether training ever started in a directory."""
    return (workdir / OPTIONS).is_file()


def load_options(workdir: Path) -> dict[str, Any]:
    """The options of the run in a work directory.

    Raises:
        InputError: they cannot be read.
    """
    return metadata.read_json(workdir / OPTIONS)
