"""Predictions of a network, and all metrics computed from them, for a report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_unet.nn.decision import THRESHOLD
from flax_unet.utils.errors import InputError, counted
from train.eval import bootstrap
from train.eval.classification import Verdicts
from train.eval.metrics import CLASSIFICATION, SEGMENTATION, Task
from train.eval.segmentation import Masks, PixelCounts

BINS = 2**16  # of a pixel's logit, by its first 16 bits: see `train.eval.scoring`


@dataclass(frozen=True, eq=False)
class Predictions:
    """The output for N frames; None for a head that the checkpoint lacks."""

    file: np.ndarray  # (N,) str
    video: np.ndarray  # (N,) str, the names of the frames' videos
    is_real: np.ndarray  # (N,) bool, the label
    real_probability: np.ndarray | None = None  # (N,) float64 in [0, 1], from float32
    real_logit: np.ndarray | None = None  # (N,) float64
    has_mask: np.ndarray | None = None  # (N,) bool, whether there is a mask label
    pixels: PixelCounts | None = None  # used only where has_mask is true
    manipulated_pixels: np.ndarray | None = None  # (N,) int64, predicted, with a label or without
    # (2, 2, BINS) int64, pixels of frames with a mask label by [is the frame FAKE][is the pixel
    # labelled MANIPULATED][bin of its logit, rising].
    histogram: np.ndarray | None = None
    mask_is_finite: np.ndarray | None = None  # (N,) bool, whether all logits of the mask are finite


def _mean(values: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Means that do not depend, to the last bit, on the order of the frames."""
    order = np.lexsort((values, video))
    starts = np.flatnonzero(np.diff(video[order], prepend=-1))
    return np.add.reduceat(values[order].astype(np.float64), starts) / np.bincount(video)


def _sigmoid_of_mean(logits: np.ndarray, video: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -_mean(logits, video)))  # the sigmoid, without overflow


def _lowest(values: np.ndarray, video: np.ndarray) -> np.ndarray:
    lowest = np.ones(video.max() + 1)
    np.minimum.at(lowest, video, values)
    return lowest


# The real_probability (V,) of videos, in words; as a function of a column (N,) of their frames and
# the number of each frame's video (N,); and that column.
_RULES: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray], str]] = {
    "mean_probability": ("mean real_probability of the frames", _mean, "real_probability"),
    "mean_logit": ("sigmoid of the mean real_logit of the frames", _sigmoid_of_mean, "real_logit"),
    "max": ("that of the frame with the highest fake probability", _lowest, "real_probability"),
}
AGGREGATES = tuple(_RULES)  # the default first


def evaluate_predictions(
    predictions: Predictions, *, aggregate: str = "mean_probability", seed: int | None = 0
) -> dict[str, Any]:
    """All metrics, as plain dicts of Python numbers without NaN.

    A metric that is not defined is None, and the `notes` of its section state the reason.
    `meaning` holds the definitions; `intervals` holds [low, high] or None.

    `predictions` are of at least one frame. `aggregate`, one of AGGREGATES, is how a video's frames
    become one verdict. `seed` is the bootstrap's; None: without intervals, which take most of the
    time.

    Returns:
        `frames` and `videos` if the checkpoint classifies; `pixels` if it predicts masks, with
        the same metrics of the frames labelled FAKE alone under `fake_frames`.

    Raises:
        InputError: frames are missing, outputs are not finite, a video's frames have both
            labels, or `aggregate` is unknown.
    """
    _check(predictions)
    if aggregate not in AGGREGATES:
        raise InputError(f"aggregate is {aggregate}; it must be one of {', '.join(AGGREGATES)}")
    video, _ = _numbered(predictions.video, predictions.is_real)
    is_real = predictions.is_real
    intervals = "not computed"
    if seed is not None:
        intervals = (
            f"{bootstrap.LEVEL:.0%} percentile bootstrap that resamples videos, "
            f"{bootstrap.RESAMPLES} resamples, seed {seed}; where they show no spread, the exact "
            "binomial interval (Clopper-Pearson) of the number of videos"
        )

    def head(task: Task, **extra: str) -> dict[str, Any]:
        meaning = {metric.name: metric.meaning for metric in task.metrics if metric.meaning}
        meaning = {**task.meaning, **meaning, "intervals": intervals, **extra}
        return {"positive": task.positive, "meaning": meaning}

    figures = {}
    if predictions.real_probability is not None:
        found = verdict_figures(CLASSIFICATION, predictions, aggregate=aggregate, seed=seed)
        frames = np.bincount(video)
        figures["frames"] = head(CLASSIFICATION) | found["frames"]
        figures["videos"] = {
            **head(CLASSIFICATION, aggregate=_RULES[aggregate][0]),
            "aggregate": aggregate,
            "frames_per_video": {
                "min": int(frames.min()),
                "median": float(np.median(frames)),
                "max": int(frames.max()),
            },
            **found["videos"],
        }
    if (counts := predictions.pixels) is not None:
        if predictions.has_mask is None or predictions.histogram is None:
            raise ValueError("predictions have counts of pixels without has_mask or histogram")

        def masks(chosen: np.ndarray, histogram: np.ndarray) -> dict[str, Any]:
            pixels = Masks(counts.of(chosen), histogram)
            return _figures(SEGMENTATION, pixels, video[chosen], seed)

        has_mask, histogram = predictions.has_mask, predictions.histogram
        figures["pixels"] = {
            **head(SEGMENTATION),
            **masks(has_mask, histogram.sum(axis=0)),
            "fake_frames": masks(has_mask & ~is_real, histogram[1]),
        }
    return figures


