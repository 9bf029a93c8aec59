"""Smooth random fields and soft shapes, of which portraits and forgeries are made.

They are the same to the last bit on every processor; see `exactly`.
"""

import numpy as np
from PIL import Image


def exactly(function: np.ufunc, *values: np.ndarray | float) -> np.ndarray:
    """What a function such as `np.exp` gives, float32, whatever the processor.

    NumPy has several versions of such functions and takes the one for the processor's vector
    units; in float32 they differ in the last bit, which can end as another pixel. In float64 they
    differ by so little that rounding to float32 takes it away. Sums, products, quotients and
    square roots need no such care: they are exactly rounded everywhere.
    """
    shape = np.broadcast_shapes(*map(np.shape, values))
    return function(*values, out=np.empty(shape, np.float32), dtype=np.float64, casting="same_kind")


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the vectors (x, y); unlike `np.hypot`, the same everywhere."""
    return np.sqrt(x * x + y * y)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: int | tuple[int, int]
) -> np.ndarray:
    """Random values that vary smoothly: normal ones on a coarse grid, interpolated bicubically.

    Args:
        rng: where the values come from.
        shape: (H, W) of the result.
        cells: of the coarse grid, the number of cells along (H, W), or along both.

    Returns:
        (H, W) float32, mean about 0, standard deviation about 0.7.
    """
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    coarse = Image.fromarray(rng.standard_normal((rows + 1, columns + 1), np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """Goes smoothly from 0 at `start` to 1 at `end` (a cubic); `start` may be the larger."""
    x = np.clip((values - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def bump(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], size: tuple[float, float]):
    """A Gaussian hill of height 1 around `centre`, `size` being its standard deviations."""
    x, y = (u - centre[0]) / size[0], (v - centre[1]) / size[1]
    return exactly(np.exp, -0.5 * (x * x + y * y))


def ellipse(
    u: np.ndarray, v: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """Roughly the distance to an ellipse, in the units of `u` and `v`; negative inside."""
    r = length((u - centre[0]) / radii[0], (v - centre[1]) / radii[1])
    return (r - 1) * min(radii)


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage in [0, 1] of a shape by its signed distance, with an edge `softness` wide."""
    return np.clip(0.5 - distance / softness, 0, 1)
