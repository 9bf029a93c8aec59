"""How many videos of an archive `flax_unet.predict` judges in a minute, and what limits it.

The videos are made here: a face moves over a pattern, H.264, a keyframe each 250 frames. In turn
run the command with one process, the command as it is by default, the same with a network that
takes no time to speak of, the way of DFDC's winner (`benchmarks.winner`, where its packages are
installed), and the floor: all frames decoded through PyAV by a process for each processor, with
nothing done to them. The time of a start, measured without a video, is taken from that of the
commands; nothing is compiled in the others. The processor time of each stage is measured one after
the other in this process, by one thread where libraries allow. Frames a second are those that are
judged, or decoded where nothing is done to them. Memory is that of all processes of the default
command, at its most.
"""

import collections
import contextlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from benchmarks.decoding import encoded
from benchmarks.machine import (
    FILE,
    GIB,
    benchmark,
    memory_of_tree,
    processor,
    report,
    run_module,
)
from benchmarks.subject import LAYOUT, WIDTH, write_model
from flax_unet import Detector
from flax_unet.face_network import network_for
from flax_unet.media import decoder
from flax_unet.media.faces import FaceFinder, opencv, sorted_out
from flax_unet.media.follow import Follower
from flax_unet.media.lazy import LazyImage
from flax_unet.utils.errors import InputError
from flax_unet.utils.processes import processors
from train.data.synthetic.scene import ProceduralPortraits

_RATE = 30
_DISTINCT = 3  # videos; others are copies of them
_WINNER = "DFDC's winner"
_NO_NETWORK = {"base_width": 1, "side": 32}  # takes no time to speak of
_DECODE = """
import av, sys
for path in sys.argv[1:]:
    with av.open(path) as container:
        container.streams.video[0].thread_type = "SLICE"
        for _ in container.decode(video=0):
            pass
"""


