"""The speed of train.prepare on clips of DFDC's kind, beside the road that people take.

The clips are made here: 1920x1080 pixels, H.264, 30 frames a second, one moving face; half of them
are forged. `train.prepare` makes crops and masks of 32 frames each. The other road reads every
frame of every clip with OpenCV, finds faces in it by the same finder, and cuts them out of 32
frames; it makes no masks. Both use one process a core, and run in turn.

The stages are of one process: seconds a clip in which it waits for frames, finds faces and people,
cuts and encodes crops, compares fakes with their originals, and the rest.
"""

import contextlib
import json
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from matplotlib import cbook
from PIL import Image

from benchmarks.decoding import encoded
from benchmarks.machine import FILE, benchmark, processor, report
from flax_unet.media.faces import MARGIN, FaceFinder, opencv
from flax_unet.media.tracks import Tracker
from flax_unet.media.videos import Sampling
from flax_unet.utils.processes import processors
from train.data.synthetic.forge import forge
from train.prepare import crops, frames, masks, pool, work
from train.prepare.layouts.find import list_videos
from train.prepare.layouts.record import ListOptions
from train.prepare.plan import Group, plan

_SIZE, _RATE, _FRAMES = (1920, 1080), 30, 32
_PORTRAIT, _FACE = (600, 200), (750, 290, 1010, 620)  # where they lie in a clip of this size
_STEP = (2, 1)  # pixels that the scene moves with each frame, there and back


def write_clips(folder: Path, pairs: int, seconds: int, width: int) -> Path:
    """A part of DFDC: a real clip and a fake of it, so many times."""
    size = width, 2 * round(width * _SIZE[1] / _SIZE[0] / 2)
    folder.mkdir(parents=True)
    portrait = Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    entries: dict[str, dict[str, Any]] = {}
    for number in range(pairs):
        rng = np.random.default_rng(number)
        wall = rng.integers(90, 160, (27, 48, 3), np.uint8)
        scene = Image.fromarray(wall).resize(_SIZE, Image.Resampling.BICUBIC)
        scene.paste(portrait.convert("RGB"), _PORTRAIT)
        fake = scene.copy()
        fake.paste(Image.fromarray(forge(np.asarray(scene.crop(_FACE)), rng)[0]), _FACE[:2])
        names = f"real{number:04d}.mp4", f"fake{number:04d}.mp4"
        for name, picture in zip(names, (scene, fake), strict=True):
            pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
            encoded(folder / name, _moving(pixels, seconds * _RATE, rng), _RATE)
        entries[names[0]] = {"label": "REAL", "split": "train"}
        entries[names[1]] = {"label": "FAKE", "split": "train", "original": names[0]}
    (folder / "metadata.json").write_text(json.dumps(entries))
    return folder


def _moving(scene: np.ndarray, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The frames of a scene that moves, with a camera's noise."""
    noise = rng.normal(0, 3, scene.shape)
    for number in range(count):
        shift = abs(number % 60 - 30)
        moved = np.roll(scene, (_STEP[1] * shift, _STEP[0] * shift), (0, 1))
        grain = np.roll(noise, (37 * number, 53 * number), (0, 1))
        yield np.clip(moved + grain, 0, 255).astype(np.uint8)


def ours(clips: Path, out: Path, workers: int) -> int:
    """Clips that `train.prepare` makes."""
    for folder in (work.RECORDS, work.STAGE):
        (out / folder).mkdir(parents=True)
    options = work.Options(Sampling(1, _FRAMES), "png", masks.THRESHOLD)
    made = [one for group in pool.outcomes(_groups(clips), out, options, workers) for one in group]
    return sum(outcome.record is not None for outcome in made)


def _groups(clips: Path) -> list[Group]:
    return plan(list_videos([clips], None, ListOptions())[0], (80, 10, 10), 0)


def through_opencv(clips: Path, out: Path, workers: int) -> int:
    """Clips that the other road makes."""
    out.mkdir()
    paths = sorted(clips.glob("*.mp4"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=work.start) as processes:
        return sum(processes.map(_cut_each_frame, paths, [out] * len(paths)))


def _cut_each_frame(path: Path, out: Path) -> bool:
    """Finds faces in every frame of a clip; saves those of some frames."""
    cv2, finder = opencv(), FaceFinder()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, total - 1, _FRAMES).round().astype(int).tolist())
    for number in range(total):
        is_read, pixels = capture.read()
        if not is_read:
            break
        image = Image.fromarray(pixels[..., ::-1].copy())
        for person, face in enumerate(finder(image, of_video=True)):
            if number in wanted:
                crop = image.crop(face.box.grown(MARGIN).within(image.size))
                crop.save(out / f"{path.stem}_{number}_{person}.png", compress_level=1)
    return True


@contextlib.contextmanager
def timed(seconds: dict[str, float]) -> Generator[None]:
    """Adds the seconds of each stage in this process."""

    def clocked(stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - start

        return run

    def waiting(call: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
            found = call(*args, **kwargs)
            following = clocked("waiting for frames", lambda: next(found, None))
            while (frame := following()) is not None:
                yield frame

        return run

    places = (
        (frames, "chosen", waiting),
        (crops, "find", lambda call: clocked("finding faces", call)),
        (Tracker, "__call__", lambda call: clocked("finding people", call)),
        (crops.Crops, "add", lambda call: clocked("cutting", call)),
        (masks, "by_similarity", lambda call: clocked("comparing", call)),
    )
    with contextlib.ExitStack() as stack:
        for owner, name, wrap in places:
            stack.enter_context(mock.patch.object(owner, name, wrap(getattr(owner, name))))
        yield


@benchmark(
    pairs=(4, "of a real clip and a fake"),
    seconds=(10, "of each clip"),
    width=(_SIZE[0], "of the clips, in pixels"),
    workers=(processors(), "processes"),
    rounds=(1, "turns"),
    out=(None, "JSON file to write", FILE),
)
def main(
    *, pairs: int, seconds: int, width: int, workers: int, rounds: int, out: Path | None
) -> None:
    """Runs the command line."""
    roads: dict[str, Callable[[Path, Path, int], int]] = {
        "train.prepare": ours,
        "opencv": through_opencv,
    }
    minutes: dict[str, list[float]] = {road: [] for road in roads}
    stages: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        clips = write_clips(top / "clips", pairs, seconds, width)
        for turn in range(rounds):
            for name, road in roads.items():
                start = time.perf_counter()
                if road(clips, top / f"{name}{turn}", workers) != 2 * pairs:
                    raise RuntimeError(f"{name} did not make all clips")
                minutes[name].append((time.perf_counter() - start) / 60)
        start = time.perf_counter()
        with timed(stages):
            ours(clips, top / "stages", 1)
        stages["the rest"] = time.perf_counter() - start - sum(stages.values())
    rates = {name: 2 * pairs / min(times) for name, times in minutes.items()}
    result = {
        "machine": processor(),
        "clips_a_minute": rates,
        "ratio": rates["train.prepare"] / rates["opencv"],
        "seconds_a_clip_in_one_process": {
            stage: spent / 2 / pairs for stage, spent in stages.items()
        },
    }
    report(result, out)


if __name__ == "__main__":
    main()
