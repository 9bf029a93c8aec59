"""The decision between REAL and FAKE, and the meaning of both heads' numbers."""

from typing import Any

POLARITY = "The classifier's 1 is REAL; the mask's 1 is MANIPULATED."
DECISION = "REAL where real_probability > 0.5, else FAKE; exactly 0.5 is FAKE"

IN_WORDS = (
    "The classifier gives the probability that a face is REAL; fake is 1 minus it. The verdict is "
    "REAL if that probability is over 0.5, and FAKE otherwise. The mask is the other way round: "
    "its 1 is MANIPULATED."
)


def is_real(real_probability: Any) -> Any:
    """The published decision, `round(sigmoid)`: whether the probability is over 0.5.

    The probability, in [0, 1], is a float, or an array of NumPy or JAX.
    """
    return real_probability > 0.5


def label(real: Any) -> str:
    """`REAL` or `FAKE`, by whether a face is real."""
    return "REAL" if real else "FAKE"


def fake_probability(real_probability: Any) -> Any:
    """The probability of FAKE: 1 - real_probability."""
    return 1 - real_probability
