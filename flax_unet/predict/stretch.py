"""The longest stretch of a video in which a person looks forged."""

import bisect
import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NEAR = 0.5  # seconds before and after a frame, whose frames decide with it
# What a stretch must have: so many seconds from its first to its last frame, so many frames, and
# this share of those in which the person was judged.
LEAST_SECONDS, LEAST_FRAMES, LEAST_SHARE = 1.0, 3, 0.1
_AWAY, _STEPS_AWAY = 1.0, 3  # seconds, and median steps, without the person that end a stretch


class Stretch(NamedTuple):
    """A part of a video: the times of its first and its last frame, in seconds."""

    begin: float
    end: float


def longest_stretch(seconds: Sequence[float], is_fake: Sequence[bool]) -> Stretch | None:
    """The longest stretch of FAKE frames; None without one.

    A frame belongs to a stretch where most frames near it are FAKE: those within NEAR, and at least
    the one before and the one after. So a single frame neither makes a stretch nor ends one, and
    the border between many REAL and many FAKE frames stays where it is. A stretch ends where the
    person is away: for a second or more, and three times as long as from one frame to the next.

    Args:
        seconds: the times of a person's frames, rising.
        is_fake: whether each of them is at the threshold or over it.
    """
    steps = [later - earlier for earlier, later in itertools.pairwise(seconds)]
    away = max(_AWAY, _STEPS_AWAY * statistics.median(steps or [0.0]))
    begins = [0, *(at for at, step in enumerate(steps, start=1) if step > away), len(seconds)]
    found = [
        run
        for begin, end in itertools.pairwise(begins)
        for run in _runs(seconds[begin:end], is_fake[begin:end])
        if len(run) >= max(LEAST_FRAMES, LEAST_SHARE * len(seconds))
        and run[-1] - run[0] >= LEAST_SECONDS
    ]
    longest = max(found, key=lambda run: run[-1] - run[0], default=None)
    return None if longest is None else Stretch(longest[0], longest[-1])


def _runs(seconds: Sequence[float], is_fake: Sequence[bool]) -> Iterator[list[float]]:
    """The times of frames in a row that look forged, judged with those near them."""
    fakes = [0, *itertools.accumulate(is_fake)]
    count = len(seconds)

    def is_within(at: int) -> bool:
        first = min(bisect.bisect_left(seconds, seconds[at] - NEAR), max(at - 1, 0))
        end = max(bisect.bisect_right(seconds, seconds[at] + NEAR), min(at + 2, count))
        return 2 * (fakes[end] - fakes[first]) > end - first

    for within, run in itertools.groupby(range(count), is_within):
        if within:
            yield [seconds[at] for at in run]
