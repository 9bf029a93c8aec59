"""DFDC: parts with a metadata.json each, and test sets with a labels.csv."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flax_unet.media.videos import SUFFIXES
from flax_unet.utils.errors import InputError
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video, read_json, read_table

_DATA_SET, _METADATA, _LABELS = "DFDC", "metadata.json", "labels.csv"
_FAKE = {"1": True, "0": False}  # in labels.csv


def _folders(top: Path, name: str) -> list[Path]:
    """The folders that hold a file of this name: `top`, or those in it."""
    found = [top / name] if (top / name).is_file() else top.glob(f"*/{name}")
    return sorted(path.parent for path in found)


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    for folder in _folders(top, _METADATA):
        entries = read_json(folder / _METADATA)
        if not isinstance(entries, dict):
            raise InputError(f"{folder / _METADATA} is not an object by video")
        yield from _listed(folder, {name: _entry(entry) for name, entry in entries.items()})
    for folder in _folders(top, _LABELS):
        rows = read_table(folder / _LABELS, ("filename", "label"))
        entries = {row["filename"]: (_FAKE.get(row["label"]), ()) for row in rows}
        yield from _listed(folder, entries, "test")


def _entry(entry: Any) -> tuple[bool | None, tuple[str, ...]]:
    """Whether a video is FAKE, None if that is not known, and its originals."""
    if not isinstance(entry, dict):
        return None, ()
    original = entry.get("original")
    is_fake = {"FAKE": True, "REAL": False}.get(str(entry.get("label")).upper())
    return is_fake, (Path(original).stem,) if original and isinstance(original, str) else ()


def _listed(
    folder: Path, entries: dict[str, tuple[bool | None, tuple[str, ...]]], split: str | None = None
) -> Iterator[Video | Fault]:
    """The videos that a folder's list names, and those that it does not name."""
    found = {p.name: p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES}
    for name, (is_fake, originals) in sorted(entries.items()):
        path = found.pop(name, None)
        if path is None:
            yield Fault(str(folder / name), "it is missing, and the list of labels names it")
        elif is_fake is None:
            yield Fault(str(path), "its label is neither REAL nor FAKE")
        else:
            originals = originals if is_fake else ()
            yield Video(path, path.stem, not is_fake, _DATA_SET, originals, split=split)
    for path in found.values():
        yield Fault(str(path), "the list of labels does not name it")


LAYOUT = Layout(
    f"{_METADATA} beside the videos, in the folder or in folders dfdc_train_part_<n> below it; "
    f"or {_LABELS} (filename,label)",
    lambda top: bool(_folders(top, _METADATA) or _folders(top, _LABELS)),
    _videos,
)
