"""Results appear whole or not at all: written beside their place, then renamed."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from flax_unet.errors import InputError


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
    if os.path.lexists(destination) and not may_replace(destination):
        raise InputError(f"{destination} exists already")
    made = _make_parents(destination)
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        raise _cannot_write(destination, error) from error
    try:
        stage.chmod(0o777 & ~_umask())  # mkdtemp's is for the owner alone
        yield stage
        _replace(stage, destination)
    except BaseException:
        _remove(stage)
        for directory in reversed(made):
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                directory.rmdir()
        raise


@contextlib.contextmanager
def staged_file(destination: Path) -> Iterator[Path]:
    """A path to write to, which becomes `destination`, replacing it, when the block succeeds.

    Raises:
        InputError: `destination` cannot be written to.
    """
    _make_parents(destination)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{destination.name}.", dir=destination.parent)
    except OSError as error:
        raise _cannot_write(destination, error) from error
    os.close(handle)
    stage = Path(name)
    try:
        stage.chmod(0o666 & ~_umask())
        yield stage
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
            f"{directory} cannot be written: {error.strerror}; {size:,} bytes are needed"
        ) from error


def _make_parents(path: Path) -> list[Path]:
    """Makes the directories above `path` and returns those that it had to make, outermost first."""
    missing = [parent for parent in path.parents if not parent.exists()][::-1]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return missing


def _cannot_write(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be written: {error.strerror}; name another place")


def _replace(stage: Path, destination: Path) -> None:
    """Renames `stage` to `destination`, then deletes what stood there."""
    old = None
    if os.path.lexists(destination):
        old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        destination.rename(old / "old")
    try:
        stage.rename(destination)
    except OSError:
        if old is not None:
            (old / "old").rename(destination)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def _remove(directory: Path) -> None:
    """Deletes a directory to which threads that failed may still be writing."""
    for _ in range(20):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(0.1)


def _umask() -> int:
    """The process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
