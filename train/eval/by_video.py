"""From frames to videos: one label and one verdict each."""

from collections.abc import Callable

import numpy as np

from flax_unet.utils.errors import InputError


def numbered(video: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the videos by their names' order.

    Args:
        video: (N,) str, of each frame.
        is_real: (N,) bool, of each frame.

    Returns:
        The number (N,) of each frame's video and the label (V,) of each video.

    Raises:
        InputError: frames of one video have both labels.
    """
    names, video = np.unique(video, return_inverse=True)
    frames, reals = np.bincount(video), np.bincount(video, is_real)
    mixed = names[(reals > 0) & (reals < frames)]
    if len(mixed):
        others = f" (and {len(mixed) - 1} other videos)" if len(mixed) > 1 else ""
        raise InputError(
            f"video {mixed[0]}{others} has frames labelled REAL and frames labelled FAKE; "
            "correct the labels or the videos' names"
        )
    return video, reals > 0


def _mean(values: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Means that do not depend, to the last bit, on the order of the frames."""
    order = np.lexsort((values, video))
    starts = np.flatnonzero(np.diff(video[order], prepend=-1))
    return np.add.reduceat(values[order].astype(np.float64), starts) / np.bincount(video)


def _mean_probability(
    real_probability: np.ndarray, _: np.ndarray | None, video: np.ndarray
) -> np.ndarray:
    return _mean(real_probability, video)


def _mean_logit(_: np.ndarray, real_logit: np.ndarray | None, video: np.ndarray) -> np.ndarray:
    if real_logit is None:
        raise ValueError("predictions lack real_logit, which belongs to their real_probability")
    return np.exp(-np.logaddexp(0, -_mean(real_logit, video)))  # the sigmoid, without overflow


def _max(real_probability: np.ndarray, _: np.ndarray | None, video: np.ndarray) -> np.ndarray:
    lowest = np.ones(video.max() + 1)
    np.minimum.at(lowest, video, real_probability)
    return lowest


Rule = Callable[[np.ndarray, np.ndarray | None, np.ndarray], np.ndarray]

# What a video's real_probability is, in words, and how real_probability (N,), real_logit (N,) and
# the videos' numbers (N,) become it, (V,).
RULES: dict[str, tuple[str, Rule]] = {
    "mean_probability": ("mean real_probability of the frames", _mean_probability),
    "mean_logit": ("sigmoid of the mean real_logit of the frames", _mean_logit),
    "max": ("that of the frame with the highest fake probability", _max),
}
