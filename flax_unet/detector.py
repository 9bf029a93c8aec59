"""Detects forged faces: pictures in, verdicts and masks out."""

import functools
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from PIL import Image

from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.worth import UNKNOWN, Worth
from flax_unet.media.faces import Box
from flax_unet.media.images import read_image, resized, to_rgb
from flax_unet.nn.decision import THRESHOLD, Calibration
from flax_unet.nn.inference import Compute, compiled
from flax_unet.nn.unet import UNet, UNetOutput
from flax_unet.utils.errors import InputError
from flax_unet.verdict import Verdict

Picture = np.ndarray | Image.Image | str | Path
_BATCH = {"cpu": 8}  # faces at once on a device, by platform
_BATCH_ELSEWHERE = 64


class Detector:
    """Judges any number of faces with a network, spread over its devices.

    Faces are resized as in the published evaluation and padded to batches whose sizes are powers of
    two, so that the network is compiled for few sizes.
    """

    def __init__(
        self,
        model: UNet,
        devices: Sequence[Any] | None = None,
        *,
        threshold: float | None = None,
        calibration: Calibration | None = None,
        mask_threshold: float | None = None,
        keep_logits: bool = False,
        batch_size: int | None = None,
        worth: Worth = UNKNOWN,
    ) -> None:
        """Puts the weights on the devices.

        Args:
            model: in eval mode.
            devices: JAX devices of this process; None: all.
            threshold: between 0 and 1; a face is FAKE from this probability of FAKE on. None: that
                of `calibration`, else 0.5, as published.
            calibration: makes `real_probability` calibrated; None: it is the network's own.
            mask_threshold: between 0 and 1; pixels whose probability of being MANIPULATED is above
                it are marked. None: those where it is the likelier class, as published.
            keep_logits: whether verdicts have `mask_logits`.
            batch_size: faces that are judged at once; None: 8 a CPU, 64 a GPU or TPU.
            worth: what the weights were trained and measured on; `worth.sentence` is for people.

        Raises:
            ValueError: a threshold or the batch size is out of range, or `mask_threshold` or
                `keep_logits` is set for a network without a mask head.
        """
        if not model.config.has_classifier:
            calibration = None
        if threshold is None:
            threshold = THRESHOLD if calibration is None else calibration.threshold
        for name, value in (("threshold", threshold), ("mask_threshold", mask_threshold)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} is {value}; expected one between 0 and 1")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if (keep_logits or mask_threshold is not None) and not model.config.has_mask_head:
            raise ValueError("mask_threshold, keep_logits: the network has no mask head")
        self.config, self.dtype = model.config, jnp.dtype(model.dtype).name
        self.threshold, self.mask_threshold = threshold, mask_threshold
        self.calibration, self.keep_logits, self.worth = calibration, keep_logits, worth
        self._devices = list(devices or jax.local_devices())
        platform = self._devices[0].platform
        usual = _BATCH.get(platform, _BATCH_ELSEWHERE) * len(self._devices)
        self.batch_size = usual if batch_size is None else batch_size
        compute = _compute(mask_threshold, keep_logits, calibration is not None)
        self._forward = compiled(model, self._devices, compute)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        *,
        dtype: DTypeLike = jnp.float32,
        devices: Sequence[Any] | None = None,
        **options: Any,
    ) -> Self:
        """Loads a converted or trained checkpoint from its directory.

        The convolutions compute in `dtype`, float32 or bfloat16; the other arguments are those of
        `Detector`. `calibration` is by default the one that is stored with the checkpoint, if any.

        Raises:
            InputError: the checkpoint is missing or damaged.
            ValueError: as for `Detector`.
        """
        model = store.load(path, dtype=dtype)
        if "calibration" not in options:
            options["calibration"] = metadata.load_calibration(path)
        return cls(model, devices, worth=Worth.of_checkpoint(path), **options)

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
        for start in range(0, len(images), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            verdicts += self._judge(images[chunk], boxes[chunk])
        return verdicts

    def _judge(self, images: Sequence[Picture], boxes: Sequence[Box | None]) -> list[Verdict]:
        """Judges one batch or less."""
        crops, positions = [], []
        for picture, given in zip(images, boxes, strict=True):
            image = _image(picture)
            box = _checked(given, image.size)
            crop = image if box == (0, 0, *image.size) else image.crop(box)
            crops.append(resized(crop, self.config.input_size))
            positions.append((image.size, box))
        devices = len(self._devices)
        # Faces on each device, rounded up to a power of two.
        each = 2 ** (-(-len(crops) // devices) - 1).bit_length()
        padding = devices * each - len(crops)
        batch = np.pad(np.stack(crops), [(0, padding), (0, 0), (0, 0), (0, 0)])
        try:
            output = jax.device_get(self._forward(batch))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            remedy = "use another device, or a smaller network"
            if len(crops) > 1:
                remedy = f"give a smaller batch size, such as {len(crops) // 2} (--batch-size)"
            raise InputError(
                f"the device's memory is too small for {len(batch)} faces at once; {remedy}"
            ) from error
        for name, values in output.items():
            if not np.isfinite(values[: len(crops)]).all():
                raise InputError(f"{name} is not finite; are the checkpoint's weights damaged?")
        if self.calibration is not None:
            output["raw_real_probability"] = output["real_probability"].tolist()
            logit = output.pop("real_logit")
            output["real_probability"] = self.calibration.real_probability(logit)
        if "real_probability" in output:
            output["real_probability"] = output["real_probability"].tolist()
        return [
            Verdict(
                *position,
                **{name: values[i] for name, values in output.items()},
                threshold=self.threshold,
            )
            for i, position in enumerate(positions)
        ]


@functools.cache  # detectors share programs where the function is the same
def _compute(mask_threshold: float | None, keep_logits: bool, needs_real_logit: bool) -> Compute:
    """The function that computes the fields of verdicts that the network has heads for."""

    def compute(output: UNetOutput, _: jax.Array) -> dict[str, jax.Array]:
        fields = {}
        if output.real_probability is not None:
            fields["real_probability"] = output.real_probability
        if needs_real_logit and output.real_logit is not None:
            fields["real_logit"] = output.real_logit
        if output.mask_logits is not None and output.is_manipulated is not None:
            probability = nnx.softmax(output.mask_logits)[..., 1]
            fields["mask_probability"] = probability
            fields["mask"] = (
                output.is_manipulated if mask_threshold is None else probability > mask_threshold
            )
            if keep_logits:
                fields["mask_logits"] = output.mask_logits
        return fields

    return compute


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
