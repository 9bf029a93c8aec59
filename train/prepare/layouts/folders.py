"""Folders `real` and `fake` of videos or pictures, also in folders of a split."""

import re
from collections.abc import Iterator
from pathlib import Path

from flax_unet.media.discover import LeftOut, items
from train.data.layouts.tree import SPLITS
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video

_CLASS = re.compile(r"(?:\d+_)?(real|fake)s?", re.IGNORECASE)
_OF_FAKE = "_fake"  # UADFV: fake/0000_fake.mp4 was made from real/0000.mp4


def _classes(top: Path) -> Iterator[tuple[Path, bool, str | None]]:
    """The folders of a class: the folder, whether it is REAL, and its split."""
    roots = [(top, None)] + [(top / name, split) for name, split in SPLITS.items()]
    for root, split in roots:
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if folder.is_dir() and (match := _CLASS.fullmatch(folder.name)):
                yield folder, match[1].lower() == "real", split


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    classes = list(_classes(top))
    names: dict[tuple[str, str | None], str] = {}  # of real videos by stem and split
    for is_real in (True, False):  # fakes look for their originals
        for folder, of_real, split in classes:
            if of_real != is_real:
                continue
            for item in items([folder], LeftOut()):
                name = item.path.relative_to(top).as_posix()
                if item.problem is not None:
                    yield Fault(item.name, item.problem)
                    continue
                original = None
                if is_real:
                    names[item.path.stem, split] = name
                elif item.path.stem.endswith(_OF_FAKE):
                    original = names.get((item.path.stem.removesuffix(_OF_FAKE), split))
                originals = (original,) if original else ()
                yield Video(item.path, name, is_real, top.resolve().name, originals, split=split)


LAYOUT = Layout(
    "folders named real and fake (also 0_real, 1_fake), or train/real, test/fake, ...",
    lambda top: any(_classes(top)),
    _videos,
)
