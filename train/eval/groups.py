"""Figures by data set, by compression and by method, as the field reports FaceForensics++."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from train.data.layouts.metadata import TRAITS
from train.eval.metrics import CLASSIFICATION
from train.eval.predictions import Predictions, evaluate_predictions

NAME = "groups"  # of the section in report.json
METRICS = tuple(
    metric
    for metric in CLASSIFICATION.metrics
    if metric.name in ("n_real", "n_fake", "accuracy", "auc")
)
UNITS = ("frames", "videos")
_MEANING = {
    NAME: "the fakes of a method are scored with all REAL of their data set and compression",
    "rows": "null in compression or method: all of them; null in data_set: it is not known",
    **{metric.name: metric.meaning for metric in METRICS if metric.meaning},
}


def evaluate(
    predictions: Predictions, traits: Mapping[str, Mapping[str, str]], aggregate: str
) -> dict[str, Any]:
    """The figures of each group that is known, as the section NAME of a report.

    `traits` are what is known of videos; `aggregate` is as for `evaluate_predictions`. A row has
    TRAITS, and METRICS for `frames` and for `videos`.

    Returns:
        The section; nothing without a classifier, or without a trait that is known.
    """
    if predictions.real_probability is None:
        return {}
    rows = [
        dict(zip(TRAITS, group, strict=True)) | _figures(predictions, chosen, aggregate)
        for group, chosen in _groups(predictions, traits)
    ]
    if not rows:
        return {}
    return {NAME: {"positive": CLASSIFICATION.positive, "meaning": _MEANING, "rows": rows}}


def _groups(
    predictions: Predictions, traits: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[tuple[str | None, ...], np.ndarray]]:
    """Each group, as its TRAITS, and which frames are in it, (N,) bool."""
    unknown: Mapping[str, str] = {}
    of_frames = [traits.get(video, unknown) for video in predictions.video]
    columns = (np.array([found.get(name, "") for found in of_frames], object) for name in TRAITS)
    data_sets, compressions, methods = columns
    for data_set in np.unique(data_sets):
        in_set = data_sets == data_set
        if data_set:
            yield (data_set, None, None), in_set
        for compression in np.unique(compressions[in_set]):
            chosen = in_set & (compressions == compression)
            if compression:
                yield (data_set or None, compression, None), chosen
            fakes = chosen & ~predictions.is_real
            for method in filter(None, np.unique(methods[fakes])):
                of_method = chosen & (predictions.is_real | (methods == method))
                yield (data_set or None, compression or None, method), of_method


def _figures(predictions: Predictions, chosen: np.ndarray, aggregate: str) -> dict[str, Any]:
    """METRICS of the frames that `chosen`, (N,) bool, marks, and of their videos, with notes."""
    labels = (predictions.file[chosen], predictions.video[chosen], predictions.is_real[chosen])
    scores = (predictions.real_probability, predictions.real_logit)
    probability, logit = (None if of is None else of[chosen] for of in scores)
    part = Predictions(*labels, probability, logit)
    figures = evaluate_predictions(part, aggregate=aggregate, seed=None)
    found = {unit: {m.name: m.find(figures[unit]) for m in METRICS} for unit in UNITS}
    for unit, row in found.items():
        row["notes"] = [note for note in figures[unit]["notes"] if note.split()[0] in row]
    return found
