"""Runs FFmpeg in a process of its own: a file that makes it crash costs no other file.

`serve` is what runs there. A process is kept for the next file, so that an archive of short clips
does not pay a start for each. Nothing but JSON and pixels comes back from it.
"""

import atexit
import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from flax_unet.utils.errors import InputError
from flax_unet.utils.malloc import KEPT_MEMORY

PATIENCE = 60.0  # seconds that a task may take without progress
AGAIN = "export it again as MP4 (H.264)"  # what to do about a video that cannot be used
_TICK = 0.5  # seconds
# Apart from the terminal: Ctrl-C is for the parent, which then ends this process.
_APART: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if sys.platform == "win32"
    else {"process_group": 0}
)


class Reply(NamedTuple):
    """What a task reports."""

    values: dict[str, Any]
    pixels: np.ndarray | None = None  # (height, width, 3) uint8, where `values` have a `size`


class WorkerError(InputError):
    """A file cannot be used. The message is a predicate, such as `makes the decoder crash; ...`."""


class PassingError(WorkerError):
    """A file could not be used, for a reason that may be over when it is tried again."""


def replies(task: str, **arguments: Any) -> Generator[Reply | None]:
    """What a task reports, in order, the last one with the key `end`.

    None stands for each step without a report, and comes several times a second where a step takes
    long. Arguments are what JSON can hold.

    Raises:
        WorkerError: the task refuses the file or crashes on it.
        PassingError: the task was killed, or does not get on with the file.
    """
    worker = _idle_worker() or _Worker()
    try:
        yield from worker.run({"task": task, **arguments})
    finally:
        if worker.is_free:
            _idle.append(worker)
        else:
            worker.end()


class _Worker:
    """The process, seen from the parent."""

    def __init__(self) -> None:
        here = str(Path(__file__).parents[2])
        paths = os.pathsep.join(filter(None, (here, *sys.path)))  # as the parent finds modules
        # -P: nothing is imported from the working directory that the parent would not import.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flax_unet.media.serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders print there
            env={**KEPT_MEMORY, **os.environ, "PYTHONPATH": paths},
            **_APART,
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._source = cast(io.BufferedReader, self._process.stdout)
        self.is_free = True
        # Received in a thread: the pipes of Windows cannot be waited for with a limit.
        self._received: queue.Queue[Reply | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._receive, name="decoder", daemon=True)
        self._thread.start()
        _alive.add(self)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, request: dict[str, Any]) -> Generator[Reply | None]:
        self.is_free = False
        with contextlib.suppress(OSError):  # it died: the reply is its end
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        waited = 0.0
        while True:
            try:
                reply = self._received.get(timeout=_TICK)
            except queue.Empty:
                # Counted in steps, since the consumer may rest at a None for as long as it wants.
                waited += _TICK
                if waited > PATIENCE:
                    raise PassingError(
                        f"keeps the decoder busy for {PATIENCE:.0f} s without progress; does its "
                        f"disk or network stall? If not, {AGAIN}"
                    ) from None
                yield None
                continue
            waited = 0.0
            if reply is None:
                raise _death(self._process.wait())
            values = reply.values
            self.is_free = "end" in values or "problem" in values
            if "problem" in values:
                raise WorkerError(values["problem"])
            for _ in range(values.get("steps", 0)):
                yield None
            if "steps" not in values:
                yield reply
            if self.is_free:
                return

    def end(self) -> None:
        """Kills it; may be called again."""
        self._process.kill()
        while self._thread.is_alive():  # it may wait for room
            with contextlib.suppress(queue.Empty):
                self._received.get(timeout=_TICK)
        self._process.wait()
        for pipe in (self._requests, self._source):
            with contextlib.suppress(OSError):  # what could not be sent
                pipe.close()
        _alive.discard(self)

    def _receive(self) -> None:
        """Puts what comes into the queue, and None at the end."""
        try:
            while line := self._source.readline():
                values, pixels = json.loads(line), None
                if "size" in values:
                    width, height = values["size"]
                    pixels = np.empty((height, width, 3), np.uint8)
                    if self._source.readinto(pixels.data.cast("B")) < pixels.size:
                        break  # it died meanwhile
                self._received.put(Reply(values, pixels))
        finally:
            self._received.put(None)


def _death(status: int) -> WorkerError:
    if status == -9:
        return PassingError(
            "was being decoded when the decoder was killed, perhaps for lack of memory"
        )
    return WorkerError(f"makes the decoder crash (exit status {status}); {AGAIN}")


_idle: list[_Worker] = []  # its methods are atomic
_alive: set[_Worker] = set()


def _idle_worker() -> _Worker | None:
    while _idle:
        with contextlib.suppress(IndexError):  # another thread took it
            worker = _idle.pop()
            if worker.is_alive:
                return worker
            worker.end()
    return None


@atexit.register
def _end_all() -> None:
    # Before the interpreter ends: threads that still read stop it from ending.
    for worker in list(_alive):
        worker.end()
    _idle.clear()
