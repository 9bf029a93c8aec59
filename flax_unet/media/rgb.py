"""Converts the decoded frames of a video to upright RGB pictures with square pixels."""

from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from PIL import Image

from flax_unet.media.images import GREY, too_large
from flax_unet.utils.errors import InputError

_MOST_STRETCHED = 4  # a pixel's width in heights, or the other way round
_ALMOST_SQUARE = 0.01  # off by rounding
_HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
_TO_SDR = {"dst_color_trc": ColorTrc.IEC61966_2_1, "dst_color_primaries": ColorPrimaries.BT709}
_REFORMATTER = VideoReformatter()  # kept: it takes seconds to prepare to map HDR


Size = tuple[int, int]  # width, height


class Converter:
    """Converts the frames of one video, all to one size.

    Attributes:
        notes: what was changed, in order, each once.
    """

    def __init__(self) -> None:
        self.notes: dict[str, None] = {}
        self._canvas: Size | None = None  # of pictures before they are turned

    def square(self, frame: VideoFrame, pixel_aspect: Fraction | None) -> Size:
        """The size at which pixels are square."""
        width, height = frame.width, frame.height
        aspect = pixel_aspect or Fraction(1)
        is_plausible = 1 / _MOST_STRETCHED <= aspect <= _MOST_STRETCHED
        if is_plausible and abs(aspect - 1) > _ALMOST_SQUARE:
            width = max(1, round(width * aspect))
            text = f"its pixels are not square; frames were stretched to {width}x{height}"
            self.notes[text] = None
        return width, height

    def prepare(self, sizes: set[Size]) -> Size:
        """Makes room for frames of several sizes with square pixels; returns the size of all.

        Raises:
            InputError: it is too large; the message is a predicate.
        """
        width, height = (max(sides) for sides in zip(*sizes, strict=True))
        canvas = self._set_canvas(width, height)
        if len(sizes) > 1:
            self._note_other_sizes(canvas)
        return canvas

    def convert(self, frame: VideoFrame, pixel_aspect: Fraction | None) -> np.ndarray | None:
        """A frame as (height, width, 3) uint8 RGB, upright; None if it cannot be converted.

        `pixel_aspect` is a pixel's width in heights, None if it is not known. Without `prepare`,
        all frames get the size of the first.

        Raises:
            InputError: with square pixels it is too large; the message is a predicate.
        """
        size = self.square(frame, pixel_aspect)
        canvas = self._canvas or self._set_canvas(*size)
        width, height = _contained(size, canvas)
        has_alpha = any(component.is_alpha for component in frame.format.components)
        kind = _HDR.get(frame.color_trc)
        try:
            changed = _REFORMATTER.reformat(
                frame,
                width,
                frame.height if frame.interlaced_frame else height,
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
        if has_alpha:
            pixels = self._laid_on_grey(pixels)
        if frame.interlaced_frame:
            self.notes["it is interlaced; every second line was interpolated"] = None
            picture = Image.fromarray(_deinterlaced(pixels))
            pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        if size != canvas:
            self._note_other_sizes(canvas)
            pixels = _padded(pixels, canvas)
        return np.ascontiguousarray(_upright(pixels, frame))

    def _set_canvas(self, width: int, height: int) -> Size:
        """Raises InputError: it is too large."""
        if (excess := too_large(width, height)) is not None:
            raise InputError(excess)
        self._canvas = width, height
        return self._canvas

    def _note_other_sizes(self, canvas: Size) -> None:
        width, height = canvas
        self.notes[f"its frames differ in size; they were fitted into {width}x{height}"] = None

    def _laid_on_grey(self, pixels: np.ndarray) -> np.ndarray:
        opacity = pixels[..., 3:].astype(np.uint16)
        if opacity.min() == 255:
            return pixels[..., :3]
        self.notes["it is transparent in places; these were laid on grey"] = None
        return ((pixels[..., :3] * opacity + GREY * (255 - opacity)) // 255).astype(np.uint8)


def _contained(size: Size, canvas: Size) -> Size:
    """The largest size of the same shape that the canvas holds."""
    if size == canvas:
        return canvas
    scale = min(most / side for side, most in zip(size, canvas, strict=True))
    width, height = (
        min(max(1, round(scale * side)), most) for side, most in zip(size, canvas, strict=True)
    )
    return width, height


def _padded(pixels: np.ndarray, canvas: Size) -> np.ndarray:
    """A picture in the middle of the canvas, between black bars."""
    rest = (canvas[1] - pixels.shape[0], canvas[0] - pixels.shape[1])
    return np.pad(pixels, [*((gap // 2, gap - gap // 2) for gap in rest), (0, 0)])


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
