"""The one place that says how close is close."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

LAYER = 1e-5  # one layer, float32, relative to the scale of what is expected
NETWORK = 1e-4  # mask logits of a whole network, likewise
PROBABILITY = 1e-5  # absolute
PIXELS = 2  # pixels of a mask that may be of the other class
DICE = 1e-6  # absolute, where no pixel is of the other class
AUC = 1e-4  # of pixels by the bins of their scores, absolute
LOSS_64 = 1e-8  # a training step's losses in float64, relative
WEIGHTS_64 = 1e-6  # weights and statistics after training in float64, absolute
DEVICES_64 = 1e-9  # losses and gradients on other numbers of devices, float64, absolute
DEVICES_32 = 1e-4  # losses likewise, float32


def assert_close(found: Any, expected: Any, tolerance: float, what: str = "") -> None:
    """Asserts that arrays agree to `tolerance` times the mean absolute value of the expected."""
    found, expected = (np.asarray(array, np.float64) for array in (found, expected))
    assert found.shape == expected.shape, what
    scale = np.abs(expected).mean() or 1.0
    difference = np.abs(found - expected).max() / scale
    assert difference <= tolerance, f"{what}: {difference:.2e} of {scale:.2e} apart"


def assert_same_tensors(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Asserts that two PyTorch state dicts agree in order, types, shapes and every bit."""
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        if not hasattr(tensor, "dtype"):
            assert found[key] == tensor, key
            continue
        assert found[key].dtype == tensor.dtype, key
        assert found[key].shape == tensor.shape, key
        bits = [side.contiguous().reshape(-1).view(torch.uint8) for side in (found[key], tensor)]
        assert torch.equal(*bits), key
