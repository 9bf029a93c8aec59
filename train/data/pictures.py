"""Picture files: what can be said of them unopened, and what is found when they are decoded."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flax_unet.errors import InputError
from flax_unet.images import FORMATS

MAX_PIXELS = 25_000_000  # far more than a face needs, and still quick to decode
MAX_BYTES = 4 * MAX_PIXELS  # what that many pixels take uncompressed


class File(NamedTuple):
    """What the file system says of a file: another one, and the file has changed."""

    size: int  # bytes
    changed: int  # time of modification, ns
    fault: str  # why it must not be opened; "" if it may


def look(path: Path | os.DirEntry[str]) -> File:
    """Looks at a file without opening it: reading a pipe or a device may never end."""
    try:
        found, fault = path.stat(), ""
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        found, fault = path.stat(follow_symlinks=False), "it is a broken link"
    if not fault:
        if stat.S_ISDIR(found.st_mode):
            fault = "it is a directory"
        elif not stat.S_ISREG(found.st_mode):
            fault = "it is no regular file"
        elif found.st_size > MAX_BYTES:
            fault = f"it is {found.st_size:,} bytes, over {MAX_BYTES:,}"
    return File(found.st_size, found.st_mtime_ns, fault)


def decode(content: bytes) -> Image.Image:
    """Decodes a picture fully.

    Raises:
        InputError: it cannot be used; the message gives the reason alone.
    """
    if not content:
        raise InputError("it is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"it is {image.width}x{image.height}, over {MAX_PIXELS:,} pixels")
            image.load()
            return image
    except (InputError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("it is no picture of a known format") from error
    except Exception as error:  # decoders raise whatever the damage leads to
        raise InputError(f"it cannot be decoded: {str(error) or type(error).__name__}") from error
