"""Reads files and writes their results in several processes; the network stays in this one.

A worker does with a file all that `inspect` and `file_results` do. Only the crops of faces come
here, which are judged on all devices, and small copies of frames where a device finds faces.
"""

import contextlib
import multiprocessing
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from flax_unet.judge import Judge
from flax_unet.predict.plan import Lot, Plan
from flax_unet.predict.results import FileResult
from flax_unet.predict.work import PATIENCE, Distant, Failure, Queue, Setup, reader
from flax_unet.utils.processes import Worker

_BEAT = 1.0  # seconds between signs of life
_DEATH = Failure(
    "made the process that read it die, perhaps for lack of memory; replace or remove it"
)
_SILENCE = "kept its process busy for {:.0f} s without progress; does its disk or network stall?"


Search = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A FaceNetwork for several pictures at once."""


def judged_in_processes(
    judge: Judge, plan: Plan, setup: Setup, workers: int, search: Search | None = None
) -> Generator[FileResult]:
    """What `file_results` yields for the files of a plan, in their order.

    `search` finds faces for all workers; None: each does so itself, through OpenCV.
    A file that kills its worker, makes it fail or does not get on, with its lot twice and then by
    itself, fails.

    Raises:
        InputError: as for `inspect` and `file_results`.
    """
    queue = Queue(plan)
    with contextlib.ExitStack() as stack:
        setup = setup._replace(finds=search is None)
        hands = [stack.enter_context(contextlib.closing(_Hand(setup))) for _ in range(workers)]
        before = time.monotonic()
        while True:
            for hand in hands:
                if not hand.lot and (lot := queue.next()):
                    hand.give(lot)
            busy = [hand for hand in hands if hand.lot]
            if not busy:
                return
            waiting = [hand for hand in busy if hand.groups]
            heard = {hand.connection: hand for hand in busy if not hand.groups}
            # What came meanwhile goes first, so that all devices get something.
            ended = wait(list(heard), 0 if waiting else _BEAT)
            ready = [hand for connection, hand in heard.items() if connection in ended]
            if waiting and not ready:
                # The first files first, since the results of the others wait for theirs.
                _judge(judge, sorted(waiting, key=lambda hand: hand.lot[0].number))
            for hand in ready:
                received = hand.receive()
                if isinstance(received, Failure):
                    queue.lost(hand.restart(), setup, received)
                else:
                    queue.add(received)
            if search is not None:
                _find(search, [hand for hand in ready if hand.picture is not None])
            # In small steps, since this process may be stopped for a while, and they with it.
            before, passed = time.monotonic(), min(time.monotonic() - before, 2 * _BEAT)
            for hand in heard.values():
                hand.silent += passed
                if hand.silent > PATIENCE:
                    queue.lost(hand.restart(), setup, Failure(_SILENCE.format(PATIENCE)))
            yield from queue.results()


def _judge(judge: Judge, waiting: "list[_Hand]") -> None:
    """Judges what some workers wait for, as many groups as there are devices or a few more."""
    chosen, count = [], 0
    for hand in waiting:
        chosen.append(hand)
        count += len(hand.groups)
        if count >= judge.at_once:
            break
    outputs = iter(judge.outputs([group for hand in chosen for group in hand.groups]))
    for hand in chosen:
        hand.answer([next(outputs) for _ in hand.groups])


def _find(search: Search, asking: "list[_Hand]") -> None:
    """Finds the faces in the pictures that some workers sent."""
    pictures = [hand.picture for hand in asking if hand.picture is not None]
    for hand, found in zip(asking, search(pictures), strict=True):
        hand.answer(found)


class _Hand:
    """A worker, seen from here."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._start()

    def _start(self) -> None:
        self.lot: Lot = []  # what it was given, until all is done
        self._results: list[FileResult] = []  # of this
        # What it waits for: outputs for groups of crops, or the faces of a picture.
        self.groups: list[np.ndarray] = []
        self.picture: np.ndarray | None = None
        self.silent = 0.0  # seconds since something came from it or went to it
        self.connection, other = multiprocessing.Pipe()
        self._process = Worker(target=_work, args=(self._setup, other))
        self._process.start()
        other.close()  # so that this end closes when the worker dies

    def give(self, lot: Lot) -> None:
        """Gives it some files."""
        self.lot = lot
        self._send(lot)

    def answer(self, content: list[dict[str, np.ndarray]] | np.ndarray) -> None:
        """Sends it what it waits for."""
        self.groups, self.picture = [], None
        self._send(content)

    def _send(self, content: Any) -> None:
        self.silent = 0.0
        with contextlib.suppress(OSError):  # it died, which `receive` tells
            self.connection.send(content)

    def receive(self) -> dict[int, FileResult] | Failure:
        """The results of its lot, by the files' numbers, with the last; otherwise, none.

        Raises:
            Exception: what the files are not to blame for.
        """
        try:
            content = self.connection.recv()
        except (EOFError, OSError):
            return _DEATH
        self.silent = 0.0
        if isinstance(content, Exception):
            raise content
        if isinstance(content, Failure):
            return content
        if isinstance(content, FileResult):
            self._results.append(content)
            if len(self._results) == len(self.lot):
                done = zip((file.number for file in self.lot), self._results, strict=True)
                self.lot, self._results = [], []
                return dict(done)
        elif isinstance(content, np.ndarray):
            self.picture = content
        else:
            self.groups = content or []
        return {}

    def restart(self) -> Lot:
        """Replaces it by a new one; the lot that the old one has not done."""
        lot = self.lot
        self.close()
        self._start()
        return lot

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.join(_BEAT)  # it may be unable to end, in a disk that stalls
        self.connection.close()


class _Piped(Distant):
    """Judges by a network in the process that started this one."""

    def __init__(self, setup: Setup, connection: Connection) -> None:
        super().__init__(setup)
        self._connection = connection
        self._asking, self._sending = threading.Lock(), threading.Lock()
        self._sent = time.monotonic()

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        return self._answer(groups)

    def find(self, picture: np.ndarray) -> np.ndarray:
        """A FaceNetwork in the process that started this one."""
        return self._answer(picture)

    def _answer(self, content: Any) -> Any:
        with self._asking:  # two threads do: one reads files, the other has faces judged
            self.send(content)
            return self._connection.recv()

    def beat(self) -> None:
        """Shows now and then that this process gets on."""
        if time.monotonic() - self._sent > _BEAT:
            self.send(None)

    def send(self, content: Any) -> None:
        with self._sending:
            self._connection.send(content)
            self._sent = time.monotonic()


def _work(setup: Setup, connection: Connection) -> None:
    """Judges files until the process is ended."""
    judge = _Piped(setup, connection)
    try:
        read = reader(setup, judge)
        judge.send(None)  # it has started
        while True:
            for result in read(connection.recv()):
                judge.send(result)
    except Exception as error:
        note = f"in a process that reads files:\n{traceback.format_exc()}"
        error.add_note(note)
        try:
            judge.send(error)
        except (TypeError, AttributeError, ValueError):  # it cannot be sent
            judge.send(RuntimeError(note))
