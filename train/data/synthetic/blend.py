"""Forges a face anew at each call: it is blended, altered, into its own picture.

After Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR 2022). A face swap
leaves traces of blending. A network that sees a face and a forgery of it, both cropped, compressed
and disturbed in the same way, can tell them apart by these traces alone.
"""

import functools
import io
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from train.data.synthetic.alter import altered, disturbed, opencv_in_one_thread
from train.data.synthetic.forge import MIN_CHANGE, MIN_WEIGHT

SIZE = 256  # pixels along each side of a picture while it is forged
_BLOCK = 16  # pixels; a frame's side is a multiple, for compression in blocks
_SIDES = 96, 352  # pixels along a frame's longer side: as crops are, of faces near and far
CONTEXT = 2.2  # of a face's longer side: a stored portrait's side, where the photo reaches so far
MOST_PIXELS = 384  # along each side of a stored portrait

_TEXT = "face"  # the PNG's text that holds the place of the face
_ZOOM = 0.8, 1.9  # of a face's width and height: those of a frame
_ASIDE = 0.15  # of the frame's sides, by which the face lies off its middle, at most
_LEANING = 15  # degrees: the standard deviation, for half of the frames
_BENDING = 0.02  # of the frame's side, the most of the standard deviation, for half of the frames
_RATIOS = (0.6, 0.8, 1.0, 1.0, 1.0, 1.0)  # how opaque the blended face is
_ALTERED_TARGETS = 1 / 8  # share of pairs whose real picture is altered, not the face blended in
_AREAS = 0.01, 0.7  # shares of the frame that a label covers; others are forged anew
_ATTEMPTS = 5
_DIRECTIONS = np.linspace(0, 2 * math.pi, 64, endpoint=False)
_FAR = 12  # levels by which a picture that cannot be forged is made darker or brighter


class Portrait(NamedTuple):
    """A picture with a face somewhere in it."""

    pixels: np.ndarray  # (H, W, 3) uint8
    box: np.ndarray  # (4,) float64: left, top, right and bottom of the face
    landmarks: np.ndarray  # (5, 2) float64: eyes, nose, corners of the mouth

    def to_png(self) -> bytes:
        """The portrait as a PNG with the place of the face as text."""
        info, file = PngImagePlugin.PngInfo(), io.BytesIO()
        place = {"box": self.box.round(2).tolist(), "landmarks": self.landmarks.round(2).tolist()}
        info.add_text(_TEXT, json.dumps(place))
        Image.fromarray(self.pixels).save(file, "PNG", compress_level=1, pnginfo=info)
        return file.getvalue()

    @classmethod
    def from_png(cls, content: bytes) -> "Portrait":
        """Reads what `to_png` wrote."""
        image: Any = Image.open(io.BytesIO(content), formats=("PNG",))
        place = json.loads(image.text[_TEXT])
        return cls(np.asarray(image), np.array(place["box"]), np.array(place["landmarks"]))


class _View(NamedTuple):
    """A portrait as a pair of frames shows it."""

    source: np.ndarray  # (SIZE, SIZE, 3) uint8: to blend in
    target: np.ndarray  # (SIZE, SIZE, 3) uint8: the real picture, into which it is blended
    is_altered: bool  # whether the target is altered already, instead of the source
    box: np.ndarray
    landmarks: np.ndarray
    ratio: float  # the crop's height by its width; here it is stretched to a square


Reading = Callable[[bytes], Portrait]  # what reads a picture's bytes


