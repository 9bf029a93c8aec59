"""Figures of several data sets side by side, with their average: `--data A --data B`."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import Names
from train.eval.metrics import at
from train.eval.report import aligned, number

TABLE = "data_sets.csv"
_COUNTS = {"frames.n": "frames", "videos.n": "videos"}
_FIGURES = {  # dotted names of a report, and their columns
    "frames.auc": "AUC of frames",
    "frames.accuracy": "accuracy of frames",
    "frames.eer": "EER of frames",
    "videos.auc": "AUC of videos",
    "videos.accuracy": "accuracy of videos",
    "videos.eer": "EER of videos",
    "pixels.dice": "Dice",
    "pixels.fake_frames.dice": "Dice of fake frames",
}
_MEANING = {
    "average": "mean over the data sets, each counting the same; of those where it is defined",
    "positive": "FAKE in AUC and EER, MANIPULATED in Dice",
    "folder": "holds the data set's own report",
}


def folders(names: list[str]) -> dict[str, str]:
    """The sub-folder of each data set's own report, by the data set's name.

    Raises:
        InputError: one is named twice.
    """
    given, seen = Names(), {}
    for name in names:
        # Without a source, generated data sets have this one.
        place = Path(name).resolve() if Path(name).is_dir() else name.removesuffix(":procedural")
        if place in seen.values():
            raise InputError(f"--data {name} is named twice; name each data set once")
        seen[name] = place
    return {name: given.new(Path(name).resolve().name) for name in names}


def table(
    figures: Mapping[str, Mapping[str, Any]], placed: Mapping[str, str], failed: Mapping[str, str]
) -> dict[str, Any]:
    """The report: a row for each data set that was scored, and the average.

    `figures` are the reports, `placed` the folders and `failed` the reasons, by data set.
    """
    rows: list[dict[str, Any]] = [
        {"data": name, "folder": placed[name]}
        | {column: at(report, *column.split(".")) for column in (*_COUNTS, *_FIGURES)}
        for name, report in figures.items()
    ]
    average = {}
    for column in _FIGURES:
        values = [row[column] for row in rows if row[column] is not None]
        average[column] = float(np.mean(values)) if values else None
    return {"data_sets": rows, "average": average, "failed": dict(failed), "meaning": _MEANING}


def text(report: Mapping[str, Any]) -> str:
    """The table for people, without columns that are not defined for any data set."""
    rows, average = report["data_sets"], report["average"]
    shown = [name for name in (*_COUNTS, *_FIGURES) if any(row[name] is not None for row in rows)]
    titles = _COUNTS | _FIGURES
    cells = [["data set", *(titles[name] for name in shown)]]
    cells += [[row["data"], *(number(row[name]) for name in shown)] for row in rows]
    means = [number(average[name]) if name in average else "" for name in shown]
    cells.append(["average", *means])
    lines = aligned(cells, "<" + ">" * len(shown))
    lines += [f"  failed: {name}: {reason}" for name, reason in report["failed"].items()]
    return "\n".join(lines)


def write(stage: Path, report: Mapping[str, Any]) -> None:
    """Writes the rows, and the average as the last one, as CSV."""
    columns = ["data", "folder", *_COUNTS, *_FIGURES]
    with (stage / TABLE).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        written = csv.DictWriter(file, columns, restval="")
        written.writeheader()
        written.writerows(report["data_sets"])
        written.writerow({"data": "average", **report["average"]})
