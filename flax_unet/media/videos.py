"""Videos in and out."""

import contextlib
import math
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

from PIL import Image

from flax_unet.media.images import beginning
from flax_unet.media.lazy import LazyImage
from flax_unet.media.worker import AGAIN, WorkerError, replies
from flax_unet.utils.errors import InputError

SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2t", ".m2ts", ".m2v", ".m4v"}
    | {".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".qt", ".ts", ".vob"}
    | {".webm", ".wmv"}
)
# How files of these containers begin, and FFmpeg's names of them. Other files are not opened by
# FFmpeg: a playlist, for example, may name other files or hosts.
_BEGINNINGS = (
    (8, b"AVI", "avi"),
    *((4, atom, "mov") for atom in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),  # and WebM
    (0, b"\x00\x00\x01\xba", "mpeg"),  # program stream
    (0, b"\x00\x00\x01\xb3", "mpegvideo"),
    (0, b"\x30\x26\xb2\x75", "asf"),  # Windows Media
    (0, b"FLV", "flv"),
    (0, b"OggS", "ogg"),
    (0, b"\x06\x0e\x2b\x34", "mxf"),
)
_FORMATS = "MP4, MOV, MKV, WebM, AVI, MPEG-TS and others"
# A transport stream is packets of one of these sizes, each with this byte; it may begin within one.
_PACKET_SIZES, _SYNC, _PACKETS = (188, 192, 204), 0x47, 8
LEAST_PIXELS = 2**16  # smaller frames count as this many: each frame has a fixed cost
_FILM_SIDE = 1280  # pixels; larger videos are scaled down to it, so that they play everywhere
_FILM_LEAST = 16
_FILM_SLOWEST = 1.0  # frames a second
_LONGEST_PAUSE = 6  # hours; in MP4 and these units, a frame can last 6.6
_UNIT = Fraction(1, 90_000)  # of a film's times, in seconds
# Without B-frames a film starts at time 0. With x264's macroblock tree one small film of about a
# thousand had other bytes; without it, 23 gives the size and quality that 20 gave.
_ENCODER = {"preset": "veryfast", "crf": "23", "bf": "0", "mbtree": "0"}
_COLOURS = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}  # BT.709
_INDEX_FIRST = {"movflags": "+faststart"}  # so that browsers can start before they have all of it


class Sampling(NamedTuple):
    """Which frames of a video are read: each `every`-th, `frames` evenly spaced, or keyframes."""

    every: int = 1
    frames: int | None = None
    keyframes: bool = False


