"""DFDC: parts with a metadata.json each, and test sets with a labels.csv."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from flax_unet.media.videos import SUFFIXES
from flax_unet.utils.errors import InputError
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video, read_json, read_table

_DATA_SET, _METADATA, _LABELS = "DFDC", "metadata.json", "labels.csv"
_FAKE = {"1": True, "0": False}  # in labels.csv
_BELOW = ("*", "*/dfdc_train_part_*")  # an archive may be unpacked into a folder of its own


class _Entry(NamedTuple):
    """What lists say about a video."""

    are_fake: frozenset[bool]  # its labels: one, unless they are unknown or contradict each other
    originals: tuple[str, ...] = ()
    split: str | None = None


def _folders(top: Path, name: str) -> list[Path]:
    """The folders that hold a file of this name: `top`, or those in it."""
    found = [top / name]
    if not found[0].is_file():
        found = [path for below in _BELOW for path in top.glob(f"{below}/{name}")]
    return sorted(path.parent for path in found)


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    lists = [(folder, _of_metadata(folder)) for folder in _folders(top, _METADATA)]
    lists += [(folder, _of_labels(folder)) for folder in _folders(top, _LABELS)]
    files: set[Path] = set()
    listed: dict[Path, _Entry] = {}
    for folder, entries in lists:
        found = {p.name: p for p in sorted(folder.rglob("[!.]*")) if p.suffix.lower() in SUFFIXES}
        files |= {*found.values()}
        for name, entry in entries.items():
            path = found.get(name, folder / name)
            known = listed.get(path, entry)
            listed[path] = _Entry(
                known.are_fake | entry.are_fake,
                known.originals or entry.originals,
                known.split or entry.split,
            )
    for path, (are_fake, originals, split) in sorted(listed.items()):
        if path not in files:
            yield Fault(str(path), "it is missing, and the list of labels names it")
        elif len(are_fake) > 1:
            yield Fault(str(path), f"{_METADATA} and {_LABELS} label it REAL and FAKE")
        elif not are_fake:
            yield Fault(str(path), "its label is neither REAL nor FAKE")
        else:
            originals = originals if True in are_fake else ()
            yield Video(path, path.stem, False in are_fake, _DATA_SET, originals, split=split)
    for path in sorted(files - listed.keys()):
        yield Fault(str(path), "the list of labels does not name it")


def _of_metadata(folder: Path) -> dict[str, _Entry]:
    entries = read_json(folder / _METADATA)
    if not isinstance(entries, dict):
        raise InputError(f"{folder / _METADATA} is not an object by video")
    return {name: _entry(entry) for name, entry in entries.items()}


def _entry(entry: Any) -> _Entry:
    if not isinstance(entry, dict):
        return _Entry(frozenset())
    original = entry.get("original")
    is_fake = {"FAKE": True, "REAL": False}.get(str(entry.get("label")).upper())
    originals = (Path(original).stem,) if original and isinstance(original, str) else ()
    return _Entry(_known(is_fake), originals)


def _of_labels(folder: Path) -> dict[str, _Entry]:
    rows = read_table(folder / _LABELS, ("filename", "label"))
    return {row["filename"]: _Entry(_known(_FAKE.get(row["label"])), (), "test") for row in rows}


def _known(is_fake: bool | None) -> frozenset[bool]:
    return frozenset() if is_fake is None else frozenset({is_fake})


LAYOUT = Layout(
    f"{_METADATA} beside the videos, in the folder or in folders dfdc_train_part_<n> below it; "
    f"or {_LABELS} (filename,label)",
    lambda top: bool(_folders(top, _METADATA) or _folders(top, _LABELS)),
    _videos,
)
