"""Reads files and writes their results in several processes; the network stays in this one.

A worker does with a file all that `inspect` and `file_results` do. Only the crops of faces come
here, which are judged on all devices, and small copies of frames where a device finds faces.
"""

import collections
import contextlib
import multiprocessing
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flax_unet.judge import Judge
from flax_unet.media.faces import FaceFinder, Mode, OpenCV, opencv
from flax_unet.media.images import MAX_PIXELS
from flax_unet.media.videos import Sampling
from flax_unet.nn.config import Size
from flax_unet.nn.decision import Calibration
from flax_unet.predict.pipeline import FileNote, Options, inspect
from flax_unet.predict.plan import Plan, Planned
from flax_unet.predict.results import FileResult
from flax_unet.predict.writer import file_results, remove_results
from flax_unet.utils.processes import Worker

PATIENCE = 300.0  # seconds that a worker may take without a sign of life
_BEAT = 1.0  # seconds between these signs
_AHEAD = 1024  # files that may be begun before an earlier one is done: their results wait,
_FRAMES_AHEAD = 20_000  # which have so many frames together, or a few more
_DEATH = "made the process that read it die, perhaps for lack of memory; replace or remove it"
_SILENCE = "kept its process busy for {:.0f} s without progress; does its disk or network stall?"


Search = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A FaceNetwork for several pictures at once."""


class Setup(NamedTuple):
    """What a worker is told at its start."""

    size: Size  # of crops
    batch_size: int
    threshold: float
    calibration: Calibration | None
    mode: Mode = "auto"
    finds: bool = True  # faces by itself
    face_model: Path | None = None
    sampling: Sampling = Sampling()
    picture_pixels: int = MAX_PIXELS
    more_pixels: str | None = None
    directory: Path | None = None  # for what is written besides the results
    overlays: bool = True


def judged_in_processes(
    judge: Judge, plan: Plan, setup: Setup, workers: int, search: Search | None = None
) -> Generator[FileResult]:
    """What `file_results` yields for the files of a plan, in their order.

    `search` finds faces for all workers; None: each does so itself, through OpenCV.
    A file that kills its worker twice, or twice does not get on, fails.

    Raises:
        InputError: as for `inspect` and `file_results`.
    """
    queue = _Queue(plan)
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
                try:
                    queue.done |= hand.receive()
                except EOFError:
                    queue.lost(hand.restart(), setup, _DEATH)
            if search is not None:
                _find(search, [hand for hand in ready if hand.picture is not None])
            # In small steps, since this process may be stopped for a while, and they with it.
            before, passed = time.monotonic(), min(time.monotonic() - before, 2 * _BEAT)
            for hand in heard.values():
                hand.silent += passed
                if hand.silent > PATIENCE:
                    queue.lost(hand.restart(), setup, _SILENCE.format(PATIENCE))
            yield from queue.results()


class _Queue:
    """Which files are to be given to workers, and the results that are to be yielded."""

    def __init__(self, plan: Plan) -> None:
        self._lots = iter(plan)
        self._again: collections.deque[list[Planned]] = collections.deque()
        self._tried: set[int] = set()  # files, by number, at which a worker ended
        self._open: collections.deque[Planned] = collections.deque()  # not yielded, in order
        self.done: dict[int, FileResult] = {}  # by number

    def next(self) -> list[Planned]:
        """The next lot; an empty one if there is none, or many results wait for an earlier one."""
        if self._again:
            return self._again.popleft()
        frames = sum(len(result.frames) for result in self.done.values())
        if len(self._open) >= _AHEAD or frames >= _FRAMES_AHEAD:
            return []
        lot = list(next(self._lots, []))
        self._open.extend(lot)
        return lot

    def lost(self, lot: Sequence[Planned], setup: Setup, reason: str) -> None:
        """Takes note that a worker ended at some files, of which each is tried again by itself."""
        for file in lot:
            if setup.directory is not None:
                remove_results(setup.directory, file.stem)
            if file.number in self._tried:
                problem = FileNote(file.item, 0, f"{file.item.name} {reason}", is_problem=True)
                (self.done[file.number],) = file_results([problem])
            else:
                self._tried.add(file.number)
                self._again.append([file])

    def results(self) -> Generator[FileResult]:
        """What is done and not waiting for an earlier file."""
        while self._open and self._open[0].number in self.done:
            yield self.done.pop(self._open.popleft().number)


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
        self.lot: list[Planned] = []  # what it has not done of what it was given
        # What it waits for: outputs for groups of crops, or the faces of a picture.
        self.groups: list[np.ndarray] = []
        self.picture: np.ndarray | None = None
        self.silent = 0.0  # seconds since something came from it or went to it
        self.connection, other = multiprocessing.Pipe()
        self._process = Worker(target=_work, args=(self._setup, other))
        self._process.start()
        other.close()  # so that this end closes when the worker dies

    def give(self, lot: list[Planned]) -> None:
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

    def receive(self) -> dict[int, FileResult]:
        """The result of a file, by its number; none if something else came.

        Raises:
            EOFError: it died.
            Exception: whatever ended its work.
        """
        try:
            content = self.connection.recv()
        except OSError as error:
            raise EOFError from error
        self.silent = 0.0
        if isinstance(content, Exception):
            raise content
        if isinstance(content, FileResult):
            return {self.lot.pop(0).number: content}
        if isinstance(content, np.ndarray):
            self.picture = content
        else:
            self.groups = content or []
        return {}

    def restart(self) -> list[Planned]:
        """Replaces it by a new one; what the old one has not done."""
        lot = self.lot
        self.close()
        self._start()
        return lot

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.join(_BEAT)  # it may be unable to end, in a disk that stalls
        self.connection.close()


class _Distant(Judge):
    """Judges by a network in the process that started this one."""

    def __init__(self, setup: Setup, connection: Connection) -> None:
        super().__init__(setup.size, setup.threshold, setup.calibration, setup.batch_size)
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
    judge = _Distant(setup, connection)
    try:
        finder = None
        if setup.mode != "none":
            opencv().setNumThreads(1)  # the others have the other cores
            finder = FaceFinder(OpenCV(setup.face_model) if setup.finds else judge.find)
        judge.send(None)  # it has started
        options = Options(
            setup.mode,
            finder,
            setup.sampling,
            setup.picture_pixels,
            setup.more_pixels,
            check_wanted=judge.beat,
        )
        while True:
            lot: list[Planned] = connection.recv()
            inspected = inspect(judge, [[file.item for file in lot]], options)
            stems = iter([file.stem for file in lot])
            for result in file_results(
                inspected, setup.directory, overlays=setup.overlays, stems=stems
            ):
                judge.send(result)
    except Exception as error:
        note = f"in a process that reads files:\n{traceback.format_exc()}"
        error.add_note(note)
        try:
            judge.send(error)
        except (TypeError, AttributeError, ValueError):  # it cannot be sent
            judge.send(RuntimeError(note))
