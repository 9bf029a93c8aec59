"""Makes pairs of a real picture and its forgery from portraits. It runs in worker processes."""

import io
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from flax_unet.utils.errors import InputError
from train.data.layouts.faults import Fault, fault_of
from train.data.storage.manifest import Record
from train.data.synthetic.forge import forge
from train.data.synthetic.portraits import Portraits

SIZE = 256  # pixels along each side of what is stored; enough for networks of 128 or 224
DONOR_SHARE = 1 / 3  # of the forgeries that get another portrait's face instead of their own

_STREAM = 1  # of random numbers; portraits are generated from another one


def make_pairs(
    sources: Portraits, seed: int, batch: Sequence[int]
) -> tuple[list[Record], dict[str, Fault]]:
    """The records of some portraits of one split, which are also the donors.

    Returns:
        A real and a forged record of each portrait that can be forged; the faults of the others.
    """
    names, pictures = zip(*(sources[index] for index in batch), strict=True)
    portraits = [_fitted(picture) for picture in pictures]
    records: list[Record] = []
    faults: dict[str, Fault] = {}
    for position, (index, name) in enumerate(zip(batch, names, strict=True)):
        rng = np.random.default_rng((seed, index, _STREAM))
        real, donor = portraits[position], None
        if rng.random() < DONOR_SHARE and len(batch) > 1:
            donor = portraits[(position + int(rng.integers(1, len(batch)))) % len(batch)]
        try:
            fake, mask = forge(real, rng, donor)
        except InputError as error:
            faults[sources.file(index)] = fault_of(error)
            continue
        first = sources.name(sources.first(index))
        for kind, pixels, classes in (("real", real, np.zeros_like(mask)), ("fake", fake, mask)):
            records.append(
                {
                    "file": f"{kind}/{name}.png",
                    "video": f"{name}_{kind}",
                    "original": originals(name, first) if kind == "fake" else "",
                    "image": _png(pixels),
                    "mask": _png(classes),
                    "label": int(kind == "real"),
                }
            )
    return records, faults


def originals(name: str, first: str) -> str:
    """The originals of a portrait's forgery: its real frame, then that of its photo's first face.

    So faces of one photo, which may be of one family, stay together when a data set is split.
    """
    return "\n".join(dict.fromkeys((f"{name}_real", f"{first}_real")))


def _fitted(image: Image.Image) -> np.ndarray:
    """The middle of a picture as (SIZE, SIZE, 3) uint8."""
    if image.size != (SIZE, SIZE):
        image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _png(array: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as a PNG, compressed quickly: noise would not get much smaller."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()
