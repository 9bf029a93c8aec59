"""Writes the model card of a checkpoint: architecture, origin, use, limits and figures."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.worth import WORTH, Worth
from flax_unet.nn.config import UNetConfig
from flax_unet.nn.decision import Calibration
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import followed, staged_file
from train.card import figures, text
from train.card.markup import line, yaml
from train.eval.metrics import at
from train.eval.report import REPORT

_TRAINING = "training.json"  # of a trained checkpoint: where training stands


def card(path: Path, evaluation: Path | None = None) -> str:
    """The model card of a checkpoint: Markdown below YAML front matter.

    Texts from the checkpoint and the report appear as code, so that none of them passes for the
    card's own words. Of paths, only the last part appears. `evaluation` is what `train.eval --out`
    wrote, or the report.json in it; None: no figures.

    Raises:
        InputError: checkpoint or report is missing, or the report is of another checkpoint or
            calibration.
    """
    path = followed(path)
    config, source = metadata.load_config(path), metadata.load_source(path)
    from flax_unet.checkpoint import store  # not at the top: Flax takes seconds to import

    progress = metadata.read_json(path / _TRAINING) if (path / _TRAINING).exists() else {}
    fingerprint = store.fingerprint(path)
    report = {} if evaluation is None else _read_report(evaluation, path, fingerprint, config)
    name = line(path.resolve().name)
    sections = [
        ["---", *yaml(_front_matter(name, config, report)), "---"],
        text.introduction(name, config, _worth(source, report, config)),
        text.network(config),
        text.origin(source, progress, fingerprint),
        text.use(name, config),
        figures.section(report, config) if report else [],
        text.limits(config, metadata.load_calibration(path)),
        text.versions(source, report),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _worth(source: dict[str, Any], report: dict[str, Any], config: UNetConfig) -> Worth:
    """What the weights are worth, with the report's measurement if there is one."""
    known = Worth.of(source)
    return known.measured(figures.measurement(report, config)) if report else known


def _record(path: Path, evaluation: Path) -> None:
    """Records the measurement of a report, which `card` has checked, with the weights.

    Raises:
        InputError: the record cannot be written.
    """
    source, report = metadata.load_source(path), metadata.read_json(_report_file(evaluation))
    worth = _worth(source, report, metadata.load_config(path))
    metadata.store_record(path, WORTH, worth.to_json())


def _report_file(evaluation: Path) -> Path:
    return evaluation / REPORT if evaluation.is_dir() else evaluation


def _read_report(
    evaluation: Path, path: Path, fingerprint: dict[str, Any], config: UNetConfig
) -> dict[str, Any]:
    """The report of the evaluation of a checkpoint with this fingerprint.

    Raises:
        InputError: the report is missing, of another checkpoint or calibration, or lacks the
            figures of its heads.
    """
    file = _report_file(evaluation)
    if not file.exists():
        raise InputError(f"{file} does not exist; name a directory that train.eval --out wrote")
    report = metadata.read_json(file)
    again = f"evaluate this one: python -m train.eval --checkpoint {path} --out DIR"
    if isinstance(rows := report.get("data_sets"), list):
        own = ", ".join(str(file.parent / str(at(row, "folder"))) for row in rows)
        raise InputError(f"{file} is of several data sets; name the folder of one of them: {own}")
    if at(report, "calibration", "false_alarm_rate") is not None:
        raise InputError(
            f"{file} is of the frames that the calibration was fitted to, so its figures are no "
            f"measurement; {again} without --calibrate"
        )
    if (seen := at(report, "data", "trained_on")) is not None:
        raise InputError(
            f"{file} is of frames of the training, or may be, so its figures are no measurement: "
            f"{line(seen)}. Or {again} and --data with others"
        )
    recorded = {
        "weights_sha256": at(report, "checkpoint", "weights_sha256"),
        "image_size": at(report, "configuration", "image_size"),
    }
    expected = {**fingerprint, "image_size": config.to_json()["image_size"]}
    if differing := [name for name, value in recorded.items() if value != expected[name]]:
        raise InputError(
            f"{file} is of another checkpoint than {path} (by {', '.join(differing)}); {again}"
        )
    calibration = metadata.load_calibration(path) if config.has_classifier else None
    decided = {of.name: at(report, "calibration", of.name) for of in fields(Calibration)}
    if decided != {name: getattr(calibration, name, None) for name in decided}:
        raise InputError(
            f"{file} is of another calibration than {path} has now, so its figures are of other "
            f"verdicts; {again}"
        )
    for task in figures.tasks(config):
        section = figures.section_name(task)
        if section in report and at(report, section, "positive") != task.positive:
            raise InputError(
                f"{file}: the positive class of {section} is not {task.positive}; {again}"
            )
    if not figures.results(report, config):
        raise InputError(f"{file} has no figures of the heads of {path}; {again}")
    return report


def _front_matter(name: str, config: UNetConfig, report: dict[str, Any]) -> dict[str, Any]:
    """What the Hub reads. It has no licence, which the owner of the weights must state."""
    tasks = figures.tasks(config)
    names = [task.hub_name for task in tasks]
    fields: dict[str, Any] = {
        "library_name": metadata.CARD_LIBRARY,
        "pipeline_tag": names[0],
        "tags": ["jax", "flax", "orbax", "u-net", "deepfake-detection", "face-forgery", *names],
        "metrics": [m.hub_name for task in tasks for m in task.metrics if m.hub_name],
    }
    if report:
        results = figures.results(report, config)
        fields["model-index"] = [{"name": name, "results": results}]
    return fields


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=program_name("train.card"),
        description=__doc__,
        epilog="The card names no licence; the owner of the weights must add it. The main figures "
        f"of --evaluation are also recorded in {metadata.SOURCE} of the checkpoint, with what the "
        "weights were trained on: flax_unet.predict and the page show both in one sentence, and "
        "convert.to_torch writes them into the PyTorch file.",
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="directory of the checkpoint")
    add(
        "--evaluation",
        type=Path,
        metavar="DIR",
        help="what train.eval --out wrote for this checkpoint, or the report.json in it",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"where to write (default: CHECKPOINT/{metadata.CARD})",
    )
    add("--overwrite", action="store_true", help="replace a file that exists at --out")
    args = parser.parse_args(argv)
    out = followed(args.checkpoint) / metadata.CARD if args.out is None else args.out
    if os.path.lexists(out) and not out.is_dir() and not args.overwrite:
        raise InputError(f"{out} exists already; give --overwrite to replace it, or another --out")
    content = card(args.checkpoint, args.evaluation)
    with staged_file(out) as stage:
        stage.write_text(content, encoding="utf-8")
    print(f"{out}: model card of {args.checkpoint}")
    if args.evaluation is not None:
        try:
            _record(args.checkpoint, args.evaluation)
        except ValueError as error:  # the checkpoint may be read-only, or its JSON hold a NaN
            print(f"note: the measurement is not recorded in it: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
