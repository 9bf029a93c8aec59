"""Cuts the faces out of a video: those found in it, or those found in its original."""

import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flax_unet.media.faces import Box, FaceFinder, find
from flax_unet.media.images import read_image
from flax_unet.media.tracks import Tracker
from flax_unet.media.videos import Sampling, middles
from flax_unet.utils.errors import InputError
from train.prepare import frames
from train.prepare.frames import Moment
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import Source

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 1},  # others take many times as long
    "jpeg": {"quality": 95, "subsampling": 0},
}
_SAME_SHAPE = 0.01  # by which the proportions of a fake may differ from its original's
# The least correlation of a fake's crops with its original's. Face swaps have about 0.9, those that
# lie a tenth of the crop beside their originals 0.3, other scenes 0.
_LIKE = 0.25
_BOX = Image.Resampling.BOX
_COMPARED, _SMALL = 8, (32, 32)  # how many crops are correlated, in so many pixels: no details

Size = tuple[int, int]


class UnlikeError(Exception):
    """A fake does not show what its original shows at the same time; the message is a clause."""


@dataclasses.dataclass
class Frame:
    """A frame and its crops."""

    moment: Moment
    faces: dict[int, Box]  # by person: a number from 1, or 0 where the frame is a crop

    def crop_name(self, person: int, suffix: str) -> str:
        """The file of a crop, or of its mask."""
        return f"{self.moment.number}_{person}.{suffix}"


@dataclasses.dataclass
class Crops:
    """The crops of a video, in a folder."""

    folder: Path
    format: str  # one of FORMATS
    frames: list[Frame] = dataclasses.field(default_factory=list)
    # When the frames are shown; `frames` of a fake have the moments of its original.
    shown: list[Moment] = dataclasses.field(default_factory=list)
    size: Size = (0, 0)  # (width, height) of the video
    scale: Size = (0, 0)  # of the frames that boxes refer to
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)  # faces, by reason
    notes: list[str] = dataclasses.field(default_factory=list)
    _seen: set[bytes] = dataclasses.field(default_factory=set)

    def add(
        self,
        moment: Moment,
        image: Image.Image,
        faces: Iterable[tuple[int, Box]],
        originals: Path | None = None,
    ) -> None:
        """Saves the faces of a frame, but none twice and none that is the same in `originals`."""
        frame = Frame(moment, {})
        for person, box in faces:
            file = io.BytesIO()
            image.crop(box).save(file, self.format, **FORMATS[self.format])
            content, name = file.getvalue(), frame.crop_name(person, self.format)
            digest = hashlib.sha256(content).digest()
            if digest in self._seen:
                self.left_out["repeated"] += 1
            elif originals is not None and _has(originals / name, content):
                self.left_out["unchanged"] += 1
            else:
                self._seen.add(digest)
                (self.folder / name).write_bytes(content)
                frame.faces[person] = box
        self.frames.append(frame)

    def check(self, source: Source) -> None:
        """Raises an InputError if there are no crops."""
        if not any(frame.faces for frame in self.frames):
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.left_out.items())
            raise InputError(f"{source} shows no face to use" + f" ({reasons})" * bool(reasons))


def _has(path: Path, content: bytes) -> bool:
    """Whether a file exists and has this content."""
    return path.is_file() and path.read_bytes() == content


def search(source: Source, crops: Crops, sampling: Sampling, finder: FaceFinder) -> None:
    """Finds the faces of a video and cuts them out.

    Raises:
        InputError: it cannot be read, or has no face to use.
        OSError: crops cannot be written.
    """
    is_picture, tracker = frames.is_picture(source), Tracker()
    for number, seconds, image in frames.chosen(source, sampling, crops.notes):
        crops.shown.append(Moment(number, seconds))
        crops.size = crops.scale = image.size
        found = find(finder, image, "crop", of_video=not is_picture)
        if found.too_small:
            crops.left_out["small"] += len(found.too_small)
        numbers = range(1, len(found.faces) + 1)
        people = numbers if is_picture else tracker(image, found.faces)
        faces = []
        for face, person in zip(found.faces, people, strict=True):
            if face.flaw is not None:
                crops.left_out[face.flaw] += 1
            else:
                faces.append((person, face.box))
        crops.add(Moment(number, seconds), image, faces)
    crops.check(source)


