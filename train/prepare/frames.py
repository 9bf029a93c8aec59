"""Reads the frames of a video: chosen ones, or those at the moments of another video."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flax_unet.media.images import SUFFIXES, read_image
from flax_unet.media.videos import Sampling, VideoFrame, VideoReader, middles
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import Source

_RATE = 25.0  # frames a second, where none is known


class Moment(NamedTuple):
    """When a frame is shown."""

    number: int  # from 0
    seconds: float  # 0 for pictures


def is_picture(source: Source) -> bool:
    """Whether a source is one picture, by its suffix, and not a video."""
    return isinstance(source, Path) and source.suffix.lower() in SUFFIXES


def chosen(source: Source, sampling: Sampling, notes: list[str]) -> Iterator[VideoFrame]:
    """The frames that `sampling` chooses, or the only one of a picture.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(source, Pictures):
        pictures = source.numbered()
        taken = [*pictures][:: sampling.every]
        if sampling.frames is not None:
            taken = [taken[place] for place in middles(sampling.frames, len(taken))]
        yield from _read({number: pictures[number] for number in taken}, notes)
        return
    if is_picture(source):
        yield VideoFrame(0, 0.0, read_image(source, notes))
        return
    reader = VideoReader(source, sampling)
    yield from (frame for frame in reader.frames() if frame is not None)
    notes += reader.notes()
    if (shortfall := reader.shortfall()) is not None:
        notes.append(f"it is cut short: {shortfall}")


def numbered(source: Source, numbers: Collection[int], notes: list[str]) -> Iterator[VideoFrame]:
    """The frames with these numbers, of those that there are.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(source, Pictures):
        found = source.numbered().items()
        yield from _read({number: path for number, path in found if number in numbers}, notes)
        return
    for frame in chosen(source, Sampling(), notes):
        if frame.number in numbers:
            yield frame


def shift(source: Source, of: Source, notes: list[str]) -> int:
    """What is added to the number of a frame of `of` for that of the same frame of `source`.

    Videos are counted from 0, and pictures that ffmpeg extracted from them from 1.
    """
    if isinstance(source, Pictures) == isinstance(of, Pictures):
        return 0
    added = _first(source) - _first(of)
    if added:
        pictures = source if isinstance(source, Pictures) else of
        folder = shown("/".join(Path(str(pictures)).parts[-3:]))
        note = f"the numbers of the pictures in {folder} begin at 1; 1 was subtracted"
        notes += [note] * (note not in notes)
    return added


def _first(source: Source) -> int:
    """The number of the first frame: 1 for pictures whose numbers begin there, or else 0."""
    return int(isinstance(source, Pictures) and min(source.numbered()) == 1)


def like(
    source: Source, numbers: Collection[int], sampling: Sampling, notes: list[str]
) -> Iterator[VideoFrame]:
    """The frames with the numbers of another video's, or if it has none, those `sampling` chooses.

    Raises:
        InputError: it cannot be read.
    """
    found = 0
    for frame in numbered(source, numbers, notes):
        found += 1
        yield frame
    if found == 0:
        if numbers:
            notes.append("it has none of its original's frames; its own were taken")
        yield from chosen(source, sampling, notes)
    elif missing := len(numbers) - found:
        notes.append(f"it lacks {missing} of its original's frames")


def _read(pictures: Mapping[int, Path], notes: list[str]) -> Iterator[VideoFrame]:
    """The frames of a video from pictures, of those that can be used."""
    size: tuple[int, int] | None = None
    problems: list[str] = []
    remarks: dict[str, None] = {}
    for number, path in pictures.items():
        found: list[str] = []
        try:
            image = read_image(path, found)
        except InputError as error:
            problems.append(f"{path.name}, which {str(error).removeprefix(f'{path} ')}")
            continue
        size = size or image.size
        if image.size != size:
            problems.append(f"{path.name}, which is not {size[0]}x{size[1]} as the others are")
            continue
        remarks |= dict.fromkeys(found)
        yield VideoFrame(number, 0.0, image)
    notes += remarks
    if problems:
        text = f"{counted(len(problems), 'frame')} cannot be used, such as {problems[0]}"
        if size is None:
            raise InputError(text)
        notes.append(text)


def rate(moments: Sequence[Moment]) -> float | None:
    """Frames a second on average; None for pictures."""
    if len(moments) < 2 or moments[-1].seconds <= moments[0].seconds:
        return None
    frames = moments[-1].number - moments[0].number
    return round(frames / (moments[-1].seconds - moments[0].seconds), 3)


def at_moments(
    source: Source, of: Source, moments: Sequence[Moment], sampling: Sampling, notes: list[str]
) -> Iterator[tuple[Moment, VideoFrame]]:
    """The frames of a video for the moments of another one, `of`: all that `sampling` chose there.

    Evenly spaced frames have the same numbers in videos with as many frames, whatever their rates
    say. In others, the frame nearest in time is taken, and none beyond the end. If one of them is
    pictures, which have no times, those of the same numbers are taken.

    Raises:
        InputError: it cannot be read.
    """
    left = list(moments)
    is_of_pictures = isinstance(source, Pictures) or isinstance(of, Pictures)
    if is_of_pictures or (len(left) > 1 and rate(left) is None):
        added = shift(source, of, notes)
        of_number = {moment.number + added: moment for moment in left}
        for frame in numbered(source, of_number, notes):
            yield of_number.pop(frame.number), frame
        return
    tolerance = 0.5 / (rate(moments) or _RATE)
    found: list[str] = []
    for frame in chosen(source, sampling, found):
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
    for frame in chosen(source, Sampling(), notes):
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
