"""The validation of a network in training: the figures of `train.eval`, and which are better."""

import difflib
from typing import Any

import numpy as np
from PIL import Image

from flax_unet import UNet, UNetConfig
from flax_unet.errors import InputError
from flax_unet.images import mask_image, overlay
from flax_unet.model import compiled
from train import metrics, parallel
from train.data.dataset import Dataset
from train.data.pipeline import decode
from train.scoring import score

_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "eer", "wrong"})
_PICTURES = 6  # on the sheet of masks


def default_metric(config: UNetConfig) -> str:
    """The figure that tells the best checkpoint, by its dotted name."""
    return "frames.accuracy" if config.has_classifier else "pixels.dice"


def evaluate(
    model: UNet, data: Dataset, devices: list[parallel.Device], batch_size: int
) -> dict[str, float]:
    """The figures of a network, by the dotted name that they have in report.json."""
    predictions, _ = score(model, data, devices, batch_size)
    return _flat(metrics.evaluate_predictions(predictions))


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Whether a figure is a gain."""
    if than is None:
        return True
    return value < than if metric.rpartition(".")[2] in _LOWER_IS_BETTER else value > than


def check_metric(metric: str, config: UNetConfig) -> None:
    """Raises an InputError unless `metric` is a figure of such a network."""
    two, counts = np.arange(2), np.full(2, 9)
    parts: dict[str, Any] = {}
    if config.has_classifier:
        parts |= {"real_probability": np.array([0.4, 0.6]), "real_logit": np.array([-1.0, 1.0])}
    if config.has_mask_head:
        parts |= dict.fromkeys(("tp", "fp", "fn", "tn", "manipulated_pixels"), counts)
        parts |= {"has_mask": two >= 0, "histogram": np.ones((2, 2, metrics.BINS), np.int64)}
    names = two.astype(str).astype(object)
    known = _flat(metrics.evaluate_predictions(metrics.Predictions(names, names, two > 0, **parts)))
    if metric not in known:
        near = difflib.get_close_matches(metric, known, n=1, cutoff=0)
        raise InputError(f"--best-metric {metric} is no figure; did you mean {near[0]}?")


def figure(figures: dict[str, float], metric: str) -> float:
    """One of the figures.

    Raises:
        InputError: it is not defined for these frames.
    """
    if metric not in figures:
        raise InputError(
            f"--best-metric {metric} is not defined for the validation frames; there are "
            f"{', '.join(sorted(figures))}"
        )
    return figures[metric]


def sheet(model: UNet, data: Dataset) -> np.ndarray | None:
    """Pictures, one a line, with their labelled and predicted masks: (H, W, 3) uint8."""
    if not model.config.has_mask_head:
        return None
    rows = np.linspace(0, len(data) - 1, min(_PICTURES, len(data))).astype(int)
    records = [data.record(row) for row in rows]
    size = model.config.image_size
    frames = [decode(record["image"], record["mask"], size) for record in records]
    found = compiled(model)(np.stack([f.image for f in frames]).astype(np.float32) / 255)
    lines = [
        np.concatenate([f.image, _tinted(f.image, f.mask), _tinted(f.image, predicted)], axis=1)
        for f, predicted in zip(frames, np.asarray(found.is_manipulated), strict=True)
    ]
    return np.concatenate(lines)


def _tinted(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    return np.asarray(overlay(picture, mask_image(mask, picture.size)))


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in ("meaning", "intervals", "notes"):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = value
    return found
