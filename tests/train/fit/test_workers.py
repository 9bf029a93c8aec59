"""Training whose pictures are read in processes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks import killed
from tests.train.children import await_steps
from train.fit import __main__ as fit
from train.fit.tracking import read

FIXED = ("--batch-size", "4", "--learning-rate", "1e-3", "--flip", "0.5", "--log-every", "1")


def options(data: Path, workdir: Path, *more: object) -> list[str]:
    start = data.parent / "start"
    return [*FIXED, *map(str, ("--data", data, "--init-from", start, "--workdir", workdir, *more))]


def test_any_number_of_workers_trains_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of validation, and of a run that continues."""
    shared = ("--validation", "40%", "--save-every", 2)
    fit.main(options(data, tmp_path / "threads", *shared, "--steps", 6, "--workers", 0))
    assert "read by processes" not in capsys.readouterr().out
    for steps, workers in ((4, 2), (6, 1)):
        more = (*shared, "--steps", steps, "--workers", workers)
        fit.main(options(data, tmp_path / "processes", *more))
        assert f"pictures are read by processes: {workers}\n" in capsys.readouterr().out
    assert killed.differing(tmp_path / "threads", tmp_path / "processes") == []
    runs = (tmp_path / name for name in ("processes", "threads"))
    found, expected = (read(run / "validation.jsonl") for run in runs)
    assert found[-1] == expected[-1]


@contextlib.contextmanager
def training(data: Path, workdir: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A long run in a process of its own, and the numbers of the processes that read for it."""
    line = options(data, workdir, "--steps", 100_000, "--workers", 2)
    parent = subprocess.Popen(
        [sys.executable, "-m", "train.fit", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        await_steps(parent, workdir / "metrics.jsonl")
        children = psutil.Process(parent.pid).children()
        yield parent, [c.pid for c in children if "spawn_main" in " ".join(c.cmdline())]
    finally:
        parent.kill()
        parent.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_to_all_processes_save_and_end(number: int, data: Path, tmp_path: Path) -> None:
    with training(data, tmp_path / "run") as (parent, workers):
        os.killpg(parent.pid, number)
        printed, errors = parent.communicate(timeout=120)
    assert (parent.returncode, errors) == (128 + number, "")
    assert "is saved. The same command continues" in printed
    assert len(workers) == 2
    assert not any(map(psutil.pid_exists, workers))


def test_a_killed_worker_ends_the_run_with_one_message(data: Path, tmp_path: Path) -> None:
    with training(data, tmp_path / "run") as (parent, workers):
        psutil.Process(workers[0]).kill()
        _, errors = parent.communicate(timeout=120)
    assert parent.returncode == 2
    assert errors.startswith("error: a process that reads pictures ended (exit status -9)")
    assert errors.count("\n") == 1
    assert not any(map(psutil.pid_exists, workers))
