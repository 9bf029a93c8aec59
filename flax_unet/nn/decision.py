"""The decision between REAL and FAKE, and the meaning of both heads' numbers."""

from typing import Any

POLARITY = "The classifier's 1 is REAL; the mask's 1 is MANIPULATED."
DECISION = "REAL where real_probability > 0.5, else FAKE; exactly 0.5 is FAKE"


def is_real(real_probability: Any) -> Any:
    """The published decision, `round(sigmoid)`: whether the probability is over 0.5.

    The probability, in [0, 1], is a float, or an array of NumPy or JAX.
    """
    return real_probability > 0.5


def fake_probability(real_probability: Any) -> Any:
    """The probability of FAKE: 1 - real_probability."""
    return 1 - real_probability
