"""The speed of reading videos: this project's reader beside one through OpenCV.

The videos are made here: 1920x1080 pixels, H.264, 25 frames a second, a moving pattern, a keyframe
each 250 frames. Both readers give RGB pictures of Pillow, and run in turn. To pick N frames, the
one through OpenCV reads the whole video twice, since what a file says of its length is often wrong:
first it counts the frames. This project's reader counts packets and then seeks.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from benchmarks.machine import FILE, benchmark, processor, report
from flax_unet.media.videos import Sampling, VideoReader

_SIZE, _RATE, _KEYFRAMES = (1920, 1080), 25, 250
_PATTERNS = 50  # are made; they are repeated


def write_video(path: Path, frames: int, size: tuple[int, int]) -> Path:
    """A pattern of blocks that moves."""
    width, height = size
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    pattern = np.asarray(Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC))
    patterns = []
    for number in range(min(frames, _PATTERNS)):
        moved = np.roll(pattern, (3 * number, 5 * number), (0, 1))
        patterns.append(av.VideoFrame.from_ndarray(moved).reformat(format="yuv420p"))
    return encoded(path, (patterns[number % len(patterns)] for number in range(frames)), _RATE)


def encoded(
    path: Path, frames: Iterable[av.VideoFrame | np.ndarray], rate: int, **more: str
) -> Path:
    """Frames, or RGB pixels, as a video."""
    options = {"preset": "veryfast", "g": str(_KEYFRAMES), "sc_threshold": "0", **more}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate, options)
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(frames):
            is_frame = isinstance(picture, av.VideoFrame)
            frame = picture if is_frame else av.VideoFrame.from_ndarray(picture)
            if not number:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def ours(path: Path, frames: int | None) -> Iterator[int]:
    """The numbers of the frames that this project reads: all, or so many."""
    for frame in VideoReader(path, Sampling(frames=frames)).frames():
        if frame is not None:
            yield frame.number


def through_opencv(path: Path, frames: int | None) -> Iterator[int]:
    """The same through OpenCV."""
    chosen = None
    if frames is not None:
        capture, total = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), 0
        while capture.grab():
            total += 1
        parts = min(frames, total)
        chosen = {(2 * part + 1) * total // (2 * parts) for part in range(parts)}
    capture, number = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), 0
    while capture.grab():
        if chosen is None or number in chosen:
            Image.fromarray(capture.retrieve()[1][..., ::-1].copy())
            yield number
        number += 1


def seconds_in_turn(path: Path, frames: int | None, rounds: int) -> dict[str, list[float]]:
    """Seconds of each reader, which read the same frames."""
    readers: dict[str, Callable[..., Iterator[int]]] = {"ours": ours, "opencv": through_opencv}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    numbers: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, reader in readers.items():
            start = time.perf_counter()
            numbers[name] = list(reader(path, frames))
            seconds[name].append(time.perf_counter() - start)
    if numbers["ours"] != numbers["opencv"]:
        raise RuntimeError("the readers read different frames")
    return seconds


@benchmark(
    seconds=(20, "seconds of the video of which all frames are read"),
    long=(600, "the same of the video of which some frames are read"),
    frames=(32, "read of the second video"),
    width=(_SIZE[0], "of the videos, in pixels"),
    rounds=(3, "turns of each reader; one for the second video"),
    out=(None, "JSON file to write", FILE),
)
def main(
    *, seconds: int, long: int, frames: int, width: int, rounds: int, out: Path | None
) -> None:
    """Runs the command line."""
    size = (width, 2 * round(width * _SIZE[1] / _SIZE[0] / 2))
    with tempfile.TemporaryDirectory() as directory:
        short = write_video(Path(directory) / "short.mp4", seconds * _RATE, size)
        longer = write_video(Path(directory) / "long.mp4", long * _RATE, size)
        whole = seconds_in_turn(short, None, rounds)
        some = seconds_in_turn(longer, frames, 1)
    result: dict[str, Any] = {"machine": processor(), "size": size}
    for name, of, count in (("all frames", whole, seconds * _RATE), (f"{frames} frames", some, 0)):
        middle = {reader: statistics.median(times) for reader, times in of.items()}
        result[name] = {
            "seconds": middle,
            **({"frames_a_second": {k: count / v for k, v in middle.items()}} if count else {}),
            "ratio": middle["opencv"] / middle["ours"],
        }
    report(result, out)


if __name__ == "__main__":
    main()
