"""The sums behind the metrics of masks; MANIPULATED is the positive class."""

from typing import NamedTuple

import numpy as np

from train.eval.classification import ratio

DICE_EPSILON = 1e-6  # the published one, of the metric and of the loss


class PixelCounts(NamedTuple):
    """Counts of pixels of N images; (N,) int64 each."""

    tp: np.ndarray  # labelled and predicted MANIPULATED
    fp: np.ndarray  # predicted alone
    fn: np.ndarray  # labelled alone
    tn: np.ndarray  # neither

    def of(self, chosen: np.ndarray) -> "PixelCounts":
        """The counts of the images that `chosen`, (N,) bool, marks."""
        return PixelCounts(*(count[chosen] for count in self))


def dice(counts: PixelCounts) -> np.ndarray:
    """The published Dice coefficient of each image, (N,) in [0, 1]; 1 where both are empty."""
    both = 2 * counts.tp
    return (both + DICE_EPSILON) / (both + counts.fp + counts.fn + DICE_EPSILON)


def iou(counts: PixelCounts) -> np.ndarray:
    """Intersection over union of each image, (N,) in [0, 1]; 1 where both are empty."""
    union = counts.tp + counts.fp + counts.fn
    return np.where(union == 0, 1.0, counts.tp / np.maximum(union, 1))


def histogram_auc(histogram: np.ndarray) -> float:
    """Area under the ROC from counts of pixels, NaN without pixels of both classes.

    The counts are (2, bins) by [is labelled MANIPULATED][bin of the score, rising]. Pixels that
    share a bin count as a tie.
    """
    untouched, manipulated = histogram.astype(np.float64)
    below = np.cumsum(untouched) - untouched
    area = manipulated @ (below + untouched / 2)
    return ratio(area, untouched.sum() * manipulated.sum())


class Sums(NamedTuple):
    """What the metrics are computed from: sums over images, each with its weight."""

    n: float
    empty_labels: float
    both_empty: float
    dice: float
    iou: float
    tp: float  # pixels, as in PixelCounts
    fp: float
    fn: float
    tn: float
    histogram: np.ndarray  # as in `histogram_auc`; of all images, whatever the weights


_MARKED = [Sums._fields.index(name) for name in ("tp", "fp", "fn")]


class Masks:
    """The masks of N images, to be summed with many sets of weights."""

    def __init__(self, counts: PixelCounts, histogram: np.ndarray):
        """Takes counts, and the histogram of `histogram_auc`."""
        empty = counts.tp + counts.fn == 0
        rows = [np.ones_like(empty), empty, empty & (counts.fp == 0), dice(counts), iou(counts)]
        self._columns = np.array([*rows, *counts], np.float64)
        self._histogram = histogram

    def videos(self, video: np.ndarray) -> dict[str, int]:
        """The number of videos behind a metric, by `Metric.videos`; `video` (N,) numbers them."""
        marked = self._columns[_MARKED].any(axis=0)
        return {"all": len(np.unique(video)), "marked": len(np.unique(video[marked]))}

    def sums(self, weights: np.ndarray) -> Sums:
        """The sums of a set that holds image i weights[i] times, (N,) whole numbers."""
        return Sums._make([*(self._columns @ weights).tolist(), self._histogram])
