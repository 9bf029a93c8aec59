"""Reads items in threads, ahead of their use."""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import grain

T = TypeVar("T")


def processors() -> int:
    """How many processors this process may use; a container or a batch system may allow few."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetch(read: Callable[[int], T], positions: range, ahead: int) -> Iterator[T]:
    """Yields `read` of each position, in order; up to `ahead` results wait in memory."""
    options = grain.ReadOptions(min(processors(), ahead), ahead)
    numbers = grain.MapDataset.range(positions.start, positions.stop, positions.step)
    return iter(numbers.map(read).to_iter_dataset(options))
