"""Pictures whose pixels stay an array until Pillow needs them."""

from typing import Any

import numpy as np
from PIL import Image

from flax_unet.media.faces import opencv


class LazyImage(Image.Image):
    """A picture from an array, which is copied into Pillow's memory only when Pillow needs it.

    `crop`, `np.asarray`, and `resize` for a rough small picture do not copy the whole one. Most
    frames of a video need nothing else, and copying one takes as long as finding a face. One thread
    at a time may use it.
    """

    _pixels: np.ndarray | None = None  # None once they are copied

    def __init__(self, pixels: np.ndarray) -> None:
        """Takes (height, width, 3) uint8, RGB, which is not changed any more."""
        super().__init__()
        # Pillow's plugins also set these before they read the pixels.
        self._mode, self._size = "RGB", pixels.shape[1::-1]
        pixels = np.ascontiguousarray(pixels).view()
        pixels.flags.writeable = False  # as what NumPy gets of any other picture
        self._pixels = pixels

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

    def resize(  # pyright: ignore[reportIncompatibleMethodOverride] (no lists)
        self,
        size: tuple[int, int],
        resample: int | None = None,
        box: tuple[float, float, float, float] | None = None,
        reducing_gap: float | None = None,
    ) -> Image.Image:
        """The picture at another size; see Pillow.

        Where it shrinks by BILINEAR with a reducing gap, which need not be exact, its pixels are
        the means of those that they cover.
        """
        pixels, is_rough = self._pixels, resample == Image.Resampling.BILINEAR and reducing_gap
        shrinks = all(0 < new <= old for new, old in zip(size, self.size, strict=True))
        if pixels is None or box is not None or not is_rough or not shrinks:
            return super().resize(size, resample, box, reducing_gap)
        cv2, (width, height) = opencv(), size
        while _can_halve(pixels.shape[1], width) and _can_halve(pixels.shape[0], height):
            # OpenCV halves several times as fast as it takes other means.
            half = pixels.shape[1] // 2, pixels.shape[0] // 2
            pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
        return LazyImage(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _can_halve(side: int, wanted: int) -> bool:
    return side % 2 == 0 and side >= 2 * wanted
