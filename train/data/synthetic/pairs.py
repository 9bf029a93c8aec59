"""Pairs of a real picture and its forgery, from portraits. It runs in worker processes."""

import io
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from flax_unet.utils.errors import InputError
from train.data.layouts.faults import Fault, fault_of
from train.data.synthetic.forge import forge
from train.data.synthetic.portraits import Portraits

SIZE = 256  # pixels along each side of what is stored; wherever 128 or 224 are used, it is enough
DONOR_SHARE = 1 / 3  # of the forgeries that get another portrait's face instead of their own

_STREAM = 1  # of random numbers, not the one that a portrait is generated from


class Checked(NamedTuple):
    """Portraits that are none, by file, with the reason."""

    faults: dict[str, Fault]
    failures: dict[str, Fault]  # of reading, which may work another time


class _Portrait(NamedTuple):
    number: int
    file: str
    name: str
    pixels: np.ndarray  # (SIZE, SIZE, 3) uint8


def check(sources: Portraits, batch: Sequence[int]) -> Checked:
    """Opens some portraits, so that all that cannot be used are known before work begins."""
    found = Checked({}, {})
    for index in batch:
        try:
            sources.check(index)
        except InputError as error:
            found.faults[sources.file(index)] = fault_of(error)
        except (OSError, MemoryError) as error:
            found.failures[sources.file(index)] = fault_of(error)
    return found


def make_pairs(
    sources: Portraits, seed: int, batch: Sequence[int]
) -> tuple[list[dict[str, Any]], dict[str, Fault]]:
    """The examples of some portraits of one split.

    Args:
        sources: the portraits.
        seed: of the forgeries.
        batch: indices into `sources`; the donors are among them too.

    Returns:
        A real and a forged example of each portrait that can be forged; why the others cannot.
    """
    read: list[_Portrait] = []
    examples: list[dict[str, Any]] = []
    faults: dict[str, Fault] = {}
    for index in batch:
        name, image = sources[index]
        read.append(_Portrait(index, sources.file(index), name, _fitted(image)))
    for position, portrait in enumerate(read):
        rng = np.random.default_rng((seed, portrait.number, _STREAM))
        donor = None
        if rng.random() < DONOR_SHARE and len(read) > 1:
            donor = read[(position + int(rng.integers(1, len(read)))) % len(read)].pixels
        try:
            forged, mask = forge(portrait.pixels, rng, donor)
        except InputError as error:
            faults[portrait.file] = fault_of(error)
            continue
        real = f"{portrait.name}_real"
        examples.append(_example("real", portrait, portrait.pixels, np.zeros_like(mask), ""))
        examples.append(_example("fake", portrait, forged, mask, real))
    return examples, faults


def _fitted(image: Image.Image) -> np.ndarray:
    """The middle of a picture as (SIZE, SIZE, 3) uint8."""
    if image.size != (SIZE, SIZE):
        image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _example(
    kind: str, portrait: _Portrait, pixels: np.ndarray, mask: np.ndarray, original: str
) -> dict[str, Any]:
    return {
        "file": f"{kind}/{portrait.name}.png",
        "video": f"{portrait.name}_{kind}",
        "original": original,
        "image": _png(pixels),
        "mask": _png(mask),
        "label": int(kind == "real"),
    }


def _png(array: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as a PNG, packed quickly: noise would not get much smaller."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()
