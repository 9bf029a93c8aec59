"""The evaluation of a checkpoint, for its model card."""

import re
from typing import Any

from flax_unet.checkpoint.worth import GENERATED, without_folders
from flax_unet.nn.config import UNetConfig
from train.card.markup import code, entries, is_number, line, number
from train.eval.metrics import CLASSIFICATION, SEGMENTATION, Metric, Task, at


def tasks(config: UNetConfig) -> list[Task]:
    """The tasks of the heads that a network has."""
    return [CLASSIFICATION] * config.has_classifier + [SEGMENTATION] * config.has_mask_head


def section_name(task: Task) -> str:
    """The part of a report that holds a task's figures."""
    return next(iter(task.columns.values()))[0]


def data_name(value: Any) -> str:
    """The name of a data set or checkpoint; of a path, its last part."""
    return line(without_folders(value) if isinstance(value, str) else None)


def results(report: dict[str, Any], config: UNetConfig) -> list[dict[str, Any]]:
    """The `results` of the front matter, one for each task with figures in the report."""
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
    for task in tasks(config):
        metrics = [
            {"type": m.hub_name, "name": f"{column}: {m.title}", "value": round(value, 4)}
            for column, path in task.columns.items()
            for m in task.metrics
            if m.hub_name and is_number(value := m.find(at(report, *path)))
        ]
        if metrics:
            named = {"type": task.hub_name, "name": task.title}
            found.append({"task": named, "dataset": dataset, "metrics": metrics})
    return found


def measurement(report: dict[str, Any], config: UNetConfig) -> str:
    """The data set and the main figures of a report, as a phrase.

    Called FAKE is what the checkpoint's calibration calls so, if it has one.
    """
    frames, data = (at(report, "configuration", name) for name in ("frames", "data"))
    called = at(report, "calibration", "calibrated", "frames")
    false_alarms: Any = None
    if called is None:
        called = at(report, "frames")
        alarms, reals = at(called, "confusion", "real_called_fake"), at(called, "n_real")
        if is_number(alarms) and is_number(reals) and reals:
            false_alarms = alarms / reals
    else:
        false_alarms = at(called, "false_alarm_rate")
    recall, shares = at(called, "recall"), []
    if config.has_classifier and is_number(false_alarms) and is_number(recall):
        real, fake = 100 * false_alarms, 100 * recall
        shares = [f"{real:.1f} % of real and {fake:.1f} % of fake frames called FAKE"]
    figures = {
        "AUC": at(report, "frames", "auc") if config.has_classifier else None,
        "Dice of fake frames": (
            at(report, "pixels", "fake_frames", "dice") if config.has_mask_head else None
        ),
    }
    shown = [f"{name} {number(of, '.3f')}" for name, of in figures.items() if is_number(of)]
    return (
        f"{number(frames, ',')} frames of {data_name(data)}, "
        f"split {line(at(report, 'configuration', 'split'))}: "
        f"{', '.join([*shares, *shown]) or 'no figures'}"
    )


def section(report: dict[str, Any], config: UNetConfig) -> list[str]:
    """The report as lines of Markdown."""
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
    caveat = "The figures hold for this data set alone."
    if data.startswith(GENERATED):
        caveat = (
            "**The figures do not hold for DFDC, nor for deepfakes elsewhere:** "
            f"`{data.partition(':')[0]}` is generated on the machine that evaluates, to show that "
            f"everything works. {caveat}"
        )
    lines = ["## Evaluation", "", *facts, "", caveat]
    for task in tasks(config):
        if isinstance(report.get(section_name(task)), dict):
            lines += ["", *_table(report, task)]
    return lines


def _table(report: dict[str, Any], task: Task) -> list[str]:
    columns = {title: at(report, *path) for title, path in task.columns.items()}
    rows = [
        ["", *columns],
        ["---", *["---:"] * len(columns)],
        *([m.title, *(_figure(column, m) for column in columns.values())] for m in task.metrics),
    ]
    notes = [
        f"- {title}: {code(note)}"
        for title, column in columns.items()
        for note in entries(at(column, "notes"))
    ]
    intervals = at(report, section_name(task), "meaning", "intervals")
    return [
        f"### {task.title}",
        "",
        f"The positive class is **{task.positive}**. In brackets: {code(intervals)}.",
        "",
        *(f"| {' | '.join(cells)} |" for cells in rows),
        *([""] if notes else []),
        *notes,
    ]


def _figure(column: Any, metric: Metric) -> str:
    """A figure and its interval, if it has one."""
    value = metric.find(column)
    if isinstance(value, int):
        return number(value, ",")
    bounds = [number(bound, ".4f") for bound in entries(at(column, "intervals", metric.name))]
    return number(value, ".4f") + (f" [{', '.join(bounds)}]" if bounds else "")
