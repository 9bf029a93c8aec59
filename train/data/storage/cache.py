"""Keeps packed data sets in the cache, each under a fingerprint of what it was made from."""

import contextlib
import errno
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from flax_unet.utils.errors import InputError
from flax_unet.utils.files import locked, staged_directory

_held = contextlib.ExitStack()  # shared locks on the directories that this process reads


def fingerprint(parts: Iterable[object]) -> str:
    """A SHA-256 over the text of `parts`, in order: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\0".encode(errors="surrogatepass"))  # file names can be anything
    return digest.hexdigest()


def cached(family: Path, key: str, fill: Callable[[Path], None]) -> Path:
    """The directory `family`/`key`, filled by `fill(stage)` unless it is there already.

    Only one process at a time fills a directory of a family; the others wait. Older directories of
    the family are deleted then, unless a process uses them.

    A family holds everything made from one source, the directories beside it are families too, and
    `key` identifies a state of the source. `fill` writes into an empty directory, which is renamed
    afterwards.

    Raises:
        InputError: the cache cannot be written.
    """
    directory = family / key
    if not directory.exists():
        _make_writable(family)
        waiting = f"{family} is being made by another process; waiting for it"
        with locked(family, waiting=waiting) as alone:
            if alone and not directory.exists():
                _tidy(family)
            try:
                if not directory.exists():
                    with staged_directory(directory) as stage:
                        fill(stage)
            except InputError:
                if not directory.exists():  # else, without locks, another process was faster
                    raise
    _hold(directory)
    return directory


@functools.cache
def _hold(directory: Path) -> None:
    """Keeps other processes from deleting a directory until this one ends."""
    _held.enter_context(locked(directory, shared=True))


def _make_writable(family: Path) -> None:
    try:
        family.mkdir(parents=True, exist_ok=True)
        if not os.access(family, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f"the cache {family} cannot be written: {error.strerror}; name another folder for "
            "it by XDG_CACHE_HOME"
        ) from error


def _tidy(family: Path) -> None:
    """Deletes what killed processes left behind, and older directories of this family."""
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
