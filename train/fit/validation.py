"""Validation during training: the metrics of `train.eval`, and which network is the best."""

import difflib
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from flax_unet import UNet, UNetConfig
from flax_unet.nn.inference import compiled
from flax_unet.predict.draw import heated
from flax_unet.utils.errors import InputError
from train import distributed
from train.data.dataset import Dataset
from train.data.loader import load_frame
from train.eval.metrics import CLASSIFICATION, SEGMENTATION
from train.eval.predictions import BINS, Predictions, evaluate_predictions
from train.eval.scoring import score
from train.eval.segmentation import PixelCounts

_BETTER = {m.name: m.better for task in (CLASSIFICATION, SEGMENTATION) for m in task.metrics}
_PICTURES = 6  # on the sheet of masks
# Of the sheet.
COLUMNS = "picture, labelled mask, predicted mask; red, within the white line = MANIPULATED"


def default_metric(config: UNetConfig) -> str:
    """The dotted name of the metric that selects the best checkpoint."""
    return "frames.accuracy" if config.has_classifier else "pixels.dice"


def evaluate(
    model: UNet,
    data: Dataset,
    devices: list[distributed.Device],
    batch_size: int,
    workers: int | None = None,
) -> dict[str, float]:
    """The metrics of a network, by their dotted names in report.json; arguments as for `score`."""
    predictions, _ = score(model, data, devices, batch_size, workers)
    return _numbers(evaluate_predictions(predictions, seed=None))


def higher_is_better(metric: str) -> bool:
    """Whether a metric should rise."""
    return _better(metric) != "lower"


def check_metric(metric: str | None, config: UNetConfig, data: Dataset) -> None:
    """Raises an InputError unless a metric can select the best network on the validation frames.

    `metric` is its dotted name; None: the default one.
    """
    known = _numbers(evaluate_predictions(_guesses(config, data), seed=None))
    comparable = {name for name in known if _better(name) != "neither"}
    wanted = metric or default_metric(config)
    if wanted in comparable:
        return
    if metric is None:
        raise InputError(
            f"{wanted} is not defined: none of the FAKE validation frames has a mask; add "
            "masks, or train without validation"
        )
    near = difflib.get_close_matches(metric, sorted(comparable), n=1, cutoff=0)
    raise InputError(
        f"--best-metric {metric} cannot rank networks on these frames; did you mean {near[0]}?"
    )


def _guesses(config: UNetConfig, data: Dataset) -> Predictions:
    """Predictions of a network that guesses; the labels alone decide which metrics are defined."""
    table, count = data.table, len(data)
    parts: dict[str, Any] = {}
    if config.has_classifier:
        real = np.linspace(0.4, 0.6, count)
        parts |= {"real_probability": real, "real_logit": np.log(real / (1 - real))}
    if config.has_mask_head:
        ones = np.ones(count, np.int64)
        parts |= {"pixels": PixelCounts(*[ones] * 4), "manipulated_pixels": ones}
        has_mask = table.has_mask & ~table.is_real  # those of REAL frames alone rank no networks
        parts |= {"has_mask": has_mask, "histogram": np.ones((2, 2, BINS), np.int64)}
    return Predictions(table.file, table.video, table.is_real, **parts)


def _better(metric: str) -> str:
    return _BETTER.get(metric.rpartition(".")[2], "neither")


def figure(figures: dict[str, float], metric: str) -> float:
    """A metric out of those of `evaluate`.

    Raises:
        InputError: it is not defined for these frames.
    """
    if metric not in figures:
        raise InputError(
            f"--best-metric {metric} is not defined for the validation frames; choose one of "
            f"{', '.join(sorted(figures))}"
        )
    return figures[metric]


def sheet(model: UNet, data: Dataset) -> np.ndarray | None:
    """Some pictures, one in a row, with COLUMNS: (H, W, 3) uint8; None without a mask head."""
    if not model.config.has_mask_head:
        return None
    rows = np.linspace(0, len(data) - 1, min(_PICTURES, len(data))).astype(int)
    frames = [load_frame(data, row, model.config.input_size) for row in rows.tolist()]
    found = compiled(model)(np.stack([f.image for f in frames]).astype(np.float32) / 255)
    lines = [
        np.concatenate([f.image, heated(f.image, f.mask), heated(f.image, predicted)], axis=1)
        for f, predicted in zip(frames, np.asarray(found.is_manipulated), strict=True)
    ]
    return np.concatenate(lines)


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    """What is defined in a report, by dotted names; without its texts and intervals."""
    leaves = flatten_dict(figures, sep=".")
    return {name: value for name, value in leaves.items() if isinstance(value, int | float)}
