"""The figures, against definitions spelt out in full."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from flax_unet.utils.errors import InputError
from tests.train.eval.verdicts import CLOSE, by_definition, predictions
from train.eval import bootstrap
from train.eval.predictions import AGGREGATES, BINS, Predictions, evaluate_predictions
from train.eval.segmentation import PixelCounts


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that cost little, where they are not the point."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 5)


def assert_figures(found: dict[str, Any], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        if np.isnan(value):
            assert found[name] is None, name
            assert any(note.startswith(f"{name} is not defined: ") for note in found["notes"])
        else:
            assert found[name] == pytest.approx(value, abs=CLOSE), name


grid = st.integers(0, 8).map(lambda step: step / 8)  # makes ties, and 0, 0.5 and 1
verdicts = st.lists(
    st.tuples(st.booleans(), grid | st.floats(0, 1, width=32)), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(verdicts)
def test_verdicts(cases: list[tuple[bool, float]]) -> None:
    is_real = np.array([real for real, _ in cases])
    real_probability = np.array([probability for _, probability in cases])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "RESAMPLES", 3)
        figures = evaluate_predictions(predictions(is_real, real_probability))
    frames = figures["frames"]
    expected = by_definition(~is_real, 1 - real_probability)
    assert_figures(frames, expected)
    assert frames["correct"] + frames["wrong"] == len(cases)
    assert frames["correct"] == np.sum((real_probability > 0.5) == is_real)
    assert (frames["n_real"], frames["n_fake"]) == (is_real.sum(), (~is_real).sum())
    assert_figures(figures["videos"], expected)  # each frame is a video here
    assert_as_scikit_learn(frames, ~is_real, 1 - real_probability.astype(np.float32).astype(float))
    json.dumps(figures, allow_nan=False)


def assert_as_scikit_learn(found: dict[str, Any], is_fake: np.ndarray, score: np.ndarray) -> None:
    """Equal but for the rounding of a sum of float64 for each verdict."""
    called = score >= 0.5
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(is_fake, called),
        "log_loss": sklearn_metrics.log_loss(is_fake, score, labels=[False, True]),
        "brier": sklearn_metrics.brier_score_loss(is_fake, score, pos_label=True),
    }
    if called.any():
        expected["precision"] = sklearn_metrics.precision_score(is_fake, called)
    if is_fake.any():
        expected["recall"] = sklearn_metrics.recall_score(is_fake, called)
        expected["f1"] = sklearn_metrics.f1_score(is_fake, called)
        expected["average_precision"] = sklearn_metrics.average_precision_score(is_fake, score)
    if is_fake.any() and not is_fake.all():
        balanced = sklearn_metrics.balanced_accuracy_score(is_fake, called)
        expected["balanced_accuracy"] = balanced
        expected["auc"] = sklearn_metrics.roc_auc_score(is_fake, score)
    rounding = 4 * (len(score) + 1) * np.finfo(np.float64).eps
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=rounding, abs=rounding), name
    confusion = sklearn_metrics.confusion_matrix(is_fake, called, labels=[True, False])
    assert list(found["confusion"].values()) == confusion.ravel().tolist()


@pytest.mark.usefixtures("few_resamples")
def test_polarity() -> None:
    """Three FAKE, two of them found; one REAL of five taken for FAKE; half is FAKE."""
    is_real = [False, False, False, True, True, True, True, True]
    real_probability = [0.1, 0.5, 0.9, 0.6, 0.7, 0.8, 0.95, 0.2]
    frames = evaluate_predictions(predictions(is_real, real_probability))["frames"]
    assert frames["positive"] == "FAKE"
    assert frames["confusion"] == {
        "fake_called_fake": 2,
        "fake_called_real": 1,
        "real_called_fake": 1,
        "real_called_real": 4,
    }
    assert (frames["correct"], frames["wrong"]) == (6, 2)
    assert frames["precision"] == pytest.approx(2 / 3)
    assert frames["balanced_accuracy"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert frames["auc"] == pytest.approx((5 + 4 + 1) / 15)
    for name in ("precision", "recall", "f1", "auc", "average_precision", "brier"):
        assert "FAKE" in frames["meaning"][name]


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("fakes", "reals", "rate", "threshold"),
    [
        ([0.9, 0.8], [0.1, 0.2], 0, 0.8),  # apart
        ([0.1, 0.2], [0.9, 0.8], 1, 0.8),  # the wrong way round
        ([0.9, 0.6, 0.4], [0.8, 0.3, 0.2], 1 / 3, 0.6),  # a point of the ROC
        ([0.5, 0.5], [0.5, 0.5, 0.5], 1 / 2, 0.5),  # all tied: the diagonal
        ([0.9, 0.1], [0.5], 1 / 2, 0.5),  # halfway along a level stretch
        ([0.8, 0.5, 0.5], [0.5, 0.1], 2 / 7, 0.5),  # from (0, 1/3) to (1/2, 1)
    ],
)
def test_equal_error_rate(fakes: list, reals: list, rate: float, threshold: float) -> None:
    is_real = [False] * len(fakes) + [True] * len(reals)
    found = evaluate_predictions(predictions(is_real, 1 - np.array(fakes + reals)))["frames"]
    assert found["eer"] == pytest.approx(rate, abs=1e-12)
    assert found["eer_threshold"] == pytest.approx(threshold, abs=1e-6)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("fake_probability", "is_fake", "error"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 1),
        ([0.0625, 0.0625, 0.9375, 0.9375], [0, 1, 1, 1], (0.4375 + 0.0625) / 2),
        ([0.25, 0.75], [1, 1], 0.5),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 0.25),
        ([0.0625, 0.03125, 1], [1, 0, 1], (1 - 0.09375) / 3),  # the first two share a bin
        ([0.0625, 137 / 2048], [1, 0], (0.9375 + 137 / 2048) / 2),  # 1/15 lies between them
    ],
)
def test_calibration_error(fake_probability: list, is_fake: list, error: float) -> None:
    found = evaluate_predictions(
        predictions(~np.array(is_fake, bool), 1 - np.array(fake_probability))
    )
    assert found["frames"]["ece"] == pytest.approx(error, abs=CLOSE)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("mean_probability", {"a": 0.7, "b": 0.375, "c": 0.5}),
        ("mean_logit", {"a": 1 / (1 + np.exp(-1)), "b": 1 / (1 + np.exp(2)), "c": 0.5}),
        ("max", {"a": 0.6, "b": 0.25, "c": 0.5}),
    ],
)
def test_videos(aggregate: str, expected: dict[str, float]) -> None:
    assert aggregate in AGGREGATES
    video = ["b", "a", "c", "b", "a"]
    is_real = np.array([False, True, False, False, True])
    logits = np.array([-1.0, 3.0, 0.0, -3.0, -1.0])
    of = predictions(is_real, [0.5, 0.6, 0.5, 0.25, 0.8], video, real_logit=logits)
    found = evaluate_predictions(of, aggregate=aggregate)
    videos, frames = found["videos"], found["frames"]
    assert videos["frames_per_video"] == {"min": 1, "median": 2.0, "max": 2}
    assert (videos["n"], videos["n_real"], videos["correct"]) == (3, 1, 3)
    brier = np.mean([(1 - expected["a"]) ** 2, expected["b"] ** 2, expected["c"] ** 2])
    assert videos["brier"] == pytest.approx(brier, abs=1e-6)
    assert frames["n"] == 5
    assert aggregate == videos["aggregate"]
    backwards = Predictions(
        of.file[::-1],
        of.video[::-1],
        is_real[::-1],
        of.real_probability[::-1] if of.real_probability is not None else None,
        logits[::-1],
    )
    again = evaluate_predictions(backwards, aggregate=aggregate)["videos"]
    assert {**again, "intervals": 0} == {**videos, "intervals": 0}


@pytest.mark.usefixtures("few_resamples")
def test_heads_that_are_missing_are_left_out() -> None:
    assert set(evaluate_predictions(predictions([True], [0.9]))) == {"frames", "videos"}
    one = np.ones(1, np.int64)
    segmenter = Predictions(
        *(np.array(["a"]), np.array(["a"]), np.array([True])),
        has_mask=np.array([False]),
        pixels=PixelCounts(*[one] * 4),
        manipulated_pixels=one,
        histogram=np.zeros((2, 2, BINS), np.int64),
    )
    figures = evaluate_predictions(segmenter)
    assert set(figures) == {"pixels"}
    assert figures["pixels"]["dice"] is None
    assert figures["pixels"]["notes"] == ["no frame has a mask label"]


def test_what_cannot_be_scored() -> None:
    with pytest.raises(InputError, match=r"video v has frames labelled REAL and .* FAKE"):
        evaluate_predictions(predictions([True, False, True], [1, 0, 1], ["v", "v", "w"]))
    with pytest.raises(InputError, match=r"real_probability is not finite .* frame 1;"):
        evaluate_predictions(predictions([True, False], [0.5, np.nan]))
    diverged = {"mask_is_finite": np.array([True, False, False])}
    with pytest.raises(InputError, match=r"mask_logits is not finite for 2 frames.* frame 1;"):
        evaluate_predictions(predictions([True] * 3, [1] * 3, **diverged))
    with pytest.raises(InputError, match="no frames"):
        evaluate_predictions(predictions([], []))
    with pytest.raises(InputError, match=r"median; .* mean_probability, mean_logit, max"):
        evaluate_predictions(predictions([True], [1]), aggregate="median")
