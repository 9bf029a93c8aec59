"""Figures of the REAL or FAKE verdicts, with FAKE as the positive class.

Every function takes `is_real`, (N,) bool labels, and `real_probability`, (N,) float64 in [0, 1].
The polarity is turned here and nowhere else: the score of the positive class is
1 - real_probability.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from train.eval.roc import Roc, ratio

POSITIVE = "FAKE"
CALIBRATION_BINS = 15

MEANING = {
    "decision": "REAL if real_probability > 0.5, so exactly 0.5 is FAKE",
    "confusion": "counts named <label>_called_<decision>; fake_called_fake are the true positives",
    "accuracy": "correct / n, of both classes",
    "precision": "positive class FAKE: how many of those called FAKE are FAKE",
    "recall": "positive class FAKE: how many of the FAKE are called FAKE",
    "f1": "positive class FAKE: harmonic mean of precision and recall",
    "balanced_accuracy": "mean of the recalls of FAKE and of REAL",
    "auc": "area under the ROC; positive class FAKE, score 1 - real_probability, a tie counts half",
    "average_precision": "positive class FAKE: sum of precision times the gain in recall",
    "eer": "equal error rate: where the ROC, its points joined by straight lines, has a "
    "false-positive rate (REAL called FAKE) equal to its false-negative rate (FAKE called REAL)",
    "eer_threshold": "the highest fake probability t such that, when t and above are called FAKE, "
    "the false-positive rate is at least the false-negative rate",
    "log_loss": "mean -ln(probability given to the label), probabilities clipped to within "
    "2.2e-16 of 0 and 1",
    "brier": "mean squared difference of the fake probability and the label (FAKE 1, REAL 0)",
    "ece": f"expected calibration error over {CALIBRATION_BINS} equal-width bins of the fake "
    "probability: mean, weighted by count, of |mean fake probability - share of FAKE|",
}


def is_called_fake(real_probability: np.ndarray) -> np.ndarray:
    """The published decision: the probability rounded half to even, so exactly 0.5 is FAKE."""
    return ~(real_probability > 0.5)


def figures(is_real: np.ndarray, real_probability: np.ndarray, unit: str) -> dict[str, Any]:
    """The figures of MEANING, and `notes`: why a figure is None where it is not defined.

    Args:
        is_real: the labels, at least one.
        real_probability: what the network gave.
        unit: what is counted, in the singular, for the notes.
    """
    from sklearn import metrics

    is_fake, score, roc = ~is_real, 1 - real_probability, Roc(is_real, real_probability)
    called_fake = is_called_fake(real_probability)
    confusion = metrics.confusion_matrix(is_fake, called_fake, labels=[True, False])
    (fake_fake, fake_real), (real_fake, real_real) = confusion.tolist()

    no_fake = None if is_fake.any() else f"no {unit} is labelled FAKE"
    no_real = None if is_real.any() else f"no {unit} is labelled REAL"
    none_called = None if called_fake.any() else f"no {unit} is called FAKE"
    one_class = no_fake or no_real
    neither = f"{no_fake} and {none_called}" if no_fake and none_called else None
    table: dict[str, tuple[str | None, Callable[[], float]]] = {
        "precision": (none_called, lambda: metrics.precision_score(is_fake, called_fake)),
        "recall": (no_fake, lambda: metrics.recall_score(is_fake, called_fake)),
        "f1": (neither, lambda: metrics.f1_score(is_fake, called_fake)),
        "balanced_accuracy": (
            one_class,
            lambda: metrics.balanced_accuracy_score(is_fake, called_fake),
        ),
        "auc": (one_class, lambda: metrics.roc_auc_score(is_fake, score)),
        "average_precision": (no_fake, lambda: metrics.average_precision_score(is_fake, score)),
        "eer": (one_class, lambda: roc.equal_error_rate()[0]),
        "eer_threshold": (one_class, lambda: roc.equal_error_rate()[1]),
        "log_loss": (None, lambda: metrics.log_loss(is_fake, score, labels=[False, True])),
        "brier": (None, lambda: metrics.brier_score_loss(is_fake, score, pos_label=True)),
        "ece": (None, lambda: calibration_error(is_real, real_probability)),
    }
    correct = fake_fake + real_real
    return {
        "positive": POSITIVE,
        "n": len(is_real),
        "n_real": int(is_real.sum()),
        "n_fake": int(is_fake.sum()),
        "correct": correct,
        "wrong": len(is_real) - correct,
        "accuracy": correct / len(is_real),
        "confusion": {
            "fake_called_fake": fake_fake,
            "fake_called_real": fake_real,
            "real_called_fake": real_fake,
            "real_called_real": real_real,
        },
        **{name: None if reason else float(figure()) for name, (reason, figure) in table.items()},
        "meaning": dict(MEANING),
        "notes": [
            f"{name} is not defined: {reason}" for name, (reason, _) in table.items() if reason
        ],
    }


def calibration_bins(
    is_real: np.ndarray, real_probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many, mean fake probability and share of FAKE in each bin that is not empty.

    Bin k of CALIBRATION_BINS holds fake probabilities in [k, k + 1) / CALIBRATION_BINS, the last
    one 1 too.
    """
    score, bins = 1 - real_probability, _calibration_bin(real_probability)
    count = np.bincount(bins)
    used = count > 0
    mean_score = np.bincount(bins, score)[used] / count[used]
    share = np.bincount(bins, ~is_real)[used] / count[used]
    return count[used], mean_score, share