def take(
    source: Source,
    crops: Crops,
    sampling: Sampling,
    original: Sequence[Frame] = (),
    originals: Path | None = None,
) -> None:
    """Takes the frames of a video whole, which are crops of one face.

    `original` are those of the original, and `originals` is their folder, if they are known. Then
    frames of the same numbers are taken, unless `sampling` takes all.

    Raises:
        UnlikeError: all are cut, but they do not look like those of the original.
        InputError: it cannot be read, or has no frame to use.
        OSError: crops cannot be written.
    """
    wanted = () if sampling == Sampling() else original
    numbers = {frame.moment.number for frame in wanted}
    for number, seconds, image in frames.like(source, numbers, sampling, crops.notes):
        moment = Moment(number, seconds)
        crops.shown.append(moment)
        crops.size = crops.scale = image.size
        crops.add(moment, image, [(0, Box(0, 0, *image.size))], originals)
    crops.check(source)
    if originals is not None:
        _check_likeness(crops, originals)


def follow(
    source: Source,
    of: Source,
    crops: Crops,
    sampling: Sampling,
    original: Sequence[Frame],
    size: Size,
    originals: Path,
) -> None:
    """Cuts out of a fake the boxes of the crops of its original, `of`, in the same frames.

    `original` and `size` are of the original's crops, and `originals` is their folder.

    Raises:
        UnlikeError: it does not show the original's scene.
        InputError: it cannot be read, or has no face to use.
        OSError: crops cannot be written.
    """
    by_moment = {frame.moment: frame.faces for frame in original}
    crops.scale = size
    for moment, (number, seconds, image) in frames.at_moments(
        source, of, [*by_moment], sampling, crops.notes
    ):
        crops.shown.append(Moment(number, seconds))
        crops.size = image.size
        if image.size != size:
            (width, height), (wide, high) = image.size, size
            if abs(width * high / (height * wide) - 1) > _SAME_SHAPE:
                raise UnlikeError(f"it is {width}x{height}, its original {wide}x{high}")
            image = image.resize(size, Image.Resampling.BICUBIC)
        crops.add(moment, image, by_moment[moment].items(), originals)
    if not crops.shown:
        raise UnlikeError("it has no frame at the times of its original's")
    if crops.size != size:
        crops.notes.append(f"it was resized to its original's {size[0]}x{size[1]}")
    if missing := len(by_moment) - len(crops.shown):
        lacks = "lacks" if isinstance(source, Pictures) else "ends before"
        crops.notes.append(f"it {lacks} {missing} of its original's frames")
    crops.check(source)
    _check_likeness(crops, originals)


def _check_likeness(crops: Crops, originals: Path) -> None:
    """Raises an UnlikeError if crops do not look like those in `originals`."""
    if (like := _likeness(crops, originals)) < _LIKE:
        raise UnlikeError(f"it does not look like its original (correlation {like:.2f})")


def _likeness(crops: Crops, originals: Path) -> float:
    """The mean correlation of crops with those in `originals`, small and grey; in [-1, 1].

    Some of them are compared, evenly spaced in the order of their names.
    """
    found = []
    names = sorted(
        path.name for path in crops.folder.iterdir() if (originals / path.name).is_file()
    )
    for name in (names[place] for place in middles(_COMPARED, len(names))):
        pair = []
        for folder in (crops.folder, originals):
            small = read_image(folder / name).convert("L").resize(_SMALL, _BOX)
            pixels = np.asarray(small, np.float64)
            pair.append((pixels - pixels.mean()) / (pixels.std() + 1))
        found.append(np.mean(pair[0] * pair[1]))
    return float(np.mean(found)) if found else 1.0
