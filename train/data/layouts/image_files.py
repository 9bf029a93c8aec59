"""Checks picture files without opening them, and decodes them."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flax_unet.media import images
from train.data.layouts.faults import BadFileError, Fault

MAX_PIXELS = 25_000_000  # far more than a face needs, and still quick to decode
MAX_BYTES = 4 * MAX_PIXELS  # what that many pixels take uncompressed
_DIRECTORY = "it is a directory"


class File(NamedTuple):
    """The state of a file; a change of it means that the file has changed."""

    size: int  # bytes
    changed: int  # time of modification, ns
    fault: Fault | None  # why it must not be opened; None if it may


def look(path: Path | os.DirEntry[str]) -> File:
    """Checks a file without opening it: reading a pipe or a device may never end."""
    kind = reason = ""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        found, kind = path.stat(follow_symlinks=False), "it is a broken link"
    if not kind:
        if stat.S_ISDIR(found.st_mode):
            kind = _DIRECTORY
        elif not stat.S_ISREG(found.st_mode):
            kind = "it is not a regular file"
        elif found.st_size > MAX_BYTES:
            kind = "it has too many bytes"
            reason = f"it is {found.st_size:,} bytes, over {MAX_BYTES:,}"
    fault = Fault(kind, reason or kind) if kind else None
    return File(found.st_size, found.st_mtime_ns, fault)


def is_directory(file: File) -> bool:
    """Whether a file that was looked at is a directory, or a link to one."""
    return file.fault is not None and file.fault.kind == _DIRECTORY


def decode(content: bytes, notes: list[str] | None = None) -> Image.Image:
    """Decodes a picture fully, in its own mode; `notes` are those of `images.decode`.

    Raises:
        BadFileError: it cannot be used.
    """
    if not content:
        raise BadFileError("it is empty")
    try:
        return images.decode(io.BytesIO(content), MAX_PIXELS, notes)
    except images.DecodeError as error:
        raise BadFileError(f"it {error.kind}", f"it {error}") from error
