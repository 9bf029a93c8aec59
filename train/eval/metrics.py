"""The figures of an evaluation: frames, videos and pixels, each with intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_unet.utils.errors import InputError
from train.eval import bootstrap, by_video, classification, segmentation
from train.eval.segmentation import PixelCounts

BINS = 2**16  # of a pixel's score, by the first 16 bits of its logit: see `train.eval.scoring`
AGGREGATES = tuple(by_video.RULES)  # how a video's frames become one verdict; the default first


@dataclass(frozen=True, eq=False)
class Predictions:
    """What an evaluation found out about N frames. What a checkpoint has no head for is None.

    Attributes:
        file: (N,) str, the frame's name.
        video: (N,) str, the name of the video that it was taken from.
        is_real: (N,) bool, the label.
        real_probability: (N,) float64 in [0, 1], the float32 value that the network gave.
        real_logit: (N,) float, its logit.
        has_mask: (N,) bool, whether the frame came with a mask label.
        tp: (N,) int64, pixels labelled and predicted MANIPULATED; like fp, fn and tn it counts
            only where has_mask is true.
        fp: (N,) int64, pixels predicted MANIPULATED that are labelled untouched.
        fn: (N,) int64, pixels labelled MANIPULATED that are predicted untouched.
        tn: (N,) int64, pixels labelled and predicted untouched.
        manipulated_pixels: (N,) int64, pixels predicted MANIPULATED, with or without a label.
        histogram: (2, 2, bins) int64, counts of the pixels of frames with a mask label, by
            [is the frame FAKE][is the pixel labelled MANIPULATED][bin of the logit that it is,
            rising].
        mask_is_finite: (N,) bool, whether the logits of the frame's pixels are all numbers.
    """

    file: np.ndarray
    video: np.ndarray
    is_real: np.ndarray
    real_probability: np.ndarray | None = None
    real_logit: np.ndarray | None = None
    has_mask: np.ndarray | None = None
    tp: np.ndarray | None = None
    fp: np.ndarray | None = None
    fn: np.ndarray | None = None
    tn: np.ndarray | None = None
    manipulated_pixels: np.ndarray | None = None
    histogram: np.ndarray | None = None
    mask_is_finite: np.ndarray | None = None

    def pixel_counts(self) -> PixelCounts | None:
        """The counts of pixels of every frame, or None where the checkpoint predicts no mask."""
        if self.tp is None or self.fp is None or self.fn is None or self.tn is None:
            return None
        return PixelCounts(self.tp, self.fp, self.fn, self.tn)


def evaluate_predictions(
    predictions: Predictions, *, aggregate: str = "mean_probability", seed: int = 0
) -> dict[str, Any]:
    """All figures, as plain dicts of Python numbers without NaN.

    A figure that is not defined is None and its section's `notes` say why. `meaning` tells each
    figure's definition and positive class; `intervals` holds [low, high] or None.

    Args:
        predictions: of at least one frame.
        aggregate: how a video's frames become one verdict, a name of AGGREGATES.
        seed: of the bootstrap.

    Returns:
        `frames` and `videos` if the checkpoint classifies; `pixels` if it predicts masks, with
        the same figures for fake frames alone under `fake_frames`.

    Raises:
        InputError: there are no frames, a head's figures are not finite, a video's frames have
            both labels, or `aggregate` is none.
    """
    _check(predictions)
    video, video_is_real = by_video.numbered(predictions.video, predictions.is_real)
    is_real = predictions.is_real
    if aggregate not in AGGREGATES:
        raise InputError(f"aggregate is {aggregate}; it must be one of {', '.join(AGGREGATES)}")

    figures = {}
    if predictions.real_probability is not None:
        real_probability = predictions.real_probability.astype(np.float64)
        figures["frames"] = _verdicts(is_real, real_probability, video, "frame", seed)
        meaning, combine = by_video.RULES[aggregate]
        combined = combine(real_probability, predictions.real_logit, video)
        frames = np.bincount(video)
        figures["videos"] = {
            "aggregate": aggregate,
            "frames_per_video": {
                "min": int(frames.min()),
                "median": float(np.median(frames)),
                "max": int(frames.max()),
            },
            **_verdicts(video_is_real, combined, np.arange(len(frames)), "video", seed),
        }
        figures["videos"]["meaning"]["aggregate"] = meaning
    counts = predictions.pixel_counts()
    if counts is not None:
        histogram = _present(predictions.histogram)
        has_mask = _present(predictions.has_mask)
        figures["pixels"] = {
            "positive": segmentation.POSITIVE,
            **_masks(counts, has_mask, histogram.sum(axis=0), video, seed),
            "fake_frames": _masks(counts, has_mask & ~is_real, histogram[1], video, seed),
            "meaning": {
                **segmentation.MEANING,
                "fake_frames": "the same figures of the frames labelled FAKE alone",
                "intervals": _meaning_of_intervals(seed),
            },
        }
    return figures


def _check(predictions: Predictions) -> None:
    if len(predictions.file) == 0:
        raise InputError("no frames were scored; choose a data set and a split that are not empty")
    heads = {
        "real_probability": _is_finite(predictions.real_probability),
        "real_logit": _is_finite(predictions.real_logit),
        "mask_logits": predictions.mask_is_finite,
    }
    for name, is_finite in heads.items():
        if is_finite is not None and not is_finite.all():
            first = predictions.file[np.argmin(is_finite)]
            raise InputError(
                f"{name} is not finite for {np.sum(~is_finite)} frames, the first of them {first}; "
                "the checkpoint is damaged or its training diverged: use another"
            )


def _is_finite(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.isfinite(values)


def _verdicts(
    is_real: np.ndarray, real_probability: np.ndarray, video: np.ndarray, unit: str, seed: int
) -> dict[str, Any]:
    """The figures of verdicts on frames or videos, with their intervals."""
    figures = classification.figures(is_real, real_probability, unit)
    weighted = classification.weighted_figures(is_real, real_probability)
    figures["intervals"], notes = bootstrap.intervals(weighted, video, seed)
    figures["notes"] += notes
    figures["meaning"]["intervals"] = _meaning_of_intervals(seed)
    return figures


def _masks(
    counts: PixelCounts, chosen: np.ndarray, histogram: np.ndarray, video: np.ndarray, seed: int
) -> dict[str, Any]:
    """The figures of the masks of the chosen frames, with their intervals."""
    counts = counts.of(chosen)
    figures = segmentation.figures(counts, histogram)
    figures["intervals"] = {}
    if figures["n"]:
        weighted = segmentation.weighted_figures(counts)
        figures["intervals"], notes = bootstrap.intervals(weighted, video[chosen], seed)
        figures["notes"] += notes
    return figures


def _meaning_of_intervals(seed: int) -> str:
    return (
        f"{bootstrap.LEVEL:.0%} percentile bootstrap that resamples videos, "
        f"{bootstrap.RESAMPLES} resamples, seed {seed}"
    )


def _present(array: np.ndarray | None) -> np.ndarray:
    """The array, which comes with another one that is there.

    Raises:
        ValueError: it is not there.
    """
    if array is None:
        raise ValueError("predictions lack an array that belongs to their others")
    return array
