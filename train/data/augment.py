"""Augments training pictures: each change keeps the label and is made to a share of pictures."""

import dataclasses
import functools
import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from train.options import option

_GREY = 127
_share = functools.partial(option, 0.0, least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The share of pictures, from 0 to 1, to which each change is made at random."""

    flip: float = _share("mirror left to right")
    jpeg: float = _share("compress as JPEG of quality 30 to 95")
    blur: float = _share("blur with a radius up to 2 pixels")
    noise: float = _share("add noise of a deviation up to 10 of 255")
    colour: float = _share("change brightness, contrast and saturation by up to 30 %")
    cut_out: float = _share("grey out a rectangle up to half the side; it counts as untouched")


def augment(
    image: np.ndarray, mask: np.ndarray, shares: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Changes a picture (H, W, 3) uint8 and its mask (H, W) uint8 at random.

    `shares` are the shares of pictures that get each change, in [0, 1]. The same random numbers
    are drawn for any shares.
    """
    rows, columns = mask.shape
    chance = dict(zip(vars(shares), rng.random(6), strict=True))
    wanted = {name for name, share in vars(shares).items() if chance[name] < share}
    factors, radius, deviation = rng.uniform(0.7, 1.3, 3), rng.uniform(0.3, 2), rng.uniform(1, 10)
    quality, noise_seed = int(rng.integers(30, 96)), int(rng.integers(2**32))
    height, width = (int(rng.integers(side // 8, side // 2 + 1)) for side in (rows, columns))
    top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)

    if "flip" in wanted:
        image, mask = image[:, ::-1], mask[:, ::-1]
    picture = Image.fromarray(np.ascontiguousarray(image))
    if "colour" in wanted:
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhance, factor in zip(kinds, factors, strict=True):
            picture = enhance(picture).enhance(factor)
    if "blur" in wanted:
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    image = np.array(picture)
    if "noise" in wanted:
        noise = np.random.default_rng(noise_seed).normal(0, deviation, image.shape)
        image = (image + noise).round().clip(0, 255).astype(np.uint8)
    if "jpeg" in wanted:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        image = np.array(Image.open(file))
    if "cut_out" in wanted:
        image[top : top + height, left : left + width] = _GREY
        mask = mask.copy()
        mask[top : top + height, left : left + width] = 0
    return image, np.ascontiguousarray(mask)
