"""Where a data set lies on disk, and every file of it.

    FOLDER/crops/          crops, in folders of any depth
    FOLDER/masks/          masks, in the same folders
    FOLDER/metadata.json   or one level above, or in crops/

`training/`, `validation/` and `testing/` (also `train/`, `val/`, `test/`) below the folder may
each hold `crops/` and `masks/`, with a metadata file of their own or the folder's.
"""

import os
from pathlib import Path, PurePosixPath

from flax_unet.utils.errors import InputError
from train.data.layouts import image_files
from train.data.layouts.image_files import File
from train.data.layouts.metadata import NAME

SPLITS = {  # by folder
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("validation", "val"), "validation"),
    **dict.fromkeys(("testing", "test"), "test"),
}
WHOLE = "whole"  # the split of a folder without subfolders
ROOTS = {".": WHOLE, **SPLITS}
CROPS, MASKS, ABOVE = "crops", "masks", ".."
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})  # suffixes of crops

Files = dict[str, dict[str, File]]  # by directory below the data set's folder, and path below it


def locate(path: Path) -> Path:
    """The folder of the data set: `path`, or the one folder in it that holds crops.

    Raises:
        InputError: there is none or more than one, or `path` cannot be listed.
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


def list_files(folder: Path) -> Files:
    """Every file that the data set is made of: a change of one is a change of the set.

    Hidden files and folders, such as those that a Mac leaves on a stick, do not belong to it. Links
    to folders are listed, but not followed.

    Raises:
        InputError: two folders make one split, or a folder cannot be listed.
    """
    found: Files = {}
    made: dict[str, str] = {}
    for root, split in ROOTS.items():
        if not (folder / root / CROPS).is_dir():
            continue
        if split in made:
            raise InputError(
                f"{folder} holds both {made[split]}/ and {root}/, which are one split; rename or "
                "remove one"
            )
        made[split] = root
        for part in (CROPS, MASKS):
            if (directory := folder / root / part).is_dir():
                found[below(root, part)] = _walk(directory)
    for root in (".", *made.values()):
        if os.path.lexists(folder / root / NAME):
            found[root] = {NAME: image_files.look(folder / root / NAME)}
    above = folder.resolve().parent / NAME
    if "." not in found and os.path.lexists(above):
        found[ABOVE] = {NAME: image_files.look(above)}
    return found


def below(*parts: str) -> str:
    """A path below the data set's folder, with forward slashes."""
    return PurePosixPath(*parts).as_posix()


def metadata_path(folder: Path, root: str, files: Files) -> Path:
    """The metadata file that belongs to `crops/` below `root`: the nearest one.

    Raises:
        InputError: there is none.
    """
    for place in (below(root, CROPS), root, ".", ABOVE):
        if NAME in files.get(place, {}):
            return folder.resolve().parent / NAME if place == ABOVE else folder / place / NAME
    raise InputError(
        f"{folder / root / NAME} is missing; it tells which videos are FAKE. It may also lie one "
        "level above"
    )


def _holds_crops(folder: Path) -> bool:
    return any((folder / root / CROPS).is_dir() for root in ROOTS)


def _walk(top: Path) -> dict[str, File]:
    """The visible files below a directory by path; of what only looks like a file, too."""
    found: dict[str, File] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(top / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = f"{folder}{entry.name}"
                    named_as_picture = PurePosixPath(entry.name).suffix.lower() in PICTURES
                    if entry.is_dir(follow_symlinks=False) and not named_as_picture:
                        folders.append(f"{path}/")
                    else:
                        found[path] = image_files.look(entry)
        except OSError as error:
            raise InputError(f"{top / folder} cannot be listed: {error.strerror}") from error
    return dict(sorted(found.items()))