def frame(
    content: bytes,
    key: tuple[int, ...],
    *,
    is_forged: bool,
    reading: Reading = Portrait.from_png,
    donor: bytes | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One frame of a pair: a real picture, or the forgery of it.

    Args:
        content: a picture.
        key: what the pair is drawn by: the same numbers make the same pair.
        is_forged: which of both.
        reading: how the picture and the place of its face are read.
        donor: another picture, whose face is blended in; None: its own.

    Returns:
        The frame (H, W, 3) uint8, and its label (H, W) uint8: 1 where it is manipulated. The longer
        side is drawn from 96 to 352 pixels.
    """
    view = _view(content, key, reading)
    if is_forged:
        rng = np.random.default_rng((*key, 1))
        pixels, label = _blended(view, rng, None if donor is None else reading(donor))
    else:
        pixels, label = view.target, np.zeros((SIZE, SIZE), np.uint8)
    rng = np.random.default_rng((*key, 2))
    pixels, label = _resized(pixels, label, view.ratio, rng)
    return disturbed(pixels, rng), label


def _resized(
    pixels: np.ndarray, label: np.ndarray, ratio: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its label at the size of a crop, whose height is `ratio` times its width.

    A network that only ever reads crops of one size takes the grain of another for a trace.
    """
    cv2 = opencv_in_one_thread()
    longer = rng.uniform(*_SIDES)
    width, height = (
        _BLOCK * max(round(longer * share / _BLOCK), 2)
        for share in (min(1 / ratio, 1), min(ratio, 1))
    )
    kind = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    return (
        cv2.resize(pixels, (width, height), interpolation=kind),
        cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST),
    )


@functools.lru_cache(maxsize=8)  # a face and its forgery follow each other
def _view(content: bytes, key: tuple[int, ...], reading: Reading = Portrait.from_png) -> _View:
    """The crop of a portrait by a random zoom and margin.

    It may reach beyond the picture, which goes on there as in a mirror. In a set of portraits each
    face lies in the same place: crops that end with the picture would all show it there, and a
    network would take any other place for a trace.
    """
    cv2, rng = opencv_in_one_thread(), np.random.default_rng((*key, 0))
    pixels, box, landmarks = reading(content)
    face = box[2:] - box[:2]
    # Crops are as the face finder's boxes, or square; either becomes the network's square.
    face = face.max() + (face - face.max()) * rng.random()
    size = np.maximum(math.exp(rng.uniform(*np.log(_ZOOM))) * face, 16)
    middle = (box[:2] + box[2:]) / 2 + rng.uniform(-_ASIDE, _ASIDE, 2) * size
    angle = np.radians(rng.normal(0, _LEANING)) if rng.random() < 0.5 else 0.0
    sides = np.array([-1, 1]) if rng.random() < 0.5 else np.ones(2)  # mirrored, or not
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.diag(SIZE / size * (sides[0], 1)) @ turn
    offset = SIZE / 2 - matrix @ middle
    # The centres of pixels lie half a pixel from their edges.
    shift = offset + matrix @ (0.5, 0.5) - 0.5
    crop = cv2.warpAffine(
        pixels,
        np.column_stack([matrix, shift]),
        (SIZE, SIZE),
        flags=(cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(2)],
        borderMode=cv2.BORDER_REFLECT_101,
    )
    landmarks = landmarks @ matrix.T + offset
    if rng.random() < 0.5:
        crop, landmarks = _bent(crop, landmarks, rng)
    if sides[0] < 0:
        landmarks = landmarks[[1, 0, 2, 4, 3]]  # the picture's left first
    # The box around the turned ellipse in the face's box.
    half = np.sqrt((turn**2) @ (box[2:] - box[:2]) ** 2) / 2 * SIZE / size
    centre = matrix @ ((box[:2] + box[2:]) / 2) + offset
    box = np.concatenate([centre - half, centre + half])
    is_altered = rng.random() < _ALTERED_TARGETS
    target = altered(crop, rng) if is_altered else crop
    return _View(crop, target, is_altered, box, landmarks, size[1] / size[0])


