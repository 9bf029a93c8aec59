"""Finds the pictures and videos below the paths that a user names, and accounts for other files."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flax_unet.media import images, videos
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown, utf8

Kind = Literal["picture", "video", "folder"]

_OTHERS = "not a picture or video, by its suffix"
_ARCHIVE = "an archive: unpack it"
_REASONS = {
    **dict.fromkeys(images.RAW, images.RAW_DATA),
    **dict.fromkeys((".7z", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"), _ARCHIVE),
}
_PROGRAMS = frozenset({".mts", ".ts"})  # suffixes of TypeScript, too
_NOT_VIDEO = "not a video, by its content"
_HIDDEN, _LINK = "hidden", "a link to a folder, which is not followed"
_RESULTS = "results of a prediction"
_LONGEST = 8  # characters of a suffix that is counted by itself
_EXAMPLES = 5  # paths that are kept of each kind


class Item(NamedTuple):
    """A file to judge, or a file or folder with a problem."""

    path: Path
    kind: Kind  # a folder always has a problem
    problem: str | None = None

    @property
    def name(self) -> str:
        """The path as text that can be stored, whatever bytes are in it."""
        return utf8(str(self.path))


class LeftOut:
    """What is in folders and is not judged, counted by suffix and reason."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, path: Path, reason: str, kind: str | None = None) -> None:
        """Counts a file, or a folder with all that is in it; by its suffix, or as a `kind`."""
        suffix = shown(path.suffix.lower()) or "without a suffix"
        key = kind or (suffix if len(path.suffix) <= _LONGEST else "with a longer suffix"), reason
        self._counts[key] = self._counts.get(key, 0) + 1
        paths = self._paths.setdefault(key, [])
        if len(paths) < _EXAMPLES:
            paths.append(utf8(str(path)))

    def total(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    def to_json(self) -> list[dict[str, Any]]:
        """A count for each suffix and reason, the largest first, with a few of the paths."""
        return [
            {"kind": kind, "reason": reason, "count": count, "such_as": self._paths[kind, reason]}
            for (kind, reason), count in sorted(self._counts.items(), key=lambda one: -one[1])
        ]

    def __str__(self) -> str:
        reasons: dict[str, list[str]] = {}
        for one in self.to_json():
            reasons.setdefault(one["reason"], []).append(f"{one['count']:,} {one['kind']}")
        return "; ".join(f"{', '.join(kinds)} ({reason})" for reason, kinds in reasons.items())


def items(
    paths: Iterable[Path],
    left_out: LeftOut | None = None,
    are_results: Callable[[Collection[str]], bool] = lambda names: False,
) -> Iterator[Item]:
    """The files that are named, and the pictures and videos below folders that are named.

    Folders are searched without hidden files and folders, links to folders, files whose suffix
    belongs to neither pictures nor videos, and folders below them that hold results, as
    `are_results` says by the names in a folder; `left_out` counts these.
    """
    left_out = LeftOut() if left_out is None else left_out
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 (pathlib's raises on odd names)
            yield from _below(path, left_out, are_results)
        else:
            yield _item(path)


def _item(path: Path) -> Item:
    """A file to judge, by its content, or by its suffix where the content is unknown."""
    try:
        start = images.beginning(path)
    except InputError:  # reading it says what is wrong
        start = b""
    suffix = path.suffix.lower()
    if images.is_picture(start) or suffix in images.RAW:  # some are in a video's container
        is_video = False
    elif suffix in images.WITHOUT_MARK:  # whose pixels may look like a stream's packets
        is_video = videos.container(start) is not None
    else:
        is_video = suffix in videos.SUFFIXES or videos.is_video(path)
    return Item(path, "video" if is_video else "picture")


def _below(
    top: Path, left_out: LeftOut, are_results: Callable[[Collection[str]], bool]
) -> Iterator[Item]:
    empty = True
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(
                    (e.name, e.is_dir(follow_symlinks=False), _is_link_to_folder(e))
                    for e in entries
                )
        except OSError as error:
            yield Item(folder, "folder", f"{folder} cannot be read: {error.strerror}")
            empty = False
            continue
        if folder != top and are_results([name for name, *_ in found]):
            left_out.add(folder, _RESULTS, "folder")
            continue
        below = []
        for name, is_folder, is_link in found:
            path = folder / name
            suffix = path.suffix.lower()
            if name.startswith("."):
                left_out.add(path, _HIDDEN)
            elif is_folder:
                below.append(path)
            elif is_link:
                left_out.add(path, _LINK)
            elif suffix in _PROGRAMS and not videos.is_video(path):
                left_out.add(path, _NOT_VIDEO)
            elif suffix in images.SUFFIXES | videos.SUFFIXES:
                yield _item(path)
                empty = False
            else:
                left_out.add(path, _REASONS.get(suffix, _OTHERS))
        folders += reversed(below)
    if empty:
        yield Item(top, "folder", f"{top} holds no picture or video")


def _is_link_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False
