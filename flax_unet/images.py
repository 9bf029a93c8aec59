"""Pictures in and out, with the preprocessing of the published evaluation."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from flax_unet.errors import InputError

# Formats whose decoders are plain and run no other program (EPS, for one, starts Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
MAX_PIXELS = 100_000_000  # a picture that claims more is refused before it is decoded

_OVERLAY_COLOUR = (255, 0, 60)
_OVERLAY_OPACITY = 0.45


def read_image(path: Path) -> Image.Image:
    """Reads and fully decodes a picture as RGB, converting other modes as PIL does.

    Raises:
        InputError: the file is missing, no picture, truncated, or larger than MAX_PIXELS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"{path} is {width}x{height}, over {MAX_PIXELS:,} pixels; make it smaller"
                    )
                return image.convert("RGB")
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large: {error}; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{path} is no picture of a known format ({', '.join(FORMATS)})"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory; name picture files") from error
    except Exception as error:  # decoders raise whatever the damage leads to
        reason = str(error).strip() or type(error).__name__
        raise InputError(f"{path} cannot be decoded: {reason}. Replace or remove it") from error


def to_input(image: Image.Image, size: int) -> np.ndarray:
    """The network's input: (size, size, 3) float32 in [0, 1].

    It is the published preprocessing: PIL's NEAREST, whose sample positions differ from other
    libraries', then a division by 255; no mean, no standard deviation.
    """
    resized = image.resize((size, size), Image.Resampling.NEAREST)
    return np.asarray(resized, np.float32) / np.float32(255)


def mask_image(is_manipulated: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A mask as a palette picture of `size` (width, height).

    As in the published masks, the palette's index is the class (0 untouched, 1 manipulated); it
    is shown as black and white.
    """
    mask = Image.fromarray(is_manipulated.astype(np.uint8), "L")
    mask = mask.resize(size, Image.Resampling.NEAREST)
    palette = Image.new("P", size)
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.putdata(mask.tobytes())
    return palette


def overlay(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with the pixels of class 1 of `mask_image` tinted red."""
    colour = Image.new("RGB", image.size, _OVERLAY_COLOUR)
    tinted = Image.blend(image, colour, _OVERLAY_OPACITY)
    return Image.composite(tinted, image, mask.point([0, 255] + [0] * 254, "L"))
