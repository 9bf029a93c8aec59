"""Files, directories and links that appear whole or not at all; locks between processes."""

import contextlib
import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from flax_unet.utils.errors import InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

UNFINISHED = ".unfinished"  # ends the name of a directory that may be gone on with
_LONGEST = 4096  # bytes of a file in the place of a link
_CANNOT_SAY = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}  # of file systems that reserve nothing


@contextlib.contextmanager
def staged_directory(
    destination: Path, *, may_replace: Callable[[Path], bool] = lambda _: False
) -> Iterator[Path]:
    """An empty directory to fill, which becomes `destination` when the block succeeds.

    When it fails, `destination` is as it was before. `may_replace` says whether the file or
    directory there may be deleted; it is called only if there is one.

    Raises:
        InputError: `destination` exists and may not be replaced, or cannot be written to.
    """
    replaces = os.path.lexists(destination)
    if replaces and not may_replace(destination):
        raise InputError(f"{destination} exists already; remove it, or name another place")
    with _parents(destination):
        stage = _beside(destination)
        with _name_in_errors(destination):
            stage.mkdir()
        try:
            yield stage
            with _name_in_errors(destination):
                _replace(stage, destination) if replaces else stage.rename(destination)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


@contextlib.contextmanager
def kept_directory(
    destination: Path,
    *,
    lock: str,
    may_replace: Callable[[Path], bool],
    is_kept: Callable[[], bool],
    is_own: Callable[[str], bool],
) -> Iterator[Path]:
    """As `staged_directory`, with a directory that may be gone on with later.

    Its name is that of `destination` and `.unfinished`. When the block fails it stays if `is_kept`
    says so, and the next call yields it with what is in it. Otherwise the files whose names
    `is_own` knows are deleted, and the directory if it is empty then.

    The file `lock` in it keeps other processes out, and is yielded empty if it is new. The caller
    writes it in place, and deletes it where it is not wanted in the end.

    Raises:
        InputError: as for `staged_directory`, or another process is at it.
    """
    stage = destination.with_name(f"{destination.name}{UNFINISHED}")

    def check() -> bool:
        """Whether something stands at the destination; it may be replaced."""
        if not os.path.lexists(destination):
            return False
        if not may_replace(destination):
            raise InputError(f"{destination} exists already; remove it, or name another place")
        return True

    def clear() -> None:
        """Deletes what is not kept."""
        if not is_kept():
            for path in stage.iterdir():
                if is_own(path.name):
                    path.unlink()
        elif not (stage / lock).stat().st_size:
            (stage / lock).unlink()

    with _parents(destination):
        check()
        with _name_in_errors(destination):
            stage.mkdir(exist_ok=True)
        try:
            with _name_in_errors(destination):
                (stage / lock).touch()
            with locked(stage / lock) as is_locked:
                if is_locked is False:
                    raise InputError(
                        f"{stage} is being written by another process; wait for it, or name "
                        "another directory"
                    )
                try:
                    check()  # the other process may have been at it until now
                    yield stage
                    with _name_in_errors(destination):
                        # Once more, since hours may have passed.
                        _replace(stage, destination) if check() else stage.rename(destination)
                except BaseException:
                    with contextlib.suppress(OSError):
                        clear()
                    raise
        except BaseException:
            with contextlib.suppress(OSError):  # it is not empty
                stage.rmdir()  # only now: NFS keeps files that are open
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
        stage = _beside(destination)
        with _name_in_errors(destination):
            stage.touch(exist_ok=False)
        try:
            yield stage
            with _name_in_errors(destination):
                stage.replace(destination)
        finally:
            stage.unlink(missing_ok=True)


def check_space(directory: Path, size: int) -> None:
    """Raises an InputError unless `size` bytes can be written below `directory`.

    The system reserves them for a moment, so quotas and limits count too. Libraries that write in
    the background report a full disk less clearly.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            with tempfile.TemporaryFile(dir=directory) as file:
                os.posix_fallocate(file.fileno(), 0, size)
        elif (free := shutil.disk_usage(directory).free) < size:
            raise OSError(errno.ENOSPC, f"{free:,} bytes are free")
    except OSError as error:
        if error.errno in _CANNOT_SAY:
            return
        raise InputError(
            f"{directory.resolve()} cannot be written: {error.strerror}; {size:,} bytes are "
            "needed. Make room, or name another place"
        ) from error


def link(path: Path, target: Path) -> None:
    """Makes `path`, or replaces it by, a link to `target`, a directory below the same parent.

    Where the file system has no links, such as a mounted cloud drive, `path` becomes a file with
    the name of `target`. `followed` reads both.
    """
    name = target.relative_to(path.parent)
    new = _beside(path)
    try:
        new.symlink_to(name, target_is_directory=True)
    except OSError:
        new.write_text(f"{name.as_posix()}\n", encoding="utf-8")
    try:
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def followed(path: Path) -> Path:
    """The directory that a file of `link` names; every other path as it is."""
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return path
        name = Path(path.read_text(encoding="utf-8").removesuffix("\n"))
        is_below = name.parts and ".." not in name.parts and not name.anchor
        return path.parent / name if is_below and (path.parent / name).is_dir() else path
    except (OSError, ValueError):  # not readable, or not text
        return path


@contextlib.contextmanager
def locked(
    path: Path, *, shared: bool = False, waiting: str | None = None
) -> Iterator[bool | None]:
    """Locks a directory or a file until the block ends, against other processes that ask for it.

    NFS keeps other machines from a file, but not from a directory.
    Several processes may hold a `shared` lock at the same time. `waiting` is a message to print
    before waiting for another process; None: do not wait.

    Yields:
        True where it is locked, False where another process holds it or has moved it meanwhile, and
        None where it cannot be locked: it is missing or another user's, or the file system has no
        locks.
    """
    # NFS locks what is open for writing.
    mode = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        if fcntl is None:
            raise OSError
        handle = os.open(path, mode)
    except OSError:
        yield None
        return
    try:
        is_locked = _lock(handle, shared, waiting)
        yield is_locked and _is_at(handle, path)
    finally:
        os.close(handle)  # which unlocks


def _lock(handle: int, shared: bool, waiting: str | None) -> bool | None:
    if fcntl is None:
        return None
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            return False
        print(waiting, file=sys.stderr)
        fcntl.flock(handle, operation)
    except OSError:
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _name_in_errors(path: Path) -> Iterator[None]:
    """Turns an OSError of writing `path` into an InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}; name another place"
        ) from error


@contextlib.contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Makes the directories above `path`, and removes them again when the block fails."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        with _name_in_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for directory in missing:
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                directory.rmdir()
        raise


def _beside(path: Path) -> Path:
    """An unused hidden path in the same directory."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}"


def _replace(stage: Path, destination: Path) -> None:
    """Renames `stage` to `destination`, then deletes what stood there."""
    old = _beside(destination)
    old.mkdir()
    destination.rename(old / "old")
    try:
        stage.rename(destination)
    except OSError:
        (old / "old").rename(destination)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
