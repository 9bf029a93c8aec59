"""Forges a portrait: replaces its inner face.

Forgeries are made as in self-blending (Shiohara and Yamasaki, "Detecting Deepfakes with
Self-Blended Images", CVPR 2022): a face swap leaves traces of blending, not the features of another
person. So the new face may be the portrait's own: moved, bent, recoloured, resampled, sharpened or
blurred, then blended through a soft mask.
"""

import functools
import io
import itertools
import math

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageStat
from scipy import ndimage

from flax_unet.utils.errors import InputError
from train.data.synthetic.raster import exactly, length, smooth_noise

# The label's rule; see `_label`.
MIN_WEIGHT = 0.1  # of the replaced face in a pixel
MIN_CHANGE = 2  # levels of 255 by which the neighbourhood changed on average
MIN_AREA = 0.03  # share of the picture that the label covers; less is forged anew

_RATIOS = (0.5, 0.75, 0.75, 1.0, 1.0, 1.0)  # how opaque the replaced face is
_ATTEMPTS = 20
_MESH = 8  # cells along each side of the grid that is bent
_UP = Image.Resampling.BILINEAR


def forge(
    portrait: np.ndarray, rng: np.random.Generator, donor: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Replaces the inner face of a portrait.

    Args:
        portrait: (H, W, 3) uint8, the face upright and around the middle, H and W at least 32.
        rng: source of all randomness; the same state makes the same forgery.
        donor: (H, W, 3) uint8, the portrait whose face is blended in; None for the same one.

    Returns:
        The forgery (H, W, 3) uint8, and its label (H, W) uint8: 1 where it is manipulated.

    Raises:
        InputError: no attempt changed the portrait visibly, as in a picture of one colour.
    """
    base = Image.fromarray(portrait)
    for _ in range(_ATTEMPTS):
        outline = _face_shape(rng, portrait.shape[:2])
        source = portrait if donor is None else _matched(donor, portrait, outline)
        face = _altered(_moved(source, rng), rng)
        weight = _feathered(outline, rng).point(_scaled(_RATIOS[rng.integers(len(_RATIOS))]))
        forgery = Image.composite(face, base, weight)
        label = _label(base, forgery, weight)
        if label.mean() >= MIN_AREA:
            return np.asarray(forgery), label
    raise InputError(
        f"at {portrait.shape[1]}x{portrait.shape[0]} pixels a forgery looks the same; "
        "the portrait seems to have one colour"
    )


def _face_shape(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """An inner face of random outline, (H, W) bool.

    It is an ellipse whose radius wobbles with the angle and whose chin is narrower, bent by a
    smooth random field.
    """
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = (x + 0.5) / width - rng.uniform(0.47, 0.53) + 0.02 * smooth_noise(rng, shape, 4)
    y = (y + 0.5) / height - rng.uniform(0.48, 0.57) + 0.02 * smooth_noise(rng, shape, 4)
    half_width = rng.uniform(0.17, 0.28) * (1 - rng.uniform(0, 0.5) * np.clip(y / 0.3, 0, 1))
    radius = length(x / half_width, y / rng.uniform(0.2, 0.33))
    angle = exactly(np.arctan2, y, x)
    for waves in (2, 3, 4):
        size, phase = rng.uniform(0, 0.18 / waves), rng.uniform(0, 2 * np.pi)
        radius = radius * (1 + size * exactly(np.cos, waves * angle + phase))
    return radius < 1


def _feathered(outline: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Blending weights, 0 to 255: the outline with an edge between crisp and wide."""
    spread = outline.shape[1] * math.exp(rng.uniform(math.log(0.002), math.log(0.02)))
    levels = Image.fromarray(outline.astype(np.uint8) * 255)
    return levels.filter(ImageFilter.GaussianBlur(spread))


def _scaled(factor: float, fixed: float = 0, shift: float = 0) -> list[int]:
    """A lookup table for 256 levels: scaled by `factor` around `fixed`, then shifted."""
    levels = (np.arange(256) - fixed) * factor + fixed + shift
    return np.clip(levels, 0, 255).round().astype(int).tolist()


def _matched(donor: np.ndarray, portrait: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """The donor with the mean and spread of the portrait's colours in the face, uint8."""
    face, target = donor[outline], portrait[outline]
    means, wanted = face.mean(0), target.mean(0)
    factors = np.clip((target.std(0) + 1) / (face.std(0) + 1), 0.75, 1.33)
    tables = map(_scaled, factors, means, wanted - means)
    return np.asarray(Image.fromarray(donor).point([*itertools.chain(*tables)]))


def _moved(source: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """The source slightly shifted, scaled, turned and bent; bilinear."""
    height, width = source.shape[:2]
    angle, scale = rng.uniform(-0.07, 0.07), rng.uniform(0.94, 1.06)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    cells = np.linspace(0, 1, _MESH + 1)
    corners = np.stack(np.meshgrid(cells, cells), axis=-1)  # (rows, columns, (x, y)) in [0, 1]
    bend = rng.standard_normal(corners.shape) * rng.uniform(0, 0.008)
    x, y = np.moveaxis(corners - 0.5, -1, 0)
    turned = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    origins = turned + 0.5 + rng.uniform(-0.025, 0.025, 2) + bend
    origins = np.clip(origins, 0, 1) * (width, height)
    at = (corners * (width, height)).round().astype(int)
    mesh = [
        (
            (*at[i, j].tolist(), *at[i + 1, j + 1].tolist()),
            (*origins[i, j], *origins[i + 1, j], *origins[i + 1, j + 1], *origins[i, j + 1]),
        )
        for i in range(_MESH)
        for j in range(_MESH)
    ]
    image = Image.fromarray(source)
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _altered(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The face in other colours and of another sharpness."""
    face = _TEXTURES[rng.integers(len(_TEXTURES))](face, rng)
    contrast, brightness = rng.uniform(0.75, 1.25), rng.uniform(-20, 20)
    # Around its own mean, so that a dark face keeps its detail.
    means, shifts = ImageStat.Stat(face).mean, brightness + rng.uniform(-15, 15, 3)
    tables = [_scaled(contrast, *channel) for channel in zip(means, shifts, strict=True)]
    return face.point([*itertools.chain(*tables)])


def _resampled(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    factor = rng.uniform(0.25, 0.6)
    small = (max(1, round(face.width * factor)), max(1, round(face.height * factor)))
    return face.resize(small, _UP).resize(face.size, _UP)


def _blurred(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    return face.filter(ImageFilter.GaussianBlur(face.width * rng.uniform(0.004, 0.008)))


def _sharpened(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    strength = int(rng.integers(200, 400))
    return face.filter(ImageFilter.UnsharpMask(face.width * 0.006, strength, threshold=0))


def _compressed(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    face.save(file, "JPEG", quality=int(rng.integers(15, 50)))
    return Image.open(file).convert("RGB")


_TEXTURES = (_resampled, _resampled, _blurred, _sharpened, _compressed)


def _label(base: Image.Image, forgery: Image.Image, weight: Image.Image) -> np.ndarray:
    """Where the forgery is manipulated: (H, W) uint8 in {0, 1}, one region without holes.

    A pixel counts where the replaced face has at least MIN_WEIGHT and where the pixels around
    it, over a sixteenth of the width, changed by at least MIN_CHANGE on average (by the channel
    that changed most). The label is the largest connected region of these, with its holes filled:
    a pixel inside a replaced face belongs to it even if it looks as before.
    """
    changed = functools.reduce(ImageChops.lighter, ImageChops.difference(base, forgery).split())
    nearby = np.asarray(changed.filter(ImageFilter.BoxBlur(base.width / 32)))
    regions = np.empty(nearby.shape, np.int32)
    counts = (np.asarray(weight) >= 255 * MIN_WEIGHT) & (nearby >= MIN_CHANGE)
    if not ndimage.label(counts, output=regions):
        return np.zeros(nearby.shape, np.uint8)
    largest = 1 + np.bincount(regions.ravel())[1:].argmax()
    return np.asarray(ndimage.binary_fill_holes(regions == largest), np.uint8)
