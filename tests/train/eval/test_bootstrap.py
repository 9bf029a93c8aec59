"""Intervals, against resamples that are written out."""

import numpy as np
import pytest

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
    assert rare["frames"]["intervals"]["auc"] == [1, 1]
    assert any("the interval of auc leaves out" in note for note in rare["frames"]["notes"])
    real = evaluate_predictions(predictions([True, True], [0.9, 0.1]))["frames"]
    assert real["auc"] is None
    assert real["intervals"]["auc"] is None
    assert real["intervals"]["accuracy"] is not None
