"""Counts files by what became of them."""

import dataclasses
from collections import Counter
from typing import Self

from flax_unet.media.discover import LeftOut
from flax_unet.predict.results import Json
from flax_unet.utils.errors import counted

_OUTCOMES = ("real", "fake", "without_verdict", "without_face", "failed")


def outcome(entry: Json) -> str:
    """What became of a file, by its `FileResult.to_json`: the name of a count of `Summary`."""
    if entry["status"] != "ok":
        return "failed"
    if not any(frame.get("faces") for frame in entry.get("frames", [entry])):
        return "without_face"
    return (entry.get("verdict") or "without_verdict").lower()


@dataclasses.dataclass(frozen=True)
class Summary:
    """How many files there were, by what became of them."""

    files: int
    real: int
    fake: int
    without_verdict: int  # faces were judged by a network without a classifier
    without_face: int  # to judge
    failed: int
    left_out: int  # of folders: not counted among `files`

    @classmethod
    def of(cls, outcomes: Counter[str], left_out: LeftOut) -> Self:
        """Takes what `outcome` gave, counted."""
        counts = {name: outcomes[name] for name in _OUTCOMES}
        return cls(outcomes.total(), **counts, left_out=left_out.total())

    def to_json(self) -> Json:
        """`summary` in predictions.json."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        more = f", {self.left_out:,} more left out" if self.left_out else ""
        return f"{self.in_words()}{more}"

    def in_words(self, with_signs: int = 0) -> str:
        """The counts, without what was left out.

        `with_signs` is how many of the REAL ones have signs of a forgery.
        """
        real = "REAL"
        if with_signs:
            real += f" (of which {with_signs:,} with signs of a forgery)"
        parts = {
            real: self.real,
            "FAKE": self.fake,
            "judged without a classifier": self.without_verdict,
            "without a face to judge": self.without_face,
            "failed": self.failed,
        }
        always = (real, "FAKE")
        words = [f"{count:,} {part}" for part, count in parts.items() if count or part in always]
        return f"{counted(self.files, 'file')}: {', '.join(words)}"
