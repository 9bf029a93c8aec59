"""A folder of crops: which frames it holds, and what is wrong with it.

The crops and masks of a data set that was made for this network or one like it:

    crops/<video>_<n>.png   face crops; also <video>/<n>.png, see `train.data.layouts.video_names`
    masks/<video>_<n>.gif   optional: the classes 0 and 1, see `train.data.layouts.masks`
    metadata.json           {"<video>.mp4": {"label": "REAL" | "FAKE", "original": ...}, ...}

`train.data.layouts.tree` says where they may lie.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flax_unet.utils.filenames import utf8
from train.data.layouts import image_files, masks, metadata, tree
from train.data.layouts.faults import BadFileError, Fault
from train.data.layouts.image_files import File
from train.data.layouts.metadata import Metadata
from train.data.layouts.reading import Reading
from train.data.layouts.tree import CROPS, MASKS, Files


@dataclasses.dataclass(frozen=True)
class Frame:
    """One crop and what is known of it."""

    path: Path
    file: str  # relative to the data set's folder
    mask: Path | None
    video: str  # its key in the metadata
    original: str  # of a fake: the videos that it was made from, one a line; "" if there is none
    label: int  # 1 = REAL, 0 = FAKE
    size: int  # bytes of the crop and its mask


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    splits: dict[str, list[Frame]]
    faults: dict[str, Fault]  # by file: why it cannot be used
    notes: list[str]  # what is odd but harms nothing


class Content(NamedTuple):
    """A frame as it is stored."""

    image: bytes  # of the crop's file
    mask: bytes  # of a picture of classes, b"" without one
    mode: str  # of the crop: RGB, or what is converted to it
    mask_is_emptied: bool  # as in `masks.Stored`


def scan(folder: Path, files: Files, reading: Reading) -> Listing:
    """Lists the frames of a folder by split, without opening the pictures.

    Args:
        folder: where it is.
        files: what `tree.list_files` found in it.
        reading: what its files leave open.

    Raises:
        InputError: a metadata file is missing or cannot be read.
    """
    splits: dict[str, list[Frame]] = {}
    faults: dict[str, Fault] = {}
    notes: list[str] = []
    roots = [root for root in tree.ROOTS if tree.below(root, CROPS) in files]
    paths = {root: tree.metadata_path(folder, root, files) for root in roots}
    known = metadata.read_all(dict.fromkeys(paths.values()), reading.real_label)
    for root in roots:
        crops, entries = files[tree.below(root, CROPS)], known[paths[root]]
        of_crops, unmatched = masks.by_crop(
            [name for name in crops if _is_picture(name)], files.get(tree.below(root, MASKS), {})
        )
        frames = splits.setdefault(tree.ROOTS[root], [])
        for name, crop in crops.items():
            if _is_picture(name):
                try:
                    found = of_crops.get(name, {})
                    frames.append(_frame(folder, root, name, crop, found, entries))
                except BadFileError as error:
                    faults[utf8(tree.below(root, CROPS, name))] = error.fault
        notes += _left_out(tree.below(root, CROPS), crops)
        notes += _unmatched(tree.below(root, MASKS), unmatched)
    notes += _missing_originals([frame for frames in splits.values() for frame in frames])
    return Listing(splits, faults, notes)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in tree.PICTURES


def _frame(
    folder: Path,
    root: str,
    name: str,
    crop: File,
    found: Mapping[str, File],
    entries: Metadata,
) -> Frame:
    """Raises BadFileError if the crop cannot be used; `found` are its masks."""
    if utf8(name) != name:
        raise BadFileError("its name is not UTF-8")
    if crop.fault:
        raise BadFileError(*crop.fault)
    video = entries.videos.of(name)
    label, originals = entries.label(video), entries.originals(video)
    if len(found) > 1:
        raise BadFileError("it has several masks", f"it has {len(found)} masks: {', '.join(found)}")
    mask, size = None, crop.size
    for mask_name, file in found.items():
        if file.fault:
            raise _of_its_mask(BadFileError(*file.fault))
        mask, size = folder / tree.below(root, MASKS, mask_name), size + file.size
    file = tree.below(root, CROPS, name)
    return Frame(folder / file, file, mask, video, "\n".join(originals), label, size)


def _left_out(directory: str, crops: Mapping[str, File]) -> Iterator[str]:
    """What lies among the crops and is taken for something else."""
    others = [name for name in crops if not _is_picture(name) and name != metadata.NAME]
    links = [name for name in others if _is_directory(crops[name])]
    if links:
        yield (
            f"{len(links)} links to folders in {directory} are not followed, such as "
            f"{utf8(links[0])}; put the folders there, or name the data set where they are"
        )
    files = (name for name in others if not _is_directory(crops[name]))
    suffixes = Counter(PurePosixPath(name).suffix.lower() for name in files)
    if suffixes:
        counts = ", ".join(f"{n} {suffix or 'without'}" for suffix, n in suffixes.most_common(5))
        yield (
            f"{suffixes.total()} files in {directory} are left out for their suffix ({counts}); "
            f"crops are {', '.join(sorted(tree.PICTURES))}"
        )


def _is_directory(file: File) -> bool:
    return file.fault is not None and file.fault.kind == image_files.DIRECTORY


def _unmatched(directory: str, unmatched: list[str]) -> Iterator[str]:
    if unmatched:
        yield (
            f"{len(unmatched)} files in {directory} match no crop, such as {utf8(unmatched[0])}; "
            f"a mask has the folder and name of its crop, with {' or '.join(masks.ENDINGS)} behind "
            "it or without"
        )


def _missing_originals(frames: Iterable[Frame]) -> Iterator[str]:
    """A fake whose source video is not here can still be scored; its split cannot be checked."""
    videos = {frame.video for frame in frames}
    named = {name for frame in frames for name in frame.original.split("\n") if name}
    if absent := sorted(named - videos):
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        yield f"{len(absent)} originals of fakes are not in the folder: {shown}"


def read_frame(frame: Frame, mask_threshold: int | None) -> Content:
    """What is stored of a frame, once its files were seen to be good.

    Args:
        frame: the frame.
        mask_threshold: as in `Reading`.

    Raises:
        BadFileError: a file cannot be used.
        OSError: one cannot be read, though perhaps another time.
    """
    picture = frame.path.read_bytes()
    image = image_files.decode(picture)
    if image.mode.startswith(("I", "F")):  # whose values PIL would cut off at 255
        raise BadFileError(f"its mode is {image.mode}; expected 8 bits a channel")
    if frame.mask is None:
        return Content(picture, b"", image.mode, mask_is_emptied=False)
    try:
        mask, size, is_emptied = masks.stored(frame.mask.read_bytes(), mask_threshold)
    except BadFileError as error:
        raise _of_its_mask(error) from error
    if size != image.size:
        sizes = f"its mask is {size[0]}x{size[1]}, the picture {image.size[0]}x{image.size[1]}"
        raise BadFileError("its mask has another size", sizes)
    return Content(picture, mask, image.mode, is_emptied)


def _of_its_mask(error: BadFileError) -> BadFileError:
    return BadFileError(*(f"its mask: {text}" for text in error.fault))
