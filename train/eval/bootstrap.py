"""Percentile intervals of a bootstrap that resamples videos.

Frames of one video resemble each other, so intervals from resampled frames would be too narrow
(cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8).
"""

from collections.abc import Callable, Iterator

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000


def resampled_weights(cluster: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yields the weights of N observations in each of RESAMPLES resamples: (N,) float64, whole.

    A resample draws C of the C clusters with replacement, each with all its observations.
    `cluster` is (N,) whole numbers from 0 to C - 1, each used.
    """
    random = np.random.default_rng(seed)
    clusters = int(cluster.max()) + 1
    for _ in range(RESAMPLES):
        drawn = random.integers(clusters, size=clusters)
        yield np.bincount(drawn, minlength=clusters).astype(np.float64)[cluster]


def intervals(
    figures_of: Callable[[np.ndarray], dict[str, float]], cluster: np.ndarray, seed: int
) -> tuple[dict[str, list[float] | None], list[str]]:
    """The intervals of some metrics, as [low, high], and notes on resamples that they leave out.

    An interval is None for a metric that is defined in no resample, and for all of a single video.
    `figures_of` gives the metrics of N weighted observations, NaN where one is not defined, and
    `cluster` is the video of each observation, of one or more, in any numbering.
    """
    _, cluster = np.unique(cluster, return_inverse=True)
    names = list(figures_of(np.ones(len(cluster))))
    if cluster.max() == 0:
        return dict.fromkeys(names), ["intervals need two videos or more"]
    resamples = [list(figures_of(w).values()) for w in resampled_weights(cluster, seed)]
    found: dict[str, list[float] | None] = dict.fromkeys(names)
    notes = []
    for name, column in zip(names, np.array(resamples).T, strict=True):
        if len(defined := column[~np.isnan(column)]):
            found[name] = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        if 0 < len(defined) < len(column):
            notes.append(
                f"the interval of {name} leaves out {len(column) - len(defined)} of {len(column)} "
                "resamples, in which it is not defined"
            )
    return found, notes
