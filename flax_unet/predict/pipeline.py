"""From files to verdicts: decoded and searched for faces in a thread, judged in batches."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from flax_unet.judge import Judge
from flax_unet.media.discover import Item
from flax_unet.media.faces import FaceFinder, Found, Mode, find, sorted_out, upright
from flax_unet.media.follow import Follower
from flax_unet.media.images import MAX_PIXELS, TOO_MANY, DecodeError, read_image
from flax_unet.media.tracks import Tracker
from flax_unet.media.videos import LEAST_PIXELS, Sampling, VideoReader
from flax_unet.media.worker import PassingError
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown
from flax_unet.utils.prefetch import ahead
from flax_unet.verdict import Verdict

_READY = 25_000_000  # pixels of frames that are decoded ahead
_AT_ONCE = 25_000_000  # pixels of frames that wait to be judged together


class Options(NamedTuple):
    """How files are inspected."""

    mode: Mode = "auto"
    finder: FaceFinder | None = None
    sampling: Sampling = Sampling()
    picture_pixels: int = MAX_PIXELS  # larger pictures are refused, or reduced if they are JPEG
    more_pixels: str | None = None  # how to have them judged, such as "raise --max-megapixels"
    video_pixels: float = math.inf  # of a video that are decoded; the rest is left out
    most_faces: int | None = None  # of a picture or frame are judged, the largest
    threads: int = 0  # that decode a video; 0: as many as FFmpeg likes
    raises_passing: bool = False  # a PassingError is raised, so that the file can be tried again
    check_wanted: Callable[[], None] = lambda: None  # called often; raises to end the work


@dataclasses.dataclass
class FileNote:
    """A note about a file as a whole, or the problem that ended its reading."""

    item: Item
    number: int  # of the item: the same file may be named twice
    text: str  # printable
    is_problem: bool = False
    is_part: bool = False  # it is that only the beginning of the file was read
    lot: int = 0

    weight = LEAST_PIXELS


@dataclasses.dataclass
class InspectedFrame:
    """A picture or a frame of a video, and the verdicts on its faces."""

    item: Item
    number: int  # of the item
    image: Image.Image
    found: Found
    people: list[int] = dataclasses.field(default_factory=list)  # in a video: whose faces they are
    index: int | None = None  # in a video
    seconds: float | None = None
    frames_a_second: float | None = None  # of the frames that are judged
    expected: int | None = None  # frames of the video that are to be judged, if known
    verdicts: list[Verdict] = dataclasses.field(default_factory=list)  # of `found.boxes`
    lot: int = 0

    @property
    def weight(self) -> int:
        """Its size in memory, in pixels."""
        return max(self.image.width * self.image.height, LEAST_PIXELS)


Inspected = InspectedFrame | FileNote


def lots(items: Iterable[Item], most: int) -> Iterator[list[Item]]:
    """The files that are judged together: a video alone, or up to `most` other files in a row.

    A batch never has faces of two lots, since a verdict depends on its batch in the last bits. So
    it does not depend on who judges the other lots, and when.
    """
    lot: list[Item] = []
    for item in items:
        if lot and (len(lot) == most or "video" in (item.kind, lot[0].kind)):
            yield lot
            lot = []
        lot.append(item)
    if lot:
        yield lot


def inspect(judge: Judge, lots: Iterable[Sequence[Item]], options: Options) -> Generator[Inspected]:
    """Judges every face of every frame of the files of some lots; frames come in order.

    A file that cannot be read ends with a FileNote of the problem, and the next one follows.
    """
    waiting: list[Inspected] = []
    faces = weight = 0
    read = ahead(_read(lots, options), _READY, lambda one: one.weight)
    with contextlib.closing(read) as inspected:
        for one in inspected:
            if waiting and one.lot != waiting[0].lot:
                yield from _judged(judge, waiting, options.check_wanted)
                waiting, faces, weight = [], 0, 0
            waiting.append(one)
            faces += len(one.found.boxes) if isinstance(one, InspectedFrame) else 0
            weight += one.weight
            if max(faces, len(waiting)) >= judge.batch_size or weight >= _AT_ONCE:
                yield from _judged(judge, waiting, options.check_wanted)
                waiting, faces, weight = [], 0, 0
    yield from _judged(judge, waiting, options.check_wanted)


def _judged(
    judge: Judge, waiting: list[Inspected], check_wanted: Callable[[], None]
) -> list[Inspected]:
    frames = [one for one in waiting if isinstance(one, InspectedFrame)]
    images = [frame.image for frame in frames for _ in frame.found.boxes]
    boxes = [box for frame in frames for box in frame.found.boxes]
    found: list[Verdict] = []
    for start in range(0, len(images), most := judge.batch_size * judge.at_once):
        check_wanted()
        found += judge(images[start : start + most], boxes[start : start + most])
    verdicts = iter(found)
    for frame in frames:
        frame.verdicts = [next(verdicts) for _ in frame.found.boxes]
    return waiting


def _read(lots: Iterable[Sequence[Item]], options: Options) -> Generator[Inspected | None]:
    """Decodes the files and finds the faces; None for each frame that is skipped."""
    numbers = itertools.count()
    for lot, items in enumerate(lots):
        for item in items:
            for one in _inspected(item, next(numbers), options):
                if one is not None:
                    one.lot = lot
                yield one


def _inspected(item: Item, number: int, options: Options) -> Generator[Inspected | None]:
    """The frames and notes of a file, not judged yet."""
    options.check_wanted()
    try:
        if item.problem is not None:
            raise InputError(item.problem)
        yield from (_video if item.kind == "video" else _picture)(item, number, options)
    except InputError as error:
        if options.raises_passing and isinstance(error.__cause__, PassingError):
            raise error.__cause__ from None
        yield FileNote(item, number, shown(str(error)), is_problem=True)


def _picture(item: Item, number: int, options: Options) -> Generator[Inspected]:
    notes: list[str] = []
    try:
        image = read_image(item.path, notes, options.picture_pixels)
    except InputError as error:
        if isinstance(error.__cause__, DecodeError) and error.__cause__.kind == TOO_MANY:
            more = "" if options.more_pixels is None else f", or {options.more_pixels}"
            raise InputError(f"{error}{more}") from error
        raise
    found, image, degrees = upright(options.finder, image, options.mode)
    if degrees:
        notes.append(
            f"its faces lie sideways; it was turned by {degrees} degrees counterclockwise, and "
            "boxes and masks refer to the turned picture"
        )
    for note in notes:
        yield FileNote(item, number, note)
    yield InspectedFrame(item, number, image, found.largest(options.most_faces))


def _video(item: Item, number: int, options: Options) -> Generator[Inspected | None]:
    video = VideoReader(item.path, options.sampling, options.video_pixels, options.threads)
    tracker = Tracker()
    follow = None
    if options.finder is not None and options.mode != "none":
        follow = Follower(options.finder)
    for frame in video.frames():
        options.check_wanted()
        if frame is None:
            yield None
            continue
        index, seconds, image = frame
        if follow is None:
            found = find(None, image, "none")
        else:
            found = sorted_out(follow(image, seconds), image, options.mode)
        found = found.largest(options.most_faces)
        people = tracker(image, found.faces)
        expected = video.expected()
        yield InspectedFrame(
            item, number, image, found, people, index, seconds, video.rate, expected
        )
    for note in video.notes():
        yield FileNote(item, number, note)
    if (unread := video.unread()) is not None:
        yield FileNote(item, number, unread, is_part=True)
    if (shortfall := video.shortfall()) is not None:
        raise InputError(f"{item.name} is cut short: {shortfall}")
