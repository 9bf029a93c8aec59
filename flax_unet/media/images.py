"""Pictures in and out, with the preprocessing of the published evaluation."""

import contextlib
import functools
import io
import logging
import stat
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import (
    AvifImagePlugin,
    Image,
    ImageCms,
    ImageOps,
    Jpeg2KImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
)

from flax_unet.nn.config import Size
from flax_unet.utils.errors import InputError

# Formats whose decoders are plain and run no other program (EPS, for one, starts Ghostscript).
_LATE = (AvifImagePlugin, Jpeg2KImagePlugin, TgaImagePlugin)  # Pillow imports the others
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF")
SUFFIXES = frozenset(
    {".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heics", ".heif", ".heifs"}
    | {".hif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx"}
    | {".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
WITHOUT_MARK = {".tga": "TGA"}  # formats that only the suffix shows
RAW = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".nrw", ".orf", ".pef"}
    | {".raf", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"}
)
RAW_DATA = "a camera's raw data: export it as JPEG or TIFF"
_HEIF_BRANDS = (
    *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),  # containers of any codec
)
_AVIF_BRANDS = {b"avif", b"avis"}
_BRANDS_END = 256  # bytes of a file; HEIF and AVIF begin with their brands
MAX_PIXELS = 100_000_000  # larger pictures are refused before they are decoded
MAX_SIDE = 2**15  # pixels
_REDUCED = 4  # JPEG of up to this many times the pixels is decoded at 1/2, 1/4 or 1/8 of its sides
TOO_MANY = "has too many pixels"  # a kind of DecodeError
OF_16_BITS = "of 16 bits a channel, the upper 8 were judged"  # a note
GREY = 128  # beneath what is transparent
_SAMPLE = (64, 64)  # pixels by which a colour profile is compared with sRGB
_LEAST_SHIFT = 10  # grey levels on average; Display P3 and Adobe RGB stay below
_DISPLAY = 2.2  # the exponent of screens, which PNG's gamma refers to
_ALPHA_UNUSED = ("BMP", "TGA")  # formats whose programs may leave the fourth byte at 0
_OF_8_BITS = ("RGB", "RGBA", "LA", "CMYK")
_SUBFILE, _BITS, _PHOTOMETRIC, _PLANAR, _DNG_VERSION = 254, 258, 262, 284, 50706  # tags of TIFF
_WHITE_IS_ZERO, _PLANES = 0, 2  # values of two of them

logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # its errors are raised too


class DecodeError(InputError):
    """A picture cannot be used. The message is a predicate, such as `cannot be decoded: ...`.

    Attributes:
        kind: the same text for every picture with this fault.
    """

    def __init__(self, kind: str, particulars: str = "") -> None:
        super().__init__(particulars or kind)
        self.kind = kind


