"""The ROC of verdicts with FAKE as the positive class: sorted once, weighted many times."""

from typing import NamedTuple

import numpy as np


class RocPoints(NamedTuple):
    """The points of a ROC as counts, from (0, 0) up to all REAL and all FAKE."""

    false_fake: np.ndarray  # (T + 1,) float64, REAL that are called FAKE
    true_fake: np.ndarray  # (T + 1,) float64, FAKE that are called FAKE

    def area(self) -> float:
        """The area below the points, in counts: the AUC times REAL times FAKE."""
        return float(np.diff(self.false_fake) @ (self.true_fake[1:] + self.true_fake[:-1]) / 2)

    def average_precision(self) -> float:
        """The sum of precision times the gain in recall; NaN without FAKE."""
        called = (self.false_fake + self.true_fake)[1:]
        precision = self.true_fake[1:] / np.maximum(called, 1)  # what is called is whole
        return ratio(float(precision @ np.diff(self.true_fake)), self.true_fake[-1])

    def crossing(self) -> tuple[float, int]:
        """The equal error rate, and the first point whose false-positive rate reaches it.

        With the rates x (REAL called FAKE) and y (FAKE called FAKE), d = x - (1 - y) rises from
        -1 to 1. Between the last point with d < 0 and the next one, the rate is
        x0 + (x1 - x0) * d0 / (d0 - d1). Both classes must be there.
        """
        reals, fakes = self.false_fake[-1], self.true_fake[-1]
        # d times the counts of both classes: whole numbers, so that equal rates are seen exactly.
        d = self.false_fake * fakes + self.true_fake * reals - fakes * reals
        point = int(np.argmax(d >= 0))
        x0, x1 = self.false_fake[point - 1 : point + 1] / reals
        d0, d1 = d[point - 1 : point + 1]
        return float(x0 + (x1 - x0) * d0 / (d0 - d1)), point


class Roc:
    """The ROC of N verdicts for any weights."""

    def __init__(self, is_real: np.ndarray, real_probability: np.ndarray):
        score = 1 - real_probability
        self._order = np.argsort(-score, kind="stable")
        score = score[self._order]
        self._is_fake = ~is_real[self._order]
        self._ends = np.flatnonzero(np.append(np.diff(score) != 0, True))  # of runs of ties
        self._thresholds = score[self._ends]

    def points(self, weights: np.ndarray) -> RocPoints:
        """The points of a set that holds verdict i weights[i] times; weights are whole."""
        weights = weights[self._order]
        true_fake = np.cumsum(weights * self._is_fake)[self._ends]
        called_fake = np.cumsum(weights)[self._ends]
        counts = (called_fake - true_fake, true_fake)
        return RocPoints(*(np.concatenate([[0.0], count]) for count in counts))

    def equal_error_rate(self) -> tuple[float, float]:
        """The rate, and the fake probability from which up a verdict is then called FAKE."""
        rate, point = self.points(np.ones(len(self._order))).crossing()
        return rate, float(self._thresholds[point - 1])


def ratio(part: float, whole: float) -> float:
    """The quotient, NaN where it is not defined."""
    return float(part / whole) if whole else np.nan
