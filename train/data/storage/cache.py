"""Where packed data sets live, and how they are told apart."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from flax_unet.utils.errors import InputError
from flax_unet.utils.files import locked, staged_directory

_held: dict[Path, contextlib.AbstractContextManager] = {}  # what this process reads from


def fingerprint(parts: Iterable[object]) -> str:
    """A SHA-256 over the text of `parts`, in order: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\0".encode(errors="surrogatepass"))  # file names can be anything
    return digest.hexdigest()


def cached(family: Path, key: str, fill: Callable[[Path], None]) -> Path:
    """The directory `family`/`key`, filled by `fill(stage)` unless it is there already.

    Processes that want one of a family at once wait for each other. When one is filled, older
    ones of the family go, unless a process uses them.

    Args:
        family: holds all that was ever made of one source. The directories beside it are families
            as well.
        key: tells the states of the source apart.
        fill: writes into an empty directory, which is renamed afterwards.

    Raises:
        InputError: it cannot be written.
    """
    directory = family / key
    if not directory.exists():
        _make_writable(family)
        waiting = f"{family} is being made by another process; waiting for it"
        with locked(family, waiting=waiting) as alone:
            if alone and not directory.exists():
                _tidy(family)
            if not directory.exists():
                _fill(directory, fill)
    _hold(directory)
    return directory


def _make_writable(family: Path) -> None:
    try:
        family.mkdir(parents=True, exist_ok=True)
        if not os.access(family, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f"the cache {family} cannot be written: {error.strerror}; name another place for it "
            "by XDG_CACHE_HOME"
        ) from error


def _fill(directory: Path, fill: Callable[[Path], None]) -> None:
    try:
        with staged_directory(directory) as stage:
            fill(stage)
    except InputError:
        if not directory.exists():  # or, where nothing can be locked, another was faster
            raise


def _tidy(family: Path) -> None:
    """Deletes what killed processes left half-made, and older ones of this family."""
    for other in family.parent.iterdir():
        if other != family and other.is_dir():
            with locked(other) as alone:
                if alone:
                    _delete(other.glob(".*"))
    _delete(family.iterdir())


def _delete(directories: Iterable[Path]) -> None:
    for directory in directories:
        with locked(directory) as unused:
            if unused:
                shutil.rmtree(directory, ignore_errors=True)


def _hold(directory: Path) -> None:
    """Keeps other processes from deleting `directory` until this one ends."""
    if directory not in _held:
        _held[directory] = locked(directory, shared=True)
        _held[directory].__enter__()
