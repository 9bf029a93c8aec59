"""Picture files: what can be said of them unopened, and what is found when they are decoded."""

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
DIRECTORY = "it is a directory"


class File(NamedTuple):
    """What the file system says of a file: another one, and the file has changed."""

    size: int  # bytes
    changed: int  # time of modification, ns
    fault: Fault | None  # why it must not be opened; None if it may


def look(path: Path | os.DirEntry[str]) -> File:
    """Looks at a file without opening it: reading a pipe or a device may never end."""
    kind = reason = ""
    try:
        found = path.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        found, kind = path.stat(follow_symlinks=False), "it is a broken link"
    if not kind:
        if stat.S_ISDIR(found.st_mode):
            kind = DIRECTORY
        elif not stat.S_ISREG(found.st_mode):
            kind = "it is no regular file"
        elif found.st_size > MAX_BYTES:
            kind = "it has too many bytes"
            reason = f"it is {found.st_size:,} bytes, over {MAX_BYTES:,}"
    fault = Fault(kind, reason or kind) if kind else None
    return File(found.st_size, found.st_mtime_ns, fault)


def decode(content: bytes) -> Image.Image:
    """Decodes a picture fully.

    Raises:
        BadFileError: it cannot be used.
    """
    if not content:
        raise BadFileError("it is empty")
    try:
        return images.decode(io.BytesIO(content), MAX_PIXELS)
    except images.DecodeError as error:
        raise BadFileError(f"it {error.kind}", f"it {error}") from error
