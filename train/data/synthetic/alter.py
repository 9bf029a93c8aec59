"""Alters pictures: as editors do to a face, and as cameras, networks and codecs do to a frame."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flax_unet.media.faces import opencv
from train.data.synthetic.raster import exactly, smooth_noise

_Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def altered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In other colours, some in another light, and most much softer, rougher or sharper.

    Easy to see: networks that learnt from fainter forgeries called more real people FAKE.
    """
    image = _recoloured(image, rng, spread=0.3, shift=24)
    for some in _ALTERATIONS:
        image = _one_of(some, image, rng)
    return image


def _recoloured(
    image: np.ndarray,
    rng: np.random.Generator,
    spread: float,
    shift: float,
    around: float | None = None,
) -> np.ndarray:
    """With other saturation, contrast and brightness, and each channel shifted.

    `around` is the level that contrast leaves as it is; None: the picture's mean, so that a dark
    face keeps its detail.
    """
    saturation, contrast = 1 + rng.uniform(-spread, spread, 2)
    luminance = np.array([0.299, 0.587, 0.114])
    matrix = contrast * (saturation * np.eye(3) + (1 - saturation) * luminance)
    mean = np.array(opencv_in_one_thread().mean(image)[:3]) if around is None else [around] * 3
    offset = mean - matrix @ mean + rng.uniform(-shift, shift, 3) + rng.uniform(-shift, shift)
    return opencv_in_one_thread().transform(image, np.column_stack([matrix, offset]))


def _downscaled(
    image: np.ndarray, rng: np.random.Generator, least: float, most: float
) -> np.ndarray:
    """By a factor from `least` to `most`, and back."""
    cv2, full, factor = opencv_in_one_thread(), image.shape[1::-1], rng.uniform(least, most)
    size = tuple(max(round(factor * side), 1) for side in full)
    kinds = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
    small = cv2.resize(image, size, interpolation=kinds[rng.integers(4)])
    return cv2.resize(small, full, interpolation=kinds[(0, 2)[rng.integers(2)]])


def _sharpened(
    image: np.ndarray, rng: np.random.Generator, least: float, most: float
) -> np.ndarray:
    amount = rng.uniform(least, most)
    soft = _blurred(image, rng, least=0.8, most=2.5)
    return opencv_in_one_thread().addWeighted(image, 1 + amount, soft, -amount, 0)


def _blurred(image: np.ndarray, rng: np.random.Generator, least: float, most: float) -> np.ndarray:
    """By a Gaussian whose deviation is from `least` to `most` pixels."""
    return opencv_in_one_thread().GaussianBlur(image, (0, 0), rng.uniform(least, most))


def _softened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred in proportion to its size."""
    longer = max(image.shape[:2])
    return _blurred(image, rng, least=0.006 * longer, most=0.018 * longer)


def _roughened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As enlarged from a JPEG of half the sides and low quality."""
    cv2, (height, width) = opencv_in_one_thread(), image.shape[:2]
    small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(_compressed(small, rng, least=15, most=50), (width, height))


def _compressed(image: np.ndarray, rng: np.random.Generator, least: int, most: int) -> np.ndarray:
    """As JPEG of a quality from `least` to below `most`."""
    cv2 = opencv_in_one_thread()
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(least, most))]
    return cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)


def disturbed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As cameras, editors and networks leave pictures: the same numbers do the same to any."""
    for some in _DISTURBANCES:
        image = _one_of(some, image, rng)
    return image


def _one_of(
    changes: Sequence[tuple[float, _Change]], image: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A picture after one of the changes, each of which has its share, or after none."""
    drawn = rng.random()
    for share, change in changes:
        if drawn < share:
            return change(image, rng)
        drawn -= share
    return image


def _lit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In harder or softer light, brighter on one side."""
    gamma, strength = math.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0, 0.8)
    direction = rng.uniform(0, 2 * math.pi)
    levels = (255 * (np.arange(256) / 255) ** gamma).astype(np.float32)
    place = _places_along(direction, image.shape[:2])
    return _times(levels[image], 1 + np.float32(strength) * place)


def _blotched(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In light that differs from place to place."""
    deviation, cells = np.float32(rng.uniform(0.1, 0.4)), int(rng.integers(2, 5))
    light = exactly(np.exp, deviation * smooth_noise(rng, image.shape[:2], cells))
    return _times(image.astype(np.float32), light)


def _shadowed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With a shadow over one side, whose edge is uneven, and crisp or soft."""
    direction, softness = rng.uniform(0, 2 * math.pi), np.float32(rng.uniform(0.01, 0.15))
    start, depth = np.float32(rng.uniform(-0.25, 0.25)), np.float32(rng.uniform(0.3, 0.8))
    place = _places_along(direction, image.shape[:2]) - start
    place += np.float32(0.1) * smooth_noise(rng, image.shape[:2], 3)
    covered = (1 + exactly(np.tanh, place / (2 * softness))) / 2
    return _times(image.astype(np.float32), 1 - depth * covered)


def _places_along(direction: float, shape: tuple[int, ...]) -> np.ndarray:
    """How far each pixel lies from the middle in a direction: (H, W) float32 in sides."""
    height, width = shape
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(math.cos(direction))
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(math.sin(direction))
    return across + down[:, None]


def _times(levels: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Levels (H, W, 3) float32 in light (H, W) float32, as uint8."""
    cv2 = opencv_in_one_thread()
    return cv2.convertScaleAbs(cv2.multiply(levels, cv2.merge([light] * 3)))


