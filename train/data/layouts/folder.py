"""Finds the crops of a folder, each with its mask, video and label, and what is wrong with them.

    crops/<video>_<n>.png   face crops; also <video>/<n>.png, see `train.data.layouts.video_names`
    masks/<video>_<n>.gif   optional: the classes 0 and 1, see `train.data.layouts.masks`
    metadata.json           {"<video>.mp4": {"label": "REAL" | "FAKE", "original": ...}, ...}

`train.data.layouts.tree` has the folders that they may lie in.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flax_unet.media.images import OF_16_BITS
from flax_unet.utils.errors import counted
from flax_unet.utils.filenames import utf8
from train.data.layouts import image_files, masks, metadata, tree
from train.data.layouts.faults import BadFileError, Fault
from train.data.layouts.image_files import File
from train.data.layouts.metadata import Metadata
from train.data.layouts.options import FolderOptions
from train.data.layouts.tree import CROPS, MASKS, Part


@dataclasses.dataclass(frozen=True)
class Crop:
    """A crop, unopened, with its mask and label."""

    path: Path
    file: str  # relative to the data set's folder
    mask: Path | None
    video: str  # its key in the metadata
    original: str  # of a fake: the videos that it was made from, one a line; "" if unknown
    label: int  # 1 = REAL, 0 = FAKE
    size: int  # bytes of the crop and its mask
    traits: dict[str, str]  # of its video: see `train.data.layouts.metadata`


class Content(NamedTuple):
    """The bytes of a crop and its mask, as they are stored."""

    image: bytes  # the crop's file
    mask: bytes  # a picture of classes, b"" without a mask
    mode: str  # of the crop: RGB, or what is converted to it
    mask_is_emptied: bool  # whether the threshold emptied a mask of the levels 0 and 1


def scan(
    folder: Path, parts: Sequence[Part], options: FolderOptions
) -> tuple[dict[str, list[Crop]], dict[str, Fault], list[str]]:
    """Lists the crops of a folder, without opening the pictures.

    Returns:
        The crops by split, the files that cannot be used with the reason, and notes.

    Raises:
        InputError: a metadata file cannot be read.
    """
    splits: dict[str, list[Crop]] = {part.split: [] for part in parts}
    faults: dict[str, Fault] = {}
    notes: list[str] = []
    known = metadata.read_all({part.metadata: None for part in parts}, options.real_label)
    for part in parts:
        crops = [name for name in part.crops if tree.is_picture(name)]
        of_crops, unmatched = masks.by_crop(crops, part.masks)
        for name in crops:
            try:
                crop = _crop(folder, part, name, of_crops.get(name, {}), known[part.metadata])
                splits[part.split].append(crop)
            except BadFileError as error:
                faults[utf8(part.below(CROPS, name))] = error.fault
        notes.extend(_left_out(part))
        if unmatched:
            notes.append(
                f"{len(unmatched)} files in {part.below(MASKS)} match no crop, such as "
                f"{utf8(unmatched[0])}; a mask has the folder and name of its crop, with or "
                f"without {' or '.join(masks.ENDINGS)} behind it"
            )
    # A fake without its original can still be scored, but its split cannot be checked.
    every = [crop for crops in splits.values() for crop in crops]
    originals = {name for crop in every for name in crop.original.split("\n") if name}
    if absent := sorted(originals - {crop.video for crop in every}):
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        verb = "is" if len(absent) == 1 else "are"
        originals = counted(len(absent), "original")
        notes.append(f"{originals} of fakes {verb} not in the folder: {shown}")
    return splits, faults, notes


def _crop(
    folder: Path, part: Part, name: str, own_masks: Mapping[str, File], entries: Metadata
) -> Crop:
    """Raises BadFileError if the crop cannot be used."""
    if utf8(name) != name:
        raise BadFileError("its name is not UTF-8")
    crop = part.crops[name]
    if crop.fault:
        raise BadFileError(*crop.fault)
    video = entries.videos.of(name)
    label, originals = entries.label(video), entries.originals(video)
    if len(own_masks) > 1:
        reason = f"it has {len(own_masks)} masks: {', '.join(own_masks)}"
        raise BadFileError("it has several masks", reason)
    mask, size = None, crop.size
    for mask_name, file in own_masks.items():
        if file.fault:
            raise _of_its_mask(BadFileError(*file.fault))
        mask, size = folder / part.below(MASKS, mask_name), size + file.size
    file = part.below(CROPS, name)
    traits = entries.traits(video)
    return Crop(folder / file, file, mask, video, "\n".join(originals), label, size, traits)


def _left_out(part: Part) -> Iterator[str]:
    """Notes on files among the crops that are not crops."""
    directory = part.below(CROPS)
    others = [name for name in part.crops if not tree.is_picture(name) and name != metadata.NAME]
    links = [name for name in others if image_files.is_directory(part.crops[name])]
    if links:
        yield (
            f"{len(links)} links to folders in {directory} are not followed, such as "
            f"{utf8(links[0])}; put the folders there, or name the data set where they are"
        )
    suffixes = Counter(
        PurePosixPath(name).suffix.lower()
        for name in others
        if not image_files.is_directory(part.crops[name])
    )
    if suffixes:
        counts = ", ".join(f"{n} {suffix or 'without'}" for suffix, n in suffixes.most_common(5))
        yield (
            f"{suffixes.total()} files in {directory} are left out for their suffix ({counts}); "
            f"crops are {', '.join(sorted(tree.PICTURES))}"
        )


def read_crop(crop: Crop, mask_threshold: int | None) -> Content:
    """Reads and checks a crop and its mask; the threshold is that of `FolderOptions`.

    Raises:
        BadFileError: a file cannot be used.
        OSError: one cannot be read; another attempt may succeed.
    """
    picture, notes = crop.path.read_bytes(), list[str]()
    image = image_files.decode(picture, notes)
    if image.mode.startswith(("I", "F")):  # PIL would cut their values off at 255
        raise BadFileError(f"its mode is {image.mode}; expected 8 bits a channel")
    if OF_16_BITS in notes:
        raise BadFileError("it has 16 bits a channel; expected 8")
    if crop.mask is None:
        return Content(picture, b"", image.mode, mask_is_emptied=False)
    try:
        mask, size, is_emptied = masks.stored(crop.mask.read_bytes(), mask_threshold)
    except BadFileError as error:
        raise _of_its_mask(error) from error
    if size != image.size:
        sizes = f"its mask is {size[0]}x{size[1]}, the picture {image.size[0]}x{image.size[1]}"
        raise BadFileError("its mask has another size", sizes)
    return Content(picture, mask, image.mode, is_emptied)


def _of_its_mask(error: BadFileError) -> BadFileError:
    return BadFileError(*(f"its mask: {text}" for text in error.fault))