def middles(count: int, total: int) -> list[int]:
    """The number in the middle of each of `count` equal parts of `total` frames."""
    parts = min(count, total)
    return [(2 * part + 1) * total // (2 * parts) for part in range(parts)]


class VideoFrame(NamedTuple):
    """A picture of a video."""

    number: int  # from 0
    seconds: float  # from the start
    image: Image.Image


def is_video(path: Path) -> bool:
    """Whether a file's content is a video, or sound, of a known format; False if it is unreadable.

    A suffix does not say so: files named .ts may also be programs.
    """
    try:
        return bool(_form(path))
    except InputError:
        return False


def container(start: bytes) -> str | None:
    """FFmpeg's name of the container of a file that begins so, with 2 KiB; None if not known."""
    for at, mark, form in _BEGINNINGS:
        if start[at:].startswith(mark):
            return form
    for size in _PACKET_SIZES:
        for first in range(size):
            marks = start[first::size][:_PACKETS]
            if marks == bytes([_SYNC]) * _PACKETS:
                return "mpegts"
    return None


def _form(path: Path) -> str:
    """FFmpeg's name of a file's container, by content.

    Raises:
        InputError: the file cannot be read, or is not a video of a known format.
    """
    form = container(beginning(path, (_PACKETS + 1) * max(_PACKET_SIZES)))
    if form is None:
        raise InputError(f"{path} is not a video of a known format ({_FORMATS}); {AGAIN}")
    return form


class VideoReader:
    """Reads the frames of a video, once. One thread at a time may use it.

    FFmpeg decodes it in another process. Frames are upright, their pixels square, their colours
    those of a standard picture. Broken ones are passed over.
    """

    def __init__(
        self, path: Path, sampling: Sampling, max_pixels: float = math.inf, threads: int = 0
    ) -> None:
        """Looks at the file's beginning; at most `max_pixels` will be decoded.

        It uses so many threads; 0: as many as FFmpeg likes.

        Raises:
            InputError: it is missing, or not a video of a known format.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        _av()
        self.path = path
        self.rate = 0.0  # chosen frames a second; known with the first of them
        self._request = {
            "path": str(path.absolute()),
            "form": _form(path),
            "every": sampling.every,
            "count": sampling.frames,
            "keyframes": sampling.keyframes,
            "max_pixels": None if math.isinf(max_pixels) else max_pixels,
            "threads": threads,
        }
        self._expected: int | None = None
        self._remarks: dict[str, Any] = {}

    def frames(self) -> Generator[VideoFrame | None]:
        """The chosen frames in order, and None for each one that is counted or skipped.

        None also comes now and then where decoding takes long.

        Raises:
            InputError: there are none, the pictures are too large, or decoding fails.
        """
        try:
            for reply in replies("read", **self._request):
                if reply is None:
                    yield None
                elif reply.pixels is not None:
                    image = LazyImage(reply.pixels)
                    yield VideoFrame(reply.values["number"], reply.values["seconds"], image)
                elif "rate" in reply.values:
                    self.rate, self._expected = reply.values["rate"], reply.values["expected"]
                else:
                    self._remarks = reply.values
        except WorkerError as error:
            raise InputError(f"{self.path} {error}") from error

    def expected(self) -> int | None:
        """How many frames will be chosen, by what the file claims; known with the first of them."""
        return self._expected

    def shortfall(self) -> str | None:
        """After the last frame: a message if a noticeable part of the claimed length is missing."""
        return self._remarks.get("shortfall")

    def unread(self) -> str | None:
        """After the last frame: a message if `max_pixels` ended the reading."""
        return self._remarks.get("unread")

    def notes(self) -> list[str]:
        """After the last frame: what was left out or changed, such as broken frames or HDR."""
        return self._remarks.get("notes", [])


class VideoWriter:
    """Writes frames as H.264 in MP4, which browsers and phones play; leaving its context ends it.

    Frames of other sizes are resized. `notes` says what is missing in the film.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        frames_a_second: float,
        sound_of: Path | None = None,
        check_wanted: Callable[[], None] = lambda: None,
    ) -> None:
        """Opens the file, whose name ends in .mp4.

        The size is (width, height), and is limited and made even. Below one frame a second, the
        film shows one each second and has no sound. Otherwise frames are shown at their times, with
        the sound of the video `sound_of`, as it is if browsers play it. While that is added,
        `check_wanted` is called often; an exception that it raises ends the work.

        Raises:
            InputError: it cannot be written.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        self.path = path
        self.notes: list[str] = []
        self._av = _av()
        scale = min(1.0, _FILM_SIDE / max(size))
        width, height = (max(_FILM_LEAST, 2 * round(scale * side / 2)) for side in size)
        self._size = (width, height)
        self._is_slow = frames_a_second < _FILM_SLOWEST
        self._sound_of = None if self._is_slow else sound_of
        self._check_wanted = check_wanted
        self._step = 1 / max(frames_a_second, _FILM_SLOWEST)  # seconds
        self._first: float | None = None  # time of the first frame in the video
        self._is_cut = False
        self._last = -self._step
        rate = Fraction(1 / self._step).limit_denominator(1001)
        try:
            self._container = self._av.open(f"file:{path.absolute()}", "w", "mp4", _INDEX_FIRST)
            self._stream = self._container.add_stream("libx264", rate, _ENCODER)
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = _UNIT
            for name, value in _COLOURS.items():
                setattr(self._stream.codec_context, name, value)
            self._container.start_encoding()
        except (self._av.FFmpegError, ValueError) as error:  # ValueError: no encoder of this name
            raise InputError(f"{path.name} cannot be written: {error}") from error

    def write(self, image: Image.Image, seconds: float | None = None) -> None:
        """Adds a frame, which is shown `seconds` from the video's start, or a step after the last.

        The film starts with the first frame. It ends before one that is hours later, or that cannot
        be encoded; then there is a note, and further frames are ignored.
        """
        if self._is_cut:
            return
        if image.size != self._size:
            image = image.resize(self._size, reducing_gap=2.0)
        following = self._last + self._step
        if seconds is None or self._is_slow:
            seconds = following
        if self._first is None:
            self._first = seconds
        elif seconds - self._last > _LONGEST_PAUSE * 3600:
            self._cut(f"what follows is over {_LONGEST_PAUSE} hours later")
            return
        time = max(seconds, self._last + float(_UNIT))
        frame = self._av.VideoFrame.from_image(image).reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = round((time - self._first) / _UNIT), _UNIT
        self._mux(frame)
        if not self._is_cut:
            self._last = time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(self._av.FFmpegError):
                self._container.close()
            return
        self._mux(None)
        if self._sound_of is not None and self._first is not None:
            self._add_sound(self._sound_of, self._first, self._last + self._step - self._first)

    def _mux(self, frame: Any) -> None:
        """Encodes a frame; None ends the film."""
        try:
            packets = self._stream.encode(frame)
        except self._av.FFmpegError as error:
            self._cut(f"what follows cannot be encoded ({error.strerror})")
            packets = []
        try:
            for packet in packets:
                packet.duration = round(self._step / _UNIT)  # that of the last one counts
                self._container.mux(packet)
            if frame is None:
                self._container.close()
        except self._av.FFmpegError as error:
            raise self._incomplete() from error

    def _incomplete(self) -> InputError:
        return InputError(f"{self.path.name} could not be written completely; is the disk full?")

    def _cut(self, reason: str) -> None:
        if not self._is_cut:
            self.notes.append(f"the overlay ends at {max(self._last, 0.0):,.1f} s: {reason}")
        self._is_cut = True

    def _add_sound(self, video: Path, start: float, seconds: float) -> None:
        with_sound = self.path.with_name(f"{self.path.stem}.sound.mp4")
        request = {"film": str(self.path.absolute()), "target": str(with_sound.absolute())}
        request |= {"path": str(video.absolute())}
        end: dict[str, Any] = {}
        try:
            form = _form(video)  # it may have been deleted meanwhile
            work = replies("add_sound", form=form, start=start, seconds=seconds, **request)
            with contextlib.closing(work):
                for reply in work:
                    self._check_wanted()
                    end = end if reply is None else reply.values
        except InputError as error:
            reason = str(error).removeprefix(f"{video} ")
            self.notes.append(f"the overlay has no sound: the video {reason}")
        finally:
            if end.get("added"):
                with_sound.replace(self.path)
            else:
                with_sound.unlink(missing_ok=True)
        if end.get("is_full"):
            raise self._incomplete()


def _av() -> ModuleType:
    """PyAV, imported at its first use: it belongs to the extra `media`."""
    import av

    return av
