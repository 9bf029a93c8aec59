"""Draws the random properties of a generated face; all faces share the positions of features."""

import dataclasses
import math

import numpy as np
from PIL import ImageColor

from train.data.synthetic.canvas import colour


def _palette(colours: str) -> np.ndarray:
    """(N, 3) float32, 0 to 255, from colours such as #ff8000."""
    return np.array([ImageColor.getrgb(colour) for colour in colours.split()], np.float32)


_SKIN = _palette("#f6d6c0 #ecbea0 #d9a47f #ba805a #86563a #583a2c")
_HAIR = _palette("#1a1616 #38261c #62422a #7c4026 #ba925c #96928e")
_IRIS = _palette("#3a2416 #543820 #684a28 #5c7048 #547694 #78848a")
EYES, BROWS, NOSE, MOUTH = 0.0, -0.19, 0.36, 0.62  # positions: v
PUPILS = 0.32  # distance of a pupil from the middle: u


@dataclasses.dataclass(frozen=True)
class Face:
    """The properties in which faces differ.

    Lengths are in the face's coordinates; colours are (3, 1, 1) float32, 0 to 255.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    width: float  # of half the head
    jaw: float  # by how much the lower face is narrower, 0 to 1
    yaw: float  # how far features are shifted by a turn of the head
    eye: tuple[float, float]  # half the width and height of an eye
    gaze: float
    brow: tuple[float, float]  # thickness, tilt
    nose: tuple[float, float]  # width, height of the relief
    mouth: tuple[float, float, float]  # half the width, half the height, smile
    hairline: float  # v of the hair's lower edge at the middle
    hair_width: float  # by how much the hair stands off the head
    hair_length: float  # v down to which hair hangs beside the face
    parting: float
    beard: float  # opacity
    light: tuple[float, float, float]  # unit vector to it: right, down, towards the camera

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Face":
        """A random face."""
        dark = rng.uniform()  # dark skin goes with dark hair and eyes
        skin = _mix(_SKIN, dark) * colour(*rng.uniform(0.94, 1.05, 3))
        right, down = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.1)
        far = math.hypot(right, down, 1)
        length = rng.uniform(0.8, 1.8) if rng.random() < 0.4 else rng.uniform(-0.25, 0.1)
        return cls(
            skin=skin,
            hair=_mix(_HAIR, rng.uniform() * min(1, 1.8 - 1.8 * dark)) * rng.uniform(0.75, 1.15),
            iris=_mix(_IRIS, rng.uniform() * min(1, 1.8 - 1.8 * dark)) * rng.uniform(0.8, 1.2),
            lips=skin * colour(*rng.uniform((0.74, 0.5, 0.52), (0.95, 0.74, 0.76))),
            width=rng.uniform(0.68, 0.8),
            jaw=rng.uniform(0.1, 0.34),
            yaw=rng.uniform(-0.1, 0.1),
            eye=(rng.uniform(0.125, 0.155), rng.uniform(0.05, 0.078)),
            gaze=rng.uniform(-0.035, 0.035),
            brow=(rng.uniform(0.018, 0.042), rng.uniform(-0.12, 0.25)),
            nose=(rng.uniform(0.07, 0.12), rng.uniform(0.14, 0.26)),
            mouth=(rng.uniform(0.21, 0.3), rng.uniform(0.045, 0.08), rng.uniform(-0.4, 1)),
            hairline=rng.uniform(-0.8, -0.5),
            hair_width=rng.uniform(0.04, 0.2),
            hair_length=length,
            parting=rng.uniform(-0.4, 0.4),
            beard=max(0.0, rng.uniform(-1.2, 0.8)),
            light=(right / far, down / far, 1 / far),
        )


def _mix(palette: np.ndarray, at: float) -> np.ndarray:
    """The colour (3, 1, 1) at the fraction `at` of the way through a palette (N, 3)."""
    at *= len(palette) - 1
    i = min(int(at), len(palette) - 2)
    return (palette[i] + (palette[i + 1] - palette[i]) * (at - i)).reshape(3, 1, 1)
