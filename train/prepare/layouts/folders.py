"""Folders `real` and `fake` of videos or pictures, also in folders of a split or around them.

A folder of pictures in one of them, such as `real/<video>/<n>.png`, holds the frames of one video.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flax_unet.media.discover import LeftOut, items
from flax_unet.utils.filenames import shown
from train.data.layouts.tree import SPLITS, split_folders
from train.prepare.layouts.pictures import in_order, numbers
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video

_CLASS = re.compile(r"(?:\d+_)?(?:real|fake)s?", re.IGNORECASE)
_OF_FAKE = "_fake"  # UADFV: fake/0000_fake.mp4 was made from real/0000.mp4


def _classes(top: Path) -> Iterator[tuple[Path, bool, str | None]]:
    """The folders of a class: the folder, whether it is REAL, and its split."""
    if not top.is_dir():
        return
    for name, split in [(".", None), *split_folders(top)]:
        for folder in _of_class(top / name):
            yield folder, "real" in folder.name.lower(), split


def _of_class(folder: Path) -> list[Path]:
    """The folders in a folder that are named as a class."""
    return [
        path for path in sorted(folder.iterdir()) if path.is_dir() and _CLASS.fullmatch(path.name)
    ]


def _not_read(top: Path) -> Iterator[Fault]:
    """Notes on folders that hold those of classes, but have no split's name."""
    for folder in sorted(top.iterdir()):
        found: list[Path] = []
        is_read = _CLASS.fullmatch(folder.name) or folder.name.lower() in SPLITS
        if not is_read and folder.is_dir():
            with contextlib.suppress(PermissionError):  # such as lost+found of a disk
                found = _of_class(folder)
        if found:
            reason = f"it is left out, with {found[0].name}/ in it; folders of splits are named "
            yield Fault(shown(str(folder)), reason + ", ".join(SPLITS), "note")


class _Source(NamedTuple):
    """A video, a picture, or a folder with the frames of a video."""

    path: Path
    split: str | None
    frames: tuple[str, ...] = ()  # names of the pictures in `path`
    among: Path | None = None  # for a picture: the folder whose pictures stay together


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    yield from _not_read(top)
    names: dict[tuple[str, str | None], str] = {}  # of real videos by stem and split
    classes = sorted(_classes(top), key=lambda found: not found[1])  # fakes look for originals
    for folder, is_real, of_root in classes:
        for found in _sources(folder, of_root):
            if isinstance(found, Fault):
                yield found
                continue
            path, split, frames, among = found
            name, stem, original = path.relative_to(top).as_posix(), path.stem, None
            if is_real:
                names[stem, split] = name
            elif stem.endswith(_OF_FAKE):
                original = names.get((stem.removesuffix(_OF_FAKE), split))
            originals = (original,) if original else ()
            data_set = top.resolve().name
            text = f"{len(frames)} numbered pictures are taken as the frames of one video"
            notes = (text,) * bool(frames)  # they may be of different people
            yield Video(
                *(path, name, is_real, data_set, originals),
                split=split,
                people=(f"folder {among.relative_to(top).as_posix()}",) if among else (),
                frames=frames,
                notes=notes,
            )


def _sources(folder: Path, split: str | None) -> Iterator[_Source | Fault]:
    """The videos and pictures of a class; in real/train/ and the like, with that split."""
    left_out = LeftOut()
    every = [*items([folder], left_out)]
    if left_out.total():
        yield Fault(shown(str(folder)), f"left out: {left_out}", "note")
    for path, _, problem in every:
        if problem is not None:
            yield Fault(shown(str(path)), problem)
    usable = [item for item in every if item.problem is None]
    for parent, group in itertools.groupby(usable, lambda item: item.path.parent):
        found, below, part = list(group), parent.relative_to(folder).parts, split
        if split is None and below and below[0].lower() in SPLITS:
            part, below = SPLITS[below[0].lower()], below[1:]
        pictures = [item.path.name for item in found if item.kind == "picture"]
        is_numbered = len(pictures) > 1 and numbers(pictures) is not None
        if below and is_numbered and len(pictures) == len(found):
            yield _Source(parent, part, tuple(in_order(pictures)))
            continue
        among = parent if below and len(pictures) > 1 else None
        if among:
            reason = f"its {len(pictures)} pictures are not the numbered frames of one video: each "
            reason += "is a video of its own, and all of them stay in one part of a split"
            yield Fault(shown(str(parent)), reason, "note")
        for item in found:
            yield _Source(item.path, part, among=among if item.kind == "picture" else None)


LAYOUT = Layout(
    "folders named real and fake (also 0_real, 1_fake), or train/real, test/fake, ..., or "
    "real/train, ..., in upper or lower case, of videos, pictures, and folders of the frames of a "
    "video",
    lambda top: any(_classes(top)),
    _videos,
)
