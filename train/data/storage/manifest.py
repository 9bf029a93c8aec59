"""The manifest of a packed data set: what it holds. It is written last and marks a whole set."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypedDict

import numpy as np

from flax_unet.utils.errors import InputError
from train.data.layouts.faults import Fault

_NAME = "manifest.json"
_TEXT = ("file", "video", "original")


class Record(TypedDict):
    """A frame as it is stored."""

    file: str  # relative to the data set's folder
    video: str  # frames of one video are never in two splits
    original: str  # of a fake: the videos it was made from, one a line
    image: bytes  # of a picture file
    mask: bytes  # of a picture file, b"" without a mask
    label: int  # 1 = REAL, 0 = FAKE


@dataclasses.dataclass(frozen=True)
class Table:
    """Frames without their pictures: arrays of one length, in order."""

    file: np.ndarray  # str: name of the picture
    video: np.ndarray  # str: the video that it is from
    original: np.ndarray  # str: the videos a fake was made from, one a line; "" if unknown
    is_real: np.ndarray  # bool
    has_mask: np.ndarray  # bool: whether there is a mask label

    def __len__(self) -> int:
        return len(self.file)

    def take(self, indices: np.ndarray) -> Self:
        """The rows at `indices`, in their order."""
        return type(self)(*(column[indices] for column in vars(self).values()))


Traits = dict[str, dict[str, str]]
"""What is known of videos, by video and by TRAITS and SOURCE_GROUP of `layouts.metadata`."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a packed data set holds."""

    tables: dict[str, Table]  # by split; a split without frames has an empty one
    fingerprints: dict[str, str]  # by split: SHA-256 of names, labels and pictures
    faults: dict[str, Fault]  # by file: why it was left out
    notes: list[str]
    left_out: dict[str, str]  # by photo: the reason why faces of it, or all of it, are not used
    traits: dict[str, Traits]  # by split

    def write(self, directory: Path) -> None:
        """Writes the manifest of the packed data set in `directory`."""
        tables = {
            split: {name: column.tolist() for name, column in vars(table).items()}
            for split, table in self.tables.items()
        }
        text = json.dumps(vars(self) | {"tables": tables})
        (directory / _NAME).write_text(text, encoding="utf-8")

    @classmethod
    def of(
        cls,
        recorders: Mapping[str, "Recorder"],
        faults: dict[str, Fault],
        notes: list[str],
        left_out: Mapping[str, str] = MappingProxyType({}),
        traits: Mapping[str, Traits] = MappingProxyType({}),
    ) -> Self:
        """The manifest of records that were written, by split."""
        tables = {split: recorder.table() for split, recorder in recorders.items()}
        fingerprints = {split: recorder.fingerprint() for split, recorder in recorders.items()}
        all_traits = {split: traits.get(split, {}) for split in tables}
        return cls(tables, fingerprints, faults, notes, dict(left_out), all_traits)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Reads the manifest of the packed data set in `directory`.

        Raises:
            InputError: it is damaged.
        """
        try:
            content = json.loads((directory / _NAME).read_text(encoding="utf-8"))
            tables = {
                split: Table(**{name: _column(name, values) for name, values in columns.items()})
                for split, columns in content["tables"].items()
            }
            if any(len(set(map(len, vars(table).values()))) != 1 for table in tables.values()):
                raise ValueError("columns of different lengths")
            faults = {file: Fault(*fault) for file, fault in content["faults"].items()}
            fingerprints = {split: str(content["fingerprints"][split]) for split in tables}
            left_out = dict(content["left_out"])
            traits = {
                split: {
                    video: {str(name): str(value) for name, value in found.items()}
                    for video, found in content["traits"][split].items()
                }
                for split in tables
            }
            notes = list(content["notes"])
            return cls(tables, fingerprints, faults, notes, left_out, traits)
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise damaged(directory, f"{_NAME}: {error}") from error


class Recorder:
    """Collects the table and the fingerprint of a split while its records are written."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []  # as the fields of Table
        self._digest = hashlib.sha256()

    def add(self, record: Record) -> None:
        """Adds the next record."""
        text, label = [record[name] for name in _TEXT], record["label"]
        self._rows.append((*text, label == 1, bool(record["mask"])))
        self._digest.update(json.dumps([*text, label, len(record["image"])]).encode())
        self._digest.update(record["image"])
        self._digest.update(record["mask"])

    def table(self) -> Table:
        """The records so far."""
        names = [field.name for field in dataclasses.fields(Table)]
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(names)
        return Table(*map(_column, names, columns))

    def fingerprint(self) -> str:
        """The SHA-256 of the records so far; the same for every copy of a data set."""
        return self._digest.hexdigest()


def _column(name: str, values: Any) -> np.ndarray:
    return np.array(values, object if name in _TEXT else bool)


def damaged(directory: Path, reason: str) -> InputError:
    """For a packed data set that is not as it was written."""
    return InputError(f"{directory} is damaged: {reason}. Delete it; it is made again")
