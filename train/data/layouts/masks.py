"""Finds the mask of a crop by its name; reads and writes the classes of its pixels."""

import io
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from flax_unet.media import images
from train.data.layouts import image_files
from train.data.layouts.faults import BadFileError
from train.data.layouts.image_files import File

SUFFIXES = images.SUFFIXES - {".ppm"}
ENDINGS = ("_mask", "_diff")  # that a mask's name may have behind its crop's

_CLASSES = ("P", "L", "1")  # modes of one channel, of palette indices or grey levels
_BLACK, _BRIGHT = (0, 0, 0), ((255, 255, 255), (1, 1, 1))  # grey levels of classes
# `crops/crops_testing/` has its masks in `masks/masks_testing/`.
_PART = re.compile(r"^(crops|masks)(?=_[^/]*/)")


def by_crop(
    crops: Collection[str], masks: Mapping[str, File]
) -> tuple[dict[str, dict[str, File]], list[str]]:
    """Finds the masks of crops, which have the crop's folder and name.

    The suffix may differ, and the name may end with one of ENDINGS. Paths are below `crops/` and
    `masks/`.

    Returns:
        The masks of each crop that has any, and the masks that match no crop.
    """
    known = set(map(_name, crops))
    found: dict[str, dict[str, File]] = defaultdict(dict)
    unmatched: list[str] = []
    for mask, file in masks.items():
        name = _name(mask)
        possible = (name, *(name.removesuffix(end) for end in ENDINGS if name.endswith(end)))
        of = next((p for p in possible if p in known), None)
        if of is None or PurePosixPath(mask).suffix.lower() not in SUFFIXES:
            unmatched.append(mask)
        else:
            found[of][mask] = file
    return {crop: found[name] for crop in crops if (name := _name(crop)) in found}, unmatched


def _name(path: str) -> str:
    """The part of the path that a crop and its mask have in common."""
    return _PART.sub("", str(PurePosixPath(path).with_suffix("")))


def decode(content: bytes) -> np.ndarray:
    """The classes of a stored mask, (H, W) uint8: 0 untouched, 1 manipulated.

    Raises:
        BadFileError: it is not a picture, or has values that are not classes.
    """
    image = _as_shown(image_files.decode(content))
    if image.mode not in _CLASSES or not _are_classes(_values(image)):
        raise _not_classes(image)
    return (np.asarray(image) != 0).astype(np.uint8)


def stored(content: bytes, threshold: int | None) -> tuple[bytes, tuple[int, int], bool]:
    """Converts a mask to a picture of classes; one that has classes already stays as it is.

    Classes are 0 and 1, or 0 and 255, as palette indices or grey levels; of a palette of such
    levels, the colours count. With a threshold, grey levels of 0 and 1 are levels too. The channels
    of a colour picture must be equal. The threshold is the lowest grey level that means
    MANIPULATED, 1 to 255; None if unknown.

    Returns:
        A picture that `decode` reads, its width and height, and whether the threshold emptied a
        mask whose levels are 0 and 1.

    Raises:
        BadFileError: it is not a picture, or its classes are not known.
    """
    image = image_files.decode(content)
    is_palette = image.mode in ("P", "1")
    image = _as_shown(image)
    if image.mode in _CLASSES and _are_classes(_values(image)) and (is_palette or not threshold):
        return content, image.size, False
    grey = _grey(image)
    values = _values(grey)
    if threshold is not None:
        classes = np.asarray(grey) >= threshold
    elif _are_classes(values):
        classes = np.asarray(grey) > 0
    else:
        raise _not_classes(grey)
    file = io.BytesIO()
    Image.fromarray(classes).save(file, "PPM")  # as bits: the same bytes with any version
    is_emptied = {1} <= set(values) <= {0, 1} and not classes.any()
    return file.getvalue(), image.size, is_emptied


def save(is_manipulated: np.ndarray, path: Path) -> None:
    """Writes a mask (H, W) bool as a GIF whose palette indices are the classes, as published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = images.mask_image(is_manipulated, is_manipulated.shape[::-1])
    mask.save(path, optimize=False)  # which would make 1 to 0 where all pixels are 1


def _as_shown(image: Image.Image) -> Image.Image:
    """A palette of two classes' grey levels as what it shows; other pictures as they are.

    Its index 0 may be white: programs order palettes as they like, or store used colours alone.
    """
    if image.mode != "P" or "transparency" in image.info:
        return image
    palette, values = image.getpalette() or [], _values(image)
    first, *shown = (tuple(palette[3 * i : 3 * i + 3]) for i in (0, *values))
    for bright in _BRIGHT:
        is_plain = {*shown} <= {_BLACK, bright} and len({*shown}) == len(values)
        if is_plain and bright in (first, *shown):
            return image.convert("L")
    return image


def _grey(image: Image.Image) -> Image.Image:
    """Converts a picture whose channels are equal to grey levels."""
    if image.mode == "L":
        return image
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise BadFileError(f"its mode is {image.mode}; expected a palette, grey levels or RGB")
    bands = [np.asarray(band) for band in image.split()]
    if image.mode != "RGB" and (bands.pop() != 255).any():
        raise BadFileError("it has transparent pixels; expected grey levels")
    if any((band != bands[0]).any() for band in bands):
        raise BadFileError("it has colours; expected grey levels")
    return Image.fromarray(bands[0])


def _values(image: Image.Image) -> list[int]:
    return [value for value, count in enumerate(image.histogram()) if count]


def _are_classes(values: list[int]) -> bool:
    return set(values) <= {0, 1} or set(values) <= {0, 255}


def _not_classes(image: Image.Image) -> BadFileError:
    values = _values(image)
    shown = ", ".join(map(str, values[:6])) + ", ..." * (len(values) > 6)
    return BadFileError(
        "its values are not classes",
        f"its values are {shown}; expected the classes 0 and 1, or 0 and 255. For grey levels, "
        "name the lowest that means MANIPULATED, such as --mask-threshold 128",
    )
