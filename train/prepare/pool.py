"""Makes groups of videos in several processes."""

import concurrent.futures
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from pathlib import Path

from flax_unet.utils import processes
from train.prepare import work
from train.prepare.plan import Group
from train.prepare.work import Options, Outcome

_KILLED = "a process was killed, perhaps for lack of memory; run this again with fewer --workers"
_WAITING = 4  # groups a process, so that none is idle


def outcomes(
    groups: Sequence[Group], out: Path, options: Options, workers: int | None
) -> Generator[list[Outcome]]:
    """What became of each group, as they are finished.

    `workers` are processes, None for one a core.

    Raises:
        InputError: a process was killed.
        OSError: the result cannot be written.
    """
    workers = min(workers or processes.processors(), len(groups))
    if workers <= 1:
        work.start()
        for group in groups:
            yield work.make_group(group, out, options)
        return
    running: set[Future[list[Outcome]]] = set()
    with processes.pool(workers, work.start, _KILLED) as pool:
        for group in groups:
            running.add(pool.submit(work.make_group, group, out, options))
            if len(running) >= _WAITING * workers:
                done, running = concurrent.futures.wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in concurrent.futures.as_completed(running):
            yield future.result()