def verdict_figures(
    task: Task,
    predictions: Predictions,
    *,
    aggregate: str,
    seed: int | None,
    threshold: float = THRESHOLD,
) -> dict[str, dict[str, Any]]:
    """The metrics of verdicts of a classifier, on `frames` and on `videos`.

    A face is FAKE from the threshold on its probability of FAKE on; the other arguments are those
    of `evaluate_predictions`.
    """
    video, video_is_real = _numbered(predictions.video, predictions.is_real)
    _, combine, column = _RULES[aggregate]
    of_videos = combine(getattr(predictions, column), video)
    frames = Verdicts(predictions.is_real, np.asarray(predictions.real_probability), threshold)
    videos = Verdicts(video_is_real, of_videos, threshold)
    each = np.arange(len(of_videos))
    return {
        "frames": _figures(task, frames, video, seed),
        "videos": _figures(task, videos, each, seed, "video"),
    }


def _check(predictions: Predictions) -> None:
    if len(predictions.file) == 0:
        raise InputError("no frames were scored; choose a data set and a split that are not empty")
    heads = (
        ("real_probability", predictions.real_probability, np.isfinite),
        ("real_logit", predictions.real_logit, np.isfinite),
        ("mask_logits", predictions.mask_is_finite, np.asarray),
    )
    for name, values, is_finite in heads:
        if values is not None and not is_finite(values).all():
            infinite = np.flatnonzero(~is_finite(values))
            raise InputError(
                f"{name} is not finite for {counted(len(infinite), 'frame')}, the first of them "
                f"{predictions.file[infinite[0]]}; the checkpoint is damaged or its training "
                "diverged: use another"
            )


def _numbered(video: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of each frame's video, (N,), in the order of names, and each video's label (V,).

    Raises:
        InputError: frames of one video have both labels.
    """
    names, video = np.unique(video, return_inverse=True)
    frames, reals = np.bincount(video), np.bincount(video, is_real)
    mixed = names[(reals > 0) & (reals < frames)]
    if len(mixed):
        others = f" (and {counted(len(mixed) - 1, 'other video')})" if len(mixed) > 1 else ""
        raise InputError(
            f"video {mixed[0]}{others} has frames labelled REAL and frames labelled FAKE; "
            "correct the labels or the videos' names"
        )
    return video, reals > 0


def _figures(
    task: Task,
    observations: Verdicts | Masks,
    video: np.ndarray,
    seed: int | None,
    unit: str = "frame",
) -> dict[str, Any]:
    """The metrics of a task with their intervals; `notes` state why one is None."""
    sums = observations.sums(np.ones(len(video)))
    section: dict[str, Any] = {}
    notes = []
    for metric in task.metrics:
        *groups, name = metric.name.split(".")
        value = metric.function(sums)
        if np.isnan(value):
            missing = "REAL" if section.get("n_fake") else "FAKE"
            reason = metric.undefined.format(unit=unit, missing=missing)
            notes.append(f"{metric.name} is not defined: {reason}")
        group = section.setdefault(groups[0], {}) if groups else section
        group[name] = None if np.isnan(value) else value
    if len(video) == 0:
        return {**section, "intervals": {}, "notes": ["no frame has a mask label"]}
    if seed is None:
        return {**section, "intervals": {}, "notes": notes}

    def resampled(weights: np.ndarray) -> dict[str, float]:
        sums = observations.sums(weights)
        return {m.name: m.function(sums) for m in task.metrics if m.has_interval}

    found, more_notes = bootstrap.intervals(resampled, video, seed)
    trials = observations.videos(video)
    is_independent = trials["all"] == len(video)
    for metric in task.metrics:
        figure, interval = metric.find(section), found.get(metric.name)
        if figure is not None and interval is not None:
            found[metric.name] = bootstrap.widened(
                interval,
                figure,
                metric.most,
                trials[metric.videos],
                at_edges=metric.is_share and is_independent,
            )
    section["intervals"] = found
    return {**section, "notes": notes + more_notes}
