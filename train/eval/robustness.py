"""Figures of frames with damage of several kinds and severities: `--robustness`.

They are those of frames: how well the scores still separate the classes, and what is called FAKE.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet import UNet
from flax_unet.nn.decision import DECISION, Calibration, is_real
from flax_unet.utils.errors import counted
from train import distributed
from train.data.dataset import Dataset
from train.data.perturb import KINDS, SEVERITIES, Kind, available, every_kind
from train.eval import calibration, classification
from train.eval.classification import Verdicts, ratio
from train.eval.predictions import Predictions
from train.eval.report import aligned, number
from train.eval.scoring import Timing, score
from train.eval.segmentation import dice

NAME = "robustness"  # of the section in report.json
TABLE, PLOT = "robustness.csv", "robustness.png"
_FIGURES = {  # by name in report.json: in tables, in the CSV
    "auc": ("AUC of FAKE", "auc_of_fake"),
    "false_alarms": ("REAL called FAKE", "real_called_fake"),
    "detection": ("FAKE called FAKE", "fake_called_fake"),
    "false_alarms_calibrated": ("REAL called FAKE, calibrated", "real_called_fake_calibrated"),
    "detection_calibrated": ("FAKE called FAKE, calibrated", "fake_called_fake_calibrated"),
    "dice": ("Dice of fake frames", "dice_of_fake_frames"),
}
_MARKERS = "osD^v<>P"  # of the kinds in the plot
_MEANING = {
    "rows": "frames perturbed at their stored resolution, before the network's resize; severity 0 "
    "is the frames as they are; null: not defined",
    "auc": "area under the ROC of frames; positive class FAKE",
    "false_alarms": "share of the REAL frames called FAKE",
    "detection": "share of the FAKE frames called FAKE",
    "false_alarms_calibrated": "false_alarms by the calibration that the checkpoint stores",
    "detection_calibrated": "detection by that calibration",
    "dice": "mean Dice of MANIPULATED over the FAKE frames with a mask label",
    "auc_drop": "the AUC of the frames as they are, less this AUC",
    "mean": "mean over the five severities",
    "decision": DECISION,
}


def passes() -> int:
    """How often every frame is scored besides as it is."""
    return SEVERITIES * len(available())


def estimate(frames: int, timing: Timing) -> str:
    """What the passes take at the rate of the frames as they are, in words."""
    work = f"robustness: {passes()} more passes over {counted(frames, 'frame')}"
    if timing.frames:  # not of the first batch, which takes the time to compile
        minutes = passes() * frames * timing.seconds / timing.frames / 60
        work += f", about {max(minutes, 0.1):,.1f} minutes at the rate so far"
        work += ", more where perturbing is slower"
    return f"{work}; --limit N scores N frames"


def run(
    model: UNet,
    dataset: Dataset,
    devices: list[distributed.Device],
    batch_size: int,
    seed: int,
    workers: int | None = None,
) -> Predictions:
    """Scores every frame of a data set with every kind and severity; arguments as for `score`.

    The predictions are in the order of `every_kind`.
    """
    return score(model, every_kind(dataset, available(), seed), devices, batch_size, workers)[0]


def evaluate(
    clean: Predictions, perturbed: Predictions, seed: int, stored: Calibration | None = None
) -> dict[str, Any]:
    """The section NAME of a report, from the predictions of the frames as they are and of `run`.

    With the calibration that is `stored` with the checkpoint, what it calls FAKE is counted too.
    """
    kinds, frames = available(), len(clean.file)
    of_clean, of_perturbed = (_called(of, stored) for of in (clean, perturbed))
    as_they_are = _figures(clean, slice(None), of_clean)
    found = []
    for part in range(len(kinds) * SEVERITIES):
        kind, severity = divmod(part, SEVERITIES)
        rows = slice(part * frames, (part + 1) * frames)
        figures = _figures(perturbed, rows, of_perturbed)
        found.append(_row(kinds[kind], severity + 1, as_they_are, figures))
    names = [*as_they_are, *["auc_drop"] * ("auc" in as_they_are)]
    means = [
        {"perturbation": kind.name, **{name: _mean(rows, name) for name in names}}
        for number, kind in enumerate(kinds)
        for rows in [found[number * SEVERITIES : (number + 1) * SEVERITIES]]
    ]
    left_out = [kind.name for kind in KINDS if kind not in kinds]
    section = {
        "positive": "FAKE",
        "meaning": _MEANING,
        "seed": seed,
        "as_they_are": as_they_are,
        "rows": found,
        "mean": means,
        "mean_of_all": {name: _mean(means, name) for name in names},
        "notes": [f"{name} is left out: PyAV (extra media) is not installed" for name in left_out],
    }
    return {NAME: section}


def text(section: Mapping[str, Any]) -> str:
    """A table of each figure: a line for each kind, a column for each severity."""
    rows = {(row["perturbation"], row["severity"]): row for row in section["rows"]}
    blocks = [
        "Robustness of frames, perturbed before the network's resize. Positive class: "
        f"{section['positive']}. {section['meaning']['decision']}."
    ]
    for name, start in section["as_they_are"].items():
        head = [_FIGURES[name][0], "as it is", *map(str, range(1, SEVERITIES + 1)), "mean"]
        cells = [[*head, "mean drop"] if name == "auc" else head]
        for mean in section["mean"]:
            kind = mean["perturbation"]
            each = [rows[kind, severity][name] for severity in range(1, SEVERITIES + 1)]
            drop = [mean["auc_drop"]] if name == "auc" else []
            cells.append([kind, *map(number, [start, *each, mean[name], *drop])])
        total = section["mean_of_all"]
        drop = [total["auc_drop"]] if name == "auc" else []
        blank = [""] * (SEVERITIES + 1)
        cells.append(["all", *blank, *map(number, [total[name], *drop])])
        blocks.append("\n".join(aligned(cells, "<" + ">" * (len(cells[0]) - 1))))
    return "\n\n".join([*blocks, *section["notes"]])


def write(stage: Path, section: Mapping[str, Any]) -> None:
    """Writes the rows as CSV and, with a classifier, the plot."""
    start, names = section["as_they_are"], list(section["as_they_are"])
    place = ("perturbation", "severity", "parameter", "value")
    with (stage / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*place, *(_FIGURES[name][1] for name in names), "auc_drop"])
        for row in [_row(None, 0, start, start), *section["rows"]]:
            table.writerow([row[name] for name in (*place, *names, "auc_drop")])
    if "auc" in names:
        _plot(stage / PLOT, section)


def _row(
    kind: Kind | None, severity: int, clean: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
    start, end = (of.get("auc") for of in (clean, figures))
    return {
        "perturbation": "none" if kind is None else kind.name,
        "severity": severity,
        "parameter": "" if kind is None else kind.parameter,
        "value": "" if kind is None else kind.values[severity - 1],
        **figures,
        "auc_drop": None if start is None or end is None else start - end,
    }


def _called(predictions: Predictions, stored: Calibration | None) -> np.ndarray | None:
    """Which frames a calibration calls FAKE, (N,) bool; None without one."""
    if stored is None:
        return None
    probability = calibration.calibrated(predictions, stored).real_probability
    return ~is_real(probability, stored.threshold)


def _figures(
    predictions: Predictions, part: slice, called: np.ndarray | None
) -> dict[str, float | None]:
    """The figures of some frames, None where one is not defined; those of heads that there are.

    `called` are all frames that a calibration calls FAKE.
    """
    real, found = predictions.is_real[part], {}
    if predictions.real_probability is not None:
        sums = Verdicts(real, predictions.real_probability[part]).sums()
        found |= {
            "auc": classification.auc(sums),
            "false_alarms": ratio(sums.fp, sums.reals),
            "detection": ratio(sums.tp, sums.fakes),
        }
        if called is not None:
            found["false_alarms_calibrated"] = ratio(called[part][real].sum(), sums.reals)
            found["detection_calibrated"] = ratio(called[part][~real].sum(), sums.fakes)
    if predictions.pixels is not None and predictions.has_mask is not None:
        labelled = predictions.has_mask[part] & ~real
        scores = dice(predictions.pixels)[part][labelled]
        found["dice"] = float(scores.mean()) if len(scores) else np.nan
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else None


def _plot(path: Path, section: Mapping[str, Any]) -> None:
    """AUC and false alarms over the severity, a line for each kind.

    The alarms are those of the checkpoint's calibration, if it has one.
    """
    from matplotlib.figure import Figure

    calibrated = "false_alarms_calibrated"
    names = ("auc", calibrated if calibrated in section["as_they_are"] else "false_alarms")
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for count, mean in enumerate(section["mean"]):
            kind = mean["perturbation"]
            rows = [row for row in section["rows"] if row["perturbation"] == kind]
            values = [section["as_they_are"][name], *(row[name] for row in rows)]
            shown = np.array(values, float)  # None becomes NaN: a gap
            axes.plot(shown, marker=_MARKERS[count], ms=5, lw=1.5, label=kind)
        axes.set(xlabel="severity (0: as it is)", ylim=(-0.02, 1.02), title=_FIGURES[name][0])
        axes.set_xticks(range(SEVERITIES + 1))
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    figure.savefig(path, dpi=120, format="png")
