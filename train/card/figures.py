"""What an evaluation's report says of a checkpoint, for its model card."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from flax_unet.nn.config import UNetConfig
from train.card.markup import at, code, entries, is_number, line, number

EMBEDDED = "forged_portraits"  # the data set that this project generates
_LOCAL = re.compile(r"[^:]*[/\\]")  # what of a path is nobody's business


class Head(NamedTuple):
    """What is told of one of a network's outputs."""

    task: str  # as the Hub names it
    title: str
    positive: str  # class of precision, recall, F1, AUC and masks
    columns: dict[str, tuple[str, ...]]  # where figures are in the report, by what they are of
    counts: dict[str, str]  # what a number is called, by its name in the report
    figures: dict[str, str]  # likewise
    on_the_hub: dict[str, str]  # those that the front matter has, by what the Hub calls them

    @property
    def section(self) -> str:
        """The part of the report that is about it first of all."""
        return next(iter(self.columns.values()))[0]


_CLASSIFIER = Head(
    task="image-classification",
    title="Verdicts",
    positive="FAKE",
    columns={"frames": ("frames",), "videos": ("videos",)},
    counts={
        "n": "number",
        "n_real": "labelled REAL",
        "n_fake": "labelled FAKE",
        "correct": "correct",
        "wrong": "wrong",
    },
    figures={
        "accuracy": "accuracy of both classes",
        "balanced_accuracy": "balanced accuracy",
        "precision": "precision of FAKE",
        "recall": "recall of FAKE",
        "f1": "F1 of FAKE",
        "auc": "AUC of FAKE",
        "average_precision": "average precision of FAKE",
        "eer": "equal error rate (lower is better)",
        "log_loss": "log loss of the label (lower is better)",
        "brier": "Brier score of FAKE (lower is better)",
        "ece": "calibration error of FAKE (lower is better)",
    },
    on_the_hub={
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced_accuracy",
        "f1": "f1",
        "roc_auc": "auc",
    },
)
_MASK = Head(
    task="image-segmentation",
    title="Masks",
    positive="MANIPULATED",
    columns={"all frames": ("pixels",), "fake frames": ("pixels", "fake_frames")},
    counts={"n": "frames with a mask label", "n_empty_label": "label empty"},
    figures={
        "dice": "Dice of MANIPULATED, as published",
        "iou_mean": "IoU of MANIPULATED, mean of frames",
        "iou_pooled": "IoU of MANIPULATED, pooled",
        "f1": "F1 of MANIPULATED, pooled",
        "auc": "AUC of MANIPULATED, pooled",
        "accuracy": "accuracy of both classes, pooled",
    },
    on_the_hub={"dice": "dice", "iou": "iou_mean"},
)


def heads(config: UNetConfig) -> list[Head]:
    """Those that a network has."""
    return [_CLASSIFIER] * config.has_classifier + [_MASK] * config.has_mask_head


def data_name(value: Any) -> str:
    """The name of a data set or checkpoint; of a path, its last part."""
    return line(_LOCAL.sub("", value.rstrip("/\\")) if isinstance(value, str) else None)


def results(report: dict[str, Any], config: UNetConfig) -> list[dict[str, Any]]:
    """The figures as the `results` of the front matter, one for each head that has any."""
    data = data_name(at(report, "configuration", "data"))
    dataset = {
        "name": data,
        "type": re.sub(r"[^\w.-]+", "-", data, flags=re.ASCII).strip("-.") or "unknown",
        "split": line(at(report, "configuration", "split")),
        "args": {
            "fingerprint": line(at(report, "data", "fingerprint")),
            "frames": number(at(report, "configuration", "frames"), ""),
        },
    }
    found = []
    for head in heads(config):
        metrics = [
            {"type": kind, "name": f"{of}: {head.figures[name]}", "value": round(value, 4)}
            for of, place in head.columns.items()
            for kind, name in head.on_the_hub.items()
            if is_number(value := at(report, *place, name))
        ]
        if metrics:
            task = {"type": head.task, "name": head.title}
            found.append({"task": task, "dataset": dataset, "metrics": metrics})
    return found


def section(report: dict[str, Any], config: UNetConfig) -> list[str]:
    """The report as Markdown, line by line."""
    configuration, left_out = at(report, "configuration"), at(report, "data", "left_out")
    data, limit = data_name(at(configuration, "data")), at(configuration, "limit")
    drawn = "all of it" if limit is None else "drawn at random from it"
    facts = [
        f"- data set: {code(data)}, split {code(at(configuration, 'split'))}; "
        f"{number(at(configuration, 'frames'), ',')} frames, {drawn}",
        f"- fingerprint of the split: {code(at(report, 'data', 'fingerprint'))}",
        f"- files left out as unusable: {len(left_out) if isinstance(left_out, dict) else 0}",
        f"- seed: {number(at(configuration, 'seed'), '')}; convolutions in "
        f"{code(at(configuration, 'dtype'))}",
    ]
    if config.has_classifier:
        facts.append(f"- verdict on a video: by {code(at(report, 'videos', 'aggregate'))}")
    caveat = (
        "The figures hold for this data set alone. An interval without width says that all "
        "resamples agree, not that there is no doubt."
    )
    if data.startswith(EMBEDDED):
        caveat = (
            f"**The figures say nothing of DFDC, nor of deepfakes met elsewhere:** `{EMBEDDED}` is "
            f"generated on the machine that evaluates, to show that everything works. {caveat}"
        )
    lines = ["## Evaluation", "", *facts, "", caveat]
    for head in heads(config):
        if isinstance(report.get(head.section), dict):
            lines += ["", *_table(report, head)]
    return lines


def _table(report: dict[str, Any], head: Head) -> list[str]:
    columns = [at(report, *place) for place in head.columns.values()]
    counts = [
        [label, *(number(at(column, name), ",") for column in columns)]
        for name, label in head.counts.items()
    ]
    figures = [
        [label, *(_figure(column, name) for column in columns)]
        for name, label in head.figures.items()
    ]
    notes = [
        f"- {of}: {code(note)}"
        for of, column in zip(head.columns, columns, strict=True)
        for note in entries(at(column, "notes"))
    ]
    intervals = at(report, head.section, "meaning", "intervals")
    return [
        f"### {head.title}",
        "",
        f"The positive class is **{head.positive}**. In brackets: {code(intervals)}.",
        "",
        _row(["", *head.columns]),
        _row(["---", *["---:"] * len(columns)]),
        *map(_row, counts + figures),
        *([""] if notes else []),
        *notes,
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(column: Any, name: str) -> str:
    """A figure and its interval, if it has one."""
    bounds = [number(bound, ".4f") for bound in entries(at(column, "intervals", name))]
    interval = f" [{', '.join(bounds)}]" if bounds else ""
    return number(at(column, name), ".4f") + interval
