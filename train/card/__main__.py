"""Writes the model card of a checkpoint: what it is, where it comes from, how well it does."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.nn.config import UNetConfig
from flax_unet.utils.arguments import program_name
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_file
from train.card import figures, text
from train.card.markup import at, is_signed, line, signed, yaml

CARD = "README.md"
_TRAINING = "training.json"  # of a trained checkpoint: where training stands
_REPORT = "report.json"  # as train.eval names it


def card(path: Path, evaluation: Path | None = None) -> str:
    """The model card of a checkpoint: Markdown below YAML front matter.

    What the checkpoint and the report say is shown as code or as numbers, so that none of it is
    taken for the card's own words. Of paths, the last part alone is told.

    Args:
        path: the checkpoint.
        evaluation: what `train.eval --out` wrote, or the report.json in it; None: no figures.

    Raises:
        InputError: there is no checkpoint, or no report, or the report is of another checkpoint.
    """
    config, source = metadata.load_config(path), metadata.load_source(path)
    from flax_unet.checkpoint import store  # not before: Flax takes seconds to import

    progress = metadata.read_json(path / _TRAINING) if (path / _TRAINING).exists() else {}
    fingerprint = store.fingerprint(path)
    report = {}
    if evaluation is not None:
        report = _read_report(evaluation, path, fingerprint, config)
    name = line(path.resolve().name)
    sections = [
        ["---", *yaml(_front_matter(name, config, report)), "---"],
        text.introduction(name, config),
        text.network(config),
        text.origin(source, progress, fingerprint),
        text.use(name, config),
        figures.section(report, config) if report else [],
        text.limits(config),
        text.versions(source, report),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n\n"


def write(text: str, out: Path) -> None:
    """Writes a card, in place of one that was written by this function and not changed since.

    Raises:
        InputError: another file stands there, or it cannot be written.
    """
    if os.path.lexists(out) and not out.is_dir() and not is_signed(out):
        raise InputError(
            f"{out} was not written by this command, or was changed since, and is not overwritten; "
            "move it away, or name another file by --out"
        )
    with staged_file(out) as stage:
        stage.write_text(signed(text), encoding="utf-8")


def _read_report(
    evaluation: Path, path: Path, fingerprint: dict[str, Any], config: UNetConfig
) -> dict[str, Any]:
    """The report of an evaluation of a checkpoint.

    Args:
        evaluation: what `train.eval --out` wrote, or the report.json in it.
        path: the checkpoint.
        fingerprint: of the checkpoint.
        config: of the checkpoint.

    Raises:
        InputError: there is no report, it is of another checkpoint, or has none of its figures.
    """
    file = evaluation / _REPORT if evaluation.is_dir() else evaluation
    if not file.exists():
        raise InputError(f"{file} does not exist; name a directory that train.eval --out wrote")
    report = metadata.read_json(file)
    again = f"evaluate this one: python -m train.eval --checkpoint {path} --out DIR"
    differing = [
        name
        for name, section, of in (
            ("weights_sha256", "checkpoint", fingerprint["weights_sha256"]),
            ("image_size", "configuration", config.to_json()["image_size"]),
        )
        if at(report, section, name) != of
    ]
    if differing:
        raise InputError(
            f"{file} is of another checkpoint than {path} (by {', '.join(differing)}); {again}"
        )
    for head in figures.heads(config):
        positive = at(report, head.section, "positive")
        if head.section in report and positive != head.positive:
            raise InputError(f"{file}: {head.section} has not {head.positive} as positive; {again}")
    if not figures.results(report, config):
        raise InputError(f"{file} has no figures of the heads of {path}; {again}")
    return report


def _front_matter(name: str, config: UNetConfig, report: dict[str, Any]) -> dict[str, Any]:
    """What the Hub reads. It names no licence, which is for the owner of the weights to state."""
    heads = figures.heads(config)
    tasks = [head.task for head in heads]
    fields: dict[str, Any] = {
        "library_name": "flax-unet",
        "pipeline_tag": tasks[0],
        "tags": ["jax", "flax", "orbax", "u-net", "deepfake-detection", "face-forgery", *tasks],
        "metrics": [metric for head in heads for metric in head.on_the_hub],
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
        epilog="The card names no licence, which is for the owner of the weights to add. A card "
        "that was changed by hand is not overwritten.",
    )
    parser.add_argument("checkpoint", type=Path, help="directory of the checkpoint")
    parser.add_argument(
        "--evaluation",
        type=Path,
        metavar="DIR",
        help="what train.eval --out wrote for this checkpoint, or the report.json in it",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"where to write (default: CHECKPOINT/{CARD})"
    )
    args = parser.parse_args(argv)
    out = args.checkpoint / CARD if args.out is None else args.out
    write(card(args.checkpoint, args.evaluation), out)
    print(f"{out}: model card of {args.checkpoint}")


if __name__ == "__main__":
    main()
