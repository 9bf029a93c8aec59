"""Results appear whole or not at all: written beside their place, then renamed."""

import atexit
import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flax_unet.utils.errors import InputError

_ATTEMPTS, _PERIOD = 20, 0.1  # seconds apart, to delete what a failed library still writes to


@contextlib.contextmanager
def staged_directory(
    destination: Path, *, may_replace: Callable[[Path], bool] = lambda _: False
) -> Iterator[Path]:
    """An empty directory to fill, which becomes `destination` when the block succeeds.

    When it fails, `destination` is as it was before.

    Args:
        destination: where the result belongs.
        may_replace: whether what stands there may be deleted; asked only if something does.

    Raises:
        InputError: `destination` exists and may not be replaced, or cannot be written to.
    """
    replaces = os.path.lexists(destination)
    if replaces and not may_replace(destination):
        raise InputError(f"{destination} exists already; remove it, or name another place")
    with _parents(destination):
        with _told(destination):
            stage = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        try:
            stage.chmod(0o777 & ~_umask())  # mkdtemp's is for the owner alone
            yield stage
            with _told(destination):
                _replace(stage, destination) if replaces else stage.rename(destination)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            atexit.register(_remove, stage)
            raise


@contextlib.contextmanager
def staged_file(destination: Path) -> Iterator[Path]:
    """A path to write to, which becomes `destination`, replacing it, when the block succeeds.

    Raises:
        InputError: `destination` cannot be written to.
    """
    if destination.is_dir():
        raise InputError(f"{destination} is a directory; name a file")
    with _parents(destination):
        with _told(destination):
            handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
            os.close(handle)
        stage = Path(name)
        try:
            stage.chmod(0o666 & ~_umask())
            yield stage
            with _told(destination):
                stage.replace(destination)
        finally:
            stage.unlink(missing_ok=True)


def check_space(directory: Path, size: int) -> None:
    """Raises an InputError unless `size` bytes can be written below `directory`.

    The system is asked to set them aside, so quotas and limits count too; libraries that write in
    the background fail less plainly than this.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            with tempfile.TemporaryFile(dir=directory) as file:
                os.posix_fallocate(file.fileno(), 0, size)
        elif (free := shutil.disk_usage(directory).free) < size:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot say
            return
        raise InputError(
            f"{directory.resolve()} cannot be written: {error.strerror}; {size:,} bytes are "
            "needed. Make room, or name another place"
        ) from error


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write `path` into a message that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}; name another place"
        ) from error


@contextlib.contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the directories above `path`; when the block fails, those that it made go again."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for directory in missing:
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                directory.rmdir()
        raise


def _replace(stage: Path, destination: Path) -> None:
    """Renames `stage` to `destination`, then deletes what stood there."""
    old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    destination.rename(old / "old")
    try:
        stage.rename(destination)
    except OSError:
        (old / "old").rename(destination)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _remove(directory: Path) -> None:
    """Deletes a directory to which threads of a library that failed may still be writing."""
    for _ in range(_ATTEMPTS):
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(_PERIOD)
        if not directory.exists():
            return


def _umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
