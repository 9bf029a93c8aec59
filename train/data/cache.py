"""Where packed data sets live, and how they are told apart."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from flax_unet.errors import InputError
from flax_unet.files import staged_directory


def cache_root() -> Path:
    """The folder of this project's cache: `$XDG_CACHE_HOME/flax-unet`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flax-unet"


def fingerprint(parts: Iterable[object]) -> str:
    """A SHA-256 over the text of `parts`, in order: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()


def describe_files(paths: Iterable[Path], root: Path) -> Iterable[str]:
    """Name, size and modification time of each file: what tells that a folder has changed."""
    for path in paths:
        status = path.stat()
        yield f"{path.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}"


def cached(directory: Path, fill: Callable[[Path], None]) -> Path:
    """`directory`, filled by `fill(stage)` unless it exists; whole, also when several try at once.

    Raises:
        InputError: it cannot be written.
    """
    if not directory.exists():
        try:
            with staged_directory(directory) as stage:
                fill(stage)
        except InputError:
            if not directory.exists():  # or another process was faster
                raise
    return directory
