"""Finds the faces in a folder of photos, and cuts a portrait out around each of them."""

import functools
import io
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from flax_unet.media import faces, images
from flax_unet.media.discover import LeftOut, items
from flax_unet.media.faces import MARGIN, Box, Face, FaceFinder
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import utf8
from train.data.layouts import image_files
from train.data.layouts.faults import BadFileError, Fault, fault_of
from train.data.synthetic.blend import CONTEXT, MOST_PIXELS, Portrait

_ASKEW = 0.1  # of a portrait's side, by which the middle of the face may lie off its middle
_NO_FACE = "no face"
# Where YuNet finds eyes, nose and the corners of the mouth in a box of 1 x 1.
_FEATURES = np.array([(0.28, 0.38), (0.72, 0.38), (0.5, 0.58), (0.3, 0.74), (0.7, 0.74)])
_finding = threading.Lock()


class Look(NamedTuple):
    """The faces of a picture."""

    degrees: int  # by which the picture is turned counterclockwise: 0, 90, 180 or 270
    faces: list[Face]  # to use, the largest first
    left_out: Counter[str]  # other faces, by reason


class Photos:
    """The pictures in a folder and the folders below it, sorted by name.

    Raises:
        InputError: there are none, a folder cannot be read, or two pictures differ by their suffix
            alone.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of pictures")
        self._folder = folder
        self.others = LeftOut()
        found: dict[str, image_files.File] = {}
        for item in items([folder], self.others):
            if item.kind == "video":
                self.others.add(item.path, "a video: only pictures are read")
            elif item.kind == "folder":
                raise InputError(item.problem or item.name)
            else:
                found[item.path.relative_to(folder).as_posix()] = image_files.look(item.path)
        if not found:
            raise InputError(f"{folder} holds no picture")
        self._files = sorted(found.items())
        seen: dict[str, str] = {}
        for file in found:
            other = seen.setdefault(_stem(file), file)
            if other != file:
                first, second = sorted((other, file))
                raise InputError(
                    f"{folder / first} and {folder / second} have one name; rename one of them"
                )

    def __len__(self) -> int:
        return len(self._files)

    def file(self, number: int) -> str:
        """A picture's path in the folder."""
        return utf8(self._files[number][0])

    def describe(self) -> list[str]:
        """Name, size and modification time of every picture."""
        return [repr(file) for file in self._files]

    def read(self, number: int) -> Image.Image:
        """A picture, RGB, upright by its EXIF data, of any size.

        Raises:
            BadFileError: it cannot be used.
            OSError: it cannot be read; another attempt may succeed.
        """
        file, found = self._files[number]
        if self.file(number) != file:
            raise BadFileError("its name is not UTF-8")
        if found.fault:
            raise BadFileError(*found.fault)
        content = (self._folder / file).read_bytes()
        if not content:
            raise BadFileError("it is empty")
        try:
            return images.read_rgb(io.BytesIO(content), suffix=Path(file).suffix)
        except images.DecodeError as error:
            raise BadFileError(f"it {error.kind}", f"it {error}") from error

    def look(self, number: int) -> Look:
        """Finds the faces of a picture; raises as `read`."""
        found, _, degrees = faces.upright(_finder(), self.read(number), "crop")
        left_out = Counter(small=len(found.too_small)) if found.too_small else Counter[str]()
        left_out.update(face.flaw for face in found.faces if face.flaw is not None)
        return Look(degrees, [face for face in found.faces if face.flaw is None], left_out)


