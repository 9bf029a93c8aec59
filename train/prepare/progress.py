"""Shows how far a run is: videos and frames a second, and whether the disk will hold the rest."""

import errno
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tqdm import tqdm

from flax_unet.utils.errors import InputError, gigabytes
from flax_unet.utils.filenames import shown
from train.prepare import frames
from train.prepare.layouts.record import Video
from train.prepare.work import Outcome

_LEAST = {"png": 8_000, "jpeg": 2_000}  # bytes of the crop of a small face
_USUAL = {"png": 100_000, "jpeg": 35_000}  # of a face 200 pixels wide
_ENOUGH = 20  # videos by which the room for the others is estimated
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Progress:
    """A bar over the videos. As a context, it explains a disk that becomes full."""

    def __init__(self, out: Path, total: int, left: int) -> None:
        """Begins at `total` - `left` videos, which were made before."""
        self._out, self._total, self._left = out, total, left
        self._done = self._made = self._read = self._bytes = 0
        self._is_warned = False

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        total, before = self._total, self._total - self._left
        self._bar = tqdm(total=total, initial=before, unit="video", disable=None)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._bar.close()
        if isinstance(error, OSError) and error.errno in _FULL:
            needed = f"; the others need about {gigabytes(self._rest())}" if self._made else ""
            raise InputError(
                f"{self._out}: the disk is full. {self._made} of {self._total} videos are made"
                f"{needed}. Make room, and give the same command again"
            ) from error

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Counts videos that are finished; warns once if the disk will not hold the others."""
        new = [outcome for outcome in outcomes if not outcome.was_made]
        records = [outcome.record for outcome in outcomes if outcome.record is not None]
        self._done += len(outcomes)
        self._made += len(records)
        self._bytes += sum(record["bytes"] for record in records)
        self._read += sum(outcome.record["frames_read"] for outcome in new if outcome.record)
        rate = self._read / max(time.monotonic() - self._start, 1e-3)
        self._bar.set_postfix_str(f"{rate:.0f} frames/s", refresh=False)
        self._bar.update(len(new))
        if self._is_warned or self._made < _ENOUGH:
            return
        needed, free = self._rest(), _free(self._out)
        if needed > free:
            self._is_warned = True
            _warn(self._out, free, f"the videos that are left need about {gigabytes(needed)}")

    def _rest(self) -> float:
        """Bytes that the other videos need, if they are like those that are made."""
        return self._bytes / self._made * (self._total - self._done)


def check_room(out: Path, left: Sequence[Video], count: int | None, format: str) -> None:
    """Compares the room on the disk with what the crops need; warns if it may not do.

    `left` are the videos to make, and `count` the frames of each, None if that is not known.

    Raises:
        InputError: it cannot hold one small crop of each video.
    """
    free, least = _free(out), len(left) * _LEAST[format]
    if least > free:
        raise InputError(
            f"{out} has room for {gigabytes(free)}, and at least {gigabytes(least)} are needed. "
            "Make room, or name another place"
        )
    pictures = (int(frames.is_picture(video.source)) or len(video.frames) for video in left)
    crops = sum(min(number, count or number) or count or 1 for number in pictures)
    if (usual := crops * _USUAL[format]) > free:
        hint = "; fewer --frames or --format jpeg need less"
        _warn(out, free, f"with one face in each frame about {gigabytes(usual)} are needed{hint}")


def _warn(out: Path, free: int, text: str) -> None:
    tqdm.write(f"{shown(str(out))} has room for {gigabytes(free)}; {text}", sys.stderr)


def _free(place: Path) -> int:
    """Bytes that can be written there, or where it will be."""
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