def decode(
    file: IO[bytes],
    max_pixels: int = MAX_PIXELS,
    notes: list[str] | None = None,
    suffix: str = "",
    *,
    reduce: bool = False,
) -> Image.Image:
    """Decodes the first picture of a file fully; does not close the file.

    Args:
        file: a picture.
        max_pixels: a larger picture is refused.
        notes: gets a note if the file holds more than one picture, or it is reduced.
        suffix: of the file's name, for formats without a mark of their own and raw data.
        reduce: whether JPEG of more pixels is decoded at a smaller scale.

    Raises:
        DecodeError: it is not a picture, a camera's raw data, damaged, larger than the limits, or
            HEIF without the extra `media`.
    """
    notes = [] if notes is None else notes
    formats = tuple(name for name in FORMATS if name != "HEIF")  # by Pillow itself
    try:
        start = file.read(_BRANDS_END)
        file.seek(0)
        if _is_heif(start):
            _register_heif()
            formats = ("HEIF",)
        elif suffix.lower() in WITHOUT_MARK and not is_picture(start):
            formats = (WITHOUT_MARK[suffix.lower()],)
        image = _open(file, formats)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _refuse_raw(image, suffix)
            _read_planes_of_16_bits(image)
        size = image.size
        reducible = reduce and image.format in ("JPEG", "MPO")
        if reducible and not too_large(*size, _REDUCED * max_pixels, 2 * MAX_SIDE):
            _reduce(image, max_pixels)
            if image.size != size:
                notes.append(
                    f"it has {size[0]}x{size[1]} pixels and was judged at {image.width}x"
                    f"{image.height}, to which boxes and masks refer"
                )
        if (excess := too_large(*image.size, max_pixels)) is not None:
            raise DecodeError(TOO_MANY, excess)
        if getattr(image, "is_animated", False):
            notes.append("it holds several pictures; the first one was judged")
        is_16_bit = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
        if is_16_bit and image.mode in _OF_8_BITS:  # Pillow drops the others
            notes.append(OF_16_BITS)
        image.load()
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _invert(image)
        has_alpha = image.format in _ALPHA_UNUSED and image.mode in ("RGBA", "LA")
        if has_alpha and image.getchannel("A").getextrema() == (0, 0):
            image.putalpha(255)
            notes.append("its alpha is 0 everywhere and was left out")
        return image
    except (DecodeError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        if suffix.lower() in RAW:
            raise DecodeError(f"is {RAW_DATA}") from error
        kind = "is not a picture of a known format"
        remedy = "save pictures as JPEG or PNG, and export videos as MP4"
        raise DecodeError(kind, f"{kind} ({', '.join(FORMATS)}); {remedy}") from error
    except Exception as error:  # decoders raise whatever the damage leads to
        raise _undecodable(str(error).strip() or type(error).__name__) from error


def _open(file: IO[bytes], formats: tuple[str, ...]) -> Image.Image:
    """Opens a picture, of any size: `decode` has limits of its own."""
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError:
        file.seek(0)
        start = file.read(16)
        for name in formats:
            factory, accepts = Image.OPEN[name]
            if accepts is not None and accepts(start) is True:
                file.seek(0)
                return factory(file, "")
        raise


def _refuse_raw(image: TiffImagePlugin.TiffImageFile, suffix: str) -> None:
    """Refuses files that begin with a thumbnail, which Pillow reads as the picture."""
    if suffix.lower() in RAW or _DNG_VERSION in image.tag_v2:
        raise DecodeError(f"is {RAW_DATA}")
    if image.tag_v2.get(_SUBFILE, 0) & 1:
        raise DecodeError("begins with a thumbnail of its picture; export the picture as JPEG")


def _read_planes_of_16_bits(image: TiffImagePlugin.TiffImageFile) -> None:
    """Has uncompressed planes read as what they are; Pillow takes them for planes of 8 bits."""
    tags = image.tag_v2
    if tags.get(_PLANAR) == _PLANES and set(tags.get(_BITS, ())) == {16}:
        order = "B" if tags.prefix == b"MM" else "L"
        image.tile = [
            of._replace(args=(f"{of.args[0]};16{order}", *of.args[1:]))
            if of.codec_name == "raw" and isinstance(of.args, tuple)
            else of
            for of in image.tile
        ]


def _invert(image: TiffImagePlugin.TiffImageFile) -> None:
    """Turns grey whose 0 is white to that whose 0 is black; Pillow does it up to 8 bits."""
    if image.tag_v2.get(_PHOTOMETRIC) != _WHITE_IS_ZERO:
        return
    if image.mode == "F":
        raise DecodeError("is a negative in floating point; save it with 8 or 16 bits")
    if image.mode == "I;16":
        image.paste(image.point(lambda value: 65535 - value))


def _is_heif(start: bytes) -> bool:
    """Whether a file begins as HEIF: by its main brand, unless another one is that of AVIF."""
    end = min(int.from_bytes(start[:4]), _BRANDS_END)
    others = [start[at : at + 4] for at in range(16, end, 4)]
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS and _AVIF_BRANDS.isdisjoint(others)


def _register_heif() -> None:
    """Adds HEIF to Pillow's formats."""
    try:
        from pillow_heif import register_heif_opener  # only some need it
    except ModuleNotFoundError as error:
        kind = "is HEIF, which needs the package pillow-heif"
        raise DecodeError(kind, f"{kind} of the extra media: pip install pillow-heif") from error
    register_heif_opener()


def _reduce(image: Image.Image, max_pixels: int) -> None:
    """Has a JPEG decoded at the largest of 1, 1/2, 1/4 and 1/8 of its sides that keeps the limits.

    At 1/8 it may still be too large.
    """
    width, height = image.size
    divisor = 1
    while divisor < 8 and too_large(-(-width // divisor), -(-height // divisor), max_pixels):
        divisor *= 2
    image.draft(None, (width // divisor, height // divisor))


def read_image(
    path: Path, notes: list[str] | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Reads a picture as RGB, upright by its EXIF data, as `to_rgb` converts it.

    Of an animation or a file of several pages, the first picture is read. A JPEG of more than
    `max_pixels` is read at a smaller scale. `notes` gets a note of what was changed or left out.

    Raises:
        InputError: the file cannot be read, is not a picture, damaged, larger than the limits, or
            HEIF without the extra `media`.
    """
    beginning(path)
    try:
        with path.open("rb") as file:
            return read_rgb(file, notes, max_pixels, path.suffix)
    except DecodeError as error:
        raise InputError(f"{path} {error}") from error
    except (OSError, MemoryError) as error:
        raise InputError(f"{path} {_undecodable(repr(error))}") from error


def read_rgb(
    file: IO[bytes],
    notes: list[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    suffix: str = "",
) -> Image.Image:
    """Reads a picture as `read_image`, from an open file whose name has a suffix.

    Raises:
        DecodeError: it is not a picture, damaged, larger than the limits, or HEIF without the
            extra `media`.
    """
    found = [] if notes is None else notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bombs, checked in `decode`, and of damaged EXIF
        image = decode(file, max_pixels, found, suffix, reduce=True)
        with contextlib.suppress(Exception):  # damaged EXIF does no harm
            ImageOps.exif_transpose(image, in_place=True)
        try:
            rgb = to_rgb(image, found)
        except (DecodeError, MemoryError):
            raise
        except Exception as error:  # the conversion raises whatever the damage leads to
            raise _undecodable(repr(error)) from error
    if notes is not None:
        notes += _colours(image, rgb)
    return rgb


def _colours(image: Image.Image, rgb: Image.Image) -> list[str]:
    """A note where a colour profile or PNG's gamma makes other colours of a picture than sRGB.

    Neither is applied: pixels are judged as training and evaluation read them.
    """
    sample = rgb.resize(_SAMPLE, Image.Resampling.NEAREST)
    values = np.asarray(sample).astype(float)
    profile, gamma = image.info.get("icc_profile"), image.info.get("gamma", 0)
    if profile:
        what = "colour profile"
        if image.mode == "CMYK":
            sample = image.resize(_SAMPLE, Image.Resampling.NEAREST)
        elif image.mode in ("L", "LA", "I;16"):
            sample = sample.convert("L")
        transform = _to_srgb(profile, sample.mode)
        meant = values if transform is None else np.asarray(transform.apply(sample))
    elif gamma > 0 and "srgb" not in image.info:
        what = f"gamma of {gamma:g}"
        meant = 255 * (values / 255) ** (1 / (_DISPLAY * gamma))
    else:
        return []
    shift = np.abs(meant - values).mean()
    if shift < _LEAST_SHIFT:
        return []
    text = f"its {what} is not applied, which would change its values by {shift:.0f} of 255"
    return [f"{text} on average; save it as sRGB"]


@functools.lru_cache(maxsize=8)  # a camera's pictures have the same one
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None if it is damaged or of another mode, as viewers do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        return ImageCms.buildTransform(source, srgb, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):
        return None


def _undecodable(reason: str) -> DecodeError:
    kind = "cannot be decoded"
    return DecodeError(kind, f"{kind}: {reason}; save it again as JPEG or PNG")


def is_picture(start: bytes) -> bool:
    """Whether a file that begins so, with 16 bytes or more, is a picture."""
    Image.preinit()
    accepts = (Image.OPEN[name][1] for name in FORMATS if name in Image.OPEN)
    return _is_heif(start) or any(of and of(start[:16]) is True for of in accepts)


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """A picture of any mode as RGB with 8 bits a channel; `notes` gets a note of what that changed.

    Transparent pixels are laid on grey: what they hide, often noise, is not part of the picture.
    More than 8 bits are scaled from the range that the values need: 8, 10, 12, 14, 16 bits, [0, 1].

    Raises:
        DecodeError: it has numbers that are negative or not finite, or of more than 16 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _scaled(image, notes)
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        if whole.getchannel("A").getextrema() != (255, 255):
            notes.append("it is transparent in places; these were laid on grey")
            background = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
            image = Image.alpha_composite(background, whole)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scaled(image: Image.Image, notes: list[str]) -> Image.Image:
    """Grey values of more than 8 bits, integers or not, as 8 bits, with their transparency."""
    values = np.asarray(image)
    largest, smallest = float(values.max()), float(values.min())
    if not (0 <= smallest <= largest < 2**16):  # also where one is not a number
        kind = "has values outside 0 ... 65535"
        raise DecodeError(kind, f"{kind} ({smallest:g} to {largest:g}); save it with 8 or 16 bits")
    if values.dtype.kind == "f" and largest <= 1:
        top = 1
    else:
        top = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if largest <= 2**bits - 1)
    if top == 255:
        grey = image.convert("L")
    else:
        what = f"{smallest:g} to {largest:g}, were scaled from 0 ... {top} to 8 bits"
        notes.append(f"its values, {what}")
        grey = Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    if (hidden := image.info.get("transparency")) is None:  # in PNG, a value
        return grey
    alpha = np.where(values == hidden, 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def beginning(path: Path, size: int = 16) -> bytes:
    """The first `size` bytes of a file.

    Raises:
        InputError: it is missing, empty, cannot be read, or is not a regular file (reading a pipe
            may never end).
    """
    start = b""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                start = file.read(size)
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


def too_large(
    width: int, height: int, max_pixels: int = MAX_PIXELS, max_side: int = MAX_SIDE
) -> str | None:
    """What is wrong with a picture that is larger than the limits; None for others."""
    if width * height <= max_pixels and max(width, height) <= max_side:
        return None
    limits = f"over {max_pixels:,} pixels or {max_side:,} a side"
    return f"is {width}x{height}, {limits}; make it smaller"


def resized(image: Image.Image, size: Size) -> np.ndarray:
    """A picture on the network's grid: (*size, 3) uint8, `size` being (height, width).

    By the published preprocessing: PIL's NEAREST. Other libraries sample other positions.
    """
    height, width = size
    return np.asarray(to_rgb(image.resize((width, height), Image.Resampling.NEAREST), []))


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
