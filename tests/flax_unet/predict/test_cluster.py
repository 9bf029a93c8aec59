"""Files that are read on a Ray cluster: the same results, whatever happens to its processes."""

import contextlib
import importlib.util
import socket
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.discover import items
from flax_unet.predict import __main__ as predict
from flax_unet.predict import cluster, work
from flax_unet.predict.plan import Lot, plan
from flax_unet.predict.results import FileResult
from flax_unet.predict.work import Failure, Network, NetworkError, Setup
from flax_unet.utils.errors import InputError
from tests.clusters import on_new_cluster
from tests.flax_unet.samples import contents, noise, photo, small_checkpoint, write_video

Fails = Callable[..., str]
SETUP = Setup((8, 8), 4, 0.5, None, mode="none")
NETWORK = Network(Path("model"), "float32")
SOURCE = cluster._Source(NETWORK, None, cluster.Origin.here(cluster._versions()), "", "CPU")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


def test_ray_gives_the_same(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On a cluster of two processes, which goes on with a run that this process began."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    noise(seed=1).save(folder / "a.png")
    for name in ("b.png", "c.jpg"):
        photo().resize((256, 300)).save(folder / name)
    write_video(folder / "d.avi", [photo()] * 3, size=(512, 600))
    (folder / "e.png").write_bytes(b"not a picture")
    common = (str(model), "files", "--save-logits", "--batch-size", "1")
    with pytest.raises(SystemExit):
        predict.main([*common, "--out", "whole"])
    lines = capfd.readouterr().out.splitlines()

    results = predict._results

    def first(*arguments: Any) -> Iterator[FileResult]:
        with contextlib.closing(results(*arguments)) as found:
            yield next(found)
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "_results", first)
    with pytest.raises(SystemExit):
        predict.main([*common, "--out", "out"])
    assert (tmp_path / "out.unfinished").is_dir()
    ended = on_new_cluster("flax_unet.predict", *common, "--out", "out", cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr  # one file is broken
    assert "1 of 5 files are done already" in ended.stderr
    # Without the first file, which has two lines, and the last line, which names the folder.
    assert ended.stdout.splitlines()[:-1] == lines[2:-1]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert {"b.mask.png", "c.logits.npy", "d.overlay.mp4"} <= contents(tmp_path / "out").keys()


def test_options_that_make_no_sense(model: Path, tmp_path: Path, fails: Fails) -> None:
    noise().save(tmp_path / "a.png")
    words = (model, tmp_path / "a.png", "--ray")
    message = fails(predict.main, *words, "auto", "--devices", "2")
    assert "--devices: with --ray, all GPUs or TPUs judge that the cluster has" in message
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        message = fails(predict.main, *words, address, "--out", tmp_path / "out")
    assert f"--ray {address}: the cluster cannot be reached" in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_missing_package(
    model: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    message = fails(predict.main, model, tmp_path, "--ray", "auto")
    assert "this needs the package ray of the extra cluster: pip install ray" in message


class FakeRay(types.ModuleType):
    """In the place of Ray: tasks are done here, the newest one first, when they are waited for."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.exceptions = types.ModuleType("ray.exceptions")
        self.exceptions.__dict__.update(RayError=RayError, RayTaskError=RayTaskError)
        self.most = 0  # tasks at a time
        self.was_shut_down = False

    def remote(self, **_: Any) -> Callable[..., Any]:
        return lambda function: types.SimpleNamespace(remote=lambda *given: Task(function, given))

    def wait(self, tasks: Sequence["Task"], timeout: float | None = None) -> tuple[list[Any], Any]:
        if timeout is not None and tasks[-1].hangs:
            return [], tasks
        self.most = max(self.most, len(tasks))
        return [tasks[-1]], tasks[:-1]

    def get(self, task: "Task") -> Any:
        return task.function(*task.given)

    def shutdown(self) -> None:
        self.was_shut_down = True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, "memory": 1e9}


class RayError(Exception):
    """A process ended."""


class RayTaskError(RayError):
    """A task raised `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


class Task:
    """A call that has not been made."""

    def __init__(
        self, function: Callable[..., Any], given: Sequence[Any], *, hangs: bool = False
    ) -> None:
        self.function, self.given, self.hangs = function, given, hangs


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.exceptions", fake.exceptions)
    monkeypatch.setattr(cluster, "_started", lambda _: ["first", "second"])
    monkeypatch.setattr(cluster, "_weights", lambda _: "abc")
    return fake


def results_of(lot: Lot) -> list[FileResult]:
    return [FileResult(file.item.name, file.item.kind) for file in lot]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number:02}.png" for number in range(12)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    return paths


def test_files_at_which_processes_end_fail_alone(
    ray: FakeRay, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lots: list[list[str]] = []
    unlucky = {"04.png"}  # its process ends once

    def read(lot: Lot, *_: Any) -> list[FileResult]:
        names = [file.item.path.name for file in lot]
        lots.append(names)
        if "02.png" in names or unlucky & set(names):
            unlucky.difference_update(names)
            raise RayError("The worker died")
        return results_of(lot)

    monkeypatch.setattr(cluster, "_results", read)
    found = [*cluster.judged_on_cluster(plan(items(files), 4), SETUP, NETWORK, None)]
    assert [result.file for result in found] == [str(path) for path in files]
    problems = {Path(one.file).name: one.problem for one in found if one.problem is not None}
    assert problems.keys() == {"02.png"}
    assert "02.png made the processes that read it die, perhaps for lack of memory" in str(problems)
    alone = sorted(name for names in lots if len(names) == 1 for name in names)
    assert alone == [f"{number:02}.png" for number in range(4)]
    assert lots.count([f"{number:02}.png" for number in range(4, 8)]) == 2
    assert not ray.was_shut_down


def test_files_at_which_tasks_fail_fail_alone(
    ray: FakeRay, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = cluster._results

    def results(lot: Lot, *_: Any) -> list[FileResult] | Failure:
        crops = [{"real_probability": np.zeros(0)}] if lot[0].number == 2 else [output]
        return read(lot, set(), SETUP, SOURCE, [detector("well", crops)])

    zeros = np.zeros((1, 8, 8), np.float32)
    output = {"real_probability": zeros[:, 0, 0], "mask_probability": zeros, "mask": zeros > 0}
    monkeypatch.setattr(cluster, "_results", results)
    found = [*cluster.judged_on_cluster(plan(items(files), 1), SETUP, NETWORK, None)]
    problems = {Path(one.file).name: one.problem for one in found if one.problem is not None}
    assert problems.keys() == {"02.png"}
    assert "fail (IndexError: list index out of range); replace" in str(problems)


def test_detectors_that_fail_end_the_run(ray: FakeRay, files: list[Path]) -> None:
    """No file is to blame: all of them would fail."""
    (lot,) = plan(items(files[:1]), 1)
    exhausted = RayTaskError(MemoryError("RESOURCE_EXHAUSTED"))
    with pytest.raises(NetworkError) as raised:
        cluster._results(lot, set(), SETUP, SOURCE, [detector("exhausted", exhausted)])
    assert isinstance(raised.value.__cause__, MemoryError)


def test_few_lots_are_begun_before_the_first_is_done(
    ray: FakeRay, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_WAITING", 3)
    read: list[str] = []

    def results(lot: Lot, *_: Any) -> list[FileResult]:
        read.extend(file.item.path.name for file in lot)
        return results_of(lot)

    monkeypatch.setattr(cluster, "_results", results)
    found = cluster.judged_on_cluster(plan(items(files), 1), SETUP, NETWORK, None)
    assert next(found).file == str(files[0])
    assert ray.most == 4  # of two cores
    assert read == ["03.png", "04.png", "05.png", "02.png", "01.png", "00.png"]


def test_machine_that_cannot_work_ends_the_run(
    ray: FakeRay, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def results(*_: Any) -> list[FileResult]:
        raise RayTaskError(InputError("node7 does not see files; all machines must share it"))

    monkeypatch.setattr(cluster, "_results", results)
    with pytest.raises(InputError, match="node7 does not see files"):
        list(cluster.judged_on_cluster(plan(items(files), 1), SETUP, NETWORK, None))
    assert ray.was_shut_down  # the other tasks, too


def test_another_detector_judges_where_one_is_lost(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    calls: list[str] = []
    lost = detector("lost", RayError("The actor is unavailable"), calls)
    well = detector("well", ["outputs"], calls)
    assert judge([lost, well]).outputs([]) == ["outputs"]
    assert judge([lost, detector("finds", "faces", calls)]).find(np.zeros(3)) == "faces"
    assert calls == ["lost", "well", "lost", "finds"]
    alone, beats = judge([lost]), []
    monkeypatch.setattr(alone, "beat", lambda: beats.append(1))
    with pytest.raises(TimeoutError, match=r"no detector of the cluster answers, after 300 calls"):
        alone.outputs([])
    assert len(beats) >= 300  # with pauses between the calls, this process would be ended otherwise
    damaged = RayTaskError(InputError("mask is not finite"))
    with pytest.raises(InputError, match="mask is not finite"):
        judge([detector("damaged", damaged), well]).outputs([])
    lacking = RayTaskError(ModuleNotFoundError("No module named 'jax'"))
    with pytest.raises(InputError, match=r"lacks a package: No module named 'jax'; install"):
        judge([detector("lacking", lacking), well]).outputs([])


def test_detectors_that_hang_are_left_alone(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.01)
    asked: list[int] = []

    def hangs(*given: Any) -> Task:
        asked.append(1)
        return Task(print, given, hangs=True)

    silent: Any = types.SimpleNamespace(outputs=types.SimpleNamespace(remote=hangs))
    both = judge([silent, detector("well", ["outputs"])])
    monkeypatch.setattr(both, "beat", lambda: None)  # it would end this process
    assert [both.outputs([]) for _ in range(3)] == [["outputs"]] * 3
    assert len(asked) == 1
    alone = judge([silent])
    monkeypatch.setattr(alone, "beat", lambda: None)
    with pytest.raises(TimeoutError, match="no detector of the cluster answers, after 1 call; run"):
        alone.outputs([])


def test_a_cluster_whose_detectors_are_lost_fails_no_file(
    ray: FakeRay, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    setup = SETUP._replace(mode="auto", finds=False)
    (lot,) = plan(items(files[:1]), 1)
    with pytest.raises(TimeoutError, match="no detector of the cluster answers"):
        cluster._results(lot, set(), setup, SOURCE, [detector("lost", RayError("It died"))])


def test_weights_that_changed_are_not_used(model: Path) -> None:
    """A detector that starts again, or on another machine, may find others at the same path."""
    network, origin = Network(model, "float32"), cluster.Origin.here(cluster._versions())
    own = cluster._Source(network, None, origin, cluster._weights(network), "CPU")
    assert cluster._loaded(own).size == (32, 32)
    with pytest.raises(InputError, match=r"has other weights at .*; all machines must"):
        cluster._loaded(own._replace(weights="abc"))


def test_only_folders_that_are_there_must_be_seen(tmp_path: Path) -> None:
    """A listed file whose folder is gone fails alone, as without a cluster."""
    noise().save(tmp_path / "a.png")
    names = ["a.png", "gone/b.png", f"{'x' * 300}/c.png"]
    (lot,) = plan(items([tmp_path / name for name in names]), 4)
    assert cluster._folders(lot) == {tmp_path}


def detector(name: str, outcome: object, calls: list[str] | None = None) -> Any:
    """An actor whose methods return or raise `outcome`; `calls` gets its name each time."""

    def method(*_: Any) -> object:
        if calls is not None:
            calls.append(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    task = types.SimpleNamespace(remote=lambda *given: Task(method, given))
    return types.SimpleNamespace(outputs=task, find=task)


def judge(detectors: Sequence[Any]) -> Any:
    return cluster._Spread(SETUP, detectors, SOURCE)


def test_detectors_suit_the_cluster(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster._device() == "CPU"
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0, "TPU": 4.0, "GPU": 0.0})
    assert cluster._device() == "TPU"
