"""Alters pictures: as editors do to a face, and as cameras, networks and codecs do to a frame."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flax_unet.media.faces import opencv


def altered(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In other colours, some in another light, and of another sharpness."""
    image = _recoloured(image, rng, shift=20, spread=0.2)
    if rng.random() < 0.4:
        image = _lit(image, rng)
    return _TEXTURES[rng.integers(len(_TEXTURES))](image, rng)


def _recoloured(
    image: np.ndarray, rng: np.random.Generator, shift: float, spread: float
) -> np.ndarray:
    """With other saturation, contrast and brightness, and each channel shifted."""
    saturation, contrast = 1 + rng.uniform(-spread, spread, 2)
    luminance = np.array([0.299, 0.587, 0.114])
    matrix = contrast * (saturation * np.eye(3) + (1 - saturation) * luminance)
    # Around its own mean, so that a dark face keeps its detail.
    mean = np.array(opencv_in_one_thread().mean(image)[:3])
    offset = mean - matrix @ mean + rng.uniform(-shift, shift, 3) + rng.uniform(-shift, shift) / 2
    return opencv_in_one_thread().transform(image, np.column_stack([matrix, offset]))


def _downscaled(image: np.ndarray, rng: np.random.Generator, least: float = 0.25) -> np.ndarray:
    cv2, full, factor = opencv_in_one_thread(), image.shape[1::-1], rng.uniform(least, 0.75)
    size = tuple(max(round(factor * side), 1) for side in full)
    kinds = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_NEAREST)
    small = cv2.resize(image, size, interpolation=kinds[rng.integers(4)])
    return cv2.resize(small, full, interpolation=kinds[(0, 2)[rng.integers(2)]])


def _sharpened(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    amount = rng.uniform(0.5, 2.5)
    soft = opencv_in_one_thread().GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.8))
    return opencv_in_one_thread().addWeighted(image, 1 + amount, soft, -amount, 0)


def _blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return opencv_in_one_thread().GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8))


def _compressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As JPEG."""
    cv2 = opencv_in_one_thread()
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 97))]
    return cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)


_TEXTURES: tuple[Callable[[np.ndarray, np.random.Generator], np.ndarray], ...]
_TEXTURES = (_downscaled, _downscaled, _sharpened, _sharpened, _blurred, _compressed)


def disturbed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As cameras, editors and networks leave pictures: the same numbers do the same to any."""
    chances = rng.random(6)
    if chances[5] < 0.4:
        image = _lit(image, rng)
    if chances[0] < 0.6:
        image = _recoloured(image, rng, shift=20, spread=0.35)
    elif chances[0] < 0.65:
        image = _grey(image)
    if chances[1] < 0.25:
        image = _downscaled(image, rng, least=0.6)
    if chances[2] < 0.15:
        image = _blurred(image, rng)
    elif chances[2] < 0.3:
        image = _sharpened(image, rng)
    if chances[3] < 0.3:
        image = _noisy(image, rng)
    if chances[4] < 0.45:
        return _compressed(image, rng)
    return _coded(image, rng) if chances[4] < 0.7 else image


def _lit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In harder or softer light, brighter on one side."""
    cv2, (height, width) = opencv_in_one_thread(), image.shape[:2]
    gamma, strength = math.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0, 0.8)
    direction = rng.uniform(0, 2 * math.pi)
    levels = (255 * (np.arange(256) / 255) ** gamma).astype(np.float32)
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(math.cos(direction))
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(math.sin(direction))
    light = 1 + np.float32(strength) * (across + down[:, None])
    return cv2.convertScaleAbs(cv2.multiply(levels[image], cv2.merge([light] * 3)))


def _grey(image: np.ndarray) -> np.ndarray:
    """In levels of grey."""
    cv2 = opencv_in_one_thread()
    return cv2.merge([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3)


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


@functools.cache
def opencv_in_one_thread() -> Any:
    """OpenCV, which leaves the other cores to those who make other frames."""
    cv2 = opencv()
    cv2.setNumThreads(1)
    return cv2
