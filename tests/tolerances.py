"""The one place that says how close is close, and why.

What float32 computes is bounded by its arithmetic: the unit roundoff, the length of the sums, the
size of what is summed. So it is one bound for every processor (AVX2, AVX-512 and NEON add in other
orders) and for both frameworks, and where there is a reference in float64, it is the reference.
`tests.rounding` bounds each number of a layer, or of a whole network, by itself; `of_sums` bounds
arrays as a whole.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

# float32's unit roundoff: rounding changes a result by this at most, relatively.
U = 2.0**-24  # 6.0e-8

# Standard deviations that an error may have. The largest tests look at three million numbers, of
# which the worst is off by 5 where sums are short and added one term after the other.
SIGMAS = 8

# Where a number takes a few operations, and a sum of 20 terms at most: losses, moving averages, an
# optimizer's steps. Each operation rounds by U, exp and log by a few U; a dozen steps of Adam are
# some hundred roundings, and 1e-5 is 168 U. (The bias correction 1 - 0.999^t of the first steps is
# off by up to U / 0.001 = 6e-5, but that is of a step, which is a hundredth of a weight.)
ELEMENT = 1e-5

# Mask logits of a whole network, relative to their mean size; `convert.parity` promises as much.
# Some 20 convolutions of up to 18,432 terms follow one another. By `tests.rounding`, a standard
# deviation is 1.3e-5 at most for ynet-224 at full size, 1e-5 for ynet-320 and 2.8e-5 for
# segmenter-bilinear, where errors of neighbours are taken not to cancel; the worst seen is 6e-6.
NETWORK = 1e-4

# Probabilities, absolute; `convert.parity` promises as much. A probability p moves by p (1 - p),
# which is 1/4 at most, of what its logit moves by. By `tests.rounding`, a standard deviation of
# REAL's probability is 6e-7 for ynet-224 at full size and 1.2e-6 for ynet-320.
PROBABILITY = 1e-5

# Of 100,352 pixels (2 masks of ynet-224 at full size) those that may be of the other class. Logits
# are spread over a few units, so that those of both classes are within NETWORK of each other in a
# few pixels alone, and mostly still on the same side.
PIXELS = 2

# Absolute, where no pixel is of the other class: of the same counts, in float64, beside which the
# published formula has 1e-6 more pixels.
DICE = 1e-6

# A Dice, or a share of pixels, where PIXELS may be of the other class: one pixel moves the Dice of
# masks of 10,000 pixels by 1e-4, and less where frames are averaged.
TIED_DICE = 1e-4

# Of pixels by the bins of their scores, absolute. Not a matter of rounding: pairs of pixels in one
# bin, which is 1/128 of their logit wide, count half. That is right on average, but for the slope
# of how scores are spread within a bin.
AUC = 1e-4

# In float64, where U is 1.1e-16 and only another algorithm differs by more. After 50 steps of Adam:
# losses, relative; weights and statistics, absolute. Rounding grows from step to step, most where
# Adam divides noise by its own size; `benchmarks.training_parity` finds 4e-15 and 3e-10.
LOSS_64 = 1e-8
WEIGHTS_64 = 1e-6

# On other numbers of devices, or in parts, where sums are added in another order; absolute.
DEVICES_64 = 1e-9
# In float32 Adam's step is as long for a gradient that is nothing but noise as for a true one: 20
# steps at 1e-5 take such weights 4e-4 apart at most. A loss hardly depends on them.
DEVICES_32 = 1e-4

# Losses of the first 3 steps of Adam at 1e-4 beside PyTorch's in float32, relative. As above,
# weights whose gradient is noise are up to 6e-4 apart.
STEPS_32 = 1e-3


def of_sums(*terms: int, cancelled: float = 1.0) -> float:
    """How far float32 may take what goes through sums, relative to its size.

    For n terms of one sign, the k-th partial sum is k/n of the result, so that rounding them has a
    standard deviation of U sqrt(n) / 3 times it (see `tests.rounding`). Sums one after the other
    add their squares.

    Args:
        terms: of each sum on the way.
        cancelled: how much larger what is summed is than what is left of it.
    """
    return SIGMAS / 3 * U * math.sqrt(sum(terms)) * cancelled


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