def _toned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By another curve for each channel, as the filters of photo programs."""
    levels, bend = np.arange(256)[:, None] / 255, rng.uniform(-0.4, 0.4)
    low, high = rng.uniform(0, 0.12, 3), rng.uniform(0.85, 1.05, 3)
    curves = low + (high - low) * levels ** np.exp(bend + rng.uniform(-0.18, 0.18, 3))
    table = (255 * curves).round().clip(0, 255).astype(np.uint8)
    return opencv_in_one_thread().LUT(image, table[None])


def _grey(image: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """In levels of grey."""
    cv2 = opencv_in_one_thread()
    return cv2.merge([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3)


def _duotone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In levels between a dark and a bright colour, as sepia."""
    dark, bright = rng.uniform(0, 80, 3), rng.uniform(170, 255, 3)
    table = (dark + (bright - dark) * np.arange(256)[:, None] / 255).round().astype(np.uint8)
    return opencv_in_one_thread().LUT(_grey(image, rng), table[None])


def _noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With noise of a sensor: fine in brightness, coarse in colour."""
    cv2, (height, width), deviation = opencv_in_one_thread(), image.shape[:2], rng.uniform(1, 5)
    fine = rng.standard_normal((height, width), np.float32)
    coarse = rng.standard_normal((height // 2, width // 2, 3), np.float32)
    noise = cv2.add(cv2.resize(coarse, (width, height)), cv2.merge([fine] * 3))
    noisy = cv2.scaleAdd(noise, deviation, image.astype(np.float32))
    return cv2.convertScaleAbs(cv2.max(noisy, 0))


def _coded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As in a video: 8 x 8 blocks in steps of one size, colours at half the resolution."""
    cv2, (height, width) = opencv_in_one_thread(), image.shape[:2]
    step = float(np.float32(math.exp(rng.uniform(math.log(4), math.log(20)))))
    levels = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    half = cv2.resize(levels, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    colours = [_quantised(half[..., channel], step) for channel in (1, 2)]
    wide = cv2.resize(cv2.merge(colours), (width, height), interpolation=cv2.INTER_LINEAR)
    planes = [_quantised(levels[..., 0], step), wide[..., 0], wide[..., 1]]
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YCrCb2RGB)


_COSINES = np.cos((np.arange(8)[:, None] + 0.5) * np.arange(8) * math.pi / 8)
_DCT = (_COSINES * np.where(np.arange(8) == 0, math.sqrt(1 / 8), 1 / 2)).astype(np.float32)
_INVERSE = _DCT.T.copy()


def _quantised(plane: np.ndarray, step: float) -> np.ndarray:
    """A plane (H, W) uint8 whose 8 x 8 blocks have coefficients that are multiples of `step`."""
    cv2 = opencv_in_one_thread()

    def along_rows(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        # OpenCV's product stays in this thread; NumPy's starts others.
        product = cv2.gemm(values.reshape(-1, 8), matrix, 1, None, 0)
        return cv2.transpose(product.reshape(values.shape))

    values = along_rows(along_rows(plane.astype(np.float32), _DCT), _DCT)
    values = (values / step).round() * step
    values = along_rows(along_rows(values, _INVERSE), _INVERSE)
    return cv2.convertScaleAbs(cv2.max(values, 0))


_ALTERATIONS = (
    ((0.25, _lit), (0.15, _blotched)),
    # Some keep their sharpness. Where it gives each away, a network does not look at colours.
    (
        (0.35, functools.partial(_downscaled, least=0.15, most=0.6)),
        (0.17, functools.partial(_blurred, least=1, most=3.5)),
        (0.17, functools.partial(_sharpened, least=2, most=4)),
        (0.16, _roughened),
    ),
)
_DISTURBANCES = (
    ((0.4, _lit), (0.06, _blotched), (0.06, _shadowed)),
    (
        (0.4, functools.partial(_recoloured, spread=0.35, shift=18, around=112)),
        (0.2, _toned),
        (0.06, _grey),
        (0.06, _duotone),
    ),
    ((0.25, functools.partial(_downscaled, least=0.6, most=0.75)),),
    (
        (0.15, functools.partial(_blurred, least=0.5, most=1.8)),
        (0.1, _softened),
        (0.15, functools.partial(_sharpened, least=0.5, most=2.5)),
    ),
    ((0.3, _noisy),),
    (
        (0.45, functools.partial(_compressed, least=50, most=97)),
        (0.25, _coded),
    ),
)


@functools.cache
def opencv_in_one_thread() -> Any:
    """OpenCV, which leaves the other cores to those who make other frames."""
    cv2 = opencv()
    cv2.setNumThreads(1)
    return cv2
