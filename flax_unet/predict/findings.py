"""What a report has of all files: the most suspicious, those to look at, and the failures."""

import bisect
import heapq
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from flax_unet.predict.results import Json
from flax_unet.utils.filenames import shown

MOST = 50  # files of a list
_BINS = 20  # of the histogram
_EXAMPLES = 3  # files that are named for each reason of a failure


class Worst:
    """The files of a list with the highest probabilities of FAKE."""

    def __init__(self) -> None:
        self.count = 0
        self._heap: list[tuple[float, int, Json]] = []

    def add(self, entry: Json) -> None:
        """Adds a file that has a probability."""
        self.count += 1
        one = entry["fake_probability"], -self.count, entry
        if len(self._heap) < MOST:
            heapq.heappush(self._heap, one)
        else:
            heapq.heappushpop(self._heap, one)

    def __iter__(self) -> Iterator[Json]:
        """The highest first, and of the same the one that came first."""
        return (entry for _, _, entry in sorted(self._heap, reverse=True))


class Folder:
    """The folder that all files have in common."""

    def __init__(self) -> None:
        self._parts: tuple[str, ...] | None = None

    def add(self, file: str) -> None:
        """Takes the name of a file, with its folders."""
        parts = Path(file).parent.parts
        if self._parts is None:
            self._parts = parts
        pairs = zip(self._parts, parts, strict=False)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        self._parts = tuple(part for part, _ in same)

    def __str__(self) -> str:
        """Its name; empty without one."""
        folder = Path(*self._parts or ())
        return "" if folder == Path(folder.anchor) else str(folder)

    def within(self, file: str) -> str:
        """The name of a file in this folder."""
        return file.removeprefix(f"{self}{os.sep}") if str(self) else file


class Findings:
    """What the report and the summary have of all files."""

    @classmethod
    def of(cls, entries: Iterable[Json], threshold: float) -> Self:
        """Those of files, by their `FileResult.to_json`."""
        found = cls(threshold)
        for entry in entries:
            found.add(entry)
        return found

    def __init__(self, threshold: float) -> None:
        self.folder = Folder()
        self.worst, self.doubtful = Worst(), Worst()
        self.real_with_signs = 0
        self.edges, self.bins = _edges(threshold), [0] * _BINS
        self.reasons: dict[str, tuple[int, list[Json]]] = {}  # with a count and examples
        self.has_both_heads = self.has_marks = self.has_stretches = self.has_close_ups = False

    def add(self, entry: Json) -> None:
        """Takes a file."""
        self.folder.add(entry["file"])
        self.has_both_heads |= entry.get("heads_disagree") is not None
        self.has_marks |= entry.get("manipulated_share") is not None
        self.has_stretches |= any(stretches(entry))
        self.has_close_ups |= "close_up" in entry
        slim = _slim(entry)
        if entry["problem"] is not None:
            count, examples = self.reasons.get(reason := _reason(entry), (0, []))
            self.reasons[reason] = count + 1, [*examples, slim][:_EXAMPLES]
        if (probability := entry.get("fake_probability")) is not None:
            self.bins[bisect.bisect_right(self.edges, probability, hi=_BINS) - 1] += 1
            self.worst.add(slim)
            if entry["verdict"] == "REAL" and _has_signs(entry):
                self.doubtful.add(slim)
                self.real_with_signs += entry["status"] == "ok"


def _slim(entry: Json) -> Json:
    """An entry without the frames of a video: many are kept until the end.

    In their place it has the time of the most suspicious one, in seconds.
    """
    slim = {key: of for key, of in entry.items() if key != "frames"}
    if (person := entry.get("person")) is not None:
        faces = [
            (face["fake_probability"], frame["seconds"])
            for frame in entry["frames"]
            for face in frame["faces"]
            if face["person"] == person
        ]
        _, slim["worst_seconds"] = max(faces, key=lambda face: face[0])
    return slim


def _edges(threshold: float) -> list[float]:
    """The edges of the histogram's bins, from 0 to 1. The threshold is one: no bin is of both."""
    real = min(max(round(_BINS * threshold), 1), _BINS - 1)
    fake = _BINS - real
    below = (threshold * number / real for number in range(real))
    above = (threshold + (1 - threshold) * number / fake for number in range(fake))
    return [*below, *above, 1.0]


def _has_signs(entry: Json) -> bool:
    """Whether anything in a file looks forged."""
    return disagrees(entry) or any(stretches(entry))


def disagrees(entry: Json) -> bool:
    """Whether the two heads disagree about anyone."""
    everyone = entry.get("people") or entry.get("faces") or []
    return any(one.get("heads_disagree") for one in [entry, *everyone])


def stretches(entry: Json) -> Iterator[str]:
    """When people of a video look forged."""
    for one in entry.get("people", ()):
        if one.get("suspicious_from") is not None:
            when = f"from {one['suspicious_from']:.1f} to {one['suspicious_to']:.1f} s"
            is_real = one["verdict"] == "REAL"
            looks = "is REAL on the whole, but FAKE" if is_real else "looks forged"
            yield f"person {one['person']} {looks} {when} (longest stretch)"


def problem(entry: Json) -> str:
    """Why a file failed, without its name."""
    return entry["problem"].removeprefix(f"{shown(entry['file'])} ")


def _reason(entry: Json) -> str:
    """The same for all files of one kind of failure."""
    return re.sub(r"\d[\d,.]*", "N", problem(entry))
