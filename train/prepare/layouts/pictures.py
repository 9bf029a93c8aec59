"""Frames of a video as pictures in a folder, in the order of the numbers in their names."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Self

from flax_unet.media.images import SUFFIXES
from flax_unet.utils.errors import InputError

_DIGITS = re.compile(r"(\d{1,9})")


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of the numbers in them: 2.png comes before 10.png."""
    return sorted(names, key=lambda name: (_parts(name), name))


def numbers(names: Sequence[str]) -> list[int] | None:
    """The number in each name, if that is all in which the names differ; else None."""
    parts = [_parts(PurePath(name).stem) for name in names]
    if len({tuple(texts[::2]) for texts in parts}) != 1:
        return None
    columns = [*zip(*(found[1::2] for found in parts), strict=True)]
    varying = [column for column in columns if len(set(column)) > 1] or columns[-1:]
    if len(varying) != 1 or len(set(varying[0])) != len(names):
        return None
    return [int(number) for number in varying[0]]


def _parts(name: str) -> list[str | int]:
    """The texts of a name and, between them, its numbers."""
    return [int(part) if at % 2 else part for at, part in enumerate(_DIGITS.split(name))]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures in a folder that are the frames of one video."""

    folder: Path
    names: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.folder)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """All pictures of a folder; hidden ones and those in its folders are left out.

        Raises:
            InputError: it cannot be read, or has none.
        """
        try:
            found = [path.name for path in folder.iterdir() if _is_picture(path)]
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error
        if not found:
            raise InputError(f"{folder} holds no picture")
        return cls(folder, tuple(in_order(found)))

    def numbered(self) -> dict[int, Path]:
        """The pictures by the numbers of their frames: those in their names, or else from 0."""
        known = numbers(self.names) or range(len(self.names))
        return {n: self.folder / name for n, name in sorted(zip(known, self.names, strict=True))}


def _is_picture(path: Path) -> bool:
    return (
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )  # not a pipe, which may never end
