"""From files to verdicts: decoded and searched for faces in a thread, judged in batches."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from flax_unet.media.discover import Item
from flax_unet.media.faces import FaceFinder, Found, Mode, find
from flax_unet.media.images import read_image
from flax_unet.media.videos import LEAST_PIXELS, Sampling, VideoReader
from flax_unet.predict.prefetch import ahead
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown
from flax_unet.verdict import Verdict

if TYPE_CHECKING:
    from flax_unet.detector import Detector

_READY = 25_000_000  # pixels of frames that were decoded before they are asked for
_AT_ONCE = 25_000_000  # pixels of frames that wait to be judged together


class Options(NamedTuple):
    """How files are inspected."""

    mode: Mode = "auto"
    finder: FaceFinder | None = None
    sampling: Sampling = Sampling()
    most_pixels: float = math.inf  # of a video; what comes after them is left out
    still_wanted: Callable[[], None] = lambda: None  # asked now and then; it raises to end the work


@dataclasses.dataclass
class Frame:
    """A picture, or a frame of a video, or the reason why there is none (more)."""

    item: Item
    number: int  # of the item, for the same one may be named twice
    image: Image.Image | None = None
    index: int | None = None  # in a video
    seconds: float | None = None
    frames_a_second: float | None = None  # of the frames that are judged
    expected: int | None = None  # how many of the video should be, if that is known
    found: Found = dataclasses.field(default_factory=lambda: Found([], []))
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)  # of `found.boxes`
    notes: list[str] = dataclasses.field(default_factory=list)
    problem: str | None = None  # printable

    @property
    def weight(self) -> int:
        """What it takes of memory, in pixels."""
        return max(self.image.width * self.image.height if self.image else 0, LEAST_PIXELS)


def inspect(detector: "Detector", items: Iterable[Item], options: Options) -> Generator[Frame]:
    """Judges every face of every frame; frames come in order.

    A file that cannot be read gives a last frame with the problem, and the others go on.
    """
    waiting: list[Frame] = []
    faces = weight = 0
    read = ahead(_read(items, options), _READY, lambda frame: frame.weight)
    with contextlib.closing(read) as frames:
        for frame in frames:
            waiting.append(frame)
            faces += len(frame.found.boxes)
            weight += frame.weight
            if max(faces, len(waiting)) >= detector.batch_size or weight >= _AT_ONCE:
                yield from _judged(detector, waiting)
                waiting, faces, weight = [], 0, 0
    yield from _judged(detector, waiting)


def _judged(detector: "Detector", frames: list[Frame]) -> list[Frame]:
    images = [frame.image for frame in frames if frame.image for _ in frame.found.boxes]
    boxes = [box for frame in frames for box in frame.found.boxes]
    verdicts = iter(detector(images, boxes))
    for frame in frames:
        frame.verdicts = [next(verdicts) for _ in frame.found.boxes]
    return frames


def _read(items: Iterable[Item], options: Options) -> Generator[Frame | None]:
    """Decodes the files and finds the faces; None for what is passed over."""
    for number, item in enumerate(items):
        try:
            if item.problem is not None:
                raise InputError(item.problem)
            yield from (_video if item.kind == "video" else _picture)(item, number, options)
        except InputError as error:
            yield Frame(item, number, problem=shown(str(error)))


def _picture(item: Item, number: int, options: Options) -> Generator[Frame]:
    notes: list[str] = []
    image = read_image(item.path, notes)
    found = find(options.finder, image, options.mode)
    yield Frame(item, number, image, found=found, notes=notes)


def _video(item: Item, number: int, options: Options) -> Generator[Frame | None]:
    video = VideoReader(item.path, options.sampling, options.most_pixels)
    for picture in video.frames():
        options.still_wanted()
        if picture is None:
            yield None
            continue
        index, seconds, image = picture
        found = find(options.finder, image, options.mode, of_video=True)
        expected = video.expected()
        yield Frame(item, number, image, index, seconds, video.rate, expected, found)
    if (unread := video.unread()) is not None:
        yield Frame(item, number, notes=[unread])
    if (shortfall := video.shortfall()) is not None:
        yield Frame(item, number, problem=f"{item.name} is cut short: {shortfall}")
