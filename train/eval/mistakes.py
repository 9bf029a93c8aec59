"""The frames that a network got most surely wrong, to be looked at."""

from collections.abc import Iterator

import numpy as np

from flax_unet import UNet
from flax_unet.nn.inference import compiled
from train.data.dataset import Dataset
from train.data.loader import load_frame
from train.eval.classification import is_called_fake
from train.eval.metrics import Predictions
from train.eval.plots import Mistake

WORST = 12  # mistakes on the sheet


def worst(predictions: Predictions, model: UNet, data: Dataset) -> Iterator[Mistake]:
    """At most WORST frames that are called wrongly, the surest first, with their masks.

    Args:
        predictions: what the model says of every frame of `data`, in its order; with verdicts.
        model: it runs again on these frames, for their masks.
        data: the frames.
    """
    if predictions.real_probability is None:
        raise ValueError("these predictions have no verdicts that could be wrong")
    wrong = np.flatnonzero(is_called_fake(predictions.real_probability) == predictions.is_real)
    error = np.abs(predictions.real_probability - predictions.is_real)[wrong]
    forward = compiled(model)
    for row in wrong[np.argsort(-error, kind="stable")][:WORST]:
        frame = load_frame(data, int(row), model.config.input_size)
        output = forward(frame.image[None].astype(np.float32) / 255)
        found = None if output.is_manipulated is None else np.asarray(output.is_manipulated[0])
        label = "REAL" if predictions.is_real[row] else "FAKE"
        title = f"{data.table.file[row]}\n{label}, real {predictions.real_probability[row]:.3f}"
        yield title, frame.image, frame.mask if frame.has_mask else None, found