class PhotoPortraits:
    """A portrait of each face in some photos: a sequence of (name, RGB picture, a square)."""

    def __init__(self, photos: Photos, looks: dict[int, Look]) -> None:
        self._photos, self._looks, self.others = photos, looks, photos.others
        self._places = [
            (number, place) for number, look in looks.items() for place in range(len(look.faces))
        ]
        self._read: tuple[int, Image.Image] | None = None  # the last photo: it may have many faces

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        """The name and the portrait; raises as `Photos.read`."""
        name, photo, face = self._open(index)
        return name, photo.crop(square(face, photo.size))

    def portrait(self, index: int) -> tuple[str, Portrait]:
        """The name and the face with more of the photo around it; raises as `Photos.read`."""
        name, photo, face = self._open(index)
        place = square(face, photo.size, (CONTEXT - 1) / 2, askew=0.5)
        side = min(place.width, MOST_PIXELS)
        cut = photo.resize((side, side), Image.Resampling.LANCZOS, box=place)
        scale, corner = side / place.width, np.array(place[:2])
        box = (np.array(face.inner).reshape(2, 2) - corner).ravel() * scale
        landmarks = (np.array(face.landmarks) - corner) * scale
        return name, Portrait(np.asarray(cut), box, landmarks)

    def _open(self, index: int) -> tuple[str, Image.Image, Face]:
        """The name of a portrait, its photo and the face in it."""
        number, place = self._places[index]
        degrees, found, _ = self._looks[number]
        if self._read is None or self._read[0] != number:
            self._read = number, faces.rotated(self._photos.read(number), degrees)
        return self.name(index), self._read[1], found[place]

    def name(self, index: int) -> str:
        """The portrait's name: its photo's, with a number if the photo has several faces."""
        number, place = self._places[index]
        name = _stem(self._photos.file(number))
        return f"{name}#{place + 1}" if len(self._looks[number].faces) > 1 else name

    def file(self, index: int) -> str:
        """The path of the portrait's photo in its folder."""
        return self._photos.file(self._places[index][0])

    def first(self, index: int) -> int:
        """The first portrait of the same photo."""
        return index - self._places[index][1]

    def left_out(self) -> dict[str, str]:
        """What could not be used of each photo, by its path."""
        return {
            self._photos.file(number): _by_reason(look.left_out) or _NO_FACE
            for number, look in self._looks.items()
            if look.left_out or not look.faces
        }

    def summary(self) -> str:
        """What was found, and what was left out."""
        parts = [f"{counted(len(self), 'portrait')} in {counted(len(self._looks), 'picture')}"]
        empty = [file for file, reason in self.left_out().items() if reason == _NO_FACE]
        if empty:
            parts.append(f"{counted(len(empty), 'picture')} without a face, such as {empty[0]}")
        others = sum((look.left_out for look in self._looks.values()), Counter[str]())
        if others:
            parts.append(f"{counted(others.total(), 'face')} left out: {_by_reason(others)}")
        if self.others.total():
            parts.append(f"other files left out: {self.others}")
        return "; ".join(parts)


def find_faces(
    photos: Photos, batch: Sequence[int]
) -> tuple[dict[int, Look], dict[str, Fault], dict[str, Fault]]:
    """Looks at some photos.

    Returns:
        What each shows, by its number; the files that cannot be used; and those that another
        attempt may read.
    """
    looks: dict[int, Look] = {}
    faults: dict[str, Fault] = {}
    failures: dict[str, Fault] = {}
    for number in batch:
        try:
            looks[number] = photos.look(number)
        except InputError as error:
            faults[photos.file(number)] = fault_of(error)
        except (OSError, MemoryError) as error:
            failures[photos.file(number)] = fault_of(error)
    return looks, faults, failures


def portrait_in(content: bytes) -> Portrait:
    """The largest face in the bytes of a crop; if none is found, it is taken to fill the middle."""
    image = images.to_rgb(image_files.decode(content), [])
    with _finding:
        found = _finder()(image)
    if found:
        box, landmarks = np.array(found[0].box, float), np.array(found[0].landmarks)
    else:
        size = np.array(image.size)
        corner, side = size * MARGIN / (1 + 2 * MARGIN), size / (1 + 2 * MARGIN)
        box = np.concatenate([corner, corner + side])
        landmarks = corner + _FEATURES * side
    return Portrait(np.asarray(image), box, landmarks)


def square(
    face: Face, size: tuple[int, int], margin: float = MARGIN, *, askew: float = _ASKEW
) -> Box:
    """The square to cut a face out by, inside a picture of `size` (width, height).

    It is as large as the face's longer side with a margin on both sides, or as the picture allows
    with the middle of the face off its own by at most `askew` of its side. If the face fills the
    picture, it is the picture, or the largest part of it.
    """
    inner = (face.inner or face.box).within(size)
    middle = ((inner.left + inner.right) / 2, (inner.top + inner.bottom) / 2)
    room = min(min(at, end - at) for at, end in zip(middle, size, strict=True))
    side = (1 + 2 * margin) * max(inner.width, inner.height)
    if askew < 0.5:
        side = min(side, room / (0.5 - askew))
    side = min(round(side), *size)
    left, top = (
        min(max(round(at - side / 2), 0), end - side) for at, end in zip(middle, size, strict=True)
    )
    return Box(left, top, left + side, top + side)


@functools.cache
def _finder() -> FaceFinder:
    return FaceFinder()


def _stem(file: str) -> str:
    return Path(file).with_suffix("").as_posix()


def _by_reason(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items()))
