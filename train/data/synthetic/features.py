"""Paints the eyes, brows, nostrils and mouth of a generated face."""

import numpy as np

from train.data.synthetic.canvas import Canvas, colour
from train.data.synthetic.face import BROWS, EYES, MOUTH, PUPILS, Face
from train.data.synthetic.head import strands
from train.data.synthetic.raster import bump, exactly, inside, length, ramp

_WHITE, _TEETH, _GLINT = colour(232, 226, 220), colour(228, 220, 208), colour(250, 250, 250)
_PUPIL, _LASH = colour(12, 10, 10), colour(34, 24, 22)
_LID, _LIP_LINE = colour(90, 60, 54), colour(70, 32, 30)


def eye(canvas: Canvas, face: Face, side: int) -> None:
    """Paints an eye; `side` is -1 for the left one in the picture, 1 for the right one."""
    centre = (face.yaw + side * PUPILS, EYES)
    part = canvas.window((centre[0] - 0.26, centre[0] + 0.26), (-0.24, 0.24))
    u, v = part.u - centre[0], part.v - centre[1]
    width, height = face.eye
    arch = np.clip(1 - (u / width) ** 2, 0, None)
    corner = 0.12 * side * u  # the outer corner lies higher
    upper, lower = -height * np.sqrt(arch) - corner, 0.75 * height * arch - corner
    opening = np.maximum(np.maximum(upper - v, v - lower), np.abs(u) - width)
    socket = bump(u, v, (0, -0.02), (0.17, 0.09))
    part.shade(1 - 0.22 * socket)
    lidded = inside(np.abs(v - upper + 0.05) + 0.15 * np.clip(np.abs(u) - width, 0, None), 0.035)
    part.shade(1 - 0.25 * lidded * (np.abs(u) < width))
    open_alpha = inside(opening, part.softness)
    part.paint(_WHITE * (0.62 + 0.38 * ramp(v, -height, 0.3 * height)), open_alpha)
    radius = length(u - face.gaze, v + 0.1 * height)
    angle = exactly(np.arctan2, v, u - face.gaze)
    rays = 1 + 0.25 * exactly(np.cos, angle * 17) * ramp(radius, 0.02, 0.05)
    iris = face.iris * (rays * (1.15 - 0.5 * ramp(radius, 0.045, 0.068)))
    part.paint(iris, open_alpha * inside(radius - 0.066, part.softness))
    part.paint(_PUPIL, open_alpha * inside(radius - 0.028, part.softness))
    glint = length(u - face.gaze - 0.03 * float(np.sign(face.light[0])), v + 0.03)
    part.paint(_GLINT, 0.9 * open_alpha * inside(glint - 0.014, part.softness))
    lash = np.abs(v - upper) - 0.012 - 0.012 * ramp(side * u, -0.5 * width, width)
    part.paint(_LASH, 0.9 * inside(lash, part.softness) * (np.abs(u) < width * 1.03))
    part.paint(_LID, 0.4 * inside(np.abs(v - lower) - 0.006, 0.02) * (np.abs(u) < width))


def brow(canvas: Canvas, face: Face, side: int, noise: np.ndarray) -> None:
    """Paints the brow above an eye, of strands made from `noise` (64, 1024)."""
    middle = face.yaw + side * PUPILS
    part = canvas.window((middle - 0.26, middle + 0.26), (BROWS - 0.2, BROWS + 0.2))
    u = (part.u - middle) * side
    thickness, tilt = face.brow
    line = BROWS - tilt * 0.4 * u + 0.9 * (u - 0.04) ** 2
    taper = np.clip(1 - exactly(np.power, np.abs(u / 0.22), 3), 0, 1)
    alpha = inside(np.abs(part.v - line) - thickness * taper, 0.03) * (taper > 0)
    part.paint(face.hair * 0.75, alpha * np.clip(0.75 + 0.3 * strands(part, noise), 0, 1))


def nostrils(canvas: Canvas, face: Face) -> None:
    """Paints the nostrils and the folds beside them; the nose itself is relief."""
    for side in (-1, 1):
        centre = (1.4 * face.yaw + side * face.nose[0] * 0.65, 0.435)
        part = canvas.window((centre[0] - 0.15, centre[0] + 0.15), (0.25, 0.55))
        part.shade(1 - 0.6 * bump(part.u, part.v, centre, (0.036, 0.016)))
        wing = (1.4 * face.yaw + side * face.nose[0] * 1.6, 0.4)
        part.shade(1 - 0.2 * bump(part.u, part.v, wing, (0.014, 0.05)))


def mouth(canvas: Canvas, face: Face) -> None:
    """Paints lips and, if they are open, teeth."""
    part = canvas.window((face.yaw - 0.35, face.yaw + 0.35), (MOUTH - 0.25, MOUTH + 0.3))
    u, v = part.u - face.yaw, part.v - MOUTH
    width, height, smile = face.mouth
    x = u / width
    arch = np.clip(1 - x**2, 0, None)
    middle = -0.05 * smile * x**2  # smiling lifts the corners
    gap = 0.045 * max(0.0, smile - 0.3) * arch  # half the opening
    cupid = 1 - 0.28 * bump(x, x, (0, 0), (0.25, 0.25))
    top, bottom = middle - gap - height * arch * cupid, middle + gap + 1.25 * height * arch
    lips = np.maximum(np.maximum(top - v, v - bottom), np.abs(u) - width)
    light = 1 + 0.22 * bump(x, v, (0, height * 0.7), (0.35, 0.025))
    light -= 0.14 * (v < middle)
    part.paint(face.lips * light, 0.85 * inside(lips, 2.5 * part.softness))
    part.paint(_TEETH, 0.95 * inside(np.abs(v - middle) - gap, part.softness) * (gap > 0))
    line = np.abs(v - middle + gap) - 0.006
    part.paint(_LIP_LINE, 0.75 * inside(line, 2 * part.softness) * (np.abs(x) < 1.04))
    part.shade(1 - 0.14 * bump(u, v, (0, 1.25 * height + 0.05), (width * 0.5, 0.02)))