def _calibration_bin(real_probability: np.ndarray) -> np.ndarray:
    bins = ((1 - real_probability) * CALIBRATION_BINS).astype(int)
    return np.minimum(bins, CALIBRATION_BINS - 1)


def calibration_error(is_real: np.ndarray, real_probability: np.ndarray) -> float:
    """The expected calibration error of the fake probability, in [0, 1]."""
    count, mean_score, share = calibration_bins(is_real, real_probability)
    return float(np.average(np.abs(mean_score - share), weights=count))


def weighted_figures(
    is_real: np.ndarray, real_probability: np.ndarray
) -> Callable[[np.ndarray], dict[str, float]]:
    """Prepares the figures that get intervals for many weightings of the same verdicts.

    Returns:
        A function of whole weights (N,), which gives the figures of a set that holds verdict i
        weights[i] times; NaN where one is not defined. It sorts nothing.
    """
    is_fake, called_fake = ~is_real, is_called_fake(real_probability)
    score = 1 - real_probability
    excess = score - is_fake  # over the label
    given_to_label = np.where(is_fake, score, 1 - score)
    columns = np.array(
        [
            is_fake & called_fake,
            is_fake & ~called_fake,
            is_real & called_fake,
            -np.log(np.maximum(given_to_label, np.finfo(np.float64).eps)),
            excess**2,
        ],
        np.float64,
    )
    bins = _calibration_bin(real_probability)
    roc = Roc(is_real, real_probability)

    def figures_of(weights: np.ndarray) -> dict[str, float]:
        total = float(weights.sum())
        fake_fake, fake_real, real_fake, loss, brier = (columns @ weights).tolist()
        fakes = fake_fake + fake_real
        reals = total - fakes
        real_real = reals - real_fake
        points = roc.points(weights)
        return {
            "accuracy": ratio(fake_fake + real_real, total),
            "precision": ratio(fake_fake, fake_fake + real_fake),
            "recall": ratio(fake_fake, fakes),
            "f1": ratio(2 * fake_fake, 2 * fake_fake + fake_real + real_fake),
            "balanced_accuracy": (ratio(fake_fake, fakes) + ratio(real_real, reals)) / 2,
            "auc": ratio(points.area(), fakes * reals),
            "average_precision": points.average_precision(),
            "eer": points.crossing()[0] if fakes and reals else np.nan,
            "log_loss": ratio(loss, total),
            "brier": ratio(brier, total),
            "ece": ratio(float(np.abs(np.bincount(bins, excess * weights)).sum()), total),
        }

    return figures_of
