"""From pictures to verdicts, whatever computes the network's outputs. It needs no JAX."""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flax_unet.media.faces import Box
from flax_unet.media.images import read_image, resized, to_rgb
from flax_unet.nn.config import Size
from flax_unet.nn.decision import Calibration
from flax_unet.verdict import Verdict

Picture = np.ndarray | Image.Image | str | Path


class Judge:
    """Judges any number of faces, which are resized as in the published evaluation."""

    def __init__(
        self,
        size: Size,
        threshold: float,
        calibration: Calibration | None,
        batch_size: int,
        at_once: int = 1,
    ) -> None:
        """Takes what verdicts depend on besides the network's outputs.

        Args:
            size: (height, width) that faces are resized to.
            threshold: a face is FAKE from this probability of FAKE on.
            calibration: makes `real_probability` calibrated; None: it is the network's own.
            batch_size: faces of a group, at most.
            at_once: groups that are best judged together.
        """
        self.size, self.batch_size, self.at_once = size, batch_size, at_once
        self.threshold, self.calibration = threshold, calibration

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """The network's outputs for groups of crops, each (N, *size, 3) uint8, N >= 1.

        Those of a group are the same, bit by bit, whatever other groups there are.

        Returns:
            For each group, by the names of a Verdict's fields, arrays (N, ...); with a calibration
            also `real_logit`.
        """
        raise NotImplementedError

    def __call__(
        self, images: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Verdict]:
        """Judges one face in each picture.

        Args:
            images: pictures of any size: (height, width, 3) uint8, PIL images, or files, which are
                turned upright.
            boxes: of the face in each picture; None: the whole picture.

        Raises:
            InputError: a file cannot be read, or an output of the network is not finite.
            ValueError: an array has another shape or dtype, or a box is not inside its picture.
        """
        is_single = isinstance(images, str | Path | Image.Image)
        if is_single or (isinstance(images, np.ndarray) and images.ndim == 3):
            raise ValueError("this is one picture; pass a list of pictures")
        boxes = [None] * len(images) if boxes is None else boxes
        if len(boxes) != len(images):
            raise ValueError(f"there are {len(images)} pictures and {len(boxes)} boxes")
        verdicts: list[Verdict] = []
        for start in range(0, len(images), most := self.batch_size * self.at_once):
            chunk = slice(start, start + most)
            verdicts += self._judge(images[chunk], boxes[chunk])
        return verdicts

    def _judge(self, images: Sequence[Picture], boxes: Sequence[Box | None]) -> list[Verdict]:
        """Judges as many faces as are judged at once, or less."""
        crops, positions = [], []
        for picture, given in zip(images, boxes, strict=True):
            image = _image(picture)
            box = _checked(given, image.size)
            crop = image if box == (0, 0, *image.size) else image.crop(box)
            crops.append(resized(crop, self.size))
            positions.append((image.size, box))
        starts = range(0, len(crops), self.batch_size)
        found = self.outputs([np.stack(crops[at : at + self.batch_size]) for at in starts])
        fields: dict[str, Any] = {
            name: np.concatenate([group[name] for group in found]) for name in found[0]
        }
        if self.calibration is not None:
            fields["raw_real_probability"] = fields["real_probability"].tolist()
            logit = fields.pop("real_logit")
            fields["real_probability"] = self.calibration.real_probability(logit)
        if "real_probability" in fields:
            fields["real_probability"] = fields["real_probability"].tolist()
        return [
            Verdict(
                *position,
                **{name: values[i] for name, values in fields.items()},
                threshold=self.threshold,
            )
            for i, position in enumerate(positions)
        ]


def _image(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return to_rgb(picture, [])
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(
                f"the picture is {picture.dtype} of shape {picture.shape}; expected "
                "(height, width, 3) uint8 in 0 ... 255, the channels red, green, blue"
            )
        return Image.fromarray(picture)
    return read_image(Path(picture))


def _checked(box: Box | None, size: tuple[int, int]) -> Box:
    """The box, or the whole picture of `size` (width, height) for None."""
    try:
        checked = Box(*map(operator.index, (0, 0, *size) if box is None else box))
    except TypeError as error:
        raise ValueError(f"{box} is not a box of whole pixels: left, top, right, bottom") from error
    if checked.area == 0 or checked != checked.within(size):
        raise ValueError(f"the box {tuple(checked)} is not a part of a picture of {size} pixels")
    return checked
