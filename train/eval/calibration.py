"""Fits a temperature and a threshold to scored frames, and the figures that they change."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.checkpoint.worth import WORTH, Worth
from flax_unet.nn.config import UNetConfig
from flax_unet.nn.decision import DECISION, Calibration, decision, fake_probability
from flax_unet.utils.errors import InputError, counted
from train.data.dataset import Dataset
from train.data.splits import PARTS
from train.eval.metrics import CALIBRATION, CLASSIFICATION
from train.eval.predictions import Predictions, verdict_figures

NAME = "calibration"  # of the section in report.json
SPLIT = "validation"  # to fit on, unless another is named
TEMPERATURES = (0.05, 20.0)  # bounds of the fit: on separated classes the log loss falls for ever
_ROUNDING = 1e-9  # of a rate times a count


def check(
    checkpoint: Path, config: UNetConfig, data: Dataset, rate: float, split: str | None
) -> None:
    """Raises an InputError unless frames can serve for `fit`, before they are scored.

    `split` is what the user named, if anything.
    """
    if not config.has_classifier:
        raise InputError(f"--calibrate: {checkpoint} has no classifier; name another checkpoint")
    if split is None and data.split in set(PARTS) - {SPLIT}:
        raise InputError(
            f"--calibrate: {data.name} has no split {SPLIT}; name the frames to calibrate on by "
            "--split. They should be frames of neither training nor test"
        )
    real, name = int(data.table.is_real.sum()), f"{data.name}, split {data.split}"
    if real in (0, len(data)):
        label = "FAKE" if real else "REAL"
        raise InputError(
            f"--calibrate: no frame of {name} is labelled {label}; both labels are needed"
        )
    if not _allowed(real, rate):
        raise InputError(
            f"--calibrate {rate:g}: {name} has {counted(real, 'REAL frame')}, of which one alone "
            f"is a higher rate of false alarms; at least {math.ceil(1 / rate - _ROUNDING)} are "
            "needed. Use more frames, or a higher rate"
        )


def fit(predictions: Predictions, rate: float) -> tuple[Calibration, dict[str, Any]]:
    """The calibration that has the lowest log loss and at most a rate of false alarms.

    Args:
        predictions: of frames that `check` accepts.
        rate: the wished share, above 0 and below 1, of REAL frames that are called FAKE.

    Returns:
        The calibration, and its record: its numbers and what they stand on, which is
        `false_alarm_rate` (wished and reached), `frames`, `real_frames`, `real_videos`, and `notes`
        on what makes it doubtful.

    Raises:
        InputError: so many REAL frames are FAKE with certainty that no threshold has this rate.
    """
    is_real, logit = predictions.is_real, predictions.real_logit
    if logit is None:
        raise ValueError("predictions have no logit")
    fitted = fitted_temperature(is_real, logit)
    # Where the loss falls without end, a lower temperature would only be more certain.
    temperature = 1.0 if fitted == TEMPERATURES[0] else fitted
    probability = Calibration(temperature, 0.5).real_probability(logit)
    of_fake, of_real = (fake_probability(probability[label]) for label in (~is_real, is_real))
    threshold = fitted_threshold(of_real, of_fake, rate)
    videos = len(np.unique(predictions.video[is_real]))
    notes = []
    if fitted in TEMPERATURES:
        easy = (
            "these frames are too easy to calibrate on, and the temperature stays 1; use more, or "
            "harder ones"
        )
        poor = "the network hardly separates the classes here"
        notes.append(
            f"the log loss still falls at a temperature of {fitted:g}, where the fit stops: "
            f"{easy if fitted == TEMPERATURES[0] else poor}"
        )
    if videos < 1 / rate - _ROUNDING:
        notes.append(
            f"the REAL frames are of {counted(videos, 'video')}, fewer than {1 / rate:.4g}. Frames "
            "of one video resemble each other, so the rate of false alarms on other videos may "
            "differ much"
        )
    calibration = Calibration(temperature, threshold)
    return calibration, {
        **dataclasses.asdict(calibration),
        "false_alarm_rate": {"wished": rate, "reached": float(np.mean(of_real >= threshold))},
        "frames": len(is_real),
        "real_frames": len(of_real),
        "real_videos": videos,
        "notes": notes,
    }


def fitted_temperature(is_real: np.ndarray, real_logit: np.ndarray) -> float:
    """The temperature in TEMPERATURES with the lowest mean log loss.

    The log loss is convex in 1 / temperature, so its slope has one root.
    """
    from scipy.optimize import brentq  # takes long to import

    margin = np.where(is_real, real_logit, -real_logit)

    def slope(inverse: float) -> float:
        return float(-np.mean(margin * np.exp(-np.logaddexp(0, margin * inverse))))

    lowest, highest = TEMPERATURES
    if slope(1 / lowest) <= 0:
        return lowest
    if slope(1 / highest) >= 0:
        return highest
    root: Any = brentq(slope, 1 / highest, 1 / lowest, xtol=1e-12)
    return 1 / root


def fitted_threshold(of_real: np.ndarray, of_fake: np.ndarray, rate: float) -> float:
    """The threshold that calls no more REAL frames FAKE than a rate allows.

    Of those thresholds it has the highest recall of FAKE frames, and of those with the same recall
    it is the highest, so that separated classes have it in the gap between them.

    It lies halfway between two values, so that rounding does not change a verdict. Frames of the
    same value are called alike, so that fewer may be called FAKE than the rate allows.

    Args:
        of_real: (N,) the probabilities of FAKE of REAL frames.
        of_fake: (M,) those of FAKE frames.
        rate: above 0 and below 1.

    Raises:
        InputError: more REAL frames have the probability 1.
    """
    not_called = np.sort(of_real)[::-1][_allowed(len(of_real), rate)]
    above = of_fake[of_fake > not_called].min(initial=1.0)
    below = max(float(of[of < above].max(initial=not_called)) for of in (of_real, of_fake))
    threshold = float(below + above) / 2
    if not not_called < threshold < 1:
        raise InputError(
            f"--calibrate {rate:g}: more than {rate:.2%} of the REAL frames are FAKE with a "
            "probability of 1, so no threshold has this rate of false alarms; give a higher one"
        )
    return threshold


def _allowed(count: int, rate: float) -> int:
    """How many of `count` frames may be false alarms."""
    return min(math.floor(rate * count + _ROUNDING), count - 1)


def store(path: Path, fitted: dict[str, Any], data: Dataset, options: dict[str, Any]) -> str:
    """Stores the record of `fit` with a checkpoint, whose measurement by the one before is removed.

    `options` are those of the command that decided the frames and their scores.

    Returns:
        What it stands on, in words.

    Raises:
        InputError: it cannot be written.
    """
    record = {
        **fitted,
        **options,
        "data": data.name,
        "split": data.split,
        "split_as_given": options["split"],
        "data_fingerprint": data.fingerprint,
        "made_by": made_by(),
    }
    notes, worth = list(fitted["notes"]), Worth.of(metadata.load_source(path))
    if worth.measured_on is not None:
        metadata.store_record(path, WORTH, worth.measured(None).to_json())
        notes.append(
            f"the recorded measurement ({worth.measured_on}) is of the decision before, and is "
            "removed; evaluate again, and record it by python -m train.card --evaluation"
        )
    metadata.store_record(path, metadata.CALIBRATION, record)
    rate, real = fitted["false_alarm_rate"], fitted["real_frames"]
    text = (
        f"{path}: calibrated on {counted(fitted['frames'] - real, 'FAKE frame')} and "
        f"{counted(real, 'REAL frame')} of {counted(fitted['real_videos'], 'video')}, of which "
        f"{rate['reached']:.2%} are called FAKE ({rate['wished']:.2%} wished). flax_unet.predict, "
        "flax_unet.app and Detector use it from now on"
    )
    return "\n".join([text, *(f"note: {note}" for note in notes)])


def calibrated(predictions: Predictions, calibration: Calibration) -> Predictions:
    """The same with calibrated probabilities; they have logits."""
    if predictions.real_logit is None:
        raise ValueError("predictions have no logit")
    return dataclasses.replace(
        predictions,
        real_logit=predictions.real_logit / calibration.temperature,
        real_probability=calibration.real_probability(predictions.real_logit),
    )


def evaluate(
    predictions: Predictions, calibration: Calibration, aggregate: str, seed: int
) -> dict[str, Any]:
    """What a calibration changes, for a report: figures of frames and videos.

    They are those of the published decision under `published`, and those of the calibrated
    probability against the threshold under `calibrated`. A video's probability combines the
    calibrated ones of its frames. The other arguments are those of `evaluate_predictions`.
    """
    changed = calibrated(predictions, calibration)
    meaning = {
        "published": DECISION,
        "calibrated": f"{decision(calibration.threshold)}; real_probability is sigmoid(real_logit "
        "/ temperature)",
        **{metric.name: metric.meaning for metric in CALIBRATION[0].metrics if metric.meaning},
    }
    task, options = CALIBRATION[0], {"aggregate": aggregate, "seed": seed}
    return {
        **dataclasses.asdict(calibration),
        "positive": CLASSIFICATION.positive,
        "meaning": meaning,
        "published": verdict_figures(task, predictions, **options),
        "calibrated": verdict_figures(task, changed, threshold=calibration.threshold, **options),
    }
