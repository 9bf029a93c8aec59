"""A folder in the published layout: which frames it holds, and what is wrong with it.

    crops/<video>_<n>.png   face crops, RGB
    masks/<video>_<n>.gif   optional: the classes 0 and 1 (0 and 255 are taken as 0 and 1)
    metadata.json           {"<video>.mp4": {"label": "REAL" | "FAKE", "original": ...}, ...}

`training/` and `testing/` below the folder may each hold `crops/` and `masks/`, with a metadata
file of their own or the folder's.
"""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from flax_unet.errors import InputError
from flax_unet.names import utf8
from train.data import metadata, pictures
from train.data.pictures import File

SUBFOLDERS = {"training": "train", "testing": "test"}
WHOLE = "whole"  # the split of a folder without subfolders
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_MASKS = frozenset({".gif", ".png"})

Files = dict[str, dict[str, File]]  # by directory, relative to the data set's folder, and name


@dataclasses.dataclass(frozen=True)
class Frame:
    """One crop and what is known of it."""

    path: Path
    file: str  # relative to the data set's folder
    mask: Path | None
    video: str  # its key in the metadata
    original: str  # of a fake: the video that it was made from; "" if there is none
    label: int  # 1 = REAL, 0 = FAKE
    size: int  # bytes of the crop and its mask


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    splits: dict[str, list[Frame]]
    faults: dict[str, str]  # file -> why it cannot be used
    notes: list[str]  # what is odd but harms nothing


def video_of(name: str) -> str:
    """The metadata's key for a crop: its name up to the first underscore, plus `.mp4`."""
    return name.partition("_")[0] + ".mp4"


def list_files(folder: Path) -> Files:
    """Every file that the data set is made of: a change of one is a change of the set.

    Hidden files, such as those that a Mac leaves on a stick, are no part of it.

    Raises:
        InputError: the folder is not in the published layout, or cannot be listed.
    """
    found: Files = {}
    for root in (".", *SUBFOLDERS):
        for part in ("crops", "masks"):
            if (directory := folder / root / part).is_dir():
                found[_below(root, part)] = _list(directory)
        if os.path.lexists(path := folder / root / metadata.NAME):
            found[root] = {metadata.NAME: pictures.look(path)}
    if not any(_below(root, "crops") in found for root in (".", *SUBFOLDERS)):
        raise InputError(
            f"{folder} is not in the published layout: it needs crops/ and metadata.json, or "
            "training/ and testing/ with these"
        )
    return found


def scan(folder: Path, files: Files) -> Listing:
    """Lists the frames of a folder by split, without opening the pictures.

    Args:
        folder: where it is.
        files: what `list_files` found in it.

    Raises:
        InputError: a metadata file is missing or cannot be read.
    """
    splits: dict[str, list[Frame]] = {}
    faults: dict[str, str] = {}
    notes: list[str] = []
    for root, split in {".": WHOLE, **SUBFOLDERS}.items():
        crops = files.get(_below(root, "crops"))
        if crops is None:
            continue
        entries = _metadata(folder, root, files)
        masks = _by_stem(files.get(_below(root, "masks"), {}))
        frames = splits.setdefault(split, [])
        for name, crop in crops.items():
            if _suffix(name) in _PICTURES:
                try:
                    frames.append(_frame(folder, root, name, crop, masks, entries))
                except InputError as error:
                    faults[utf8(_below(root, "crops", name))] = str(error)
        notes += _left_out(_below(root, "crops"), crops)
    notes += _missing_originals([frame for frames in splits.values() for frame in frames])
    return Listing(splits, faults, notes)


def _list(directory: Path) -> dict[str, File]:
    try:
        with os.scandir(directory) as entries:
            visible = {e.name: pictures.look(e) for e in entries if not e.name.startswith(".")}
    except OSError as error:
        raise InputError(f"{directory} cannot be listed: {error.strerror}") from error
    return dict(sorted(visible.items()))


def _below(*parts: str) -> str:
    return PurePosixPath(*parts).as_posix()


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _by_stem(masks: Mapping[str, File]) -> dict[str, dict[str, File]]:
    """The masks of each crop, whose name they have but for the suffix."""
    found: dict[str, dict[str, File]] = defaultdict(dict)
    for name, file in masks.items():
        if _suffix(name) in _MASKS:
            found[Path(name).stem][name] = file
    return found


