"""Files that are read in worker processes: the same results, whatever happens to a worker."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from flax_unet.checkpoint import metadata
from flax_unet.face_network import OnDevice
from flax_unet.judge import Judge
from flax_unet.media import videos
from flax_unet.media.discover import items
from flax_unet.media.faces import FaceFinder
from flax_unet.media.videos import Sampling
from flax_unet.media.worker import PassingError, Reply, WorkerError
from flax_unet.predict import __main__ as predict
from flax_unet.predict import work, workers
from flax_unet.predict.pipeline import Options, inspect, lots
from flax_unet.predict.plan import Planned, plan
from flax_unet.predict.results import FileResult
from flax_unet.predict.work import Distant, Failure, Queue, Setup
from flax_unet.predict.workers import judged_in_processes
from flax_unet.predict.writer import file_results
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import (
    contents,
    group,
    noise,
    numbered,
    photo,
    small_checkpoint,
    write_video,
)

SIZE, BATCH = (8, 8), 4


class Brightness(Judge):
    """In the place of a Detector: brighter faces are more likely REAL, and dark pixels marked."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__(SIZE, 0.5, None, batch_size)
        self.sizes: list[int] = []  # of groups

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        self.sizes += map(len, groups)
        return [self._output(group) for group in groups]

    def _output(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        probability = 1 - crops.mean(-1, dtype=np.float32) / np.float32(255)
        return {
            # As with a network, the last bits depend on the group.
            "real_probability": 1 - probability.mean((1, 2)) - 1e-6 * len(crops),
            "mask_probability": probability,
            "mask": probability > 0.5,
        }


class Watched(Distant):
    """Counts the signs of life."""

    beats = 0

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        return Brightness().outputs(groups)

    def beat(self) -> None:
        self.beats += 1


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "files"
    folder.mkdir()
    photo().save(folder / "a.png")
    group((100, 100, 400), (900, 300, 300)).save(folder / "b.png")
    write_video(folder / "c.avi", [photo()] * 5, size=(512, 600))
    write_video(folder / "d.avi", numbered(4))
    (folder / "e.png").write_bytes(b"not a picture")
    photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "a.jpg")
    return [folder]


def as_json(results: Sequence[FileResult]) -> list[Any]:
    return [json.loads(json.dumps(result.to_json())) for result in results]


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def setup_of(directory: Path | None = None, batch_size: int = BATCH, **options: Any) -> Setup:
    return Setup(SIZE, batch_size, 0.5, None, directory=directory, **options)


@pytest.mark.parametrize("count", [1, 3])
def test_results_do_not_depend_on_workers(files: list[Path], tmp_path: Path, count: int) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    inspected = inspect(Brightness(), lots(items(files), BATCH), Options("auto", FaceFinder()))
    expected = as_json([*file_results(inspected, here)])
    judge, given = Brightness(), plan(items(files), BATCH)
    found = [*judged_in_processes(judge, given, setup_of(there), count)]
    assert as_json(found) == expected
    assert [result.status for result in found].count("failed") == 1
    assert files_in(there) == files_in(here)
    assert max(judge.sizes) == BATCH


def test_faces_found_in_one_process(files: list[Path], tmp_path: Path) -> None:
    """As on an accelerator: workers send small pictures, and nothing changes."""
    photo().resize((256, 300)).save(tmp_path / "small.png")
    paths = [tmp_path / "small.png", files[0] / "c.avi"]
    network = OnDevice(jax.local_devices()[0])
    options = Options("auto", FaceFinder(network), Sampling(frames=3))
    expected = as_json([*file_results(inspect(Brightness(), lots(items(paths), BATCH), options))])
    setup = setup_of(sampling=Sampling(frames=3), face_model=Path("is not read"))
    given = plan(items(paths), BATCH)
    found = [*judged_in_processes(Brightness(), given, setup, 2, network.all_of)]
    assert as_json(found) == expected
    assert [len(result.frames) for result in found] == [1, 3]


class Poisoned(Brightness):
    """Does something to the workers when a black crop comes."""

    def __init__(self, effect: Callable[[BaseProcess], None], batch_size: int) -> None:
        super().__init__(batch_size)
        self.effect = effect

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        found = super().outputs(groups)
        if any((crop == 0).all() for crops in groups for crop in crops):
            for child in multiprocessing.active_children():
                self.effect(child)
        return found


def kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


def stop(process: BaseProcess) -> None:
    os.kill(process.pid or 0, signal.SIGSTOP)


@pytest.mark.parametrize(
    ("effect", "reason", "batch_size"),
    [
        (kill, "made the process that read it die", 1),
        (kill, "made the process that read it die", BATCH),
        (stop, "kept its process busy for 6 s without progress", 1),
    ],
)
def test_a_file_that_ends_its_worker_fails_alone(
    effect: Callable[[BaseProcess], None],
    reason: str,
    batch_size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if effect is stop:
        if not hasattr(signal, "SIGSTOP"):
            pytest.skip("this system cannot stop a process")
        monkeypatch.setattr(workers, "PATIENCE", 6.0)
    names = [f"{number}.png" for number in range(6)]
    for name in names:
        (Image.new("RGB", (60, 60)) if name == "2.png" else noise()).save(tmp_path / name)
    out = tmp_path / "out"
    out.mkdir()
    given = plan(items([tmp_path / name for name in names]), batch_size)
    setup = setup_of(out, batch_size, mode="none")
    found = [*judged_in_processes(Poisoned(effect, batch_size), given, setup, 1)]
    assert [Path(result.file).name for result in found] == names
    problems = [result.problem for result in found]
    assert [problem is None for problem in problems] == [True, True, False, True, True, True]
    assert f"2.png {reason}" in str(problems[2])
    assert not (out / "2.mask.png").exists()
    assert all((out / f"{number}.mask.png").exists() for number in (0, 1, 3, 4, 5))


@pytest.mark.parametrize("batch_size", [1, BATCH])
def test_a_file_at_which_a_worker_fails_costs_no_other(
    batch_size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for lack of memory, or by a defect of OpenCV."""

    class Failing(Brightness):
        def _output(self, crops: np.ndarray) -> dict[str, np.ndarray]:
            is_black = (crops == 0).all((1, 2, 3)).any()
            return {"real_probability": np.zeros(0)} if is_black else super()._output(crops)

    for number in range(6):
        picture = Image.new("RGB", (60, 60)) if number == 2 else noise()
        picture.save(tmp_path / f"{number}.png")
    given = plan(items([tmp_path]), batch_size)
    setup = setup_of(batch_size=batch_size, mode="none")
    found = [*judged_in_processes(Failing(batch_size), given, setup, 1)]
    problems = [result.problem for result in found]
    assert [problem is None for problem in problems] == [True, True, False, True, True, True]
    reason = "made the process that read it fail (IndexError: list index out of range); replace"
    assert f"2.png {reason}" in str(problems[2])
    (trace,) = capsys.readouterr().err.split("Traceback")[1:]
    assert "IndexError: list index" in trace


def test_results_that_cannot_be_written_end_the_run(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    setup = setup_of(tmp_path / "missing", mode="none")
    with pytest.raises((InputError, OSError), match="missing"):
        list(judged_in_processes(Brightness(), plan(items([tmp_path / "a.png"]), 1), setup, 2))
    assert not multiprocessing.active_children()


def test_workers_end_with_the_generator(tmp_path: Path) -> None:
    for number in range(8):
        noise().save(tmp_path / f"{number}.png")
    given = plan(items([tmp_path]), 1)
    results = judged_in_processes(Brightness(), given, setup_of(mode="none"), 2)
    assert next(results).problem is None
    results.close()
    assert not multiprocessing.active_children()


def test_few_files_are_begun_before_the_first_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results that wait for an earlier one take memory."""
    monkeypatch.setattr(work, "_WAITING", 4)  # two results, each of a frame
    for number in range(20):
        noise().save(tmp_path / f"{number:02}.png")
    taken: list[int] = []

    class Counted(list[list[Planned]]):
        def __iter__(self) -> Iterator[list[Planned]]:
            for lot in super().__iter__():
                taken.append(lot[0].number)
                yield lot

    given = Counted(plan(items([tmp_path]), 1))
    found = judged_in_processes(Brightness(), given, setup_of(mode="none"), 2)
    for done, _ in enumerate(found):
        assert len(taken) <= done + 1 + 2 + 2  # two workers
    assert len(taken) == 20


def test_workers_do_without_jax() -> None:
    """Each would take seconds and gigabytes for it."""
    code = "import flax_unet.predict.workers, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_gives_the_same_with_workers(files: list[Path], tmp_path: Path) -> None:
    model = small_checkpoint(tmp_path)
    source = metadata.load_source(model)
    source[metadata.CALIBRATION] = {"temperature": 1.5, "threshold": 0.4}
    metadata.write_json(model / metadata.SOURCE, source)
    found = []
    for count in (0, 1, 2):
        out = tmp_path / f"out{count}"
        words = [str(model), str(files[0]), "--save-logits", "--out", str(out)]
        with pytest.raises(SystemExit) as ended:
            predict.main([*words, "--workers", str(count)])
        assert ended.value.code == 1  # one file is broken
        found.append(contents(out))
    assert found[0] == found[1] == found[2]
    assert {"a.mask.png", "c.overlay.mp4", "a.logits.npy"} <= found[0].keys()


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (20, 0), (64, 1), (200, 1)])
def test_many_files_are_not_read_by_the_process_that_must_last(
    count: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where one processor is all there is, a file that kills its reader fails alone."""
    monkeypatch.setattr(predict, "processors", lambda: 1)
    for number in range(count):
        Image.new("L", (1, 1)).save(tmp_path / f"{number}.png")
    assert predict._workers_for(plan(items([tmp_path]), BATCH)) == expected


def test_adding_sound_to_an_overlay_is_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of hours takes many minutes, after the last frame was judged."""
    setup = setup_of(tmp_path, mode="none")
    judge, read_frames = Watched(setup), videos.replies
    before: list[int] = []

    def replies(task: str, **arguments: Any) -> Iterator[Reply | None]:
        if task == "read":
            yield from read_frames(task, **arguments)
            return
        for _ in range(5):
            before.append(judge.beats)
            yield None
        yield Reply({"end": True, "added": False})

    monkeypatch.setattr(videos, "replies", replies)
    path = write_video(tmp_path / "a.avi", numbered(3))
    (result,) = work.reader(setup, judge)(plan(items([path]), 1)[0])
    assert isinstance(result, FileResult)
    assert result.files["overlay"] == "a.overlay.mp4"
    assert len(before) == len(set(before)) == 5  # each with signs of life since the one before


@pytest.mark.parametrize("error", [PassingError, WorkerError])
def test_only_what_may_pass_is_tried_again(
    error: type[WorkerError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a disk or network stalls, but not where a video is damaged."""

    def replies(*_: Any, **__: Any) -> Iterator[Reply | None]:
        yield None
        raise error("keeps the decoder busy")

    monkeypatch.setattr(videos, "replies", replies)
    path = write_video(tmp_path / "a.avi", numbered(3))
    setup, given = setup_of(mode="none"), plan(items([path]), 1)
    (found,) = work.reader(setup, Watched(setup))(given[0])
    if error is WorkerError:
        assert isinstance(found, FileResult)
        assert found.problem == f"{path} keeps the decoder busy"
        return
    assert isinstance(found, Failure)
    assert found == Failure("keeps the decoder busy")
    queue = Queue(given)
    lot = queue.next()
    queue.lost(lot, setup, found)
    assert [*queue.results()] == []
    assert queue.next() == lot
    queue.lost(lot, setup, found)
    assert [result.problem for result in queue.results()] == [f"{path} keeps the decoder busy"]


@pytest.mark.parametrize("batch_size", [1, BATCH])
def test_a_worker_that_dies_once_changes_nothing(batch_size: int, tmp_path: Path) -> None:
    """The system may end any process where memory is short. Not a bit of a verdict depends on it.

    Large pictures are judged by twos: of a lot of four, two may be done.
    """
    for number in range(6):
        picture = Image.new("RGB", (4000, 3200), (40 * number, 0, 0))
        picture.save(tmp_path / f"{number}.png", compress_level=1)

    class Once(Brightness):
        dies = False

        def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
            if self.dies and self.sizes:
                self.dies = False
                kill(multiprocessing.active_children()[0])
            return super().outputs(groups)

    given, setup = plan(items([tmp_path]), batch_size), setup_of(batch_size=batch_size, mode="none")
    judge = Once(batch_size)
    expected = as_json([*judged_in_processes(judge, given, setup, 1)])
    judge = Once(batch_size)
    judge.dies = True
    assert as_json([*judged_in_processes(judge, given, setup, 1)]) == expected
    assert not judge.dies
