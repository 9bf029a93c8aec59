"""Folders `real` and `fake` of videos or pictures, also in folders of a split.

A folder of pictures in one of them, such as `real/<video>/<n>.png`, holds the frames of one video.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from flax_unet.media.discover import Item, LeftOut, items
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
        is_read = _CLASS.fullmatch(folder.name) or folder.name.lower() in SPLITS
        if not is_read and folder.is_dir() and (found := _of_class(folder)):
            reason = f"it is left out, with {found[0].name}/ in it; folders of splits are named "
            yield Fault(shown(str(folder)), reason + ", ".join(SPLITS), "note")


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    yield from _not_read(top)
    classes = list(_classes(top))
    names: dict[tuple[str, str | None], str] = {}  # of real videos by stem and split
    for is_real in (True, False):  # fakes look for their originals
        for folder, of_real, split in classes:
            if of_real != is_real:
                continue
            for path, frames, problem in _sources(folder):
                if problem is not None:
                    yield Fault(shown(str(path)), problem)
                    continue
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
                    frames=frames,
                    notes=notes,
                )


def _sources(folder: Path) -> Iterator[tuple[Path, tuple[str, ...], str | None]]:
    """The videos and pictures of a class, with the names of frames, or with a problem."""
    for parent, group in itertools.groupby(items([folder], LeftOut()), lambda i: i.path.parent):
        found = list(group)
        if parent != folder and _are_frames(found):
            yield parent, tuple(in_order(item.path.name for item in found)), None
        else:
            yield from ((item.path, (), item.problem) for item in found)


def _are_frames(found: list[Item]) -> bool:
    """Whether files are the frames of one video: pictures whose names differ in a number."""
    are_pictures = all(item.kind == "picture" and item.problem is None for item in found)
    names = [item.path.name for item in found]
    return are_pictures and len(names) > 1 and numbers(names) is not None


LAYOUT = Layout(
    "folders named real and fake (also 0_real, 1_fake), or train/real, test/fake, ..., in upper or "
    "lower case, of videos, pictures, and folders of the frames of a video",
    lambda top: any(_classes(top)),
    _videos,
)