def _frame(
    folder: Path,
    root: str,
    name: str,
    crop: File,
    masks: Mapping[str, Mapping[str, File]],
    entries: Mapping[str, Any],
) -> Frame:
    """Raises an InputError with the reason alone if the crop cannot be used."""
    if utf8(name) != name:
        raise InputError("its name is not UTF-8")
    if crop.fault:
        raise InputError(crop.fault)
    label, original = metadata.label_and_original(entries, video_of(name))
    found = masks.get(Path(name).stem, {})
    if len(found) > 1:
        raise InputError(f"it has {len(found)} masks: {', '.join(found)}")
    mask, size = None, crop.size
    for mask_name, file in found.items():
        if file.fault:
            raise InputError(f"its mask: {file.fault}")
        mask, size = folder / _below(root, "masks", mask_name), size + file.size
    file = _below(root, "crops", name)
    return Frame(folder / file, file, mask, video_of(name), original, label, size)


def _metadata(folder: Path, root: str, files: Files) -> dict[str, Any]:
    where = next((place for place in (root, ".") if place in files), None)
    if where is None:
        raise InputError(
            f"{folder / root / metadata.NAME} is missing; it tells which videos are FAKE"
        )
    return metadata.read(folder / where / metadata.NAME)


def _left_out(directory: str, crops: Iterable[str]) -> Iterator[str]:
    """Files among the crops that are taken for something else."""
    suffixes = Counter(suffix for name in crops if (suffix := _suffix(name)) not in _PICTURES)
    if suffixes:
        counts = ", ".join(f"{n} {suffix or 'without'}" for suffix, n in suffixes.most_common(5))
        yield (
            f"{suffixes.total()} files in {directory} are left out for their suffix ({counts}); "
            f"crops are {', '.join(sorted(_PICTURES))}"
        )


def _missing_originals(frames: list[Frame]) -> Iterator[str]:
    """A fake whose source video is not here can still be scored; its split cannot be checked."""
    videos = {frame.video for frame in frames}
    absent = sorted({f.original for f in frames if f.original and f.original not in videos})
    if absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        yield f"{len(absent)} originals of fakes are not in the folder: {shown}"


def read_frame(frame: Frame) -> tuple[bytes, bytes]:
    """The stored bytes of a crop and its mask, b"" without one, once both were seen to be good.

    Raises:
        InputError: one cannot be used; the message gives the reason alone.
        OSError: one cannot be read, though perhaps another time.
    """
    picture = frame.path.read_bytes()
    image = pictures.decode(picture)
    if image.mode != "RGB":
        raise InputError(f"its mode is {image.mode}; expected RGB")
    if frame.mask is None:
        return picture, b""
    mask = frame.mask.read_bytes()
    _check_mask(mask, image.size)
    return picture, mask


def decode_mask(content: bytes) -> np.ndarray:
    """The classes of a mask, (H, W) uint8: 0 untouched, 1 manipulated.

    Raises:
        InputError: it is no picture, or has values that are no class.
    """
    return (np.asarray(_opened_mask(content)) != 0).astype(np.uint8)


def _opened_mask(content: bytes) -> Image.Image:
    image = pictures.decode(content)
    if image.mode not in ("P", "L", "1"):
        raise InputError(f"its mode is {image.mode}; expected palette indices or grey values")
    found = [value for value, count in enumerate(image.histogram()) if count]
    if not (set(found) <= {0, 1} or set(found) <= {0, 255}):
        shown = ", ".join(map(str, found[:6]))
        raise InputError(f"its values are {shown}; expected the classes 0 and 1, or 0 and 255")
    return image


def _check_mask(content: bytes, size: tuple[int, int]) -> None:
    try:
        found = _opened_mask(content).size
    except InputError as error:
        raise InputError(f"its mask: {error}") from error
    if found != size:
        raise InputError(f"its mask is {found[0]}x{found[1]}, the picture {size[0]}x{size[1]}")
