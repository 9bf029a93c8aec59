"""Reads items ahead of their use, in threads or in processes."""

import contextlib
import itertools
import multiprocessing
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from flax_unet.utils.errors import InputError
from flax_unet.utils.prefetch import ahead as in_thread
from flax_unet.utils.processes import Worker, processors

T = TypeVar("T")

_CHUNK = 8  # items that a process sends together, at most: one takes longer each, many more memory


def prefetch(
    read: Callable[[int], T], positions: range, ahead: int, workers: int = 0
) -> Generator[T]:
    """Yields `read` of each position, in order; up to `ahead` results wait in memory.

    Threads read, or as many processes as there are `workers`; then `read` is pickled. What it
    raises is raised here.

    Raises:
        InputError: a process was killed.
    """
    if workers:
        yield from _in_processes(read, positions, ahead, workers)
    else:
        import grain  # not at the top: it imports JAX, which those processes do without

        options = grain.ReadOptions(min(processors(), ahead), ahead)
        numbers = grain.MapDataset.range(positions.start, positions.stop, positions.step)
        yield from numbers.map(read).to_iter_dataset(options)


def _in_processes(
    read: Callable[[int], T], positions: range, ahead: int, workers: int
) -> Generator[T]:
    """Chunks of positions are dealt to the processes in turn.

    Each process has a pipe of its own, which ends when the process does, whatever it was doing.
    """
    size = max(min(_CHUNK, ahead // (2 * workers)), 1)
    workers = min(workers, -(-len(positions) // size))
    pipes = [multiprocessing.Pipe(duplex=False) for _ in range(workers)]
    started: list[tuple[Worker, Connection]] = []
    with contextlib.ExitStack() as stack:  # ends the processes, then the thread, then the pipes
        for receiver, _ in pipes:
            stack.enter_context(receiver)
        # Half of what is ahead waits here, and the rest in the processes.
        source = in_thread(_received(started), max(ahead // 2, 1), len)
        stack.enter_context(contextlib.closing(source))
        for number, (receiver, sender) in enumerate(pipes):
            worker = Worker(target=_send, args=(read, (positions, size, number, workers), sender))
            with sender:  # the process has it, too
                worker.start()
            stack.callback(worker.end)
            started.append((worker, receiver))
        for chunk in source:
            yield from chunk


def _received(started: list[tuple[Worker, Connection]]) -> Generator[list[Any]]:
    """What the processes send, in their turns, until one has nothing left."""
    for worker, receiver in itertools.cycle(started):
        try:
            reply = receiver.recv()
        except (EOFError, OSError):  # OSError: within a message
            worker.join()
            raise InputError(
                f"a process that reads pictures ended (exit status {worker.exitcode}), perhaps for "
                "lack of memory; run this again with fewer --workers"
            ) from None
        if isinstance(reply, Exception):
            raise reply
        if not reply:
            return
        yield reply


def _send(read: Callable[[int], Any], own: tuple[range, int, int, int], sender: Connection) -> None:
    """Runs in a process: sends lists of what it reads, and an empty one at the end."""
    positions, size, number, workers = own
    for start in itertools.count(number * size, workers * size):
        try:
            reply = [read(position) for position in positions[start : start + size]]
        except Exception as error:
            error.add_note(f"In a process that reads pictures:\n{traceback.format_exc()}")
            reply = error
        try:
            sender.send(reply)
        except OSError:  # the parent is gone
            return
        if not reply or isinstance(reply, Exception):
            return
