"""What a packed data set holds, beside its records: written last, it marks a whole one."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from flax_unet.utils.errors import InputError
from train.data.layouts.faults import Fault

_NAME = "index.json"
_TEXT = ("file", "video", "original")


@dataclasses.dataclass(frozen=True)
class Rows:
    """What is known of the records of a split without their pictures, in their order."""

    file: list[str]
    video: list[str]
    original: list[str]  # of several, one a line
    label: list[int]
    has_mask: list[bool]
    fingerprint: str  # SHA-256 of names, labels and pictures: the same for every copy

    def __len__(self) -> int:
        return len(self.file)


@dataclasses.dataclass(frozen=True)
class Index:
    """What a packed data set holds."""

    splits: dict[str, Rows]  # a split without records is among them
    faults: dict[str, Fault]  # by file: why it was left out
    notes: list[str]

    def write(self, directory: Path) -> None:
        """Writes the index of the packed data set in `directory`."""
        text = json.dumps(dataclasses.asdict(self))
        (directory / _NAME).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Index":
        """The index of the packed data set in `directory`.

        Raises:
            InputError: it is damaged.
        """
        try:
            content = json.loads((directory / _NAME).read_text(encoding="utf-8"))
            splits = {split: Rows(**rows) for split, rows in content["splits"].items()}
            columns = [vars(rows).values() for rows in splits.values()]
            if any(len({len(c) for c in found if isinstance(c, list)}) != 1 for found in columns):
                raise ValueError("columns of different lengths")
            faults = {file: Fault(*fault) for file, fault in content["faults"].items()}
            return cls(splits, faults, list(content["notes"]))
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(directory, f"{_NAME}: {error}") from error


class Recorder:
    """Makes the `Rows` of a split while its records are written."""

    def __init__(self) -> None:
        self._columns: dict[str, list] = {name: [] for name in (*_TEXT, "label", "has_mask")}
        self._digest = hashlib.sha256()

    def add(self, example: dict[str, Any]) -> None:
        """Takes note of the next record."""
        for name in (*_TEXT, "label"):
            self._columns[name].append(example[name])
        self._columns["has_mask"].append(bool(example["mask"]))
        said = [*(example[name] for name in (*_TEXT, "label")), len(example["image"])]
        self._digest.update(json.dumps(said).encode())
        self._digest.update(example["image"])
        self._digest.update(example["mask"])

    def rows(self) -> Rows:
        """All records so far."""
        return Rows(**self._columns, fingerprint=self._digest.hexdigest())


def damaged(directory: Path, reason: str) -> InputError:
    """For a packed data set that is not as it was written."""
    return InputError(f"{directory} is damaged: {reason}. Delete it; it is made again")
