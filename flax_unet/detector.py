"""Detects forged faces: pictures in, verdicts and masks out."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.worth import UNKNOWN, Worth
from flax_unet.judge import Judge
from flax_unet.nn.config import UNetConfig
from flax_unet.nn.decision import THRESHOLD, Calibration
from flax_unet.nn.inference import Compute, compiled
from flax_unet.nn.unet import UNet, UNetOutput
from flax_unet.utils.errors import InputError

_AT_ONCE = 64  # faces, on a GPU or TPU
_LEAST_ON_CPU, _MOST_ON_CPU = 2, 8
_CACHED_BYTES = 2**23  # of maps that a processor's cache holds


def faces_at_once(platform: str, config: UNetConfig) -> int:
    """How many faces a device of a platform, such as `gpu`, judges at once by default.

    On a CPU as many as have their largest maps in its cache, but two at least and eight at most;
    eight also where the maps of one face do not fit.
    """
    if platform != "cpu":
        return _AT_ONCE
    cached = _CACHED_BYTES // (4 * config.base_width * math.prod(config.input_size))
    if not cached:
        return _MOST_ON_CPU
    return min(max(2 ** (cached.bit_length() - 1), _LEAST_ON_CPU), _MOST_ON_CPU)


class Detector(Judge):
    """Judges any number of faces with a network, spread over its devices.

    Each group of up to `batch_size` faces is computed on one device, padded to a power of two: so
    the network is compiled for few sizes, and a verdict does not depend on the number of devices.
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
            batch_size: faces that a device judges at once; None: 2 to 8 on a CPU, by the size of
                the network's maps, and 64 on a GPU or TPU.
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
        self.devices = list(devices or jax.local_devices())
        platform = self.devices[0].platform
        if batch_size is None:
            batch_size = faces_at_once(platform, model.config)
        at_once = len(self.devices)
        super().__init__(model.config.input_size, threshold, calibration, batch_size, at_once)
        self.config, self.dtype = model.config, jnp.dtype(model.dtype).name
        self.mask_threshold, self.keep_logits, self.worth = mask_threshold, keep_logits, worth
        compute = _compute(mask_threshold, keep_logits, calibration is not None)
        self._forward = compiled(model, self.devices, compute)

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

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """See `Judge`; each group is computed on one device.

        Raises:
            InputError: an output of the network is not finite, or the device's memory is too small.
        """
        found: list[dict[str, np.ndarray]] = [{}] * len(groups)
        numbers: dict[int, list[int]] = {}  # of the groups, by the size that they are padded to
        for number, group in enumerate(groups):
            numbers.setdefault(2 ** (len(group) - 1).bit_length(), []).append(number)
        for each, alike in numbers.items():
            for start in range(0, len(alike), self.at_once):
                batch = np.zeros((self.at_once * each, *self.size, 3), np.uint8)
                parts = {
                    number: slice(at, at + len(groups[number]))
                    for number, at in zip(alike[start:], range(0, len(batch), each), strict=False)
                }
                for number, part in parts.items():
                    batch[part] = groups[number]
                output = self._computed(batch)
                for number, part in parts.items():
                    found[number] = {name: values[part] for name, values in output.items()}
        for group in found:
            for name, values in group.items():
                if not np.isfinite(values).all():
                    raise InputError(f"{name} is not finite; are the checkpoint's weights damaged?")
        return found

    def _computed(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return jax.device_get(self._forward(batch))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            each = len(batch) // self.at_once
            remedy = "use another device, or a smaller network"
            if each > 1:
                remedy = f"give a smaller batch size, such as {each // 2} (--batch-size)"
            raise InputError(
                f"the device's memory is too small for {each} faces at once; {remedy}"
            ) from error


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
