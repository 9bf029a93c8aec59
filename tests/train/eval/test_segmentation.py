"""The figures of masks, against sets of pixels and scikit-learn."""

import json
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from flax_unet.nn.unet import UNetOutput
from tests.tolerances import AUC
from tests.train.eval.verdicts import CLOSE, predictions
from train.eval import bootstrap, scoring
from train.eval.predictions import BINS, evaluate_predictions
from train.eval.segmentation import PixelCounts, histogram_auc


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_masks(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    is_real, has_mask = random.random((2, count)) < 0.6
    labels = random.random((count, 5, 5)) < random.choice([0, 0.5], count)[:, None, None]
    levels = random.integers(0, BINS, (count, 5, 5)) // 900 * 900  # ties
    guesses = (levels >= BINS / 2) & (random.random(count) < 0.7)[:, None, None]
    histogram = np.zeros((2, 2, BINS), np.int64)
    for frame in np.flatnonzero(has_mask):
        chosen = (int(not is_real[frame]), labels[frame].astype(int), levels[frame])
        np.add.at(histogram, chosen, 1)
    found = PixelCounts(
        tp=(labels & guesses).sum((1, 2)),
        fp=(~labels & guesses).sum((1, 2)),
        fn=(labels & ~guesses).sum((1, 2)),
        tn=(~labels & ~guesses).sum((1, 2)),
    )
    for counts in found:
        counts[~has_mask] = 10**6  # to be left alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "RESAMPLES", 3)
        pixels = evaluate_predictions(
            predictions(
                is_real, np.ones(count), has_mask=has_mask, histogram=histogram, pixels=found
            )
        )["pixels"]
    assert pixels["positive"] == "MANIPULATED"
    json.dumps(pixels, allow_nan=False)
    assert_masks(pixels, labels[has_mask], guesses[has_mask], levels[has_mask])
    fake = has_mask & ~is_real
    assert_masks(pixels["fake_frames"], labels[fake], guesses[fake], levels[fake])


def assert_masks(
    found: dict[str, Any], labels: np.ndarray, guesses: np.ndarray, levels: np.ndarray
) -> None:
    """The figures of masks against sets of pixels and scikit-learn."""
    assert found["n"] == len(labels)
    dice, iou, both_empty = [], [], 0
    for label, guess in zip(labels, guesses, strict=True):
        a, b = (set(np.flatnonzero(mask).tolist()) for mask in (label, guess))
        dice.append((2 * len(a & b) + 1e-6) / (len(a) + len(b) + 1e-6))
        iou.append(len(a & b) / len(a | b) if a | b else 1)
        both_empty += not a | b
    assert found["n_both_empty"] == both_empty
    assert found["n_empty_label"] == np.sum(~labels.any((1, 2)))
    label, guess, level = labels.ravel(), guesses.ravel(), levels.ravel()
    if len(labels) == 0:
        expected = dict.fromkeys(("dice", "iou_mean", "iou_pooled", "f1", "accuracy", "auc"))
    else:
        marked = (label | guess).any()
        expected = {
            "dice": np.mean(dice),
            "iou_mean": np.mean(iou),
            "accuracy": np.mean(label == guess),
            "iou_pooled": sklearn_metrics.jaccard_score(label, guess) if marked else None,
            "f1": sklearn_metrics.f1_score(label, guess) if marked else None,
            "auc": sklearn_metrics.roc_auc_score(label, level)
            if label.any() and not label.all()
            else None,
        }
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=CLOSE)), name
    assert bool(found["notes"]) >= any(value is None for value in expected.values())


@pytest.mark.parametrize("scale", [0.01, 1, 5, 20, 1000, 1e30])
def test_pixel_auc_of_logits_of_any_size(scale: float) -> None:
    """Confident networks too: against scikit-learn on the logits themselves."""
    random = np.random.default_rng(0)
    labels = random.random((6, 64, 64)) < 0.2
    spread = np.where(labels, 3, 2) * random.standard_normal(labels.shape)
    logits = np.float32(scale) * (np.where(labels, 2, -6) + spread).astype(np.float32)
    logits[0] = np.float32(-scale)  # ties
    output = UNetOutput(jnp.stack([jnp.zeros_like(logits), jnp.asarray(logits)], axis=-1), None)
    is_fake = jnp.arange(6) % 2
    has_mask = jnp.arange(6) != 4
    batch = {"mask": jnp.asarray(labels, jnp.uint8), "is_fake": is_fake, "has_mask": has_mask}
    found = scoring._figures(output, batch)
    histogram = np.asarray(found["histogram"])[0]
    assert found["mask_is_finite"].all()
    for chosen, counts in {(0, 1, 2, 3, 5): histogram.sum(0), (1, 3, 5): histogram[1]}.items():
        rows = list(chosen)
        expected = sklearn_metrics.roc_auc_score(labels[rows].ravel(), logits[rows].ravel())
        assert histogram_auc(counts) == pytest.approx(expected, abs=AUC)


def test_bins_rise_over_all_floats() -> None:
    tiny, big = np.finfo(np.float32).smallest_normal, np.finfo(np.float32).max
    rising = [-np.inf, -big, -17, -16, -1e-6, -tiny, 0, tiny, 1e-6, 16, 17, big, np.inf]
    bins = np.asarray(scoring._bins(jnp.asarray(rising, jnp.float32)))
    assert (np.diff(bins) > 0).all()
    assert bins[0] >= 0
    assert bins[-1] < BINS
    zeros = np.asarray(scoring._bins(jnp.asarray([-0.0, 0.0], jnp.float32)))
    assert zeros[0] == zeros[1]


def test_logits_that_are_not_finite_are_marked() -> None:
    logits = jnp.zeros((2, 4, 4, 2)).at[1, 2, 3, 0].set(jnp.nan)
    masks = jnp.zeros((2, 4, 4), jnp.uint8)
    batch = {"mask": masks, "is_fake": jnp.zeros(2, int), "has_mask": jnp.ones(2, bool)}
    found = scoring._figures(UNetOutput(logits, None), batch)
    assert found["mask_is_finite"].tolist() == [True, False]
