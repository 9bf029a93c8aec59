"""Pictures in and out, with the preprocessing of the published evaluation."""

import contextlib
import logging
import stat
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from flax_unet.nn.config import Size
from flax_unet.utils.errors import InputError

# Formats whose decoders are plain and run no other program (EPS, for one, starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 100_000_000  # larger pictures are refused before they are decoded
MAX_SIDE = 2**15  # pixels

logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # its errors are raised too
_UNDECODABLE = "cannot be decoded", "replace or remove it"


class DecodeError(InputError):
    """A picture cannot be used. The message is a predicate, such as `cannot be decoded: ...`.

    Attributes:
        kind: the same text for every picture with this fault.
    """

    def __init__(self, kind: str, particulars: str = "") -> None:
        super().__init__(particulars or kind)
        self.kind = kind


def decode(
    file: IO[bytes], max_pixels: int = MAX_PIXELS, notes: list[str] | None = None
) -> Image.Image:
    """Decodes the first picture of a file fully; does not close the file.

    `notes` gets a note if the file holds more than one picture.

    Raises:
        DecodeError: it is not a picture, damaged, or larger than the limits.
    """
    try:
        image = Image.open(file, formats=FORMATS)
        if (excess := too_large(*image.size, max_pixels)) is not None:
            raise DecodeError("has too many pixels", excess)
        if notes is not None and getattr(image, "is_animated", False):
            notes.append("it holds several pictures; the first one was judged")
        image.load()
        return image
    except (DecodeError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        kind = "is not a picture of a known format"
        raise DecodeError(kind, f"{kind} ({', '.join(FORMATS)})") from error
    except Exception as error:  # decoders raise whatever the damage leads to
        reason = str(error).strip() or type(error).__name__
        bomb = isinstance(error, Image.DecompressionBombError)
        kind, remedy = ("is too large", "make it smaller") if bomb else _UNDECODABLE
        raise DecodeError(kind, f"{kind}: {reason}; {remedy}") from error


def read_image(path: Path, notes: list[str] | None = None) -> Image.Image:
    """Reads a picture as RGB, upright by its EXIF data, converting other modes as PIL does.

    Of an animation or a file of several pages, the first picture is read, and `notes` gets a note.

    Raises:
        InputError: the file cannot be read, is not a picture, damaged, or larger than the limits.
    """
    beginning(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of bombs, checked in `decode`, and of damaged EXIF
            image = decode(file, notes=notes)
            with contextlib.suppress(Exception):  # damaged EXIF does no harm
                ImageOps.exif_transpose(image, in_place=True)
            return image if image.mode == "RGB" else image.convert("RGB")
    except DecodeError as error:
        raise InputError(f"{path} {error}") from error
    except Exception as error:  # by the conversion
        raise InputError(f"{path} {_UNDECODABLE[0]}: {error!r}; {_UNDECODABLE[1]}") from error


def beginning(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        InputError: it is missing, empty, cannot be read, or is not a regular file (reading a pipe
            may never end).
    """
    start = b""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                start = file.read(16)
    except FileNotFoundError as error:
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise InputError(f"{path} {what}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise InputError(f"{path} is {kind}; name files")
    if not start:
        raise InputError(f"{path} is empty; replace or remove it")
    return start


def too_large(width: int, height: int, max_pixels: int = MAX_PIXELS) -> str | None:
    """What is wrong with a picture that is larger than the limits; None for others."""
    if width * height <= max_pixels and max(width, height) <= MAX_SIDE:
        return None
    limits = f"over {max_pixels:,} pixels or {MAX_SIDE:,} a side"
    return f"is {width}x{height}, {limits}; make it smaller"


def resized(image: Image.Image, size: Size) -> np.ndarray:
    """A picture on the network's grid: (*size, 3) uint8, `size` being (height, width).

    By the published preprocessing: PIL's NEAREST. Other libraries sample other positions.
    """
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST).convert("RGB"))


def to_input(image: Image.Image, size: Size) -> np.ndarray:
    """The network's input: (*size, 3) float32 in [0, 1]; no mean, no standard deviation."""
    return resized(image, size).astype(np.float32) / np.float32(255)


def mask_image(is_manipulated: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A mask as a palette picture of `size` (width, height).

    As in the published masks, the palette's index is the class: 0 untouched, shown black;
    1 manipulated, shown white.
    """
    mask = Image.fromarray(is_manipulated.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    mask.putpalette([0, 0, 0, 255, 255, 255])
    return mask
