"""Files to verdicts: everything once and in order, in bounded memory."""

import collections
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from flax_unet.media.discover import items
from flax_unet.media.faces import Box, FaceFinder
from flax_unet.media.videos import Sampling
from flax_unet.predict import pipeline
from flax_unet.predict.pipeline import (
    FileNote,
    Inspected,
    InspectedFrame,
    Options,
    inspect,
    lots,
)
from flax_unet.verdict import Verdict
from tests.flax_unet.samples import (
    group,
    noise,
    numbered,
    photo,
    png_of_size,
    small_checkpoint,
    write_video,
)


class Recorder:
    """In the place of a detector: notes how many faces come at once."""

    batch_size, at_once = 4, 1

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Sequence[Image.Image], boxes: Sequence[Box]) -> list[Verdict]:
        self.batches.append(len(images))
        return [
            Verdict(image.size, box, float(np.asarray(image)[0, 0, 0]) / 255, None, None)
            for image, box in zip(images, boxes, strict=True)
        ]


def run(recorder: Recorder, *paths: Path, **options: Any) -> Iterator[Inspected]:
    found = lots(items(paths), recorder.batch_size)
    return inspect(recorder, found, Options(**options))  # pyright: ignore[reportArgumentType]


def grey(path: Path, value: int, size: tuple[int, int] = (20, 20)) -> Path:
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def test_order_and_batches_across_files(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", numbered(5))
    paths = [grey(tmp_path / f"{value}.png", value) for value in range(7)]
    recorder = Recorder()
    frames = list(run(recorder, *paths[:3], film, tmp_path / "none.png", *paths[3:], paths[0]))
    # A video is judged by itself; a file without a picture takes a place, too.
    assert recorder.batches == [3, 4, 1, 3, 2]
    assert [frame.number for frame in frames] == [0, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9]
    of_film = [frame for frame in frames[3:8] if isinstance(frame, InspectedFrame)]
    assert [frame.index for frame in of_film] == [0, 1, 2, 3, 4]
    assert [note.text for note in frames if isinstance(note, FileNote) and note.is_problem] == [
        f"{tmp_path / 'none.png'} does not exist"
    ]
    for frame in frames:
        if isinstance(frame, InspectedFrame) and frame.index is None:
            (verdict,) = frame.verdicts
            assert verdict.real_probability == int(frame.item.path.stem) / 255


def test_problems_are_printable(tmp_path: Path) -> None:
    (note,) = run(Recorder(), tmp_path / "\x1b[31m\n.png")
    assert isinstance(note, FileNote)
    assert note.is_problem
    assert note.text == f"{tmp_path}/\\x1b[31m\\n.png does not exist"
    assert note.item.name == f"{tmp_path}/\x1b[31m\n.png"


def test_large_pictures_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_AT_ONCE", 500_000)
    sides = [100, 900, 100, 600, 600, 100]
    paths = [grey(tmp_path / f"{n}.png", n, (side, side)) for n, side in enumerate(sides)]
    recorder = Recorder()
    list(run(recorder, *paths))
    assert recorder.batches == [2, 2, 2]  # the second lot begins with the fifth


def test_more_faces_than_a_batch(tmp_path: Path) -> None:
    group(*((10 + 220 * n, 50, 130) for n in range(6)), size=(1330, 300)).save(tmp_path / "x.png")
    recorder = Recorder()
    frames = list(
        run(recorder, grey(tmp_path / "a.png", 0), tmp_path / "x.png", finder=FaceFinder())
    )
    assert recorder.batches == [4, 2]
    verdicts = [frame.verdicts for frame in frames if isinstance(frame, InspectedFrame)]
    assert [len(of_frame) for of_frame in verdicts] == [0, 6]


def test_stops_between_batches_of_a_picture(tmp_path: Path) -> None:
    """When nobody waits for it: a picture may have hundreds of faces."""

    class LeftError(Exception):
        pass

    recorder = Recorder()

    def check_wanted() -> None:
        if recorder.batches:
            raise LeftError

    group(*((10 + 220 * n, 50, 130) for n in range(6)), size=(1330, 300)).save(tmp_path / "x.png")
    with pytest.raises(LeftError):
        list(run(recorder, tmp_path / "x.png", finder=FaceFinder(), check_wanted=check_wanted))
    assert recorder.batches == [4]


def test_the_largest_faces_of_a_picture(tmp_path: Path) -> None:
    """As many as wanted; without a limit, all."""
    widths = (130, 200, 160, 100)
    places = [(10 + 230 * n, 20, width) for n, width in enumerate(widths)]
    group(*places, size=(960, 300)).save(tmp_path / "x.png")
    for most, judged in ((2, [1, 2]), (None, [1, 2, 0, 3])):
        (frame,) = run(Recorder(), tmp_path / "x.png", finder=FaceFinder(), most_faces=most)
        assert isinstance(frame, InspectedFrame)
        middles = [(verdict.box.left + verdict.box.right) // 2 for verdict in frame.verdicts]
        assert [middle // 230 for middle in middles] == judged


def test_stops_when_nobody_asks_any_more(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", numbered(50))
    frames = run(Recorder(), film, film, film, film)
    next(frames)
    frames.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert "ahead" not in [thread.name for thread in threading.enumerate()]


def test_faults_of_the_program_are_not_hidden(tmp_path: Path) -> None:
    def finder(*_: object, **__: object) -> list[Box]:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        list(run(Recorder(), grey(tmp_path / "a.png", 0), finder=finder))


def test_expected_frames_of_videos(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.avi", numbered(50), rate=10.0)
    for sampling, expected, rate in (
        (Sampling(), 50, 10),
        (Sampling(every=10), 5, 1),
        (Sampling(frames=10), 10, 2),
    ):
        found = run(Recorder(), film, sampling=sampling)
        frames = [frame for frame in found if isinstance(frame, InspectedFrame)]
        assert {frame.expected for frame in frames} == {expected}
        assert {frame.frames_a_second for frame in frames} == {rate}
        assert len(frames) == expected


def test_truncated_videos_are_judged_as_far_as_they_go(tmp_path: Path) -> None:
    content = write_video(tmp_path / "film.avi", numbered(50)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: len(content) // 2])
    *frames, last = run(Recorder(), tmp_path / "cut.avi")
    assert len(frames) > 5
    assert all(isinstance(frame, InspectedFrame) and frame.verdicts for frame in frames)
    assert isinstance(last, FileNote)
    assert last.is_problem
    assert last.text.endswith(f"is cut short: it claims 50 frames; {len(frames)} could be read")


FOLDER = """
import json, resource, sys
import jax
from flax_unet.predict import __main__ as predict

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **about: compiled.append(about.get("fun_name", ""))
    if event == "/jax/core/compile/backend_compile_duration" else None
)
peaks, results = [], predict.file_results

def watched(*args, **options):
    for result in results(*args, **options):
        yield result
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

predict.file_results = watched
try:
    predict.main(sys.argv[1:])
except SystemExit as status:
    print(json.dumps({"status": status.code, "compiled": compiled, "peaks": peaks}))
"""
KINDS = {"crop": "ok", "turned": "ok", "broken": "failed", "tiny": "ok", "many": "ok", "none": "ok"}


def write_folder(folder: Path, count: int) -> list[Path]:
    """Pictures of each kind in turn, in folders of folders; their paths in order."""
    face = photo().crop((126, 49, 410, 404))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    broken = [b"", b"no picture", png_of_size(50, 50), png_of_size(100_000, 100_000)]
    kinds = list(KINDS)
    paths = []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        path = folder / f"{number // 50}" / f"{number:03d}-{kind}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "broken":
            path.write_bytes(broken[number // len(kinds) % len(broken)])
        elif kind == "turned":
            photo().rotate(90, expand=True).save(path, exif=exif)
        elif kind == "many":
            group((20, 50, 120), (300, 60, 100), (480, 250, 90), size=(640, 480)).save(path)
        else:
            {"crop": face, "tiny": face.resize((50, 62)), "none": noise(600, 400)}[kind].save(path)
        paths.append(path)
    return paths


def test_folder_of_200_pictures(tmp_path: Path) -> None:
    paths = write_folder(tmp_path / "pictures", 200)
    model = small_checkpoint(tmp_path)
    out = tmp_path / "out"
    command = [sys.executable, "-c", FOLDER, str(model), str(tmp_path / "pictures"), "--json"]
    ended = subprocess.run(
        [*command, "--out", str(out), "--workers", "0"],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    *printed, measured = map(json.loads, ended.stdout.splitlines())
    assert measured["status"] == 1
    assert printed == json.loads((out / "predictions.json").read_text())["files"]
    assert [result["file"] for result in printed] == list(map(str, paths))
    faces = collections.defaultdict(set)
    for path, result in zip(paths, printed, strict=True):
        kind = path.stem.partition("-")[2]
        assert result["status"] == KINDS[kind]
        assert (result["problem"] is None) == (KINDS[kind] == "ok")
        if KINDS[kind] == "ok":
            faces[kind].add((len(result["faces"]), len(result["too_small"])))
            seen = result["faces"] or result["too_small"]
            assert ("overlay" in result) == bool(seen)
            assert not seen or (out / result["overlay"]).is_file()
        if kind == "turned":
            assert (result["width"], result["height"]) == (512, 600)
    assert faces == {
        **{"crop": {(1, 0)}, "turned": {(1, 0)}, "tiny": {(0, 1)}, "many": {(3, 0)}},
        "none": {(0, 0)},
    }
    assert len(measured["peaks"]) == 200
    assert (
        measured["peaks"][-1] - measured["peaks"][99] < 40_000
    )  # KiB; the second half alone is 60,000
    forward = [name for name in measured["compiled"] if "forward" in name]
    assert len(forward) <= 4  # for 1, 2, 4 and 8 faces
