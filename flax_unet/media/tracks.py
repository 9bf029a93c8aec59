"""Follows people through a video: the same face in another frame is the same person."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image

from flax_unet.media.faces import Box, Face, file_name, installed_model, opencv

_OVERLAP = 0.4  # a face that shares this much of the smaller box with a person's last one
_ALIKE = 0.7  # is the same person if small copies of both correlate by this
_SMALL = 16  # pixels a side of these copies
# Otherwise SFace compares the faces. 0.363 is the cosine from which its authors call two portraits
# the same person (OpenCV's zoo, face_recognition_sface).
_SAME_PERSON = 0.363
_MODEL, _INPUT = "face_recognition_sface_2021dec_int8bq.onnx", "data"
_SIDE = 112  # pixels of SFace's input; in it, eyes, nose and corners of the mouth lie here:
_TEMPLATE = np.array(
    (
        *((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366)),
        *((41.5493, 92.3655), (70.7299, 92.2041)),
    )
)
_MOST_LOOKS = 8  # of a person are compared


@dataclasses.dataclass(eq=False)
class _Person:
    number: int
    box: Box  # where it was seen last
    small: np.ndarray  # how it looked there
    looks: list[np.ndarray] = dataclasses.field(default_factory=list)  # unit vectors of SFace


class Tracker:
    """Gives each person of a video a number, from 1, in the order of appearance.

    A face that lies where a person was seen last, and looks alike, is that person. Others
    are compared by SFace with the people who are not in this frame: so people keep their number
    across cuts, and where few frames are judged.
    """

    def __init__(self) -> None:
        self._people: list[_Person] = []

    def __call__(self, image: Image.Image, faces: Sequence[Face]) -> list[int]:
        """The people in the next frame, one number a face.

        Raises:
            ModuleNotFoundError: the extra `media` is not installed, and a face has landmarks.
        """
        smalls = [_small(image, face.box) for face in faces]
        people: dict[int, _Person] = {}
        overlaps = [
            (person.box.overlap(face.box), i, person)
            for i, face in enumerate(faces)
            for person in self._people
        ]
        for overlap, i, person in sorted(overlaps, key=lambda one: one[0], reverse=True):
            is_free = i not in people and person not in people.values()
            # A crop that is judged whole has no landmarks, and cannot be recognised.
            alike = not faces[i].landmarks or float(person.small @ smalls[i]) >= _ALIKE
            if is_free and overlap >= _OVERLAP and alike:
                people[i] = person
        for i, face in enumerate(faces):
            if i not in people:
                absent = [person for person in self._people if person not in people.values()]
                people[i] = self._recognised(image, face, absent)
            people[i].box, people[i].small = face.box, smalls[i]
        return [people[i].number for i in range(len(faces))]

    def _recognised(self, image: Image.Image, face: Face, absent: Sequence[_Person]) -> _Person:
        """The one of the absent people whose face it is, or a new person."""
        looks = []
        person = None
        if face.landmarks:
            looks = [look := _look(image, face)]
            alike = {one: max(look @ other for other in one.looks) for one in absent if one.looks}
            person = max(alike, key=alike.__getitem__, default=None)
            if person is not None and alike[person] < _SAME_PERSON:
                person = None
        if person is None:
            person = _Person(len(self._people) + 1, face.box, np.empty(0))
            self._people.append(person)
        person.looks = (person.looks + looks)[-_MOST_LOOKS:]
        return person


def _look(image: Image.Image, face: Face) -> np.ndarray:
    """How a face looks, by a recognizer that no other thread uses, kept for the next video."""
    try:
        recognizer = _idle.pop()
    except IndexError:
        recognizer = _Recognizer()
    try:
        return recognizer(image, face)
    finally:
        _idle.append(recognizer)


class _Recognizer:
    """SFace, through OpenCV. One thread at a time may use it."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._network = self._cv2.dnn.readNetFromONNX(file_name(installed_model(_MODEL)))

    def __call__(self, image: Image.Image, face: Face) -> np.ndarray:
        """How a face looks: a unit vector of 128 numbers, whose products are cosines."""
        # The similarity from the template to the picture, (x, y) -> (a x - b y + c, b x + a y + d).
        (x, y), (u, v) = _TEMPLATE.T, np.array(face.landmarks).T
        zero, one = np.zeros_like(x), np.ones_like(x)
        rows = np.block([[np.stack([x, -y, one, zero], 1)], [np.stack([y, x, zero, one], 1)]])
        a, b, c, d = np.linalg.lstsq(rows, np.concatenate([u, v]))[0].tolist()
        # The part of the picture that it reads.
        x, y = np.array([(0, 0), (0, _SIDE), (_SIDE, 0), (_SIDE, _SIDE)]).T
        x, y = a * x - b * y + c, b * x + a * y + d
        ends = np.floor([x.min(), y.min()]) - 1, np.ceil([x.max(), y.max()]) + 1
        part = Box(*np.concatenate(ends).astype(int).tolist()).within(image.size)
        if not part.area:
            part = Box(0, 0, *image.size)
        aligned = image.crop(part).transform(
            (_SIDE, _SIDE),
            Image.Transform.AFFINE,
            (a, -b, c - part.left, b, a, d - part.top),
            Image.Resampling.BILINEAR,
        )
        pixels = np.asarray(aligned.convert("RGB"), np.float32).transpose(2, 0, 1)[None]
        self._network.setInput(pixels, _INPUT)
        look = self._network.forward()[0]
        return look / max(np.linalg.norm(look), 1e-12)


_idle: list[_Recognizer] = []  # a list's methods are atomic


def _small(image: Image.Image, box: Box) -> np.ndarray:
    """A small grey copy of a face, without its mean and contrast."""
    part = image if box == (0, 0, *image.size) else image.crop(box)
    reduced = part.resize((_SMALL, _SMALL), Image.Resampling.BOX, reducing_gap=2)
    values = np.asarray(reduced.convert("L"), np.float64).ravel()
    values -= values.mean()
    return values / max(np.linalg.norm(values), 1e-12)