def _bent(
    image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A picture and points in it, moved smoothly at random: a face of other proportions."""
    cv2, deviation = opencv_in_one_thread(), np.float32(rng.uniform(0, _BENDING) * SIZE)
    grid = deviation * rng.standard_normal((5, 5, 2), np.float32)
    field = cv2.resize(grid, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    column, row = np.clip(landmarks.T.astype(int), 0, SIZE - 1)
    bent = cv2.remap(
        image, _places() + field, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return bent, landmarks - field[row, column]


@functools.cache
def _places() -> np.ndarray:
    """The place (x, y) of each pixel: (SIZE, SIZE, 2) float32."""
    return np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).astype(np.float32)


def _blended(
    view: _View, rng: np.random.Generator, donor: Portrait | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The forgery of a view, and its label.

    A forgery that hardly changes it, or leaves too little of it to be compared with, is made anew.
    If no attempt serves, as in a picture of one colour, its middle becomes darker or brighter.
    """
    cv2, attempt = opencv_in_one_thread(), 0
    while True:
        outline = _outline(view, rng)
        source = view.source if donor is None else _swapped(donor, view, outline)
        source = source if view.is_altered else altered(source, rng)
        source, weight = _moved(source, rng), _feathered(outline, rng)
        weight *= np.float32(_RATIOS[rng.integers(len(_RATIOS))])
        if attempt == _ATTEMPTS:
            source, weight = _unlike(view.target), _feathered(_disc(), rng)
        forgery = cv2.blendLinear(source, view.target, weight, 1 - weight)
        label = _label(view.target, forgery, weight)
        if _AREAS[0] <= label.mean() < _AREAS[1] or attempt == _ATTEMPTS:
            return forgery, label
        attempt += 1


def _swapped(donor: Portrait, view: _View, outline: np.ndarray) -> np.ndarray:
    """The donor's face where the view's is, with the mean and spread of its colours in there."""
    cv2 = opencv_in_one_thread()
    ones = np.ones((len(donor.landmarks), 1))
    matrix = np.linalg.lstsq(np.hstack([donor.landmarks, ones]), view.landmarks, rcond=None)[0]
    face = cv2.warpAffine(
        donor.pixels, matrix.T, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT
    ).astype(np.float32)
    (mean, spread), (wanted, wanted_spread) = (
        (part.ravel() for part in cv2.meanStdDev(image, mask=outline))
        for image in (face, view.source)
    )
    factors = np.clip((wanted_spread + 1) / (spread + 1), 0.75, 1.33)
    return (face * factors + (wanted - mean * factors)).round().clip(0, 255).astype(np.uint8)


def _unlike(image: np.ndarray) -> np.ndarray:
    """A darker or brighter picture."""
    levels = np.full(3, -_FAR if image.mean() > 127 else _FAR, float)
    return opencv_in_one_thread().add(image, levels)


def _disc() -> np.ndarray:
    """A region around the middle, (SIZE, SIZE) uint8 in {0, 255}."""
    region = np.zeros((SIZE, SIZE), np.uint8)
    return opencv_in_one_thread().circle(region, (SIZE // 2, SIZE // 2), SIZE // 4, 255, -1)


def _outline(view: _View, rng: np.random.Generator) -> np.ndarray:
    """A region of the face, (SIZE, SIZE) uint8 in {0, 255}: all of it, or some features."""
    eyes, mouth = view.landmarks[:2].mean(0), view.landmarks[3:].mean(0)
    height = max(float(np.hypot(*(mouth - eyes))), 1.0)
    down = (mouth - eyes) / height
    across = np.array([down[1], -down[0]])
    width, length = _extent(view.box, down)
    kind = rng.random()
    if kind < 0.5:  # the whole face
        middle = (view.box[:2] + view.box[2:]) / 2 + down * (length * rng.uniform(-0.02, 0.06))
        radii = 0.5 * width * rng.uniform(0.75, 1), 0.5 * length * rng.uniform(0.75, 1)
        chin = rng.uniform(0, 0.3)
    elif kind < 0.8:  # from the brows to the mouth
        middle = (eyes + mouth) / 2 + down * (height * rng.uniform(-0.1, 0.15))
        radii = width * rng.uniform(0.28, 0.42), height * rng.uniform(0.85, 1.2)
        chin = rng.uniform(0, 0.4)
    elif kind < 0.9:
        middle, chin = mouth, 0.0
        radii = width * rng.uniform(0.22, 0.34), height * rng.uniform(0.4, 0.6)
    else:
        middle, chin = eyes, 0.0
        radii = width * rng.uniform(0.33, 0.45), height * rng.uniform(0.35, 0.55)
    radius = np.ones_like(_DIRECTIONS)
    for waves in (2, 3, 4, 5):
        size, phase = rng.uniform(0, 0.2 / waves), rng.uniform(0, 2 * math.pi)
        radius += size * np.cos(waves * _DIRECTIONS + phase)
    y = radius * np.sin(_DIRECTIONS)
    x = radius * np.cos(_DIRECTIONS)
    if rng.random() < 0.4:  # an ellipse becomes nearly a rectangle, as the hull of landmarks is
        power = 2 / rng.uniform(2, 6)
        x, y = (np.sign(along) * np.abs(along) ** power for along in (x, y))
    x *= 1 - chin * np.clip(y, 0, 1)
    points = middle + np.outer(x * radii[0], across) + np.outer(y * radii[1], down)
    region = np.zeros((SIZE, SIZE), np.uint8)
    return opencv_in_one_thread().fillPoly(region, [points.round().astype(np.int32)], 255)


def _extent(box: np.ndarray, down: np.ndarray) -> tuple[float, float]:
    """The width and length of a face along its own axes, from the box around it."""
    wide, high = (box[2:] - box[:2]) ** 2
    sine, cosine = down[0] ** 2, down[1] ** 2
    if cosine - sine < 0.3:  # it leans by more than 36 degrees, and its box is nearly a square
        side = math.sqrt(wide * high) ** 0.5
        return 0.8 * side, side
    across = (wide * cosine - high * sine) / (cosine - sine)
    along = (high * cosine - wide * sine) / (cosine - sine)
    length = math.sqrt(max(along, 0.5 * high))
    return min(max(math.sqrt(max(across, 0.0)), 0.5 * length), 1.1 * length), length


def _feathered(outline: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blending weights (SIZE, SIZE) float32 in [0, 1]: the outline with a crisp or wide edge."""
    if rng.random() < 0.3:  # a wide edge
        spread = SIZE * rng.uniform(0.02, 0.07)
    else:
        spread = SIZE * math.exp(rng.uniform(math.log(0.002), math.log(0.06)))
    soft = opencv_in_one_thread().GaussianBlur(outline, (0, 0), spread)
    inward = rng.random() < 0.5  # otherwise half of the edge is outside
    levels = np.arange(256, dtype=np.float32) / 255
    return (np.clip(2 * levels - 1, 0, 1) if inward else levels)[soft]


def _moved(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifted, scaled and turned a little."""
    cv2 = opencv_in_one_thread()
    scale = math.exp(rng.uniform(-0.05, 0.05))
    matrix = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), rng.uniform(-3, 3), scale)
    matrix[:, 2] += rng.uniform(-1, 1, 2) * (0.03 * SIZE, 0.015 * SIZE)
    return cv2.warpAffine(image, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT)


def _label(target: np.ndarray, forgery: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Where a forgery is manipulated, by the rule of `forge`: (SIZE, SIZE) uint8 in {0, 1}."""
    cv2 = opencv_in_one_thread()
    changed = functools.reduce(cv2.max, cv2.split(cv2.absdiff(target, forgery)))
    nearby = cv2.boxFilter(changed, cv2.CV_32F, (SIZE // 16 + 1, SIZE // 16 + 1))
    counts = ((weight >= MIN_WEIGHT) & (nearby >= MIN_CHANGE)).astype(np.uint8)
    outlines = cv2.findContours(counts, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    label = np.zeros((SIZE, SIZE), np.uint8)
    if outlines:
        largest = max(outlines, key=cv2.contourArea)
        cv2.drawContours(label, [largest], -1, 1, cv2.FILLED)
    return label
