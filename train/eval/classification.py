"""The sums behind the metrics of REAL or FAKE verdicts; FAKE is the positive class."""

import math
from typing import Any, NamedTuple

import numpy as np

from flax_unet.nn import decision

CALIBRATION_BINS = 15  # of equal width, over fake probabilities in [0, 1]
_EPSILON = float(np.finfo(np.float64).eps)  # log loss takes probabilities this far from 0 and 1
WORST_LOG_LOSS = -math.log(_EPSILON)  # of a verdict


class Sums(NamedTuple):
    """What the metrics are computed from: sums over verdicts, each with its weight."""

    n: float
    fakes: float  # labelled FAKE
    reals: float  # labelled REAL
    tp: float  # FAKE called FAKE
    fn: float  # FAKE called REAL
    fp: float  # REAL called FAKE
    tn: float  # REAL called REAL
    log_loss: float  # of -ln(probability given to the label)
    squared_error: float  # of (fake probability - label)^2; FAKE is 1
    calibration: np.ndarray  # (CALIBRATION_BINS,) of fake probability - label
    roc_fp: np.ndarray  # (T + 1,) REAL called FAKE: with no threshold, then with each of T
    roc_tp: np.ndarray  # (T + 1,) FAKE called FAKE
    thresholds: np.ndarray  # (T,) fake probabilities, falling


class Verdicts:
    """N verdicts, sorted once, to be summed with many sets of weights."""

    def __init__(
        self,
        is_real: np.ndarray,
        real_probability: np.ndarray,
        threshold: float = decision.THRESHOLD,
    ):
        """Takes labels, (N,) bool, and probabilities, (N,) float64 in [0, 1]."""
        is_fake = self.is_fake = ~is_real  # (N,) bool, the labels
        score = self.score = decision.fake_probability(real_probability)  # (N,) float64
        called = self.called_fake = ~decision.is_real(real_probability, threshold)  # (N,) bool
        given_to_label = np.where(is_fake, score, 1 - score).clip(_EPSILON, 1 - _EPSILON)
        self._excess = score - is_fake
        counts = (is_fake & called, is_fake & ~called, is_real & called, is_real & ~called)
        sums = (*counts, -np.log(given_to_label), self._excess**2)
        self._columns = np.array([np.ones(len(is_fake)), is_fake, is_real, *sums], np.float64)
        self._bin = np.minimum((score * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        self._order = np.argsort(-score, kind="stable")
        falling = score[self._order]
        self._ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))  # of runs of ties
        self._thresholds = falling[self._ends]

    def sums(self, weights: np.ndarray | None = None) -> Sums:
        """The sums where verdict i counts weights[i] times, (N,) whole numbers; None: once."""
        if weights is None:
            weights = np.ones(len(self.score))
        called = np.cumsum(weights[self._order])[self._ends]
        tp = np.cumsum((weights * self.is_fake)[self._order])[self._ends]
        excess = np.bincount(self._bin, self._excess * weights, CALIBRATION_BINS)
        roc = (np.concatenate([[0.0], counts]) for counts in (called - tp, tp))
        columns = (self._columns @ weights).tolist()
        return Sums._make([*columns, excess, *roc, self._thresholds])

    def videos(self, video: np.ndarray) -> dict[str, int]:
        """The number of videos behind a metric, by `Metric.videos`; `video` (N,) numbers them."""
        is_fake, called = self.is_fake, self.called_fake
        chosen = {
            "all": np.ones_like(is_fake),
            "FAKE": is_fake,
            "REAL": ~is_fake,
            "called FAKE": called,
            "FAKE or called FAKE": is_fake | called,
        }
        counts = {name: len(np.unique(video[of])) for name, of in chosen.items()}
        return {**counts, "smaller class": min(counts["FAKE"], counts["REAL"])}

    def calibration(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Number, mean fake probability and share of FAKE in each bin that is not empty."""
        used, weights = np.unique(self._bin), (None, self.score, self._excess)
        count, score, excess = (np.bincount(self._bin, of)[used] for of in weights)
        return count, score / count, (score - excess) / count


def ratio(part: Any, whole: Any) -> float:
    """The quotient, NaN where it is not defined."""
    return float(part / whole) if whole else np.nan


def auc(sums: Sums) -> float:
    """Area under the ROC, its points joined by straight lines, so that a tie counts half."""
    area = np.diff(sums.roc_fp) @ (sums.roc_tp[1:] + sums.roc_tp[:-1]) / 2
    return ratio(area, sums.fakes * sums.reals)


def precision_at_thresholds(sums: Sums) -> np.ndarray:
    """(T,) share of FAKE among what is called FAKE at each threshold; 0 where nothing is."""
    return sums.roc_tp[1:] / np.maximum((sums.roc_fp + sums.roc_tp)[1:], 1)


def average_precision(sums: Sums) -> float:
    """Sum of precision times the gain in recall."""
    return ratio(precision_at_thresholds(sums) @ np.diff(sums.roc_tp), sums.fakes)


def equal_error_rate(sums: Sums) -> tuple[float, float]:
    """The equal error rate, and the threshold of the first point of the ROC that reaches it.

    With the rates x (REAL called FAKE) and y (FAKE called FAKE), d = x - (1 - y) rises from -1 to
    1. Between the last point with d < 0 and the next one, the rate is
    x0 + (x1 - x0) * d0 / (d0 - d1).
    """
    fakes, reals = sums.fakes, sums.reals
    if not fakes or not reals:
        return np.nan, np.nan
    # d times the counts of both classes: whole numbers, so that equal rates are seen exactly.
    d = sums.roc_fp * fakes + sums.roc_tp * reals - fakes * reals
    point = int(np.argmax(d >= 0))
    x0, x1 = sums.roc_fp[point - 1 : point + 1] / reals
    d0, d1 = d[point - 1 : point + 1]
    return float(x0 + (x1 - x0) * d0 / (d0 - d1)), float(sums.thresholds[point - 1])
