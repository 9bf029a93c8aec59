"""Converts the decoded frames of a video to upright RGB pictures with square pixels."""

from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter

from flax_unet.media.images import GREY, too_large
from flax_unet.utils.errors import InputError

_MOST_STRETCHED = 4  # a pixel's width in heights, or the other way round
_ALMOST_SQUARE = 0.01  # off by rounding
_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
_TO_SDR = {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
_REFORMATTER = VideoReformatter()  # kept: it takes seconds to prepare to map HDR


class Converter:
    """Converts the frames of one video, all to the size of the first.

    Attributes:
        notes: what was changed, in order, each once.
    """

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self._size: tuple[int, int] | None = None  # of pictures before they are turned
        self._first = (0, 0)  # size of the first frame

    def convert(self, frame: VideoFrame, pixel_aspect: Fraction | None) -> np.ndarray | None:
        """A frame as (height, width, 3) uint8 RGB, upright; None if it cannot be converted.

        `pixel_aspect` is a pixel's width in heights, None if it is not known; the first one counts.

        Raises:
            InputError: with square pixels it is too large; the message is a predicate.
        """
        if self._size is None:
            self._size = self._square(frame, pixel_aspect or Fraction(1))
            self._first = frame.width, frame.height
        width, height = self._size
        has_alpha = any(component.is_alpha for component in frame.format.components)
        kind = _HDR.get(frame.color_trc)
        try:
            changed = _REFORMATTER.reformat(
                frame,
                width,
                height,
                "rgba" if has_alpha else "rgb24",
                interpolation=Interpolation.BICUBIC,
                **(_TO_SDR if kind else {}),
            )
            pixels = changed.to_ndarray()
        except MemoryError:
            raise
        except (FFmpegError, ValueError):
            return None
        if kind:
            self.notes[f"its colours are HDR ({kind}); they were mapped to SDR"] = None
        if (frame.width, frame.height) != self._first:
            text = f"some frames have another size; they were scaled to {width}x{height}"
            self.notes[text] = None
        if has_alpha:
            pixels = self._laid_on_grey(pixels)
        if frame.interlaced_frame and height == frame.height:
            self.notes["it is interlaced; every second line was interpolated"] = None
            pixels = _deinterlaced(pixels)
        return np.ascontiguousarray(_upright(pixels, frame))

    def _square(self, frame: VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
        """The size at which pixels are square.

        Raises:
            InputError: it is too large.
        """
        width, height = frame.width, frame.height
        is_plausible = 1 / _MOST_STRETCHED <= pixel_aspect <= _MOST_STRETCHED
        if is_plausible and abs(pixel_aspect - 1) > _ALMOST_SQUARE:
            width = max(1, round(width * pixel_aspect))
            text = f"its pixels are not square; frames were stretched to {width}x{height}"
            self.notes[text] = None
        if (excess := too_large(width, height)) is not None:
            raise InputError(excess)
        return width, height

    def _laid_on_grey(self, pixels: np.ndarray) -> np.ndarray:
        opacity = pixels[..., 3:].astype(np.uint16)
        if opacity.min() == 255:
            return pixels[..., :3]
        self.notes["it is transparent in places; these were laid on grey"] = None
        return ((pixels[..., :3] * opacity + GREY * (255 - opacity)) // 255).astype(np.uint8)


def _deinterlaced(pixels: np.ndarray) -> np.ndarray:
    """The upper field, and between its lines their means."""
    upper = pixels[::2].astype(np.uint16)
    pixels = pixels.copy()
    pixels[1:-1:2] = ((upper[:-1] + upper[1:]) // 2)[: len(pixels[1:-1:2])]
    if len(pixels) % 2 == 0:
        pixels[-1] = pixels[-2]
    return pixels


def _upright(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """A picture turned and mirrored by the display matrix of its frame, to the next quarter."""
    stored = frame.side_data.get("DISPLAYMATRIX")
    if stored is None:
        return pixels
    # A point (x, y) moves to (a x + c y, b x + d y).
    a, b, _, c, d, *_ = np.frombuffer(bytes(stored), np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels = pixels.transpose(1, 0, 2)
        a, d = c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
