"""Figures of the masks, with MANIPULATED as the positive class.

Counts of pixels are (N,) int64, one of each image: tp labelled and predicted manipulated, fp
predicted alone, fn labelled alone, tn neither.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from train.eval.roc import ratio

POSITIVE = "MANIPULATED"
DICE_EPSILON = 1e-6  # the published one, of the figure and of the loss

MEANING = {
    "n": "frames with a mask label; the others are in none of these figures",
    "n_empty_label": "frames whose label has no MANIPULATED pixel",
    "n_both_empty": "frames whose label and prediction have none; each is a 1 in dice and iou_mean",
    "dice": "as published: mean over frames of 2|A and B| / (|A| + |B|) of the MANIPULATED pixels, "
    "epsilon 1e-6; both empty counts as 1",
    "iou_mean": "mean over frames of |A and B| / |A or B| of the MANIPULATED pixels; both empty "
    "counts as 1",
    "iou_pooled": "the same of the pixels of all frames put together",
    "f1": "positive class MANIPULATED, pixels of all frames put together",
    "accuracy": "share of pixels whose class is right, of both classes",
    "auc": "area under the ROC of pixels; positive class MANIPULATED, score the manipulated logit "
    "less the untouched one, cut to 8 significant bits; a tie counts half. It has no interval, "
    "which would take the scores of each frame",
}


class PixelCounts(NamedTuple):
    """Counts of pixels of N images; (N,) int64 each."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    tn: np.ndarray

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

    Args:
        histogram: (2, bins) counts by [is labelled manipulated][bin of the score, rising]. What
            shares a bin counts as a tie.
    """
    untouched, manipulated = histogram.astype(np.float64)
    below = np.cumsum(untouched) - untouched
    area = manipulated @ (below + untouched / 2)
    return ratio(area, untouched.sum() * manipulated.sum())


def figures(counts: PixelCounts, histogram: np.ndarray) -> dict[str, Any]:
    """The figures of MEANING, and `notes`: why a figure is None where it is not defined.

    Args:
        counts: of the frames with a mask label, perhaps none.
        histogram: of their pixels, as in `histogram_auc`.
    """
    values = {
        **weighted_figures(counts)(np.ones(len(counts.tp))),
        "auc": histogram_auc(histogram),
    }
    if len(counts.tp) == 0:
        notes = ["no frame has a mask label"]
    else:
        reasons = {
            "iou_pooled": "no pixel is labelled or predicted MANIPULATED",
            "f1": "no pixel is labelled or predicted MANIPULATED",
            "auc": "the labelled pixels are all of one class",
        }
        notes = [
            f"{name} is not defined: {why}"
            for name, why in reasons.items()
            if np.isnan(values[name])
        ]
    empty_label = counts.tp + counts.fn == 0
    return {
        "n": len(counts.tp),
        "n_empty_label": int(empty_label.sum()),
        "n_both_empty": int((empty_label & (counts.fp == 0)).sum()),
        **{name: None if np.isnan(value) else value for name, value in values.items()},
        "notes": notes,
    }


def weighted_figures(counts: PixelCounts) -> Callable[[np.ndarray], dict[str, float]]:
    """Prepares the figures that get intervals for many weightings of the same images.

    Returns:
        A function of whole weights (N,), which gives the figures of a set that holds image i
        weights[i] times; NaN where one is not defined.
    """
    columns = np.array([dice(counts), iou(counts), *counts], np.float64)

    def figures_of(weights: np.ndarray) -> dict[str, float]:
        dice_sum, iou_sum, tp, fp, fn, tn = (columns @ weights).tolist()
        images = float(weights.sum())
        return {
            "dice": ratio(dice_sum, images),
            "iou_mean": ratio(iou_sum, images),
            "iou_pooled": ratio(tp, tp + fp + fn),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        }

    return figures_of
