"""Paints a generated head: outline, skin, neck, ears, beard and hair."""

import numpy as np

from train.data.synthetic.canvas import Canvas, colour
from train.data.synthetic.face import MOUTH, NOSE, PUPILS, Face
from train.data.synthetic.raster import bump, ellipse, exactly, inside, length, ramp, smooth_noise


def head_outline(canvas: Canvas, face: Face) -> np.ndarray:
    """The head's outline: 0 at its middle, 1 at its edge, (H, W)."""
    half_width = face.width * (1 - face.jaw * ramp(canvas.v, 0, 1.05))
    across, along = np.abs(canvas.u / half_width), np.abs(canvas.v)
    return np.sqrt(exactly(np.power, across, 2.3) + exactly(np.power, along, 2.3))


def neck_and_ears(canvas: Canvas, face: Face) -> None:
    """Paints the neck, in the chin's shadow, and the ears."""
    half = face.width * 0.62
    low = canvas.window((-1, 1), (0.4, 9))
    neck = np.abs(low.u) - half * (1 + 0.5 * ramp(low.v, 1, 1.6))
    shadow = 0.5 + 0.38 * ramp(low.v, 0.8, 1.5)
    low.paint(face.skin * shadow, inside(neck, 2 * low.softness))
    for side in (-1, 1):
        middle = side * face.width
        part = canvas.window((middle - 0.15, middle + 0.15), (-0.2, 0.4))
        ear = ellipse(part.u, part.v, (middle, 0.1), (0.1, 0.2))
        hollow = bump(part.u, part.v, (middle + 0.03 * side, 0.08), (0.035, 0.09))
        part.paint(face.skin * (0.85 - 0.35 * hollow), inside(ear, 2 * part.softness))


def skin(canvas: Canvas, face: Face, head: np.ndarray, rng: np.random.Generator) -> None:
    """Paints the bare face: its relief in the light, pores, flush and sheen."""
    height = _relief(canvas, face, head)
    shape = head.shape
    pixel = canvas.softness / 1.5
    pores = 0.0012 * rng.uniform(0.3, 1.2) * smooth_noise(rng, shape, shape[0] // 2)
    down, right = np.gradient(height + pores)
    norm = np.sqrt(right**2 + down**2 + pixel**2)
    facing = (-right * face.light[0] - down * face.light[1] + pixel * face.light[2]) / norm
    shade = 0.42 + 0.68 * np.clip(facing, 0, None) + 0.03 * smooth_noise(rng, shape, 6)
    u, v, turn = canvas.u, canvas.v, face.yaw
    flush = bump(u, v, (turn - 0.38, 0.33), (0.16, 0.14)) + bump(
        u, v, (turn + 0.38, 0.33), (0.16, 0.14)
    )
    flush = 0.10 * flush + 0.09 * bump(u, v, (1.5 * turn, NOSE), (0.1, 0.1))
    flush += 0.03 * smooth_noise(rng, shape, 20)
    tint = 1 + colour(0.3, -0.8, -0.6) * flush
    # Skin lets light through: its shadows are redder than its lit parts.
    lit = face.skin * exactly(np.power, face.skin / 255, 0.25 - 0.25 * shade) * shade * tint
    lit += 70 * rng.uniform(0.1, 1) * exactly(np.exp, -24 * (1 - facing))  # sheen
    canvas.paint(lit, inside((head - 1) * face.width, 2 * canvas.softness))


def beard(canvas: Canvas, face: Face, head: np.ndarray, rng: np.random.Generator) -> None:
    """Paints stubble or a beard, if the face has one."""
    if face.beard == 0:
        return
    u, v = canvas.u - face.yaw, canvas.v
    region = ramp(v, 0.3, 0.6) * ramp(head, 0.45, 0.75) + ramp(v, 0.75, 0.85)
    region += bump(u, v, (0, 0.51), (0.2, 0.04))
    lips = bump(u, v, (0, MOUTH), (face.mouth[0] * 0.7, 0.06))
    stubble = 0.75 + 0.35 * smooth_noise(rng, u.shape, u.shape[0] // 2)
    alpha = np.clip(region * (1 - lips), 0, 1) * np.clip(stubble, 0, 1) * face.beard
    canvas.paint(face.hair * 0.9, alpha * inside((head - 1) * face.width, 2 * canvas.softness))


def _relief(canvas: Canvas, face: Face, head: np.ndarray) -> np.ndarray:
    """The height of the face towards the camera, (H, W)."""
    u, v, turn = canvas.u, canvas.v, face.yaw
    height = 0.8 * np.sqrt(np.clip(1.02 - head**2, 0.0, None))
    width, relief = face.nose
    bridge = bump(u, v, (1.4 * turn, 0), (width, 9)) * ramp(v, -0.25, NOSE) * ramp(v, 0.5, 0.38)
    height += relief * bridge + 0.07 * bump(u, v, (1.5 * turn, NOSE), (width * 0.9, 0.07))
    for side in (-1, 1):
        height += 0.04 * bump(u, v, (1.4 * turn + side * width * 1.1, 0.39), (0.05, 0.05))
        height += 0.07 * bump(u, v, (turn + side * 0.38, 0.32), (0.16, 0.14))
        height -= 0.09 * bump(u, v, (turn + side * PUPILS, -0.02), (0.15, 0.08))
        height += 0.03 * bump(u, v, (turn + side * 0.28, -0.2), (0.2, 0.06))
    height += 0.05 * bump(u, v, (turn, MOUTH), (0.2, 0.09))
    height += 0.07 * bump(u, v, (turn, 0.88), (0.16, 0.09))
    return height - 0.03 * bump(u, v, (turn, 0.77), (0.15, 0.04))


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
