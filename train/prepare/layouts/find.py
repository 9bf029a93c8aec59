"""Finds out how sources are laid out, and lists their videos."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap

from flax_unet.utils.errors import InputError
from train.prepare.layouts import celeb_df, deepfakebench, dfdc, faceforensics, folders, table
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video

LAYOUTS = {  # by name, in the order in which they are tried
    "deepfakebench": deepfakebench.LAYOUT,
    "faceforensics": faceforensics.LAYOUT,
    "celeb-df": celeb_df.LAYOUT,
    "dfdc": dfdc.LAYOUT,
    "folders": folders.LAYOUT,
    "csv": table.LAYOUT,
}


def list_videos(
    sources: Iterable[Path], layout: str | None, options: ListOptions
) -> tuple[list[Video], list[Fault]]:
    """The videos of all sources, sorted, and the files that cannot be used.

    Raises:
        InputError: a source fits no layout, or its labels cannot be read.
    """
    videos: dict[tuple[str, str], Video] = {}
    faults: list[Fault] = []
    for source in sources:
        for found in _layout(source, layout).videos(source, options):
            if isinstance(found, Fault):
                faults.append(found)
                continue
            first = videos.setdefault((found.data_set, found.name), found)
            if first != found:
                reason = f"{first.path} has the same name in this data set; that one is taken"
                faults.append(Fault(str(found.path), reason))
    if not videos and not faults:
        raise InputError(f"{', '.join(map(str, sources))}: there are no videos")
    return _without_copies([videos[key] for key in sorted(videos)], faults), faults


def _without_copies(videos: list[Video], faults: list[Fault]) -> list[Video]:
    """The videos, of several files with the same content the first one; the others are faults."""
    sizes: Counter[tuple[int, int]] = Counter()
    for video in videos:
        with contextlib.suppress(OSError):  # it is a fault when it is read
            sizes[_size(video)] += 1
    first: dict[str, Video] = {}
    copies: dict[tuple[str, str], str] = {}  # the name of the first in the same data set
    kept: list[Video] = []
    for video in videos:
        same = video
        with contextlib.suppress(OSError, InputError):
            if (size := _size(video))[1] and sizes[size] > 1:
                same = first.setdefault(video.sha256(), video)
        if same is video:
            kept.append(video)
            continue
        faults.append(Fault(str(video.path), f"its content is that of {same.path}"))
        if same.data_set == video.data_set:
            copies[video.data_set, video.name] = same.name
    return [
        dataclasses.replace(
            video, originals=tuple(copies.get((video.data_set, n), n) for n in video.originals)
        )
        for video in kept
    ]


def _size(video: Video) -> tuple[int, int]:
    """The number of its files, and the bytes of the first; copies have the same."""
    return len(video.files), video.files[0].stat().st_size


def _layout(source: Path, name: str | None) -> Layout:
    if not source.exists():
        raise InputError(f"{source} does not exist")
    for known, layout in LAYOUTS.items():
        if name in (None, known) and layout.is_here(source):
            return layout
    tried = LAYOUTS if name is None else {name: LAYOUTS[name]}
    raise InputError(f"{source} is not laid out as expected. It needs one of:\n{needs(tried)}")


def needs(layouts: Mapping[str, Layout]) -> str:
    """What layouts need, in lines."""
    return "\n".join(
        line
        for name, layout in layouts.items()
        for line in wrap(f"{name:15}{layout.needs}", 96, subsequent_indent=" " * 15)
    )
