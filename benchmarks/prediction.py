"""The speed of `flax_unet.predict` on a video: of the whole command, and of each of its parts.

The command is run as a user runs it, so that its time holds the start of Python and compilation;
the time for one frame shows how long these take. The parts are timed one after the other
in this process; in the command, decoding and finding faces run in a thread beside the others.
"""

import collections
import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import torch
from PIL import Image

from benchmarks.machine import FILE, FIRST, benchmark, report, run_module
from benchmarks.subject import LAYOUT, WIDTH, write_model
from flax_unet import Detector
from flax_unet.media.faces import FaceFinder, sorted_out
from flax_unet.media.follow import Follower
from flax_unet.media.videos import Sampling, VideoReader, VideoWriter
from flax_unet.predict.draw import overlay
from train.data.synthetic.scene import ProceduralPortraits

_SIZE, _RATE = (640, 480), 25.0  # of the clip that is made
_SEED = 5  # of the portrait on it


def write_clip(path: Path, frames: int) -> Path:
    """A portrait that moves over noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (_SIZE[1] // 8, _SIZE[0] // 8, 3), np.uint8)
    background = Image.fromarray(noise).resize(_SIZE)
    portrait = ProceduralPortraits(1, _SEED)[0][1]
    with VideoWriter(path, _SIZE, _RATE) as film:
        for number in range(frames):
            picture = background.copy()
            picture.paste(portrait, (30 + number * 3 % 320, 30 + number % 160))
            film.write(picture)
    return path


def time_parts(model: Path, clip: Path, film: Path) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds that each part takes for all frames; and how many frames and faces there were."""
    counts, seconds = collections.Counter[str](), collections.defaultdict[str, float](float)

    @contextlib.contextmanager
    def clock(part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[part] += time.perf_counter() - start

    detector, follow = Detector.from_checkpoint(model), Follower(FaceFinder())
    for power in range(detector.batch_size.bit_length()):  # what is compiled is not timed
        detector([Image.new("RGB", _SIZE)] * 2**power)
    with contextlib.ExitStack() as stack:
        with clock("decode"):
            video = VideoReader(clip, Sampling())
            frames = filter(None, video.frames())
        writer: VideoWriter | None = None
        while True:
            with clock("decode"):
                batch = list(itertools.islice(frames, detector.batch_size))
            if not batch:
                return seconds, counts
            images = [frame.image for frame in batch]
            with clock("find_faces"):
                found = [follow(frame.image, frame.seconds) for frame in batch]
                boxes = [
                    sorted_out(of, image, "auto").boxes
                    for of, image in zip(found, images, strict=True)
                ]
            with clock("network"):
                faces = [image for image, of in zip(images, boxes, strict=True) for _ in of]
                verdicts = iter(detector(faces, list(itertools.chain.from_iterable(boxes))))
            with clock("draw_and_encode"):
                if writer is None:
                    writer = stack.enter_context(VideoWriter(film, images[0].size, video.rate))
                for image, of in zip(images, boxes, strict=True):
                    marked = list(itertools.islice(verdicts, len(of)))
                    writer.write(overlay(image, marked))
            counts.update(frames=len(images), frames_with_a_face=sum(map(bool, boxes)))
            counts.update(faces=len(faces))


@benchmark(
    frames=(300, "of the clip that is made"),
    base_width=WIDTH,
    out=(None, "JSON file to write", FILE),
    clip=(None, "a video (default: one is made)", FIRST | {"nargs": "?"}),
)
def main(*, clip: Path | None, frames: int, base_width: int, out: Path | None) -> None:
    """Runs the command line."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        film = clip or write_clip(folder / "clip.mp4", frames)
        model = write_model(folder, base_width)
        words = ["flax_unet.predict", str(model), str(film), "--out"]
        whole = run_module(*words, str(folder / "whole"))
        start = run_module(*words, str(folder / "start"), "--every", str(10**9))
        seconds, counts = time_parts(model, film, folder / "parts.mp4")
    seconds = {"command": whole, **seconds}
    result = {
        "clip": clip.name if clip else "made",
        "layout": LAYOUT,
        "base_width": base_width,
        "device": jax.devices()[0].device_kind,
        "threads": torch.get_num_threads(),
        **counts,
        "seconds_for_one_frame": start,
        "frames_a_second": {part: counts["frames"] / of for part, of in seconds.items()},
    }
    report(result, out)


if __name__ == "__main__":
    main()
