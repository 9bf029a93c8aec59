"""Percentile intervals of a bootstrap that resamples videos, widened where it sees no spread.

Frames of one video resemble each other, so intervals from resampled frames would be too narrow
(cluster bootstrap; Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8).

Resamples of perfect verdicts are all perfect, however few they are. There the interval is the
binomial one of as many trials as there are independent videos (`widened`).
"""

from collections.abc import Callable, Iterator

import numpy as np

LEVEL = 0.95
RESAMPLES = 1000
_ROUNDING = 1e-9  # of sums of many float64


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


def clopper_pearson(share: float, trials: int) -> tuple[float, float]:
    """The exact binomial interval of a share in [0, 1] of so many independent trials.

    Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the
    binomial, Biometrika 26, 1934. Its limits are quantiles of beta distributions, which also take
    a share that is not a whole number of trials. For a share of 1 it is
    [((1 - LEVEL) / 2) ** (1 / trials), 1].
    """
    from scipy.special import betaincinv  # takes long to import

    share, tail = min(max(share, 0.0), 1.0), (1 - LEVEL) / 2
    right, wrong = share * trials, (1 - share) * trials
    low = float(betaincinv(right, wrong + 1, tail)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, wrong, 1 - tail)) if wrong > 0 else 1.0
    return low, high


def widened(
    interval: list[float], figure: float, most: float, trials: int, *, at_edges: bool
) -> list[float]:
    """The interval of a figure in [0, `most`], widened where resamples do not show the spread.

    That is where it has no width and, if `at_edges`, where it reaches 0 or `most`. There it also
    covers `clopper_pearson` of the figure, of as many trials as there are independent videos.
    `at_edges` is for shares of independent verdicts: 99 right of 100 must not have a narrower
    interval than 100 of 100.

    For a perfect figure this limit holds however few the videos are: a figure in [0, 1] whose mean
    is p is 1 in all of n videos with a probability of at most p ** n. The same holds of an AUC with
    n the smaller number of videos of a class, since n disjoint pairs are all in order with a
    probability of at most AUC ** n (Hoeffding, Probability inequalities for sums of bounded random
    variables, 1963, section 5). Elsewhere it is conservative: the variance of figures in [0, 1]
    with the mean p is at most p (1 - p). For figures that join several shares, such as average
    precision, it is a rule of thumb.
    """
    low, high = interval
    has_width = high - low > _ROUNDING * most
    reaches_an_edge = low <= _ROUNDING * most or high >= (1 - _ROUNDING) * most
    if has_width and not (at_edges and reaches_an_edge):
        return interval
    exact = clopper_pearson(figure / most, trials)
    return [min(low, exact[0] * most), max(high, exact[1] * most)]
