"""Pictures in and out, with the preprocessing of the published evaluation."""

import logging
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from flax_unet.nn.config import Size
from flax_unet.utils.errors import InputError

# Formats whose decoders are plain and run no other program (EPS, for one, starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 100_000_000  # a picture that claims more is refused before it is decoded
MAX_SIDE = 2**15  # pixels, likewise

_TURNS = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # its errors are raised too


def read_image(path: Path, notes: list[str] | None = None) -> Image.Image:
    """Reads and fully decodes a picture as RGB, upright, converting other modes as PIL does.

    Args:
        path: the file. Of an animation or a file of several pages, the first picture is read.
        notes: gets what of the file is not in the result.

    Raises:
        InputError: the file cannot be read, is no picture, truncated, or larger than the limits.
    """
    beginning(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, checked below, and of damage to no pixel
            with Image.open(path, formats=FORMATS) as image:
                check_size(path, *image.size)
                if notes is not None and getattr(image, "is_animated", False):
                    notes.append("it holds several pictures; the first one was judged")
                image.load()
                upright = _upright(image)
                return upright if upright.mode == "RGB" else upright.convert("RGB")
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error}; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path} is no picture of a known format ({', '.join(FORMATS)})"
        ) from error
    except Exception as error:  # decoders raise whatever the damage leads to
        reason = str(error).strip() or type(error).__name__
        raise InputError(f"{path} cannot be decoded: {reason}. Replace or remove it") from error


def beginning(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        InputError: it is missing, no regular file (reading a pipe may never end), empty, or cannot
            be read.
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
    except (OSError, ValueError) as error:  # ValueError: of a byte that no name has
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
        raise InputError(f"{path} is {kind}; name files")
    if not start:
        raise InputError(f"{path} is empty; replace or remove it")
    return start


def check_size(path: Path, width: int, height: int) -> None:
    """Raises an InputError if a picture is larger than the limits."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise InputError(
            f"{path} is {width}x{height}, over {MAX_PIXELS:,} pixels or {MAX_SIDE:,} a side; "
            "make it smaller"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data say; if they are missing or damaged, as it is."""
    try:
        turn = _TURNS.get(image.getexif()[ExifTags.Base.Orientation])
    except Exception:  # they are as easily damaged as the picture, and less important
        return image
    return image if turn is None else image.transpose(turn)


def resized(image: Image.Image, size: Size) -> np.ndarray:
    """A picture on the network's grid: (*size, 3) uint8, `size` being (height, width).

    It is the published preprocessing: PIL's NEAREST, whose sample positions differ from other
    libraries'.
    """
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.NEAREST).convert("RGB"))


def to_input(image: Image.Image, size: Size) -> np.ndarray:
    """The network's input: (*size, 3) float32 in [0, 1]; no mean, no standard deviation."""
    return resized(image, size).astype(np.float32) / np.float32(255)


def mask_image(is_manipulated: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A mask as a palette picture of `size` (width, height).

    As in the published masks, the palette's index is the class (0 untouched, 1 manipulated); it
    is shown as black and white.
    """
    mask = Image.fromarray(is_manipulated.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    mask.putpalette([0, 0, 0, 255, 255, 255])
    return mask
