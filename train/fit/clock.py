"""How fast training goes, and how long it waits for data."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts pictures and seconds between two readings."""

    def __init__(self) -> None:
        self._compilation: tuple[int, float] | None = None
        self._restart()

    def _restart(self) -> None:
        self._start, self._waited, self._images = time.perf_counter(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block, training waits for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block, something else than training is done, which does not count."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def count(self, images: int) -> None:
        """Pictures were trained on."""
        self._images += images

    def compiled(self) -> None:
        """The first step is done: its time is mostly compilation, so it does not count."""
        self._compilation = self._images, time.perf_counter() - self._start
        self._restart()

    def read(self) -> tuple[float, float]:
        """Images a second, and the share of time spent waiting, since the last reading."""
        images, seconds = self._images, time.perf_counter() - self._start
        if not images and self._compilation:  # there was only the first step
            images, seconds = self._compilation
        figures = images / seconds, self._waited / seconds
        self._restart()
        return figures
