"""Reading in processes: the same as in threads, and none is left behind."""

import contextlib
import functools
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flax_unet.utils.errors import InputError
from flax_unet.utils.malloc import KEPT_MEMORY
from tests.train.data import reading
from tests.train.folders import write_folder
from train.data.augment import Augmentation
from train.data.dataset import open_dataset
from train.data.loader import batches
from train.data.prefetch import prefetch
from train.data.sampler import Sampler


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 frames: batches of 4 leave 2 over."""
    return write_folder(tmp_path_factory.mktemp("data") / "data", videos=7, frames=2)


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


def test_processes_read_the_same_in_the_same_order(folder: Path) -> None:
    data = open_dataset(str(folder), None)
    changes = Augmentation(*[0.5] * 6)

    def read(workers: int, process: int = 0, processes: int = 1) -> list[Any]:
        shared = {"process": process, "processes": processes, "workers": workers}
        stream = Sampler(data, 4, seed=3, keep_last_batch=True)
        trained = stream.batches((16, 20), changes, first=2, last=9, **shared)
        return [*trained, *batches(data, (16, 20), 3, **shared)]

    for shared in ((3,), (2, 1, 2)):
        expected, found = read(0, *shared[1:]), read(*shared)
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            for field in one._fields:
                np.testing.assert_array_equal(getattr(other, field), getattr(one, field))
                assert getattr(other, field).dtype == getattr(one, field).dtype


@pytest.mark.parametrize("count", [0, 1, 50])
def test_any_number_of_positions(count: int) -> None:
    positions = range(3, 3 + 2 * count, 2)
    assert list(prefetch(reading.square, positions, 16, workers=2)) == [n * n for n in positions]


def test_errors_come_in_their_place() -> None:
    """A damaged record among others: the same message as from threads."""
    for workers in (0, 1):
        found = prefetch(functools.partial(reading.fail_at, 11), range(40), 16, workers)
        assert [next(found) for _ in range(8)] == list(range(8))
        with pytest.raises(InputError) as caught:
            list(found)
        assert str(caught.value) == "11 is damaged"


def test_damaged_records_give_one_message(tmp_path: Path) -> None:
    data = open_dataset(str(write_folder(tmp_path / "data", videos=4)), None)
    (records,) = data.directory.rglob("*.array_record*")
    records.write_bytes(bytes(records.stat().st_size))
    messages = []
    for workers in (0, 1):
        with pytest.raises(InputError) as caught:
            list(batches(data, (16, 16), 4, workers=workers))
        messages.append(str(caught.value))
    assert f"{data.directory} is damaged" in messages[0]
    assert messages[0] == messages[1]


def test_a_killed_process_is_named() -> None:
    """Whatever it was doing: here it sends more than a pipe holds."""
    found = prefetch(reading.megabyte, range(10_000), 64, workers=2)
    next(found)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(InputError, match=r"exit status -9\).*fewer --workers"):
        list(found)


def test_closed_before_the_end() -> None:
    found = prefetch(reading.megabyte, range(10_000), 64, workers=2)
    next(found)
    assert len(multiprocessing.active_children()) == 2
    found.close()


def test_a_process_uses_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each starts a thread for every core."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [*prefetch(reading.threads, range(2), 2, workers=2)] == ["1", "1"]
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [*prefetch(reading.threads, range(2), 2, workers=2)] == ["3", "3"]
    assert os.environ["OMP_NUM_THREADS"] == "3"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems allocate otherwise")
def test_a_process_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the system finds and clears thousands of pages each time."""
    for name in (*KEPT_MEMORY, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert max(prefetch(reading.faults, range(2), 2, workers=2)) < 1000


def test_a_process_imports_no_framework(folder: Path) -> None:
    """Their imports take seconds and gigabytes."""
    stream = Sampler(open_dataset(str(folder), None), 4, seed=0)
    read = stream.reader((16, 16), Augmentation())
    (modules,) = prefetch(functools.partial(reading.modules, read), range(1), 1, workers=1)
    assert not {"jax", "jaxlib", "flax", "torch", "tensorflow", "grain", "orbax"} & modules
    assert "tensorflow_datasets" in modules  # which read the record


SCRIPT = """
import signal
from tests.train.data import reading
from train.data.prefetch import prefetch
for name in {signals!r}:
    signal.signal(getattr(signal, name), lambda *_: None)
print("started", flush=True)
found = prefetch(reading.megabyte, range(10_000), 64, workers=2)
next(found)
print("reads", flush=True)
input()
print(sum(1 for _ in zip(range(200), found)), flush=True)
input()
"""


@contextlib.contextmanager
def script(path: Path, *signals: str) -> Iterator[subprocess.Popen[str]]:
    """A script without `if __name__ == "__main__"`, once it reads; it ignores signals."""
    path.write_text(SCRIPT.format(signals=signals))
    parent = subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        text=True,
        start_new_session=True,
    )
    try:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["started\n", "reads\n"]
        yield parent
    finally:
        parent.kill()
        parent.communicate()


def test_a_script_is_not_run_again_and_may_forget_to_close(tmp_path: Path) -> None:
    with script(tmp_path / "script.py") as parent:
        printed, errors = parent.communicate("\n\n", timeout=60)
    assert (parent.returncode, printed, errors) == (0, "200\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
def test_processes_outlive_signals_but_not_their_parent(tmp_path: Path) -> None:
    """A batch system sends signals to all processes; the parent goes on until it has saved."""
    with script(tmp_path / "script.py", "SIGTERM", "SIGUSR1", "SIGINT") as parent:
        children = psutil.Process(parent.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.killpg(parent.pid, number)
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "200\n"
        parent.kill()
        _, alive = psutil.wait_procs(workers, timeout=60)
        assert not alive
        assert parent.communicate()[1] == ""