def write_archive(folder: Path, videos: int, seconds: int, height: int) -> None:
    """Videos of 16:9 with a face each."""
    size = (16 * height // 9 // 2 * 2, height)
    portraits = ProceduralPortraits(videos, 0)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (height // 40, size[0] // 40, 3), np.uint8)
    background = Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(0, 8, (8, size[1], size[0], 1), np.uint8)
    for video in range(min(videos, _DISTINCT)):
        portrait = portraits[video][1].resize((height // 2, height // 2))

        def frames(portrait: Image.Image = portrait) -> Iterator[np.ndarray]:
            for number in range(seconds * _RATE):
                picture = background.copy()
                picture.paste(portrait, (height // 4 + number % height, height // 4))
                yield np.asarray(picture) // 2 + 60 + grain[number % len(grain)]

        encoded(folder / f"{video:04}.mp4", frames(), _RATE)
    for video in range(_DISTINCT, videos):
        shutil.copy(folder / f"{video % _DISTINCT:04}.mp4", folder / f"{video:04}.mp4")


def least(*words: str) -> float:
    """Seconds of the faster of two runs of a module."""
    return min(run_module(*words) for _ in range(2))


def decode(paths: list[Path]) -> float:
    """Seconds in which all frames are decoded, by as many processes as there are processors."""
    shares = [paths[part :: processors()] for part in range(processors())]
    start = time.perf_counter()
    running = [
        subprocess.Popen([sys.executable, "-c", _DECODE, *map(str, share)])
        for share in shares
        if share
    ]
    if sum(process.wait() for process in running):
        raise InputError("a process that decodes videos failed; its message is above")
    return time.perf_counter() - start


def stages(model: Path, paths: list[Path], frames: int) -> tuple[dict[str, float], int]:
    """Processor seconds of each stage for some videos; and how many faces were judged."""
    seconds, faces = collections.defaultdict[str, float](float), 0

    @contextlib.contextmanager
    def clock(stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        seconds[stage] += time.process_time() - start

    opencv().setNumThreads(1)
    detector = Detector.from_checkpoint(model)
    finder = FaceFinder(network_for(detector.devices[0]))
    for power in range(detector.batch_size.bit_length()):  # what is compiled is not timed
        detector([Image.new("RGB", (64, 64))] * 2**power)
    for path in paths:
        with clock("decoding"):
            read = [
                (reply.values["seconds"], LazyImage(reply.pixels))
                for reply in decoder.read(str(path), "mov", 1, frames, None, threads=1)
                if reply is not None and reply.pixels is not None
            ]
        with clock("finding faces"):
            follow = Follower(finder)
            found = [sorted_out(follow(image, at), image, "auto").boxes for at, image in read]
        with clock("network"):
            images = [image for (_, image), boxes in zip(read, found, strict=True) for _ in boxes]
            faces += len(detector(images, [box for boxes in found for box in boxes]))
    return seconds, faces


@benchmark(
    videos=(8, "that are made"),
    seconds=(10, "of each"),
    height=(1080, "of their frames, in pixels"),
    frames=(32, "of each that are judged"),
    rounds=(3, "turns of each"),
    base_width=WIDTH,
    out=(None, "JSON file to write", FILE),
)
def main(
    *,
    videos: int,
    seconds: int,
    height: int,
    frames: int,
    rounds: int,
    base_width: int,
    out: Path | None,
) -> None:
    """Runs the command line."""
    with tempfile.TemporaryDirectory() as directory:
        folder, picture = Path(directory) / "archive", Path(directory) / "small.png"
        folder.mkdir()
        write_archive(folder, videos, seconds, height)
        Image.new("RGB", (64, 64)).save(picture)
        (without := Path(directory) / "without").mkdir()
        model, paths = write_model(Path(directory), base_width), sorted(folder.iterdir())
        words = ["flax_unet.predict", "--frames", str(frames)]
        ours, bare = [*words, str(model)], [*words, str(write_model(without, **_NO_NETWORK))]
        for command in (ours, bare):
            run_module(*command, str(paths[0]))  # compiles
        calls = {
            "one process": [*ours, str(folder), "--workers", "0"],
            "default": [*ours, str(folder)],
            "without a network": [*bare, str(folder)],
        }
        starts = dict.fromkeys(calls, least(*ours, str(picture), "--faces", "none"))
        starts["without a network"] = least(*bare, str(picture), "--faces", "none")
        if importlib.util.find_spec("facenet_pytorch") is None:
            print("the way of DFDC's winner is left out: it needs facenet-pytorch", file=sys.stderr)
        else:
            theirs = ["benchmarks.winner", "--frames", str(frames), "--base-width", str(base_width)]
            (nothing := Path(directory) / "nothing").mkdir()
            calls[_WINNER] = [*theirs, str(folder)]
            starts[_WINNER] = least(*theirs, str(nothing))
        times: dict[str, list[float]] = collections.defaultdict(list)
        held = [0]  # bytes

        def watch(process: int) -> None:
            held.append(memory_of_tree(process))

        for _ in range(rounds):
            for name, words in calls.items():
                watched = watch if name == "default" else None
                times[name].append(run_module(*words, watch=watched) - starts[name])
            times["decoding all frames"].append(decode(paths))
        measured, faces = stages(model, paths, frames)
    median = {name: statistics.median(of) for name, of in times.items()}
    each = seconds * _RATE
    frames_of = {name: min(frames, each) if name in calls else each for name in times}
    result: dict[str, Any] = {
        **{"videos": videos, "seconds_each": seconds, "height": height, "frames": frames},
        **{"layout": LAYOUT, "base_width": base_width, "faces": faces},
        "machine": processor(),
        "processors": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "start_seconds": starts,
        "videos_a_minute": (rates := {name: 60 * videos / of for name, of in median.items()}),
        "frames_a_second": {name: rates[name] / 60 * of for name, of in frames_of.items()},
        "rate_of_the_default_over": {name: rates["default"] / rate for name, rate in rates.items()},
        "seconds": times,
        "processor_seconds_a_video": {stage: of / videos for stage, of in measured.items()},
        "most_memory_of_the_default_gib": max(held) / GIB,
    }
    report(result, out)


if __name__ == "__main__":
    main()
