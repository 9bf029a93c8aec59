"""How many processors this process may use: a container or a batch system may grant it a few."""

import os


def processors() -> int:
    """At least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
