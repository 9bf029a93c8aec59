"""Limits on what each visitor may send: files and bytes in any hour."""

import time
from collections import deque
from collections.abc import Callable

from flax_unet.utils.errors import counted

VISITOR_FILES, VISITOR_MEGABYTES = 200, 2000  # of a visitor in an hour, unless others are chosen
_WINDOW = 60 * 60.0  # seconds


def megabytes(size: int) -> str:
    """A size in bytes as the options of the command have it."""
    return f"{size / 2**20:,.4g} MB"


class Refused(Exception):  # noqa: N818
    """A visitor has reached a limit. The message is for the visitor."""


class Allowance:
    """Counts what each visitor sent in the last hour. One thread may use it."""

    def __init__(self, files: int, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allows so many files, and so many bytes of them together."""
        self.files, self.size, self._clock = files, size, clock
        self._sent: dict[str, deque[list[float]]] = {}  # (time, bytes) of each visitor's files

    def begin(self, visitor: str) -> list[float]:
        """Counts a file; the result is for `add`.

        Raises:
            Refused: the visitor has sent as many as allowed.
        """
        now = self._clock()
        self._forget(now - _WINDOW)
        sent = self._sent.setdefault(visitor, deque())
        if len(sent) >= self.files:
            raise Refused(self._message(counted(self.files, "file"), sent[0][0] - now))
        sent.append([now, 0])
        return sent[-1]

    def add(self, visitor: str, file: list[float], size: int) -> None:
        """Counts bytes of a file.

        Raises:
            Refused: the visitor has sent more than allowed.
        """
        file[1] += size
        sent = self._sent.get(visitor)  # none if the upload lasts longer than the window
        if sent and sum(size for _, size in sent) > self.size:
            raise Refused(self._message(megabytes(self.size), sent[0][0] - self._clock()))

    def _message(self, limit: str, first: float) -> str:
        minutes = max(1, round((first + _WINDOW) / 60))
        return (
            f"This page takes {limit} an hour from each visitor, and you have reached that. "
            f"Try again in {counted(minutes, 'minute')}."
        )

    def _forget(self, before: float) -> None:
        for visitor, sent in list(self._sent.items()):
            while sent and sent[0][0] <= before:
                sent.popleft()
            if not sent:
                del self._sent[visitor]
