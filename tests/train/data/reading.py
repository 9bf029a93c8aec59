"""What the processes of the tests read; it imports nothing that takes long."""

import os
import sys
from collections.abc import Callable

import numpy as np

from flax_unet.utils.errors import InputError


def square(number: int) -> int:
    return number * number


def fail_at(wrong: int, number: int) -> int:
    if number == wrong:
        raise InputError(f"{number} is damaged")
    return number


def megabyte(number: int) -> bytes:
    return bytes(2**20)


def modules(read: Callable[[int], object], number: int) -> set[str]:
    """The packages that are imported once `read` has read."""
    read(number)
    return {name.partition(".")[0] for name in sys.modules}


def threads(number: int) -> str | None:
    """How many threads linear algebra may use."""
    return os.environ.get("OMP_NUM_THREADS")


def faults(number: int) -> int:
    """How often the system has to find memory for arrays as large as the ones before."""
    import resource  # Windows has none

    counts = []
    for _ in range(2):
        arrays = [np.ones(6 * 2**20, np.uint8) for _ in range(4)]
        del arrays
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[1] - counts[0]
