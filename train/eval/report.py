"""An evaluation's figures as text, and its predictions as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.eval.classification import is_called_fake
from train.eval.metrics import Predictions
from train.eval.segmentation import dice

# (what it is called, its name in the figures) in the order of the tables.
_VERDICTS = (
    ("number", "n"),
    ("FAKE called FAKE", "fake_called_fake"),
    ("FAKE called REAL", "fake_called_real"),
    ("REAL called FAKE", "real_called_fake"),
    ("REAL called REAL", "real_called_real"),
    ("accuracy of both classes", "accuracy"),
    ("balanced accuracy", "balanced_accuracy"),
    ("precision of FAKE", "precision"),
    ("recall of FAKE", "recall"),
    ("F1 of FAKE", "f1"),
    ("AUC of FAKE", "auc"),
    ("average precision of FAKE", "average_precision"),
    ("equal error rate (lower is better)", "eer"),
    ("its threshold on the fake probability", "eer_threshold"),
    ("log loss of the label (lower is better)", "log_loss"),
    ("Brier score of FAKE (lower is better)", "brier"),
    ("calibration error of FAKE (lower is better)", "ece"),
)
_MASKS = (
    ("frames with a mask label", "n"),
    ("label empty", "n_empty_label"),
    ("label and prediction empty", "n_both_empty"),
    ("Dice of MANIPULATED, as published", "dice"),
    ("IoU of MANIPULATED, mean of frames", "iou_mean"),
    ("IoU of MANIPULATED, pooled", "iou_pooled"),
    ("F1 of MANIPULATED, pooled", "f1"),
    ("AUC of MANIPULATED, pooled (no interval)", "auc"),
    ("accuracy of both classes, pooled", "accuracy"),
)


def text(figures: Mapping[str, Any]) -> str:
    """The figures of `evaluate_predictions` for people.

    With a classifier, the first line is the published script's and the second one the accuracy
    in per cent. Then tables, in which [low, high] is a figure's interval and `-` a figure that is
    not defined; the notes below a table say why.
    """
    blocks = []
    if "frames" in figures:
        frames, videos = figures["frames"], figures["videos"]
        percent = 100 * frames["accuracy"]
        blocks.append(
            f"Correct {frames['correct']}, Wrong {frames['wrong']}\nAccuracy {percent:.2f} %"
        )
        aggregate = videos["meaning"]["aggregate"]
        counts = "{min} to {max} frames a video, median {median:g}"
        blocks.append(
            f"Verdicts. Positive class: {frames['positive']}. {frames['meaning']['decision']}.\n"
            f"A video's probability: {aggregate}; {counts.format(**videos['frames_per_video'])}.\n"
            + _table(_VERDICTS, {"frames": frames, "videos": videos})
        )
    if "pixels" in figures:
        pixels = figures["pixels"]
        blocks.append(
            f"Masks. Positive class: {pixels['positive']}.\n"
            + _table(_MASKS, {"all frames": pixels, "fake frames": pixels["fake_frames"]})
        )
    section = next(iter(figures.values()))
    blocks.append(f"[low, high]: {section['meaning']['intervals']}")
    return "\n\n".join(blocks)


def write_csv(path: Path, predictions: Predictions) -> None:
    """Writes a row a frame, in the order of `predictions`, as CSV of RFC 4180 in UTF-8.

    The columns of heads that the checkpoint lacks are left out; `dice` is empty for a frame
    without a mask label. Names that are not UTF-8 keep their bytes.
    """
    columns: dict[str, Iterable[Any]] = {
        "file": predictions.file,
        "video": predictions.video,
        "label": _classes(~predictions.is_real),
    }
    if (real_probability := predictions.real_probability) is not None:
        columns["real_probability"] = real_probability.tolist()
        columns["fake_probability"] = (1 - real_probability).tolist()
        columns["predicted"] = _classes(is_called_fake(real_probability))
    if predictions.manipulated_pixels is not None:
        columns["manipulated_pixels"] = predictions.manipulated_pixels.tolist()
    counts = predictions.pixel_counts()
    if counts is not None and predictions.has_mask is not None:
        scores = zip(dice(counts).tolist(), predictions.has_mask.tolist(), strict=True)
        columns["dice"] = [score if has_mask else "" for score, has_mask in scores]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _classes(is_fake: Iterable[bool]) -> list[str]:
    return ["FAKE" if fake else "REAL" for fake in is_fake]


def _table(rows: Sequence[tuple[str, str]], sections: Mapping[str, dict[str, Any]]) -> str:
    """Aligned columns: for each section its figures and their intervals; then the notes."""
    flat = {title: section | section.get("confusion", {}) for title, section in sections.items()}
    cells = [["", *(cell for title in sections for cell in (title, ""))]]
    for label, name in rows:
        cells.append([label])
        for section in flat.values():
            cells[-1] += [_number(section[name]), _interval(section["intervals"].get(name))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for label, *values in cells:
        line = f"  {label:<{widths[0]}}"
        for place, value in enumerate(values, 1):  # figures to the right, intervals to the left
            line += f"  {value:{'>' if place % 2 else '<'}{widths[place]}}"
        lines.append(line.rstrip())
    lines += [
        f"  {title}: {note}" for title, section in sections.items() for note in section["notes"]
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else "[{:.4f}, {:.4f}]".format(*bounds)
