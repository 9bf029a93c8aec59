"""An evaluation as text for people, and its predictions as CSV, a row for each frame.

The predictions.csv of `flax_unet.predict` has other columns: `flax_unet.predict.writer`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.nn.decision import decision, fake_probability, is_real
from flax_unet.utils.errors import counted
from train.data.layouts.metadata import TRAITS
from train.eval import calibration, groups
from train.eval.metrics import CALIBRATION, CLASSIFICATION, SEGMENTATION, Task, at
from train.eval.predictions import Predictions
from train.eval.segmentation import dice

REPORT, PREDICTIONS, GROUPS = "report.json", "predictions.csv", "groups.csv"
_OF_GROUP = {  # the columns of a table and of a CSV, by metric
    "n_real": ("REAL", "labelled_real"),
    "n_fake": ("FAKE", "labelled_fake"),
    "accuracy": ("accuracy", "accuracy"),
    "auc": ("AUC of FAKE", "auc_of_fake"),
}


def text(figures: Mapping[str, Any]) -> str:
    """The figures of `evaluate_predictions` as text.

    With a classifier, the first line is the published script's and the second one the accuracy
    in per cent. In the tables, [low, high] is an interval and `-` a metric that is not defined;
    the notes below give the reason.
    """
    blocks = []
    if "frames" in figures:
        frames, videos = figures["frames"], figures["videos"]
        accuracy = f"Accuracy {100 * frames['accuracy']:.2f} %"
        blocks += [
            f"Correct {frames['correct']}, Wrong {frames['wrong']}\n{accuracy}",
            f"Verdicts. Positive class: {frames['positive']}. {frames['meaning']['decision']}.\n"
            f"A video's probability: {videos['meaning']['aggregate']}; "
            f"{_frames_per_video(**videos['frames_per_video'])}.\n"
            f"{_table(CLASSIFICATION, figures)}",
        ]
    if "pixels" in figures:
        positive = figures["pixels"]["positive"]
        blocks.append(f"Masks. Positive class: {positive}.\n{_table(SEGMENTATION, figures)}")
    if (found := figures.get(calibration.NAME)) is not None:
        tables = [_table(task, figures) for task in CALIBRATION]
        blocks.append(
            f"Calibration. Positive class: {found['positive']}. Temperature "
            f"{found['temperature']:.4g}; calibrated: {decision(found['threshold'])}.\n"
            + "\n".join(tables)
        )
    if groups.NAME in figures:
        found = figures[groups.NAME]
        blocks.append(
            f"By data set, compression and method. Positive class: {found['positive']}; "
            f"{found['meaning'][groups.NAME]}.\n{_group_table(found)}"
        )
    section = next(iter(figures.values()))
    blocks.append(f"[low, high]: {section['meaning']['intervals']}")
    return "\n\n".join(blocks)


def write_csv(path: Path, predictions: Predictions) -> None:
    """Writes a row for each frame, in the order of `predictions`, as CSV of RFC 4180 in UTF-8.

    The columns of heads that the checkpoint lacks are left out; `dice` is empty for a frame
    without a mask label. Names that are not UTF-8 keep their bytes.
    """
    columns: dict[str, Iterable[Any]] = {
        "file": predictions.file,
        "video": predictions.video,
        "label": np.where(predictions.is_real, "REAL", "FAKE"),
    }
    if (real_probability := predictions.real_probability) is not None:
        columns["real_probability"] = real_probability.tolist()
        columns["fake_probability"] = fake_probability(real_probability).tolist()
        columns["predicted"] = np.where(is_real(real_probability), "REAL", "FAKE")
    if predictions.manipulated_pixels is not None:
        columns["manipulated_pixels"] = predictions.manipulated_pixels.tolist()
    if predictions.pixels is not None and predictions.has_mask is not None:
        scores = zip(dice(predictions.pixels).tolist(), predictions.has_mask.tolist(), strict=True)
        columns["dice"] = [score if has_mask else "" for score, has_mask in scores]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_groups(path: Path, section: Mapping[str, Any]) -> None:
    """Writes the section of `train.eval.groups`, a row for each group, as CSV in UTF-8."""
    columns = [f"{unit}_{_OF_GROUP[m.name][1]}" for unit in groups.UNITS for m in groups.METRICS]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*TRAITS, *columns])
        writer.writerows(
            [row[name] for name in TRAITS]
            + [metric.find(row[unit]) for unit in groups.UNITS for metric in groups.METRICS]
            for row in section["rows"]
        )


def _group_table(section: Mapping[str, Any]) -> str:
    """Aligned columns, a line for each group; then the notes."""
    count, notes = len(groups.METRICS) - 1, {}
    cells = [
        [*[""] * len(TRAITS), *(cell for unit in groups.UNITS for cell in (unit, *[""] * count))],
        [name.replace("_", " ") for name in TRAITS]
        + [_OF_GROUP[metric.name][0] for metric in groups.METRICS] * len(groups.UNITS),
    ]
    for row in section["rows"]:
        figures = [number(m.find(row[unit])) for unit in groups.UNITS for m in groups.METRICS]
        traits = [row[name] or "" for name in TRAITS]
        cells.append(traits + figures)
        for unit in groups.UNITS:
            notes |= {f"  {', '.join(filter(None, traits))}: {n}": None for n in row[unit]["notes"]}
    sides = "<" * len(TRAITS) + ">" * (len(groups.METRICS) * len(groups.UNITS))
    return "\n".join([*aligned(cells, sides), *notes])


def aligned(cells: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Lines of columns, each aligned to its side, `<` or `>`."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "".join(f"  {c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip()
        for row in cells
    ]


def _frames_per_video(min: int, median: float, max: int) -> str:
    if min == max:
        return f"{counted(min, 'frame')} a video"
    return f"{min} to {max} frames a video, median {median:g}"


def _table(task: Task, figures: Mapping[str, Any]) -> str:
    """Aligned columns: for each section its figures and their intervals; then the notes."""
    sections = {title: at(figures, *path) for title, path in task.columns.items()}
    cells = [["", *(cell for title in sections for cell in (title, ""))]]
    for metric in task.metrics:
        cells.append([metric.title])
        for section in sections.values():
            interval = section["intervals"].get(metric.name)
            shown = "" if interval is None else "[{:.4f}, {:.4f}]".format(*interval)
            cells[-1] += [number(metric.find(section)), shown]
    sides = "<" + "><" * len(sections)  # figures to the right, intervals to the left
    lines = aligned(cells, sides)
    lines += [
        f"  {title}: {note}" for title, section in sections.items() for note in section["notes"]
    ]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """A figure in a table."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
