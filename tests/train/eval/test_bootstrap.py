"""Intervals, against resamples that are written out."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from tests.train.eval.verdicts import CLOSE, by_definition, predictions
from train.eval import bootstrap
from train.eval.predictions import BINS, evaluate_predictions
from train.eval.segmentation import PixelCounts


def test_intervals_by_resampling_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each resample written out frame by frame, and scored by definition."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 100)
    random = np.random.default_rng(3)
    video = random.integers(0, 12, 60)
    is_real = video % 3 == 0
    real_probability = (random.integers(0, 9, 60) / 8 * 3 + is_real) / 4  # with ties
    tp, fp, fn, tn = random.integers(0, 9, (4, 60))
    figures = evaluate_predictions(
        predictions(
            is_real,
            real_probability,
            video.astype(str),
            has_mask=np.ones(60, bool),
            pixels=PixelCounts(tp, fp, fn, tn),
            histogram=np.ones((2, 2, BINS), np.int64),
        ),
        seed=5,
    )
    names = [
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc"),
        *("average_precision", "eer", "log_loss", "brier", "ece"),
    ]
    pixel_names = ["dice", "iou_mean", "iou_pooled", "f1", "accuracy"]
    _, cluster = np.unique(video.astype(str), return_inverse=True)
    rows = []
    for weights in bootstrap.resampled_weights(cluster, 5):
        frames = np.repeat(np.arange(60), weights.astype(int))
        values = by_definition(~is_real[frames], 1 - real_probability[frames])
        t, p, n = (2 * tp)[frames], fp[frames], fn[frames]
        dice = ((t + 1e-6) / (t + p + n + 1e-6)).mean()
        union = t / 2 + p + n
        iou = np.where(union == 0, 1, t / 2 / np.maximum(union, 1)).mean()
        f1 = t.sum() / (t.sum() + (p + n).sum())
        wrong = (p + n).sum() / (tp + fp + fn + tn)[frames].sum()
        pooled = (t.sum() / 2 / union.sum(), f1, 1 - wrong)
        rows.append([*(values[name] for name in names), dice, iou, *pooled])
    low, high = np.nanquantile(np.array(rows), [0.025, 0.975], axis=0)
    found = [figures[part]["intervals"] for part in ("frames", "pixels")]
    assert [list(each) for each in found] == [names, pixel_names]
    intervals = [interval for each in found for interval in each.values()]
    for place, name in enumerate(names + pixel_names):
        assert intervals[place] == pytest.approx([low[place], high[place]], abs=CLOSE), name
        assert low[place] < high[place]
    assert "resamples videos, 100 resamples, seed 5" in figures["frames"]["meaning"]["intervals"]


def test_resamples_hold_whole_videos() -> None:
    cluster = np.array([0, 1, 1, 2, 2, 2, 3])
    weights = np.array(list(bootstrap.resampled_weights(cluster, 0)))
    first = weights[:, [0, 1, 3, 6]]  # a frame of each video
    np.testing.assert_array_equal(weights, first[:, cluster])
    assert (first.sum(1) == 4).all()
    # Drawn evenly: the mean of 1000 counts of variance 3/4 is within 5 standard errors of 1.
    np.testing.assert_allclose(first.mean(0), 1, atol=5 * np.sqrt(0.75 / len(weights)))


def test_more_frames_of_the_same_videos_narrow_nothing() -> None:
    """Repeated frames add no evidence, unlike frames of new videos."""
    random = np.random.default_rng(0)
    is_real = np.arange(40) % 2 == 0
    real_probability = np.clip(is_real * 0.3 + 0.35 + random.normal(0, 0.3, 40), 0, 1)
    names = np.arange(40).astype(str)

    def interval(times: int, video: np.ndarray) -> list[float]:
        of = predictions(np.tile(is_real, times), np.tile(real_probability, times), video)
        return evaluate_predictions(of)["frames"]["intervals"]["accuracy"]

    once = interval(1, names)
    assert interval(9, np.tile(names, 9)) == pytest.approx(once, abs=CLOSE)
    low, high = interval(9, np.arange(360).astype(str))
    assert high - low < 0.5 * (once[1] - once[0])


def test_intervals_that_cannot_be_had() -> None:
    one = evaluate_predictions(predictions([True] * 3, [0.9, 0.8, 0.1], ["v"] * 3))["frames"]
    assert set(one["intervals"].values()) == {None}
    assert any("two videos" in note for note in one["notes"])
    rare = evaluate_predictions(predictions([False, True, True, True], [0.1, 0.9, 0.8, 0.7]))
    assert rare["frames"]["intervals"]["auc"] == pytest.approx([0.025, 1])  # of a single FAKE
    assert any("the interval of auc leaves out" in note for note in rare["frames"]["notes"])
    real = evaluate_predictions(predictions([True, True], [0.9, 0.1]))["frames"]
    assert real["auc"] is None
    assert real["intervals"]["auc"] is None
    assert real["intervals"]["accuracy"] is not None


def test_intervals_of_perfect_verdicts() -> None:
    """Limits in closed form: as many trials as there are videos that a figure rests on."""
    is_real = np.arange(60) < 40
    video = np.array([f"video {number // 2}" for number in range(60)])  # 20 REAL, 10 FAKE
    figures = evaluate_predictions(predictions(is_real, is_real.astype(float), video))
    every, ten = 0.025 ** (1 / 30), 0.025 ** (1 / 10)
    shares = {
        "accuracy": every,
        **dict.fromkeys(("balanced_accuracy", "precision", "recall", "f1"), ten),
        **dict.fromkeys(("auc", "average_precision"), ten),
    }
    for unit in ("frames", "videos"):
        intervals = figures[unit]["intervals"]
        for name, low in shares.items():
            assert figures[unit][name] == 1
            assert intervals[name] == pytest.approx([low, 1]), name
        assert intervals["eer"] == pytest.approx([0, 1 - ten])
        for name in ("brier", "ece"):
            assert intervals[name] == pytest.approx([0, 1 - every]), name
        low, high = intervals["log_loss"]  # of verdicts that are wrong and certain
        assert (low, high) == pytest.approx((0, 36.04 * (1 - every)), abs=1e-2)
    meaning = figures["frames"]["meaning"]["intervals"]
    assert "Clopper-Pearson" in meaning


def test_intervals_of_wrong_verdicts_and_of_perfect_masks() -> None:
    wrong = evaluate_predictions(predictions([True, True, False], [0.1, 0.2, 0.9]))["videos"]
    assert wrong["intervals"]["accuracy"] == pytest.approx([0, 1 - 0.025 ** (1 / 3)])
    assert wrong["intervals"]["auc"] == pytest.approx([0, 0.975])
    count = np.full(5, 7)
    count[0] = 0  # a REAL frame without a marked pixel says nothing about the pooled figures
    masks = predictions(
        np.arange(5) == 0,
        np.full(5, 0.5),
        has_mask=np.ones(5, bool),
        pixels=PixelCounts(count, 0 * count, 0 * count, 9 - count),
        histogram=np.ones((2, 2, BINS), np.int64),
    )
    intervals = evaluate_predictions(masks)["pixels"]["intervals"]
    for name, videos in {"dice": 5, "iou_mean": 5, "accuracy": 5, "iou_pooled": 4, "f1": 4}.items():
        assert intervals[name] == pytest.approx([0.025 ** (1 / videos), 1]), name


def accuracy(right: int, of: int) -> list[float]:
    """The interval of so many right verdicts, each on a video."""
    probability = np.where(np.arange(of) < right, 0.9, 0.1)
    figures = evaluate_predictions(predictions(np.ones(of, bool), probability))
    return figures["videos"]["intervals"]["accuracy"]


def test_an_error_does_not_narrow_an_interval() -> None:
    lows = [accuracy(right, 100)[0] for right in (100, 99, 98)]
    assert lows == sorted(lows, reverse=True)
    for right, low in zip((100, 99, 98), lows, strict=True):
        exact = binomtest(right, 100).proportion_ci(method="exact")
        assert low == pytest.approx(exact.low)
    # Away from the edges the interval is the bootstrap's.
    assert accuracy(80, 100) == pytest.approx(binom.ppf([0.025, 0.975], 100, 0.8) / 100, abs=0.011)


@pytest.mark.parametrize(("videos", "share"), [(5, 0.9), (20, 0.99), (20, 0.95), (60, 0.999)])
def test_intervals_near_the_edge_cover_the_truth(videos: int, share: float) -> None:
    """By adding up the probabilities of all counts; the bootstrap alone covers 6 to 64 %."""
    right = np.arange(videos + 1)
    near = right[binom.pmf(right, videos, share) > 1e-4]
    covers = [low <= share <= high for low, high in (accuracy(k, videos) for k in near.tolist())]
    assert binom.pmf(near, videos, share)[covers].sum() >= 0.93


def test_intervals_of_shares_are_the_exact_ones() -> None:
    for right, trials in ((0, 7), (3, 7), (7, 7), (1, 1), (499, 500)):
        exact = binomtest(right, trials).proportion_ci(method="exact")
        assert bootstrap.clopper_pearson(right / trials, trials) == pytest.approx(exact)
