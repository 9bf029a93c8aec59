"""Finds the pictures and videos below the paths that a user names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from flax_unet.media import images, videos
from flax_unet.utils.filenames import shown

Kind = Literal["picture", "video", "folder"]


class Item(NamedTuple):
    """A file to judge, or a file or folder with a problem."""

    path: Path
    kind: Kind  # a folder always has a problem
    problem: str | None = None

    @property
    def name(self) -> str:
        """The path as text that can be printed and stored, whatever bytes are in it."""
        return shown(str(self.path))


def items(paths: Iterable[Path]) -> Iterator[Item]:
    """The files that are named, and the pictures and videos below folders that are named.

    Folders are searched without hidden files and folders, links to folders, and files whose suffix
    belongs to neither pictures nor videos.
    """
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 (pathlib's raises on odd names)
            yield from _below(path)
        else:
            yield _item(path)


def _item(path: Path) -> Item:
    return Item(path, "video" if path.suffix.lower() in videos.SUFFIXES else "picture")


def _below(top: Path) -> Iterator[Item]:
    empty = True
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                visible = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
        except OSError as error:
            yield Item(folder, "folder", f"{folder} cannot be read: {error.strerror}")
            empty = False
            continue
        paths = [(folder / name, is_dir) for name, is_dir in visible if not name.startswith(".")]
        folders += [path for path, is_dir in reversed(paths) if is_dir]
        for path, is_dir in paths:
            if not is_dir and path.suffix.lower() in images.SUFFIXES | videos.SUFFIXES:
                yield _item(path)
                empty = False
    if empty:
        yield Item(top, "folder", f"{top} holds no picture or video")
