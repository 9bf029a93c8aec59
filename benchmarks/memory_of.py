"""The peak memory of a contender: on a GPU by its allocator, on a CPU in a process of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import OURS, PYTORCH, Contender, Subject, make

_CALLS = 2  # the second has what an optimizer keeps
_KIB = 2**10


def mark() -> int:
    """Bytes that PyTorch holds on a GPU, from which `since` counts."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def since(mark: int, contender: Contender) -> int | None:
    """The most bytes on a GPU since `mark` was taken, before the contender was made.

    What XLA needs is what its compiler plans: it may reserve any more.
    """
    if not torch.cuda.is_available():
        return None
    return contender.planned or torch.cuda.max_memory_allocated() - mark


def of_process(name: str, row: Any, subject: Subject) -> int | None:
    """Bytes on a CPU beyond what lay there before the network did; None for what is compiled.

    Args:
        name: of the contender.
        row: task, dtype and batch.
        subject: what it computes on.
    """
    if name != OURS and PYTORCH[name][1]:
        return None  # its compiler runs in the same process and takes more than the network
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(_peak, name, row.task, row.dtype, subject).result()
        except (BrokenProcessPool, RuntimeError):  # there is too little memory for it
            return None


def _peak(name: str, task: str, dtype: str, subject: Subject) -> int:
    before = _resident()
    contender = make(name, task, subject, dtype)
    for _ in range(_CALLS):
        contender.call()
    return _resident() - before


def _resident() -> int:
    """The most memory that this process has held, in bytes."""
    # Not by getrusage, whose figure a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return _KIB * int(line.split()[1])
