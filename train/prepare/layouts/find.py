"""Finds out how sources are laid out, and lists their videos."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap

from flax_unet.utils.errors import InputError
from train.prepare.layouts import celeb_df, dfdc, faceforensics, folders, table
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video

LAYOUTS = {  # by name, in the order in which they are tried
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
            if first is not found:
                reason = f"{first.path} has the same name in this data set; that one is taken"
                faults.append(Fault(str(found.path), reason))
    if not videos and not faults:
        raise InputError(f"{', '.join(map(str, sources))}: there are no videos")
    return [videos[key] for key in sorted(videos)], faults


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
