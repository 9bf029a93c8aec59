"""Paints a picture in the coordinates of a face."""

import dataclasses

import numpy as np


def colour(red: float, green: float, blue: float) -> np.ndarray:
    """(3, 1, 1) float32, to multiply with maps (H, W)."""
    return np.array([red, green, blue], np.float32).reshape(3, 1, 1)


@dataclasses.dataclass
class Canvas:
    """Pixels and their positions on the face.

    In the face's coordinates the top of the skull is at v = -1, the chin at v = 1 and the middle
    of the face at u = 0; u grows to the right.
    """

    pixels: np.ndarray  # (3, H, W) float32, 0 to 255 though single values may lie beyond
    u: np.ndarray  # (H, W) float32
    v: np.ndarray  # (H, W) float32
    softness: float  # width of a shape's edge: a pixel and a half in the units of u and v

    def window(self, u: tuple[float, float], v: tuple[float, float]) -> "Canvas":
        """The smallest part with all pixels between two u and two v.

        It shares the pixels of the whole canvas; painting on it takes less time.
        """
        near = (self.u > u[0]) & (self.u < u[1]) & (self.v > v[0]) & (self.v < v[1])
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Canvas(self.pixels[:, *part], self.u[part], self.v[part], self.softness)

    def paint(self, colour: np.ndarray, alpha: np.ndarray) -> None:
        """Covers the pixels by (3, 1, 1) or (3, H, W), 0 to 255, with opacity (H, W) in [0, 1]."""
        rows = np.flatnonzero(alpha.max(1) > 0)  # most shapes leave most rows unchanged
        if not rows.size:
            return
        part = np.s_[:, rows[0] : rows[-1] + 1]
        below = self.pixels[part]
        above = colour[part] if colour.shape[1] > 1 else colour
        below += (above - below) * alpha[part[1]]

    def shade(self, factor: np.ndarray) -> None:
        """Multiplies the pixels by `factor` (H, W)."""
        self.pixels *= factor
