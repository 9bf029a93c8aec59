"""Pictures of faces in, verdicts and masks out."""

import dataclasses
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from PIL import Image

from flax_unet import checkpoint
from flax_unet.boxes import Box
from flax_unet.errors import InputError
from flax_unet.images import read_image, resized
from flax_unet.inference import folded, place
from flax_unet.model import UNet, UNetOutput, normalised

Picture = np.ndarray | Image.Image | str | Path
_AXIS = "devices"
_BATCH = {"cpu": 8}  # faces at once on a device, by platform
_BATCH_ELSEWHERE = 64


def is_real(real_probability: float) -> bool:
    """Whether a probability in [0, 1] rounds to 1; exactly 0.5 is FAKE, as published."""
    return real_probability > 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Verdict:
    """What the network says of one face. What it has no head for is None.

    The polarities are opposed, as published: the classifier's 1 is REAL, the mask's 1 MANIPULATED.

    Attributes:
        size: (width, height) of the picture in pixels.
        box: the part of the picture that was judged.
        real_probability: in [0, 1], that the face is REAL.
        mask: (S, S) bool, which pixels of the network's grid over the box are MANIPULATED.
        mask_probability: (S, S) float32 in [0, 1], the probability of that.
    """

    size: tuple[int, int]
    box: Box
    real_probability: float | None
    mask: np.ndarray | None
    mask_probability: np.ndarray | None

    @property
    def fake_probability(self) -> float | None:
        """1 - real_probability."""
        return None if self.real_probability is None else 1 - self.real_probability

    @property
    def is_real(self) -> bool | None:
        """The classifier's decision."""
        return None if self.real_probability is None else is_real(self.real_probability)

    @property
    def manipulated_share(self) -> float | None:
        """The share of the box that is marked MANIPULATED, in [0, 1]."""
        return None if self.mask is None else float(np.mean(self.mask))

    @property
    def is_manipulated(self) -> np.ndarray | None:
        """(height, width) bool at the picture's size, False outside the box."""
        return None if self.mask is None else self._at_size(self.mask)

    @property
    def manipulated_probability(self) -> np.ndarray | None:
        """(height, width) float32 in [0, 1] at the picture's size, 0 outside the box."""
        return None if self.mask_probability is None else self._at_size(self.mask_probability)

    def _at_size(self, grid: np.ndarray) -> np.ndarray:
        """Each pixel takes the value of the grid's cell that it lies in."""
        shape = (self.box.width, self.box.height)
        inside = Image.fromarray(grid).resize(shape, Image.Resampling.NEAREST)
        whole = np.zeros((self.size[1], self.size[0]), grid.dtype)
        whole[self.box.top : self.box.bottom, self.box.left : self.box.right] = inside
        return whole


