"""Predictions to score, and the figures of verdicts by definition."""

from typing import Any

import numpy as np

from train.eval.predictions import Predictions

CLOSE = 1e-9  # what sums of some hundred float64 may differ by


def predictions(is_real: Any, real_probability: Any, video: Any = None, **more: Any) -> Predictions:
    """Verdicts on frames, each of a video of its own unless said otherwise."""
    is_real = np.asarray(is_real, bool)
    names = np.array([f"frame {number}" for number in range(len(is_real))])
    return Predictions(
        file=names,
        video=names if video is None else np.asarray(video),
        is_real=is_real,
        real_probability=np.asarray(real_probability, np.float32).astype(np.float64),
        **more,
    )


def by_definition(is_fake: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """The figures of verdicts, FAKE positive, by counting; NaN where they are not defined."""
    called = score >= 0.5
    hits, misses = np.sum(is_fake & called), np.sum(is_fake & ~called)
    alarms, passes = np.sum(~is_fake & called), np.sum(~is_fake & ~called)
    with np.errstate(all="ignore"):
        pairs = score[is_fake][:, None] - score[~is_fake][None]
        recall, precision = hits / (hits + misses), hits / (hits + alarms)
        average, before = 0.0, 0.0
        true_rate, false_rate = [0.0], [0.0]
        for threshold in sorted(set(score.tolist()), reverse=True):
            found = np.sum(is_fake & (score >= threshold)) / is_fake.sum()
            average += (found - before) * is_fake[score >= threshold].mean()
            before = found
            true_rate.append(float((score[is_fake] >= threshold).mean()) if is_fake.any() else 0)
            false_rate.append(
                float((score[~is_fake] >= threshold).mean()) if not is_fake.all() else 0
            )
        both = is_fake.any() and not is_fake.all()
        # Where the polyline crosses x + y = 1; along it x + y only grows.
        along = np.add(true_rate, false_rate)
        given_to_label = np.where(is_fake, score, 1 - score)
        return {
            "accuracy": (hits + passes) / len(score),
            "precision": precision,
            "recall": recall,
            "f1": 2 * hits / (2 * hits + misses + alarms),
            "balanced_accuracy": (recall + passes / (passes + alarms)) / 2,
            "auc": ((pairs > 0) + 0.5 * (pairs == 0)).mean() if both else np.nan,
            "average_precision": average,
            "eer": float(np.interp(1, along, false_rate)) if both else np.nan,
            "log_loss": -np.log(np.maximum(given_to_label, 2.0**-52)).mean(),
            "brier": ((score - is_fake) ** 2).mean(),
            "ece": _calibration_error(is_fake, score),
        }


def _calibration_error(is_fake: np.ndarray, score: np.ndarray) -> float:
    """Over fifteenths of [0, 1], the last with its end."""
    total = 0.0
    for k in range(15):
        inside = (score * 15 >= k) & ((score * 15 < k + 1) | (k == 14))
        if inside.any():
            total += inside.sum() * abs(score[inside].mean() - is_fake[inside].mean())
    return total / len(score)
