"""Finds a data set on disk and lists its files.

    FOLDER/crops/          crops, in folders of any depth
    FOLDER/masks/          masks, in the same folders
    FOLDER/metadata.json   or one level above, or in crops/

`training/`, `validation/` and `testing/` below the folder, or others of SPLITS in upper or lower
case, may each hold `crops/` and `masks/`, with a metadata file each or the folder's.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flax_unet.media.images import SUFFIXES, WITHOUT_MARK
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import utf8
from train.data.layouts import image_files
from train.data.layouts.image_files import File
from train.data.layouts.metadata import NAME

SPLITS = {  # by folder, in lower case
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("testing", "test"), "test"),
}
WHOLE = "whole"  # the split of a folder without subfolders
CROPS, MASKS = "crops", "masks"
# Suffixes of crops. They are stored without their names, so none may need its suffix to be read.
PICTURES = SUFFIXES - {".gif", ".ppm", ".tif", ".tiff"} - WITHOUT_MARK.keys()


class Part(NamedTuple):
    """The files of one split."""

    root: str  # the folder that holds `crops/`, below the data set's folder; "." for that one
    split: str
    crops: dict[str, File]  # by path below `crops/`; other files that lie there too
    masks: dict[str, File]  # by path below `masks/`
    metadata: Path  # the nearest file
    metadata_file: File

    def below(self, *names: str) -> str:
        """A path below the data set's folder, with forward slashes."""
        return PurePosixPath(self.root, *names).as_posix()


def locate(path: Path) -> Path:
    """The folder of the data set: `path`, or the one folder in it that holds crops.

    Raises:
        InputError: none or several folders hold crops, or `path` cannot be listed.
    """
    try:
        if _holds_crops(path):
            return path
        visible = (folder for folder in path.iterdir() if not folder.name.startswith("."))
        inside = sorted(folder for folder in visible if _holds_crops(folder))
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be listed: {error.strerror}; name the folder that "
            "holds crops/"
        ) from error
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise InputError(
            f"{path} holds {len(inside)} data sets; name one of {', '.join(map(str, inside))}"
        )
    raise InputError(
        f"{path} is not in the published layout: it needs crops/ and {NAME}, or training/ and "
        "testing/ with these"
    )


def split_folders(folder: Path) -> list[tuple[str, str]]:
    """The folders of splits in a folder: the name of each, and its split.

    Raises:
        InputError: the folder cannot be listed.
    """
    names = [path.name for path in _listed(folder) if path.name.lower() in SPLITS]
    names.sort(key=lambda name: (list(SPLITS).index(name.lower()), name))
    return [(name, SPLITS[name.lower()]) for name in names if (folder / name).is_dir()]


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, sorted."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed: {error.strerror}; it may hold folders of splits, so allow "
            "reading it"
        ) from error


def _roots(folder: Path) -> Iterator[tuple[str, str]]:
    """Where crops may lie: the folder itself, and the folders of splits in it; with the split."""
    yield ".", WHOLE
    yield from split_folders(folder)


def list_files(folder: Path) -> list[Part]:
    """Lists every file of the data set; if one changes, the data set has changed.

    Hidden files and folders, such as those that a Mac leaves on a stick, are left out. Links to
    folders are listed, but not followed.

    Raises:
        InputError: two folders make one split, metadata is missing, or a folder cannot be listed.
    """
    parts: dict[str, Part] = {}
    for root, split in _roots(folder):
        if not (folder / root / CROPS).is_dir():
            continue
        if split in parts:
            raise InputError(
                f"{folder} holds both {parts[split].root}/ and {root}/, which are one split; "
                "rename or remove one"
            )
        crops, masks = (_walk(folder / root / name) for name in (CROPS, MASKS))
        metadata = _nearest_metadata(folder, root)
        parts[split] = Part(root, split, crops, masks, metadata, image_files.look(metadata))
    return list(parts.values())


def not_read(folder: Path) -> list[str]:
    """Notes on folders in the data set's that hold crops, but have no split's name."""
    others = [
        path.name
        for path in _listed(folder)
        if path.name.lower() not in SPLITS
        and path.name not in (CROPS, MASKS)
        and not path.name.startswith(".")
        and os.path.isdir(path / CROPS)  # noqa: PTH112 (pathlib's raises on locked folders)
    ]
    if not others:
        return []
    return [
        f"{counted(len(others), 'folder')} with {CROPS}/ left out, such as {utf8(others[0])}; "
        f"folders of splits are named {', '.join(SPLITS)}"
    ]


def _nearest_metadata(folder: Path, root: str) -> Path:
    above = folder.resolve().parent, Path(os.path.abspath(folder)).parent  # noqa: PTH100 (of `..`)
    parents = (folder / root / CROPS, folder / root, folder, *above)
    found = next((parent / NAME for parent in parents if os.path.lexists(parent / NAME)), None)
    if found is None:
        raise InputError(
            f"{folder / root / NAME} is missing; it holds the labels of the videos. It may also "
            "lie one level above"
        )
    return found


def is_picture(name: str) -> bool:
    """Whether a file has the suffix of a crop."""
    return PurePosixPath(name).suffix.lower() in PICTURES


def _holds_crops(folder: Path) -> bool:
    return folder.is_dir() and any((folder / root / CROPS).is_dir() for root, _ in _roots(folder))


def _walk(top: Path) -> dict[str, File]:
    """The visible files below a directory, by path; also folders that are named like a picture."""
    found: dict[str, File] = {}
    folders = [""] if top.is_dir() else []
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(top / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False) and not is_picture(path):
                        folders.append(f"{path}/")
                    else:
                        found[path] = image_files.look(entry)
        except OSError as error:
            raise InputError(f"{top / folder} cannot be listed: {error.strerror}") from error
    return dict(sorted(found.items()))
