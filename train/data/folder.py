"""A folder in the published layout: which frames it holds, and what is wrong with it.

    crops/<video>_<n>.png   face crops, RGB
    masks/<video>_<n>.gif   optional: the classes 0 and 1 (0 and 255 are taken as 0 and 1)
    metadata.json           {"<video>.mp4": {"label": "REAL" | "FAKE", "original": ...}, ...}

`training/` and `testing/` below the folder may each hold `crops/` and `masks/`, with a metadata
file of their own or the folder's.
"""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from flax_unet.errors import InputError
from flax_unet.images import FORMATS, MAX_PIXELS

LABELS = {"REAL": 1, "FAKE": 0}
SUBFOLDERS = {"training": "train", "testing": "test"}
WHOLE = "whole"  # the split of a folder without subfolders
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
_MASKS = (".gif", ".png")


@dataclasses.dataclass(frozen=True)
class Frame:
    """One crop and what is known of it."""

    path: Path
    file: str  # relative to the data set's folder
    mask: Path | None
    video: str  # its key in the metadata
    original: str  # of a fake: the video that it was made from; "" if there is none
    label: int  # 1 = REAL, 0 = FAKE


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a folder holds."""

    splits: dict[str, list[Frame]]
    faults: dict[str, str]  # file -> why it cannot be used
    notes: list[str]  # what is odd but harms nothing


def video_of(name: str) -> str:
    """The metadata's key for a crop: its name up to the first underscore, plus `.mp4`."""
    return name.partition("_")[0] + ".mp4"


def list_files(folder: Path) -> list[Path]:
    """Every file that the data set is made of, sorted: a change of one is a change of the set.

    Raises:
        InputError: the folder is not in the published layout.
    """
    roots = [folder, *(folder / name for name in SUBFOLDERS)]
    if not any((root / "crops").is_dir() for root in roots):
        raise InputError(
            f"{folder} is not in the published layout: it needs crops/ and metadata.json, or "
            "training/ and testing/ with these"
        )
    return sorted(
        path
        for root in roots
        for part in ("metadata.json", "crops/*", "masks/*")
        for path in root.glob(part)
        if path.is_file()
    )


def scan(folder: Path) -> Listing:
    """Lists the frames of a folder by split, without opening the pictures.

    Raises:
        InputError: the folder is not in the published layout, or a metadata file cannot be read.
    """
    list_files(folder)
    splits: dict[str, list[Frame]] = {}
    faults: dict[str, str] = {}
    notes: list[str] = []
    for name, split in {".": WHOLE, **SUBFOLDERS}.items():
        root = folder / name
        if (root / "crops").is_dir():
            metadata = _metadata(folder, root)
            frames = splits.setdefault(split, [])
            for frame in _frames(folder, root, metadata, faults):
                frames.append(frame)
            notes += _missing_originals(frames)
    return Listing(splits, faults, notes)


def _frames(
    folder: Path, root: Path, metadata: dict[str, dict], faults: dict[str, str]
) -> Iterator[Frame]:
    for path in sorted((root / "crops").iterdir()):
        if path.suffix.lower() not in _PICTURES:
            continue
        file = path.relative_to(folder).as_posix()
        video = video_of(path.name)
        entry = metadata.get(video)
        label = entry.get("label") if isinstance(entry, dict) else None
        if entry is None:
            faults[file] = f"its video {video} is not in metadata.json"
        elif label not in LABELS:
            faults[file] = f"the label of {video} is {label!r}; expected REAL or FAKE"
        else:
            masks = ((root / "masks" / path.stem).with_suffix(suffix) for suffix in _MASKS)
            mask = next((candidate for candidate in masks if candidate.exists()), None)
            original = entry.get("original") or ""
            yield Frame(path, file, mask, video, str(original), LABELS[label])


def _metadata(folder: Path, root: Path) -> dict[str, dict]:
    path = next(
        (p / "metadata.json" for p in (root, folder) if (p / "metadata.json").exists()), None
    )
    if path is None:
        raise InputError(f"{root / 'metadata.json'} is missing; it tells which videos are FAKE")
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise InputError(f"{path} holds a {type(metadata).__name__}; expected an object by video")
    return metadata


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
    """
    picture = frame.path.read_bytes()
    size = _check_picture(picture)
    if frame.mask is None:
        return picture, b""
    mask = frame.mask.read_bytes()
    _check_mask(mask, size)
    return picture, mask


def decode_mask(content: bytes) -> np.ndarray:
    """The classes of a mask, (H, W) uint8: 0 untouched, 1 manipulated.

    Raises:
        InputError: it is no picture, or has values that are no class.
    """
    image = _open(content)
    if image.mode not in ("P", "L", "1"):
        raise InputError(f"its mode is {image.mode}; expected palette indices or grey values")
    values = np.asarray(image)
    found = set(np.unique(values).tolist())
    if not (found <= {0, 1} or found <= {0, 255}):
        shown = ", ".join(map(str, sorted(found)[:6]))
        raise InputError(f"its values are {shown}; expected the classes 0 and 1, or 0 and 255")
    return (values != 0).astype(np.uint8)


def _check_picture(content: bytes) -> tuple[int, int]:
    image = _open(content)
    if image.mode != "RGB":
        raise InputError(f"its mode is {image.mode}; expected RGB")
    return image.size


def _check_mask(content: bytes, size: tuple[int, int]) -> None:
    try:
        height, width = decode_mask(content).shape
    except InputError as error:
        raise InputError(f"its mask: {error}") from error
    if (width, height) != size:
        raise InputError(f"its mask is {width}x{height}, the picture {size[0]}x{size[1]}")


def _open(content: bytes) -> Image.Image:
    """Decodes a picture fully."""
    if not content:
        raise InputError("it is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"it is {image.width}x{image.height}, over {MAX_PIXELS:,} pixels")
            image.load()
            return image
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("it is no picture of a known format") from error
    except Exception as error:  # decoders raise whatever the damage leads to
        raise InputError(f"it cannot be decoded: {str(error) or type(error).__name__}") from error
