"""Pictures whose pixels stay an array until Pillow needs them."""

from typing import Any

import numpy as np
from PIL import Image


class LazyImage(Image.Image):
    """A picture from an array, which is copied into Pillow's memory at the first use of all of it.

    Its parts, as `crop` cuts them out, and `np.asarray` do without. So do most frames of a video,
    whose copy takes as long as finding a face.
    """

    def __init__(self, pixels: np.ndarray) -> None:
        """Takes (height, width, 3) uint8, RGB, which is not changed any more."""
        super().__init__()
        # What a plugin of Pillow sets, before it reads the pixels.
        self._mode, self._size = "RGB", pixels.shape[1::-1]
        self._pixels: np.ndarray | None = pixels

    @property
    def __array_interface__(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._pixels is None:
            return super().__array_interface__
        shape = self._pixels.shape
        return {"shape": shape, "typestr": "|u1", "version": 3, "data": self._pixels.data}

    def load(self) -> Any:
        """Copies the pixels; see Pillow."""
        if self._pixels is not None:
            self.im, self._pixels = Image.fromarray(self._pixels).im, None
        return super().load()

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """A part of the picture; see Pillow."""
        if self._pixels is None or box is None:
            return super().crop(box)
        left, top, right, bottom = map(round, box)
        width, height = self.size
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            return super().crop(box)
        return Image.fromarray(self._pixels[top:bottom, left:right])
