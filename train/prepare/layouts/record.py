"""What every layout lists: videos with their labels, and files that cannot be used."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flax_unet.utils.errors import InputError
from train.prepare.layouts.pictures import Pictures

Source = Path | Pictures
"""What frames are read from: a video, a picture, or the pictures of a folder."""
Identity = tuple[str, str]
"""A video's data set and its name there."""


@dataclasses.dataclass(frozen=True)
class Video:
    """A video, or a picture, with what the data set says about it."""

    path: Path  # a file, or a folder with pictures of the frames
    name: str  # in its data set; no two have the same
    is_real: bool
    data_set: str
    originals: tuple[str, ...] = ()  # of a fake, names; the first is what it is compared with
    method: str | None = None
    compression: str | None = None
    split: str | None = None  # the official one: train, validation or test
    people: tuple[str, ...] = ()  # videos of a person stay in one part of a split
    mask_video: Path | None = None  # white = manipulated; or a folder with its frames
    frames: tuple[str, ...] = ()  # names of the pictures in `path`, if that is a folder
    is_crop: bool = False  # whether its frames are crops of one face
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> Identity:
        """What tells it from all others."""
        return self.data_set, self.name

    @property
    def source(self) -> Source:
        """What its frames are read from."""
        return Pictures(self.path, self.frames) if self.frames else self.path

    @property
    def files(self) -> list[Path]:
        """Its file, or the pictures of its frames."""
        return [self.path / name for name in self.frames] or [self.path]

    def sha256(self) -> str:
        """The SHA-256 of its files, one after the other, in hexadecimal digits.

        Raises:
            InputError: one cannot be read.
        """
        digest = hashlib.sha256()
        for path in self.files:
            try:
                with path.open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}") from error
        return digest.hexdigest()


class Fault(NamedTuple):
    """A file that cannot be used, or not as it is."""

    file: str
    reason: str
    kind: str = "failed"  # or a note: it was not meant to be used


NO_SPLIT = "it is missing, so there is no official split: --split deals the videos out at random"


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """What the layouts are told besides the folder."""

    splits: Path | None = None  # folder with the split files of FaceForensics++
    compressions: tuple[str, ...] = ()  # those to take; all if empty
    methods: tuple[str, ...] = ()
    real_label: str | None = None  # in a CSV, in lower case

    def check(self, source: Path, known: Mapping[str, Collection[str]]) -> None:
        """Compares what is wanted with the names of `compression` and `method` that a source has.

        Raises:
            InputError: one that is wanted is missing.
        """
        for kind, wanted in ("compression", self.compressions), ("method", self.methods):
            for name in wanted:
                if name not in known[kind]:
                    there = ", ".join(sorted(known[kind])) or "none"
                    raise InputError(f"{source} has no {kind} {name}; there are: {there}")

    def takes(self, compression: str | None, method: str | None) -> bool:
        """Whether a video is wanted; those without a compression, or a method, are."""
        wanted = (compression, self.compressions), (method, self.methods)
        return all(not names or name is None or name in names for name, names in wanted)


class Layout(NamedTuple):
    """How one kind of data set lies on disk."""

    needs: str  # what must be there
    is_here: Callable[[Path], bool]
    videos: Callable[[Path, ListOptions], Iterator[Video | Fault]]


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV whose first line names the columns.

    Raises:
        InputError: it cannot be read, or lacks one of `columns`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8: {error}") from error
    if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise InputError(
            f"{path} has no column {missing[0]}; its first line must name {', '.join(columns)}"
        )
    return rows
