"""Makes groups of videos in several processes."""

import concurrent.futures
import multiprocessing
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from pathlib import Path

from flax_unet.utils.errors import InputError
from flax_unet.utils.processes import follow_parent, one_thread, processors
from train.prepare import work
from train.prepare.plan import Group
from train.prepare.work import Options, Outcome

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
    workers = min(workers or processors(), len(groups))
    if workers <= 1:
        work.start()
        for group in groups:
            yield work.make_group(group, out, options)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start)
    running: set[Future[list[Outcome]]] = set()
    try:
        for group in groups:
            with one_thread():  # a process may start
                running.add(pool.submit(work.make_group, group, out, options))
            if len(running) >= _WAITING * workers:
                done, running = concurrent.futures.wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in concurrent.futures.as_completed(running):
            yield future.result()
    except concurrent.futures.BrokenExecutor as error:
        raise InputError(
            "a process was killed, perhaps for lack of memory; run this again with fewer --workers"
        ) from error
    finally:
        for process in multiprocessing.active_children():  # otherwise they finish their videos
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Prepares a process of the pool."""
    follow_parent()
    work.start()
