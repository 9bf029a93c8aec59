"""The longest stretch of a video in which a person looks forged."""

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple

NEAR = 0.5  # seconds before and after a frame, whose frames decide with it
# What a stretch must have: so many seconds from its first to its last frame, so many frames, and
# this share of those in which the person was judged.
LEAST_SECONDS, LEAST_FRAMES, LEAST_SHARE = 1.0, 3, 0.1


class Stretch(NamedTuple):
    """A part of a video: the times of its first and its last frame, in seconds."""

    begin: float
    end: float


def longest_stretch(seconds: Sequence[float], is_fake: Sequence[bool]) -> Stretch | None:
    """The longest stretch of FAKE frames; None without one.

    A frame belongs to a stretch where most frames near it are FAKE: those within NEAR, and at least
    the one before and the one after. So a single frame neither makes a stretch nor ends one, and
    the border between many REAL and many FAKE frames stays where it is.

    Args:
        seconds: the times of a person's frames, rising.
        is_fake: whether each of them is at the threshold or over it.
    """
    fakes = [0, *itertools.accumulate(is_fake)]
    count = len(seconds)

    def is_within(at: int) -> bool:
        first = min(bisect.bisect_left(seconds, seconds[at] - NEAR), max(at - 1, 0))
        end = max(bisect.bisect_right(seconds, seconds[at] + NEAR), min(at + 2, count))
        return 2 * (fakes[end] - fakes[first]) > end - first

    runs = [list(run) for within, run in itertools.groupby(range(count), is_within) if within]
    longest = max(runs, key=len, default=[])
    if len(longest) < max(LEAST_FRAMES, LEAST_SHARE * count):
        return None
    found = Stretch(seconds[longest[0]], seconds[longest[-1]])
    return found if found.end - found.begin >= LEAST_SECONDS else None
