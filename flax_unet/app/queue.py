"""The queue of all visitors' files: they are judged one at a time, each visitor in turn."""

import bisect
import contextlib
import dataclasses
import itertools
import re
import secrets
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from flax_unet.app import html
from flax_unet.app.judge import Choice, Judge
from flax_unet.app.limits import Refused
from flax_unet.app.words import Summary, summary
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown

KEPT = 6 * 60 * 60.0  # seconds: age of files that are deleted
# Seconds without a connection after which a page counts as closed. A page that is left says so
# itself: this is for lost connections, and time to come back.
AWAY = 5 * 60.0
_MOST_WAITING = 1000  # files: more than a visitor may send in an hour, unless chosen otherwise
_MOST_SESSIONS, _MOST_OF_VISITOR = 500, 50  # open pages: of all, and of a visitor
_CLOSED = "This page was closed. Load it again."
State = Literal["waiting", "judging", "done"]


class _UnwantedError(Exception):
    """Nobody waits for the result any more."""


@dataclasses.dataclass(eq=False)
class Job:
    """A file of a visitor, from its upload until it is deleted."""

    folder: Path  # its own: the upload lies there, and then the results
    file: Path
    choice: Choice
    added: float
    session: "Session"
    key: str = dataclasses.field(default_factory=secrets.token_hex)
    state: State = "waiting"
    turn: tuple[int, int] = (0, 0)
    done: int = 0  # frames
    total: int | None = None
    outcome: Summary | None = None
    files: dict[str, Path] = dataclasses.field(default_factory=dict)  # of its result, by kind
    is_wanted: bool = True

    def delete(self) -> None:
        """Deletes its files."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclasses.dataclass(eq=False)
class Upload:
    """A file that is being sent."""

    folder: Path  # its own
    begun: float
    session: "Session"
    is_wanted: bool = True

    def delete(self) -> None:
        """Deletes what has come of it."""
        self.is_wanted = False
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclasses.dataclass(eq=False)
class Session:
    """A visitor's open page and its files, the oldest first."""

    visitor: str
    uploads: set[Upload] = dataclasses.field(default_factory=set)
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    listeners: list[Callable[[], object]] = dataclasses.field(default_factory=list)
    left: float = 0.0  # when the last connection ended
    turns: int = 0  # the number of the next

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it: no connection and no file."""
        return not (self.listeners or self.uploads or self.jobs)

    def changed(self) -> None:
        """Wakes the connections to the page."""
        for wake in self.listeners:
            wake()


class Queue:
    """Judges files in a thread of its own. Any thread may call its methods.

    Files are judged in rounds, and in each round one of each visitor: who sends many, or opens many
    pages, does not keep others waiting. What is kept in memory of a file is its place and one
    sentence; the rest is on disk, below `folder`.
    """

    def __init__(
        self, judge: Judge, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts empty; `run` judges."""
        self._judge, self._folder, self._clock = judge, folder, clock
        self._sessions: dict[str, Session] = {}
        self._waiting: list[Job] = []  # in order
        self._current: Job | None = None
        self._round, self._numbers = 0, itertools.count()
        self._changed = threading.Condition()
        self.is_closed = False

    @contextlib.contextmanager
    def visit(self, key: str, visitor: str, wake: Callable[[], object]) -> Iterator[None]:
        """A connection to a page, until the block ends; `wake` is called when its state changes.

        Raises:
            Refused: too many pages are open, or the key is not of 32 hexadecimal digits.
        """
        with self._changed:
            if not re.fullmatch("[0-9a-f]{32}", key):
                raise Refused("The page's address is wrong. Load it again.")
            if key not in self._sessions:
                own = [key for key, one in self._sessions.items() if one.visitor == visitor]
                if not self._has_room(own, _MOST_OF_VISITOR):
                    raise Refused(
                        f"{_MOST_OF_VISITOR} of these pages are open by your name or address. "
                        "Close some."
                    )
                if not self._has_room(list(self._sessions), _MOST_SESSIONS):
                    raise Refused("Too many people use this page at the moment. Try again later.")
            session = self._sessions.setdefault(key, Session(visitor))
            session.listeners.append(wake)
        try:
            yield
        finally:
            with self._changed:
                session.listeners.remove(wake)
                session.left = self._clock()

    @contextlib.contextmanager
    def arriving(self, key: str) -> Iterator[Upload]:
        """An upload to a page, in a new folder, which is deleted if the block fails.

        When the page is closed, or the upload is too old, its folder is deleted.

        Raises:
            Refused: the page was closed.
        """
        with self._changed:
            session = self._session(key)
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            upload = Upload(folder, self._clock(), session)
            session.uploads.add(upload)
        try:
            yield upload
        except BaseException as error:
            was_wanted = upload.is_wanted
            upload.delete()
            if isinstance(error, FileNotFoundError) and not was_wanted:
                raise Refused(_CLOSED) from error
            raise
        finally:
            with self._changed:
                session.uploads.discard(upload)

    def add(self, upload: Upload, file: Path, choice: Choice) -> Job:
        """Puts a file that has arrived at the end of the queue.

        Raises:
            Refused: the queue is full, or the upload is not wanted.
        """
        with self._changed:
            if not upload.is_wanted:
                raise Refused(_CLOSED)
            job = Job(upload.folder, file, choice, upload.begun, upload.session)
            self._enqueue(job)
            job.session.uploads.discard(upload)
            job.session.jobs[job.key] = job
            return job

    def again(self, key: str, job_key: str, choice: Choice) -> None:
        """Puts a file that was judged at the end of the queue, to be judged in another way.

        Raises:
            Refused: the queue is full, or the file is not there, or waits already.
        """
        with self._changed:
            job = self._job(key, job_key)
            if job.state != "done":
                raise Refused("This file is waiting already.")
            self._enqueue(job)
            job.choice, job.state, job.done, job.total = choice, "waiting", 0, None

    def remove(self, key: str, job_key: str) -> None:
        """Cancels a file that waits or is being judged, and deletes it and its results.

        Raises:
            Refused: the file is not there.
        """
        with self._changed:
            job = self._job(key, job_key)
            self._drop(job)
            self._wake_all()

    def file(self, key: str, job_key: str, kind: str) -> Path | None:
        """A file of a result by its kind, such as report, archive or overlay; None if it has none.

        Raises:
            Refused: the result is not there.
        """
        with self._changed:
            return self._job(key, job_key).files.get(kind)

    def leave(self, key: str) -> None:
        """Ends a page: cancels and deletes its files, also those that are being sent."""
        with self._changed:
            if (session := self._sessions.pop(key, None)) is None:
                return
            for upload in session.uploads:
                upload.delete()
            for job in list(session.jobs.values()):
                self._drop(job)
            self._wake_all()

    def expire(self) -> None:
        """Ends pages that were closed, and deletes files that are too old."""
        now = self._clock()
        with self._changed:
            for key, session in list(self._sessions.items()):
                if not session.listeners and now - session.left > AWAY:
                    self.leave(key)
                for upload in session.uploads:
                    if now - upload.begun > KEPT:
                        upload.delete()
                for job in list(session.jobs.values()):
                    if now - job.added > KEPT:
                        self._drop(job)
                        session.changed()

    def state(self, key: str) -> dict[str, Any]:
        """What a page shows of the queue and its files; it can be written as JSON."""
        with self._changed:
            session = self._sessions.get(key, Session(""))
            before = int(self._current is not None)
            places = {job.key: before + place for place, job in enumerate(self._waiting)}
            return {
                "waiting": len(self._waiting),
                "files": [_shown(job, places.get(job.key)) for job in session.jobs.values()],
            }

    def run(self) -> None:
        """Judges files until `close` is called."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self.is_closed)
                if self.is_closed:
                    return
                job = self._current = self._waiting.pop(0)
                self._round, job.state = job.turn[0], "judging"
                job.files = {}  # those of an earlier result are deleted now
                self._wake_all()
            try:
                outcome, files = self._judged(job)
            except _UnwantedError:
                outcome, files = None, {}
            except Exception:  # not even a report can be written: the disk may be full
                traceback.print_exc()
                outcome, files = html.failure(job.file.name, "")[0], {}
            with self._changed:
                self._current = None
                job.outcome, job.files, job.state = outcome, files, "done"
                if not job.is_wanted:
                    job.delete()
                self._wake_all()

    def close(self) -> None:
        """Ends `run`, and the work on the file that it judges."""
        with self._changed:
            self.is_closed = True
            if self._current is not None:
                self._current.is_wanted = False
            self._changed.notify_all()
            self._wake_all()

    def _judged(self, job: Job) -> tuple[Summary, dict[str, Path]]:
        """What is shown of a file in the list, and the files of its result, new on disk."""

        def check_wanted() -> None:
            if not job.is_wanted:
                raise _UnwantedError

        def progress(done: int, total: int | None) -> None:
            job.done, job.total = done, total
            job.session.changed()

        shutil.rmtree(job.folder / "results", ignore_errors=True)
        files: dict[str, Path] = {}
        try:
            check_wanted()
            report = self._judge(job.file, job.folder, *job.choice, progress, check_wanted)
            outcome, text = summary(report), html.report(report)
            files = {} if report.frame is None else dict(report.files)
        except _UnwantedError:
            raise
        except InputError as error:
            message = str(error).replace(str(job.folder), "")  # the server's directory is private
            outcome, text = html.failure(job.file.name, message)
        except Exception:  # of one file: the page goes on working for the others
            traceback.print_exc()
            message = (
                "There was an error in the program. Try again, or tell whoever runs this page, who "
                "finds the error where the program was started"
            )
            outcome, text = html.failure(job.file.name, message)
        files["report"] = job.folder / "report.html"
        files["report"].write_text(text, encoding="utf-8")
        return outcome, files

    def _has_room(self, keys: Sequence[str], most: int) -> bool:
        """Whether pages are fewer than `most`. If not, those that are idle are ended first."""
        if len(keys) < most:
            return True
        idle = [key for key in keys if self._sessions[key].is_idle]
        for key in idle:
            del self._sessions[key]
        return len(keys) - len(idle) < most

    def _session(self, key: str) -> Session:
        if key not in self._sessions:
            raise Refused(_CLOSED)
        return self._sessions[key]

    def _job(self, key: str, job_key: str) -> Job:
        jobs = self._session(key).jobs
        if job_key not in jobs:
            raise Refused("This file was deleted.")
        return jobs[job_key]

    def _enqueue(self, job: Job) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            raise Refused("Too many files are waiting. Try again later.")
        session = job.session
        turns = [one.turns for one in self._sessions.values() if one.visitor == session.visitor]
        job.turn = (max(self._round, *turns), next(self._numbers))
        session.turns = job.turn[0] + 1
        bisect.insort(self._waiting, job, key=lambda one: one.turn)
        self._changed.notify_all()
        self._wake_all()

    def _drop(self, job: Job) -> None:
        job.session.jobs.pop(job.key, None)
        job.is_wanted = False
        if job in self._waiting:
            self._waiting.remove(job)
        if job is not self._current:
            job.delete()

    def _wake_all(self) -> None:
        for session in self._sessions.values():
            session.changed()


def _shown(job: Job, before: int | None) -> dict[str, Any]:
    """A file as the page's list shows it."""
    return {
        "key": job.key,
        "name": shown(job.file.name),
        "state": job.state,
        "turn": job.turn[1],  # another one when it is judged again
        "before": before,
        "done": job.done,
        "total": job.total,
        **(job.outcome._asdict() if job.outcome and job.state == "done" else {}),
        "files": sorted(job.files),
    }