class Detector:
    """A network that judges any number of faces, on all its devices at once.

    Faces are brought to the network's size as the published evaluation does, and computed in
    batches whose sizes are powers of two, so that few of them are ever compiled.
    """

    def __init__(self, model: UNet, devices: Sequence[Any] | None = None) -> None:
        """Puts the weights on the devices.

        Args:
            model: in eval mode.
            devices: JAX devices of this process; None: all.
        """
        self.config = model.config
        self._devices = list(devices or jax.local_devices())
        mesh = Mesh(np.array(self._devices), (_AXIS,))
        self._parts = NamedSharding(mesh, PartitionSpec(_AXIS))
        graphdef, state = nnx.split(folded(model))
        self._state = place(state, NamedSharding(mesh, PartitionSpec()))
        platform = self._devices[0].platform
        self.batch_size = _BATCH.get(platform, _BATCH_ELSEWHERE) * len(self._devices)

        @jax.jit
        def forward(state: nnx.State, image: jax.Array) -> dict[str, jax.Array]:
            return _told(nnx.merge(graphdef, state)(normalised(image)))

        self._forward = forward

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        dtype: DTypeLike = jnp.float32,
        devices: Sequence[Any] | None = None,
    ) -> Self:
        """The detector of a converted or trained checkpoint.

        Args:
            path: its directory.
            dtype: what the convolutions compute in, float32 or bfloat16.
            devices: JAX devices of this process; None: all.

        Raises:
            InputError: there is no checkpoint at `path`, or it is damaged.
        """
        return cls(checkpoint.load(path, dtype=dtype), devices)

    def __call__(
        self, images: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Verdict]:
        """Judges a face a picture.

        Args:
            images: pictures of any sizes: (height, width, 3) uint8, of PIL as they are, or files,
                which are turned upright.
            boxes: where in each picture the face is; None: it fills the picture.

        Raises:
            InputError: a file cannot be read, or the network gives no numbers.
            ValueError: an array is no such picture, or a box does not lie in its picture.
        """
        alone = isinstance(images, str | Path | Image.Image)
        if alone or (isinstance(images, np.ndarray) and images.ndim == 3):
            raise ValueError("this is one picture; give a list of them")
        boxes = [None] * len(images) if boxes is None else boxes
        if len(boxes) != len(images):
            raise ValueError(f"there are {len(images)} pictures and {len(boxes)} boxes")
        verdicts: list[Verdict] = []
        for start in range(0, len(images), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            verdicts += self._judge(images[chunk], boxes[chunk])
        return verdicts

    def _judge(self, images: Sequence[Picture], boxes: Sequence[Box | None]) -> list[Verdict]:
        """Judges a batch at most."""
        crops, places = [], []
        for picture, box in zip(images, boxes, strict=True):
            image = _image(picture)
            place = _place(box, image.size)
            crop = image if place == (0, 0, *image.size) else image.crop(place)
            crops.append(resized(crop, self.config.image_size))
            places.append((image.size, place))
        batch = np.stack(crops)
        padding = self._padded(len(batch)) - len(batch)
        batch = np.pad(batch, [(0, padding), (0, 0), (0, 0), (0, 0)])
        output = jax.device_get(self._forward(self._state, jax.device_put(batch, self._parts)))
        output = {name: values[: len(crops)] for name, values in output.items()}
        for name, values in output.items():
            if not np.isfinite(values).all():
                raise InputError(f"{name} is not finite; are the checkpoint's weights damaged?")
        real, mask, probability = (
            output.get(name, [None] * len(crops))
            for name in ("real_probability", "mask", "mask_probability")
        )
        return [
            Verdict(size, place, None if r is None else float(r), m, p)
            for (size, place), r, m, p in zip(places, real, mask, probability, strict=True)
        ]

    def _padded(self, count: int) -> int:
        """The least power of two for each device that holds `count` faces."""
        devices = len(self._devices)
        each = -(-count // devices)
        return devices * 2 ** (each - 1).bit_length()


def _told(output: UNetOutput) -> dict[str, jax.Array]:
    """What of the network's output is told, without the heads that it lacks."""
    told = {}
    if output.real_probability is not None:
        told["real_probability"] = output.real_probability
    if output.mask_logits is not None and output.is_manipulated is not None:
        told["mask"] = output.is_manipulated
        told["mask_probability"] = nnx.softmax(output.mask_logits)[..., 1]
    return told


def _image(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(
                f"the picture is {picture.dtype} of shape {picture.shape}; expected "
                "(height, width, 3) uint8 in 0 ... 255, the channels red, green, blue"
            )
        return Image.fromarray(picture)
    return read_image(Path(picture))


def _place(box: Box | None, size: tuple[int, int]) -> Box:
    """The box, or the whole picture of `size` (width, height)."""
    try:
        place = Box(*map(operator.index, (0, 0, *size) if box is None else box))
    except TypeError as error:
        raise ValueError(f"{box} is no box of whole pixels: left, top, right, bottom") from error
    if place.area == 0 or place != place.within(size):
        raise ValueError(f"the box {tuple(place)} is no part of a picture of {size} pixels")
    return place
