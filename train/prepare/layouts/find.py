"""Finds out how sources are laid out, and lists their videos."""

import contextlib
import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from textwrap import wrap

from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown
from train.prepare.layouts import celeb_df, deepfakebench, dfdc, faceforensics, folders, table
from train.prepare.layouts.record import Fault, Identity, Layout, ListOptions, Video

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
    listed: dict[Video, None] = {}
    faults: list[Fault] = []
    for source in sources:
        for found in _layout(source, layout).videos(source, options):
            if isinstance(found, Fault):
                faults.append(found)
            else:
                listed[found] = None
    if not listed and not faults:
        raise InputError(f"{', '.join(map(str, sources))}: there are no videos")
    return _distinct(sorted(listed, key=_by_name), faults), faults


def _by_name(video: Video) -> Identity:
    return video.identity


def _distinct(videos: list[Video], faults: list[Fault]) -> list[Video]:
    """The first of the videos with one name or content; none of those whose labels contradict."""
    contents = _contents(videos)
    wrong: dict[Video, str] = {}
    for same in (*_alike(videos, _by_name), *_alike(videos, contents.__getitem__)):
        of_label = {video.is_real: shown(video.name) for video in same}
        if len(of_label) > 1:
            names = " and ".join(dict.fromkeys((of_label[True], of_label[False])))
            text = f"it is labelled REAL and FAKE ({names}), and is left out; correct the label"
            wrong |= dict.fromkeys(same, text)
    faults += [Fault(str(video.path), text) for video, text in wrong.items()]
    named: list[Video] = []
    for first, *others in _alike((v for v in videos if v not in wrong), _by_name):
        named.append(first)
        reason = f"{first.path} has the same name in this data set; that one is taken"
        faults += [Fault(str(other.path), reason) for other in others]
    kept: list[Video] = []
    copies: dict[Identity, str] = {}  # the name of the first in the same data set
    for first, *others in _alike(named, contents.__getitem__):
        kept.append(first)
        faults += [Fault(str(o.path), f"its content is that of {first.path}") for o in others]
        copies |= {o.identity: first.name for o in others if o.data_set == first.data_set}
    return [
        dataclasses.replace(
            video, originals=tuple(copies.get((video.data_set, n), n) for n in video.originals)
        )
        for video in kept
    ]


def _alike(videos: Iterable[Video], key: Callable[[Video], Hashable]) -> list[list[Video]]:
    """Videos that have a key in common, in the order of the first ones."""
    found: dict[Hashable, list[Video]] = defaultdict(list)
    for video in videos:
        found[key(video)].append(video)
    return [*found.values()]


def _contents(videos: list[Video]) -> dict[Video, str | Identity]:
    """The SHA-256 of each video; its identity where no other one can have the same content."""
    sizes: Counter[tuple[int, int]] = Counter()
    for video in videos:
        with contextlib.suppress(OSError):  # it is a fault when it is read
            sizes[_size(video)] += 1
    contents: dict[Video, str | Identity] = {}
    for video in videos:
        contents[video] = video.identity
        with contextlib.suppress(OSError, InputError):
            if (size := _size(video))[1] and sizes[size] > 1:
                contents[video] = video.sha256()
    return contents


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
