"""Celeb-DF, versions 1 and 2: three folders, and a list of the test videos."""

import re
from collections.abc import Iterator
from pathlib import Path

from flax_unet.media.videos import SUFFIXES
from flax_unet.utils.errors import InputError
from train.prepare.layouts.record import NO_SPLIT, Fault, Layout, ListOptions, Video

_DATA_SET, _LIST = "Celeb-DF", "List_of_testing_videos.txt"
_IS_REAL = {"Celeb-real": True, "YouTube-real": True, "Celeb-synthesis": False}  # by folder
_LINE = re.compile(r"([01])\s+(\S.*)")
_LISTED_REAL = "1"  # opposed to DFDC's labels.csv
_REAL_NAME, _FAKE_NAME = re.compile(r"(id\d+)_\d+"), re.compile(r"(id\d+)_id\d+(_\d+)")


def _videos(top: Path, _: ListOptions) -> Iterator[Video | Fault]:
    if not (top / _LIST).exists():
        yield Fault(str(top / _LIST), NO_SPLIT, "note")
    listed = _read_list(top / _LIST)
    tested = {_scene(file) for file, label in listed.items() if _agrees(file, label)}
    for folder, is_real in _IS_REAL.items():
        for path in sorted((top / folder).glob("*")):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            name = f"{folder}/{path.stem}"
            label = listed.pop(f"{folder}/{path.name}", None)
            originals: tuple[str, ...] = ()
            people: tuple[str, ...] = ()
            if match := (_REAL_NAME if is_real else _FAKE_NAME).fullmatch(path.stem):
                people = (match[1],)  # a fake's is that of its scene: all are swapped with all
                originals = () if is_real else (f"Celeb-real/{match[1]}{match[2]}",)
            elif not is_real:
                yield Fault(str(path), "its name is not id<target>_id<source>_<n>")
                continue
            if label is not None and not _agrees(name, label):
                yield Fault(str(path), f"{_LIST} gives it the label {label}; 1 means REAL there")
                continue
            if label is None and not tested.isdisjoint(originals):
                reason = f"{_LIST} names its scene, and not this fake of it: it is left out"
                yield Fault(str(path), reason, "note")  # training on it would be a leak
                continue
            yield Video(
                path,
                name,
                is_real,
                _DATA_SET,
                originals,
                split=None if label is None else "test",
                people=people,
            )
    for name in listed:
        yield Fault(str(top / name), f"it is missing, and {_LIST} names it")


def _scene(file: str) -> str:
    """The name of the real video that a listed file is, or was made from."""
    name = Path(file).with_suffix("").as_posix()
    match = _FAKE_NAME.fullmatch(Path(name).name)
    return f"Celeb-real/{match[1]}{match[2]}" if match else name


def _agrees(file: str, label: str) -> bool:
    """Whether the list gives a file the label that its folder has."""
    return (label == _LISTED_REAL) == _IS_REAL.get(file.partition("/")[0])


def _read_list(path: Path) -> dict[str, str]:
    """The labels of the test videos, by folder and name; empty if there is no list."""
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").replace("\\", "/").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    listed = {}
    for line in filter(None, map(str.strip, lines)):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{path}: {line!r:.80} is not `<label> <folder>/<video>`")
        listed[match[2]] = match[1]
    return listed


LAYOUT = Layout(
    f"{', '.join(_IS_REAL)}; {_LIST} for the official test videos",
    lambda top: any((top / folder).is_dir() for folder in _IS_REAL),
    _videos,
)
