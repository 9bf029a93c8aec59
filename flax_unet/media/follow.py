"""Follows the faces of a video, so that few frames are searched as a whole."""

import math

from PIL import Image

from flax_unet.media.faces import COARSE, FINE_OF_VIDEO, SAME, Face, FaceFinder, distinct

_EVERY = 2.0  # seconds of a video from one full search to the next
_AROUND = 1.0  # of a face's size on each side: where it is looked for in the next frame


class Follower:
    """Finds the faces in the frames of one video, which come in order.

    A frame is searched as a whole every two seconds, and wherever a face is not where it was. In
    the others, large faces are looked for as always, and small ones near the places where they
    were. So a small face that appears is found within two seconds.
    """

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder
        self._faces: list[Face] = []
        self._size = (0, 0)
        self._searched = -math.inf  # seconds

    def __call__(self, image: Image.Image, seconds: float) -> list[Face]:
        """The faces of the next frame without margin, the largest first."""
        if image.size != self._size or not 0 <= seconds - self._searched < _EVERY:
            followed = None
        else:
            followed = self._followed(image)
        if followed is None:
            followed, self._searched = self._finder(image, of_video=True), seconds
        self._faces, self._size = followed, image.size
        return followed

    def _followed(self, image: Image.Image) -> list[Face] | None:
        """The faces of a frame that resembles the one before; None if one is not found."""
        found = [*self._finder.search(image, min(1.0, COARSE / max(image.size)))]
        scale = min(1.0, FINE_OF_VIDEO / max(image.size))
        for face in self._faces:
            if any(face.box.overlap(other.box) >= SAME for other in found):
                continue
            part = face.box.grown(_AROUND).within(image.size)
            near = [*self._finder.search(image, scale, part)] if part.area else []
            if not near:
                return None
            found += near
        return distinct(found)
