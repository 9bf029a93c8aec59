"""Finds faces on an accelerator: YuNet in JAX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flax_unet.checkpoint.yunet import load
from flax_unet.media.faces import CONFIDENCE, OpenCV, installed_model, not_yunet
from flax_unet.media.images import beginning
from flax_unet.nn.yunet import STRIDES, candidates
from flax_unet.utils.errors import InputError

# Pictures are filled up to these sides, in pixels, so that few programs are compiled. Searches of
# 16:9 are only filled to whole strides.
_SIDES = 192, 320, 544, 960, 2048, 3072
_STRIDE = STRIDES[-1]
_AT_ONCE = 2**26  # values of pictures on the device
_SAME = 0.3  # candidates whose boxes overlap by more, of their union, are one face, as in OpenCV


class OnDevice:
    """A FaceNetwork: YuNet on a JAX device. Several threads may use it."""

    def __init__(self, device: Any, model: Path | None = None) -> None:
        """Loads a YuNet model, as ONNX; None: the one that the extra `media` installs.

        Raises:
            InputError: the model cannot be used.
            ModuleNotFoundError: the extra is not installed.
        """
        path = installed_model() if model is None else model
        beginning(path)
        try:
            weights = load(path)
        except ValueError as error:
            raise not_yunet(path) from error
        self._device, self._weights = device, jax.device_put(weights, device)
        self._candidates = jax.jit(candidates)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """See `FaceNetwork`."""
        return self.all_of([picture])[0]

    def all_of(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What this finds in each of some pictures, of which the device gets many at once.

        Raises:
            InputError: the device's memory is too small.
        """
        found, waiting, pixels = [], [], 0
        try:
            for picture in pictures:
                filled = _filled(picture)
                # OpenCV also fills pictures up to multiples of the coarsest stride.
                size = np.array([[*map(_whole_strides, picture.shape[:2])]], np.int32)
                given = jax.device_put((filled[None], size), self._device)
                waiting.append(self._candidates(self._weights, *given))
                pixels += filled.size
                if pixels > _AT_ONCE:
                    found += jax.device_get(waiting)
                    waiting, pixels = [], 0
            found += jax.device_get(waiting)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise InputError(
                "the device's memory is too small to find faces; give fewer --workers, or use "
                "another device"
            ) from error
        return [_once(rows) for (rows,) in found]


def network_for(device: Any, model: Path | None = None) -> OpenCV | OnDevice:
    """What finds faces beside a network on a JAX device: the same on all.

    On a CPU that is OpenCV, which takes half the time on one core that the same network in JAX
    takes on two (see `benchmarks.finding`). The arguments and errors are those of `OnDevice`.
    """
    return OpenCV(model) if device.platform == "cpu" else OnDevice(device, model)


def _filled(picture: np.ndarray) -> np.ndarray:
    """A picture with black at its right and lower edge."""
    sides = [_side(length) - length for length in picture.shape[:2]]
    return np.pad(picture, ((0, sides[0]), (0, sides[1]), (0, 0)))


def _side(length: int) -> int:
    return next((side for side in _SIDES if side >= length), _whole_strides(length))


def _whole_strides(length: int) -> int:
    return -(-length // _STRIDE) * _STRIDE


def _once(candidates: np.ndarray) -> np.ndarray:
    """Each face once, with its highest score: greedy suppression, as in OpenCV.

    The rows with the highest scores come first.
    """
    left, kept = candidates[candidates[:, -1] >= CONFIDENCE], candidates[:0]
    while len(left):
        kept, left = np.concatenate([kept, left[:1]]), left[1:]
        left = left[_overlaps(kept[-1], left) <= _SAME]
    return kept


def _overlaps(row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The intersection of a box with others over their union, in whole pixels, as in OpenCV."""
    row, rows = np.trunc(row[:4]), np.trunc(rows[:, :4])
    start = np.maximum(row[:2], rows[:, :2])
    end = np.minimum(row[:2] + row[2:], rows[:, :2] + rows[:, 2:])
    both = np.prod(np.maximum(end - start, 0), -1)
    return both / np.maximum(np.prod(row[2:]) + np.prod(rows[:, 2:], -1) - both, 1)
