"""The peak memory of a contender's call, by itself in a fresh process."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import OURS, PYTORCH, Subject, make

_CALLS = 2  # the second has what an optimizer keeps
_KIB = 2**10


def peak_memory(name: str, row: Any, subject: Subject) -> int | None:
    """Bytes beyond what lay there before the network did; None for what is compiled on a CPU.

    Args:
        name: of the contender.
        row: task, dtype and batch.
        subject: what it computes on.
    """
    if name != OURS and PYTORCH[name][1] and not torch.cuda.is_available():
        return None  # its compiler runs in the same process and takes more than the network
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_peak, name, row.task, row.dtype, subject).result()


def _peak(name: str, task: str, dtype: str, subject: Subject) -> int:
    before = _resident()
    contender = make(name, task, subject, dtype)
    if torch.cuda.is_available() and name == OURS:
        return contender.planned or 0  # XLA reserves most of the device, whatever it needs
    for _ in range(_CALLS):
        contender.call()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return _resident() - before


def _resident() -> int:
    """The most memory that this process has held, in bytes."""
    # Not by getrusage, whose figure a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return _KIB * int(line.split()[1])
