"""Generates portraits without a download or a real person, the same on every machine."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from train.data.synthetic import features, head
from train.data.synthetic.blend import Portrait
from train.data.synthetic.canvas import Canvas, colour
from train.data.synthetic.face import EYES, MOUTH, NOSE, PUPILS, Face
from train.data.synthetic.raster import exactly, inside, ramp, smooth_noise

SIZE = 256  # pixels along each side


@dataclasses.dataclass(frozen=True)
class ProceduralPortraits:
    """A sequence of (name, RGB picture of SIZE x SIZE pixels), each from its index and the seed."""

    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.file(index), generate(np.random.default_rng((self.seed, index)))[0]

    def portrait(self, index: int) -> tuple[str, Portrait]:
        """The name, and the picture with the place of the face."""
        image, box, landmarks = generate(np.random.default_rng((self.seed, index)))
        return self.file(index), Portrait(np.asarray(image), box, landmarks)

    def file(self, index: int) -> str:
        """The portrait's name, since it has no file."""
        return f"p{index:05d}"

    def name(self, index: int) -> str:
        """The portrait's name."""
        return self.file(index)

    def first(self, index: int) -> int:
        """The portrait itself, since it shares no photo with others."""
        return index

    def describe(self) -> list[str]:
        """What the portraits depend on."""
        return [f"procedural {self.count} {self.seed}"]


def generate(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """One portrait, RGB, SIZE x SIZE: background, clothes, face, then what a camera adds.

    Returns:
        It, and the box and landmarks of the face as in `Portrait`.
    """
    face = Face.draw(rng)
    y, x = (np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5) * (2 / SIZE) - 1
    background, place = _background(rng, x, y), _Place.draw(rng)
    canvas = Canvas(background, *_on_face(rng, place, x, y), 1.5 * 2 / SIZE / place.scale)
    _clothes(canvas, rng)
    _paint_face(canvas, face, rng)
    left, top, right, bottom = -face.width, face.hairline, face.width, 1.0
    corners = place.pixels([(left, top), (right, top), (left, bottom), (right, bottom)])
    landmarks = place.pixels(
        [
            *((face.yaw + side * PUPILS, EYES) for side in (-1, 1)),
            (1.4 * face.yaw, NOSE),
            *((face.yaw + side * face.mouth[0], MOUTH) for side in (-1, 1)),
        ]
    )
    box = np.concatenate([corners.min(0), corners.max(0)])
    return _photograph(canvas.pixels, rng), box, landmarks


def _paint_face(canvas: Canvas, face: Face, rng: np.random.Generator) -> None:
    """Paints hair, neck, head and features, from the back to the front."""
    noise = smooth_noise(rng, (64, 1024), (5, 340))
    head.hair_behind(canvas, face, noise)
    head.neck_and_ears(canvas, face)
    front = canvas.window((-1.05 * face.width, 1.05 * face.width), (-1.05, 1.05))
    outline = head.head_outline(front, face)
    head.skin(front, face, outline, rng)
    head.beard(front, face, outline, rng)
    for side in (-1, 1):
        features.eye(front, face, side)
        features.brow(front, face, side, noise)
    features.nostrils(front, face)
    features.mouth(front, face)
    head.hair_in_front(canvas, face, noise)


class _Place(NamedTuple):
    """Where a face is in the picture, whose sides reach from -1 to 1."""

    scale: float
    roll: float  # rad
    right: float
    down: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Place":
        """A random place."""
        scale, roll = rng.uniform(0.64, 0.76), rng.uniform(-0.14, 0.14)
        return cls(scale, roll, rng.uniform(-0.07, 0.07), rng.uniform(-0.04, 0.1))

    def pixels(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Points (u, v) of the face as positions (N, 2) in pixels."""
        u, v = np.array(points).T
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        x, y = u * cos - v * sin + self.right, u * sin + v * cos + self.down
        return (np.stack([x, y], axis=1) + 1) * SIZE / 2


def _on_face(
    rng: np.random.Generator, place: _Place, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels at `x`, `y` (both -1 to 1) lie on a face."""
    x, y = x - place.right, y - place.down
    cos, sin = math.cos(place.roll) / place.scale, math.sin(place.roll) / place.scale
    u = x * cos + y * sin
    v = y * cos - x * sin
    # No face is symmetric.
    u = u + 0.025 * smooth_noise(rng, u.shape, 4)
    v = v + 0.025 * smooth_noise(rng, u.shape, 4)
    return u, v


def _background(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A blurred room or landscape (3, SIZE, SIZE): two colours, patches, edges, grain."""
    first, second, third, fourth = _colours(rng, 4)
    angle = rng.uniform(0, 2 * math.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    along = x * cos + y * sin
    pixels = first + (second - first) * ramp(along, -1, 1)
    patches = smooth_noise(rng, x.shape, int(rng.integers(2, 14)))
    edge = rng.uniform(0.05, 1.5)  # from crisp patches to mist
    pixels += (third - pixels) * (rng.uniform(0, 0.8) * inside(patches, edge))
    if rng.random() < 0.4:  # a door post, a shelf, a window
        bar = np.abs(y * cos - x * sin - rng.uniform(-1, 1)) - rng.uniform(0.05, 0.3)
        pixels += (fourth - pixels) * inside(bar, 0.05) * 0.7
    return pixels * (1 + rng.uniform(0, 0.05) * smooth_noise(rng, x.shape, 90))


def _clothes(canvas: Canvas, rng: np.random.Generator) -> None:
    """Shoulders below the face, in cloth with folds and a weave."""
    slope = rng.uniform(0.12, 0.3)
    top = rng.uniform(1.15, 1.3) + slope * exactly(np.power, np.abs(canvas.u), 1.6)
    folds = 1 + 0.15 * smooth_noise(rng, canvas.u.shape, (4, 9))
    weave = 1 + rng.uniform(0, 0.08) * smooth_noise(rng, canvas.u.shape, 120)
    (cloth,) = _colours(rng, 1)
    canvas.paint(cloth * (folds * weave), inside(top - canvas.v, 2 * canvas.softness))


def _colours(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Colours (3, 1, 1) of one random brightness, none too bright a hue."""
    brightness = rng.uniform(0.4, 1)
    found = []
    for _ in range(count):
        hue = rng.uniform(20, 235, 3)
        hue += (hue.mean() - hue) * rng.uniform(0.3, 0.95)
        found.append(colour(*(brightness * hue)))
    return found


def _photograph(pixels: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Light across the scene, exposure, focus, stray light, and the sensor's noise."""
    shape = pixels.shape[1:]
    light = 1 + rng.uniform(0.02, 0.12) * smooth_noise(rng, shape, 2)
    exposure = colour(*(rng.uniform(0.8, 1.12) * rng.uniform(0.94, 1.06, 3)))
    image = _image(10 + 0.94 * pixels * (light * exposure))  # nothing is quite black
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    noise = rng.standard_normal((3, *shape), np.float32)
    noise *= rng.uniform(1.5, 2)
    noise += rng.standard_normal(shape, np.float32) * rng.uniform(3, 4)
    noise += [np.asarray(channel) for channel in image.split()]
    return _image(noise)


def _image(pixels: np.ndarray) -> Image.Image:
    """(3, H, W), clipped to 0 to 255, as a picture."""
    levels = (np.clip(pixels, 0, 255) + 0.5).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(channel) for channel in levels])
