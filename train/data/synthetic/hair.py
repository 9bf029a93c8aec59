"""A generated face's hair, behind the head and in front of it."""

import numpy as np

from train.data.synthetic.canvas import Canvas
from train.data.synthetic.face import Face
from train.data.synthetic.head import head_outline
from train.data.synthetic.raster import bump, ellipse, exactly, inside, length


def strands(canvas: Canvas, noise: np.ndarray) -> np.ndarray:
    """`noise` (64, 1024) laid along hair combed from the crown, mean 0, (H, W)."""
    angle = exactly(np.arctan2, canvas.u, canvas.v + 1.5) / np.pi + 0.5
    radius = length(canvas.u, canvas.v + 1.0) / 4
    column = (angle * 1023).astype(int) % 1024
    return noise[np.clip(radius * 63, 0, 63).astype(int), column]


def hair_behind(canvas: Canvas, face: Face, noise: np.ndarray) -> None:
    """Paints the hair that the head covers, and what hangs beside it."""
    lie = strands(canvas, noise)
    crown = ellipse(
        canvas.u, canvas.v, (0, -0.1), (face.width + face.hair_width, 0.95 + face.hair_width)
    )
    sides = np.maximum(
        np.abs(canvas.u) - (face.width + face.hair_width) * (1 + 0.06 * canvas.v),
        np.maximum(-0.1 - canvas.v, canvas.v - face.hair_length - 0.1 * lie),
    )
    crown = np.maximum(crown, canvas.v - max(face.hair_length, 0.1))
    distance = np.minimum(crown, sides) + 0.02 * lie
    canvas.paint(_hair_colour(canvas, face, lie) * 0.72, inside(distance, 3 * canvas.softness))


def hair_in_front(canvas: Canvas, face: Face, noise: np.ndarray) -> None:
    """Paints the hair over the forehead and temples, and its shadow."""
    beyond = face.width + 2 * face.hair_width
    part = canvas.window((-beyond, beyond), (-1 - 2 * face.hair_width, face.hair_length + 0.1))
    u, v, head, lie = part.u, part.v, head_outline(part, face), strands(part, noise)
    edge = face.hairline + 0.9 * exactly(np.power, np.abs(u - face.parting * 0.5), 2.2) + 0.06 * lie
    cap = np.maximum(v - edge, (head - 1) * face.width - face.hair_width * 0.8)
    temples = np.maximum(face.width * 0.86 - np.abs(u) + 0.06 * v, v - face.hair_length)
    temples = np.maximum(np.maximum(temples, face.hairline - v), np.abs(u) - face.width * 1.08)
    distance = np.minimum(cap, temples + 0.04 * lie)
    shadow = inside(distance - 0.03, 0.12) * inside((head - 1) * face.width, part.softness)
    part.shade(1 - 0.25 * shadow)
    part.paint(_hair_colour(part, face, lie), inside(distance, 4 * part.softness))


def _hair_colour(canvas: Canvas, face: Face, lie: np.ndarray) -> np.ndarray:
    """The colour of strands (3, H, W): each its own, with gloss where the light falls."""
    gloss = bump(canvas.u, canvas.v, (0.4 * face.light[0], -0.85), (0.5, 0.16))
    factor = 1 + 0.28 * lie + 0.55 * gloss * (1 + 0.5 * lie)
    return face.hair * np.maximum(factor, 0.3)
