"""Reads the frames of a video: chosen ones, or those at the moments of another video."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flax_unet.checkpoint.provenance import file_sha256
from flax_unet.media.images import SUFFIXES, read_image
from flax_unet.media.videos import Sampling, VideoFrame, VideoReader
from flax_unet.utils.errors import InputError

_RATE = 25.0  # frames a second, where none is known


class Moment(NamedTuple):
    """When a frame is shown."""

    number: int  # from 0
    seconds: float


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its suffix, and not a video."""
    return path.suffix.lower() in SUFFIXES


def chosen(path: Path, sampling: Sampling, notes: list[str]) -> Iterator[VideoFrame]:
    """The frames that `sampling` chooses, or the only one of a picture.

    Raises:
        InputError: it cannot be read.
    """
    if is_picture(path):
        yield VideoFrame(0, 0.0, read_image(path, notes))
        return
    reader = VideoReader(path, sampling)
    yield from (frame for frame in reader.frames() if frame is not None)
    notes += reader.notes()
    if (shortfall := reader.shortfall()) is not None:
        notes.append(f"it is cut short: {shortfall}")


def rate(moments: Sequence[Moment]) -> float | None:
    """Frames a second on average; None for a picture."""
    if len(moments) < 2 or moments[-1].seconds <= moments[0].seconds:
        return None
    frames = moments[-1].number - moments[0].number
    return round(frames / (moments[-1].seconds - moments[0].seconds), 3)


def at_moments(
    path: Path, moments: Sequence[Moment], sampling: Sampling, notes: list[str]
) -> Iterator[tuple[Moment, VideoFrame]]:
    """The frames of a video for the moments of another one: all that `sampling` chose there.

    Evenly spaced frames have the same numbers in videos with as many frames, whatever their rates
    say. In others, the frame nearest in time is taken, and none beyond the end.

    Raises:
        InputError: it cannot be read.
    """
    left = list(moments)
    tolerance = 0.5 / (rate(moments) or _RATE)
    found: list[str] = []
    for frame in chosen(path, sampling, found):
        if not left or frame.number != left[0].number:
            break
        if sampling.frames is None and abs(frame.seconds - left[0].seconds) > tolerance:
            break
        yield left.pop(0), frame
    if not left:
        notes += found
        return
    notes.append("its length or frame rate is not its original's; frames were matched by time")
    before: VideoFrame | None = None
    for frame in chosen(path, Sampling(), notes):
        while left and frame.seconds >= left[0].seconds:
            nearest = _nearest(left[0], before, frame)
            yield left.pop(0), nearest
        before = frame
    while left and before and left[0].seconds - before.seconds <= tolerance:
        yield left.pop(0), before


def _nearest(moment: Moment, before: VideoFrame | None, after: VideoFrame) -> VideoFrame:
    if before is None or moment.seconds - before.seconds > after.seconds - moment.seconds:
        return after
    return before


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
