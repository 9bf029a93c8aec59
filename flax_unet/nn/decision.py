"""The decision between REAL and FAKE, and the meaning of both heads' numbers."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

POLARITY = "The classifier's 1 is REAL; the mask's 1 is MANIPULATED."
THRESHOLD = 0.5  # of the probability of FAKE, as published
DECISION = "REAL where real_probability > 0.5, else FAKE; exactly 0.5 is FAKE"
# Shares of a face's box marked MANIPULATED that contradict a verdict: REAL with this much or more,
# and FAKE with less than this. Faces that the network takes for real have stray marks, of 2 % at
# most in the demonstration; a forged mouth or pair of eyes is 3 to 6 % of a crop.
MUCH_MARKED, LITTLE_MARKED = 0.05, 0.005
DISAGREEMENT = (
    f"whether the two heads contradict each other: REAL with {MUCH_MARKED:.0%} or more of the "
    f"pixels marked MANIPULATED, or FAKE with less than {LITTLE_MARKED:.1%}"
)
RAW = "raw_fake_probability"  # the key that only decisions of calibrated checkpoints have


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How a checkpoint's verdicts differ from the published decision, as fitted on labelled frames.

    Attributes:
        temperature: above 0; the classifier's logit is divided by it (Guo et al., On calibration
            of modern neural networks, 2017).
        threshold: between 0 and 1; a face is FAKE from this calibrated probability of FAKE on.
    """

    temperature: float
    threshold: float

    def real_probability(self, real_logit: Any) -> Any:
        """The calibrated probability of REAL, in [0, 1] as float64: sigmoid(logit / temperature).

        The logit, a float or an array, is the network's, whose own probability is its sigmoid.
        """
        return np.exp(-np.logaddexp(0, -np.asarray(real_logit, np.float64) / self.temperature))


def is_real(real_probability: Any, threshold: float = THRESHOLD) -> Any:
    """Whether the probability of FAKE is below the threshold.

    By default this is the published decision, `round(sigmoid)`: whether the probability of REAL, in
    [0, 1], is over 0.5. It is a float, or an array of NumPy or JAX.
    """
    return fake_probability(real_probability) < threshold  # 1 - p is exact from 0.5 on


def heads_disagree(real: bool | None, manipulated_share: float | None) -> bool | None:
    """Whether the verdict and the share of the pixels marked MANIPULATED contradict each other.

    None without a verdict, and without a mask.
    """
    if real is None or manipulated_share is None:
        return None
    return manipulated_share >= MUCH_MARKED if real else manipulated_share < LITTLE_MARKED


def decision(threshold: float = THRESHOLD) -> str:
    """The decision in words."""
    if threshold == THRESHOLD:
        return DECISION
    return f"FAKE where fake_probability >= {threshold:g}, else REAL"


def per_cent(probability: float, digits: int = 0) -> str:
    """A probability in per cent, to so many digits; never a rounded 0 % or 100 %."""
    least = 10.0 ** -(digits + 2)
    if 1 - least / 2 <= probability:
        return f"> {1 - least:.{digits}%}"
    if probability < least / 2:
        return f"< {least:.{digits}%}"
    return f"{probability:.{digits}%}"


def in_digits(probability: float, digits: int = 4) -> str:
    """A probability with so many digits, or in per cent where all of them would be those of 0 or 1.

    There are at least two digits.
    """
    text = f"{probability:.{digits}f}"
    return per_cent(probability, digits - 2) if float(text) in (0, 1) else text


def digits_beside(threshold: float, probabilities: Sequence[float]) -> int:
    """How many digits are enough for `in_digits` to show on which side of a threshold all are.

    At least two. A probability below the threshold then has a smaller number than the threshold,
    and one at it or above has not.
    """

    def are_enough(digits: int) -> bool:
        shown = round(threshold, digits)
        return 0 < shown < 1 and all(
            (round(one, digits) < shown) == (one < threshold) for one in probabilities
        )

    return next(filter(are_enough, range(2, 17)), 17)  # 17 digits tell any two numbers apart


def label(real: Any) -> str:
    """`REAL` or `FAKE`, by whether a face is real."""
    return "REAL" if real else "FAKE"


def fake_probability(real_probability: Any) -> Any:
    """The probability of FAKE: 1 - real_probability."""
    return 1 - real_probability


@dataclasses.dataclass(frozen=True)
class Decision:
    """REAL or FAKE. All is None where no face was judged, or the network has no classifier."""

    real_probability: float | None = None  # calibrated, where the checkpoint is
    threshold: float = THRESHOLD
    raw_real_probability: float | None = None  # the network's own, where the other is calibrated

    @property
    def fake_probability(self) -> float | None:
        """1 - real_probability."""
        return None if self.real_probability is None else fake_probability(self.real_probability)

    @property
    def raw_fake_probability(self) -> float | None:
        """1 - raw_real_probability."""
        raw = self.raw_real_probability
        return None if raw is None else fake_probability(raw)

    @property
    def is_real(self) -> bool | None:
        """Whether it is REAL."""
        real = self.real_probability
        return None if real is None else is_real(real, self.threshold)

    @property
    def verdict(self) -> str | None:
        """`REAL` or `FAKE`."""
        return None if self.is_real is None else label(self.is_real)

    @property
    def chance(self) -> str:
        """The probability of FAKE in per cent, for people, such as `over 99%`; empty without."""
        fake = self.fake_probability
        return "" if fake is None else per_cent(fake).replace("> ", "over ").replace("< ", "under ")

    def to_json(self) -> dict[str, Any]:
        """With the keys that `flax_unet.predict.meaning` explains."""
        names = ["verdict", "real_probability", "fake_probability"]
        names += [RAW] * (self.raw_fake_probability is not None)
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        if self.real_probability is None:
            return "no verdict"
        real, fake = self.real_probability, 1 - self.real_probability
        words = f"real {in_digits(real)}, fake {in_digits(fake)}"
        if (raw := self.raw_fake_probability) is not None:
            words += f"; threshold {in_digits(self.threshold)}, raw fake {in_digits(raw)}"
        return f"{self.verdict}  ({words})"
