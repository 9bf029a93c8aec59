"""Smooth random fields and soft shapes for portraits and forgeries.

Results are the same to the last bit on every processor; see `exactly`.
"""

import numpy as np
from PIL import Image


def exactly(function: np.ufunc, *values: np.ndarray | float) -> np.ndarray:
    """Computes a function such as `np.exp` with the same float32 result on every processor.

    NumPy has several versions of such functions and chooses one by the processor's vector units;
    in float32 they differ in the last bit, which can change a pixel. In float64 they differ so
    little that rounding to float32 removes it. Sums, products, quotients and square roots are
    exactly rounded everywhere.
    """
    shape = np.broadcast_shapes(*map(np.shape, values))
    return function(*values, out=np.empty(shape, np.float32), dtype=np.float64, casting="same_kind")


def length(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The length of vectors (x, y); unlike `np.hypot`, the same on every processor."""
    return np.sqrt(x * x + y * y)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: int | tuple[int, int]
) -> np.ndarray:
    """Random values that vary smoothly: normal ones on a coarse grid, interpolated bicubically.

    `cells` is the number of cells of the coarse grid along (H, W), or along both.

    Returns:
        (H, W) float32, mean about 0, standard deviation about 0.7.
    """
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    coarse = Image.fromarray(rng.standard_normal((rows + 1, columns + 1), np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def ramp(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """A cubic step from 0 at `start` to 1 at `end`; `start` may be the larger."""
    x = np.clip((values - start) / (end - start), 0, 1)
    return x * x * (3 - 2 * x)


def bump(u: np.ndarray, v: np.ndarray, centre: tuple[float, float], size: tuple[float, float]):
    """A Gaussian of height 1 around `centre`; `size` is its standard deviations."""
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
