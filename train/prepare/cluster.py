"""Makes groups of videos as tasks of a Ray cluster, whose machines share the folders."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from flax_unet.utils.cluster import Origin, cores, returned
from train.prepare import result, work
from train.prepare.plan import Group
from train.prepare.work import Options, Outcome

_WAITING = 4  # groups a core, so that none is idle


def outcomes(
    groups: Sequence[Group], out: Path, options: Options, workers: int | None
) -> Generator[list[Outcome]]:
    """What became of each group, as they are finished. Each is a task of the connected cluster.

    `workers` are tasks at a time, None for as many as keep all cores busy. All machines see the
    paths.

    Raises:
        InputError: a machine of the cluster cannot do the work, or its process was killed again and
            again.
        OSError: the result cannot be written.
    """
    import ray

    make = ray.remote(num_cpus=1)(_make_group)
    at_a_time = workers or _WAITING * cores()
    origin = Origin.here(result.versions())
    running: list[Any] = []
    try:
        for group in groups:
            running.append(make.remote(group, out, options, origin))
            if len(running) >= at_a_time:
                done, running = ray.wait(running)
                yield returned(done[0])
        while running:
            done, running = ray.wait(running)
            yield returned(done[0])
    finally:
        if running:  # they must not write any more
            ray.shutdown()


def _make_group(group: Group, out: Path, options: Options, origin: Origin) -> list[Outcome]:
    """`work.make_group` on a machine of the cluster."""
    folders = [one.video.path.parent for one in group]
    origin.enter(result.versions(), [out / result.SETTINGS, *folders])
    work.start()
    return work.make_group(group, out, options)
