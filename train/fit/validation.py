"""The validation of a network in training: the figures of `train.eval`, and which are better."""

import difflib
from typing import Any

import numpy as np

from flax_unet import UNet, UNetConfig
from flax_unet.nn.inference import compiled
from flax_unet.predict.draw import tinted
from flax_unet.utils.errors import InputError
from train import distributed
from train.data.dataset import Dataset
from train.data.loader import load_frame
from train.eval import metrics
from train.eval.scoring import score

_HIGHER_IS_BETTER = frozenset(
    {"accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc", "average_precision"}
    | {"correct", "dice", "iou_mean", "iou_pooled"}
)
_LOWER_IS_BETTER = frozenset({"wrong", "log_loss", "brier", "ece", "eer"})
_PICTURES = 6  # on the sheet of masks
COLUMNS = "picture, labelled mask, predicted mask; red = MANIPULATED"  # of the sheet


def default_metric(config: UNetConfig) -> str:
    """The figure that tells the best checkpoint, by its dotted name."""
    return "frames.accuracy" if config.has_classifier else "pixels.dice"


def evaluate(
    model: UNet, data: Dataset, devices: list[distributed.Device], batch_size: int
) -> dict[str, float]:
    """The figures of a network, by the dotted name that they have in report.json."""
    predictions, _ = score(model, data, devices, batch_size)
    return _flat(metrics.evaluate_predictions(predictions))


def higher_is_better(metric: str) -> bool:
    """Whether a figure should rise."""
    return _last(metric) not in _LOWER_IS_BETTER


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Whether a figure is a gain."""
    if than is None:
        return True
    return value > than if higher_is_better(metric) else value < than


def check_metric(metric: str | None, config: UNetConfig, data: Dataset) -> None:
    """Raises an InputError unless a figure can tell the best network by these frames.

    Args:
        metric: its dotted name; None: the default one.
        config: of the network.
        data: what is validated on.
    """
    known = _flat(metrics.evaluate_predictions(_guesses(config, data)))
    comparable = {n for n in known if _last(n) in _HIGHER_IS_BETTER | _LOWER_IS_BETTER}
    wanted = metric or default_metric(config)
    if wanted in comparable:
        return
    if metric is None:
        raise InputError(
            f"{wanted} is not defined for the frames to validate on, of which none has a mask; add "
            "masks to them, or validate on none"
        )
    near = difflib.get_close_matches(metric, sorted(comparable), n=1, cutoff=0)
    raise InputError(
        f"--best-metric {metric} is no figure of these frames that tells a better network from a "
        f"worse; did you mean {near[0]}?"
    )


def _guesses(config: UNetConfig, data: Dataset) -> metrics.Predictions:
    """Predictions of a network that guesses: which figures they have does not depend on them."""
    table, count = data.table, len(data)
    parts: dict[str, Any] = {}
    if config.has_classifier:
        real = np.linspace(0.4, 0.6, count)
        parts |= {"real_probability": real, "real_logit": np.log(real / (1 - real))}
    if config.has_mask_head:
        ones = np.ones(count, np.int64)
        parts |= dict.fromkeys(("tp", "fp", "fn", "tn", "manipulated_pixels"), ones)
        parts |= {"has_mask": table.has_mask, "histogram": np.ones((2, 2, metrics.BINS), np.int64)}
    return metrics.Predictions(table.file, table.video, table.is_real, **parts)


def _last(metric: str) -> str:
    return metric.rpartition(".")[2]


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
    """Pictures, one a line, in COLUMNS: (H, W, 3) uint8; None without a mask head."""
    if not model.config.has_mask_head:
        return None
    rows = np.linspace(0, len(data) - 1, min(_PICTURES, len(data))).astype(int)
    frames = [load_frame(data, row, model.config.input_size) for row in rows.tolist()]
    found = compiled(model)(np.stack([f.image for f in frames]).astype(np.float32) / 255)
    lines = [
        np.concatenate([f.image, tinted(f.image, f.mask), tinted(f.image, predicted)], axis=1)
        for f, predicted in zip(frames, np.asarray(found.is_manipulated), strict=True)
    ]
    return np.concatenate(lines)


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, dict) and name not in ("meaning", "intervals", "notes"):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = value
    return found
