"""Videos in and out, through OpenCV."""

import contextlib
import math
import os
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from flax_unet.media.images import beginning, too_large
from flax_unet.media.opencv import file_name, opencv
from flax_unet.utils.errors import InputError

SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".ogv", ".webm", ".wmv"}
)
# How these containers begin. Other files are not opened by the decoder: a playlist, for example,
# may name other files or hosts.
_BEGINNINGS = (
    (8, b"AVI"),
    (4, b"ftyp"),  # MP4, QuickTime
    *((4, atom) for atom in (b"moov", b"mdat", b"wide", b"free", b"skip")),  # older QuickTime
    (0, b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
    (0, b"\x00\x00\x01\xb3"),  # MPEG video
    (0, b"\x30\x26\xb2\x75"),  # Windows Media
    (0, b"FLV"),
    (0, b"OggS"),
)
_FRAMES_A_SECOND = 25.0  # of a video without a plausible rate
_FASTEST = 240.0
LEAST_PIXELS = 2**16  # smaller frames count as this many: each frame has a fixed cost
_SHORT_SHARE, _SHORT_SECONDS = 0.02, 0.5  # containers' lengths are not more exact
_FILM_SIDE = 1280  # pixels; larger videos are scaled down to it, so that they play everywhere
_FILM_LEAST = 16
_FILM_SLOWEST = 1.0  # frames a second
_standard_error = threading.Lock()


class Sampling(NamedTuple):
    """Which frames of a video are read: each `every`-th, or `frames` evenly spaced ones."""

    every: int = 1
    frames: int | None = None


class VideoFrame(NamedTuple):
    """A picture of a video."""

    number: int  # from 0
    seconds: float  # from the start
    image: Image.Image


class VideoReader:
    """Reads the frames of a video, once. One thread at a time may use it."""

    def __init__(self, path: Path, sampling: Sampling, max_pixels: float = math.inf) -> None:
        """Opens the file; decoding will stop after `max_pixels`, which bounds the time it takes.

        Raises:
            InputError: it is missing, not a video, without pictures or too large.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        self.path = path
        self._cv2 = opencv()
        self._sampling = sampling
        start = beginning(path)
        if not any(start[at:].startswith(mark) for at, mark in _BEGINNINGS):
            formats = "AVI, MP4, MOV, MKV, WebM, ..."
            raise InputError(f"{path} is not a video of a known format ({formats})")
        self._open()
        claimed, self._claimed_rate = self._get("FRAME_COUNT"), self._get("FPS")
        self._claimed = int(claimed) if 0 < claimed < 2**53 else None  # frames; often wrong
        plausible = 0 < self._claimed_rate <= _FASTEST
        self.frames_a_second = self._claimed_rate if plausible else _FRAMES_A_SECOND
        self._share = 1 / sampling.every  # chosen frames among all
        self._read = 0  # frames
        self._seconds = -1.0  # time of the last frame
        self._most = max_pixels / max(math.prod(self._size), LEAST_PIXELS)  # frames
        self._cut = False

    def frames(self) -> Generator[VideoFrame | None]:
        """The chosen frames in order, and None for each one that is skipped.

        Raises:
            InputError: there are none.
        """
        given = 0
        try:
            is_chosen = yield from self._choose()
            while self._grab():
                number = self._read - 1
                if not is_chosen(number):
                    yield None
                    continue
                good, pixels = self._capture.retrieve()
                if good:  # OpenCV scales all to the first one's size, which was checked
                    image = Image.fromarray(pixels[..., ::-1].copy())  # from BGR
                    yield VideoFrame(number, self._seconds, image)
                    given += 1
        finally:
            self._capture.release()
        if not given:
            raise InputError(f"{self.path} holds no frame that can be decoded; replace it")

    @property
    def rate(self) -> float:
        """The chosen frames a second; known after the first of them."""
        return self.frames_a_second * self._share

    def expected(self) -> int | None:
        """How many frames will be chosen, by the length that the file claims."""
        every, frames = self._sampling
        if self._claimed is None:
            return frames
        return -(-self._claimed // every) if frames is None else min(frames, self._claimed)

    def shortfall(self) -> str | None:
        """After the last frame: a message if a noticeable part of the claimed length is missing."""
        if self._claimed is None or not self._claimed_rate > 0 or self._cut:
            return None
        length = self._claimed / self._claimed_rate
        missing = length - self._seconds - 1 / self._claimed_rate
        if missing <= max(_SHORT_SECONDS, _SHORT_SHARE * length):
            return None
        return f"it claims {self._claimed:,} frames; {self._read:,} could be read"

    def unread(self) -> str | None:
        """After the last frame: a message if `max_pixels` ended the reading."""
        return f"only its first {self._read:,} frames were looked at" if self._cut else None

    def _choose(self) -> Generator[None, None, Callable[[int], bool]]:
        """A function from a frame's number to whether the frame is chosen."""
        every, frames = self._sampling
        if frames is None:
            return lambda number: number % every == 0
        while self._grab():  # counted: what a file claims may be wrong
            yield None
        total, self._read, self._seconds = self._read, 0, -1.0
        self._capture.release()
        self._open()
        parts = min(frames, total)
        self._share = parts / max(total, 1)
        # The middle of each of so many equal parts.
        return {(2 * part + 1) * total // (2 * parts) for part in range(parts)}.__contains__

    def _grab(self) -> bool:
        """Moves to the next frame; False at the end."""
        if not self._capture.grab():
            return False
        if self._read >= self._most:
            self._cut = True
            return False
        seconds = max(self._get("POS_MSEC") / 1000, 0.0)
        if not self._seconds < seconds < math.inf:  # no times, or times that run backwards
            seconds = max(self._read / self.frames_a_second, self._seconds)
        self._seconds = seconds
        self._read += 1
        return True

    def _get(self, name: str) -> float:
        return self._capture.get(getattr(self._cv2, f"CAP_PROP_{name}"))

    def _open(self) -> None:
        # This backend only: another one reads % in a name as a pattern of many files' names.
        self._capture = self._cv2.VideoCapture(file_name(self.path), self._cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise InputError(
                f"{self.path} holds no video that can be decoded (sound alone, or damaged); "
                "replace or remove it"
            )
        sides = int(self._get("FRAME_WIDTH")), int(self._get("FRAME_HEIGHT"))
        if (excess := too_large(*sides)) is not None:
            raise InputError(f"{self.path} {excess}")
        self._size = sides


class VideoWriter:
    """Writes frames as VP8 in WebM, which browsers play; leaving its context finishes the file.

    VP9 files would be a little smaller and take several times as long. Frames of other sizes are
    resized.
    """

    def __init__(self, path: Path, size: tuple[int, int], frames_a_second: float) -> None:
        """Opens the file, whose name ends in .webm.

        The size is (width, height), and is limited and made even; lower rates than 1 become 1.

        Raises:
            InputError: OpenCV cannot write it.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        self.path = path
        self._cv2 = cv2 = opencv()
        scale = min(1.0, _FILM_SIDE / max(size))
        width, height = (max(_FILM_LEAST, 2 * round(scale * side / 2)) for side in size)
        self._size = (width, height)
        self._written = 0
        rate = max(frames_a_second, _FILM_SLOWEST)
        with _silent():
            self._writer = cv2.VideoWriter(
                file_name(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), rate, self._size
            )
        if not self._writer.isOpened():
            raise InputError(f"{path.name} cannot be written: OpenCV has no VP8 encoder here")

    def write(self, image: Image.Image) -> None:
        """Adds a frame."""
        if image.size != self._size:
            image = image.resize(self._size, reducing_gap=2.0)
        self._writer.write(np.asarray(image)[..., ::-1].copy())
        self._written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.release()
        if kind is None and self._packets() < self._written:
            # OpenCV reports no error.
            raise InputError(f"{self.path.name} could not be written completely; is the disk full?")

    def _packets(self) -> int:
        """How many frames are in the file."""
        capture = self._cv2.VideoCapture(file_name(self.path), self._cv2.CAP_FFMPEG)
        capture.set(self._cv2.CAP_PROP_FORMAT, -1)  # counts without decoding
        count = 0
        while capture.grab():
            count += 1
        capture.release()
        return count


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silences standard error, where OpenCV reports a change of the codec's tag."""
    with _standard_error:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
