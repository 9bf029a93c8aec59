"""Scores a checkpoint on a data set, as the published evaluation does and beyond."""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.nn.config import DTYPES, UNetConfig
from flax_unet.utils.arguments import program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.files import staged_directory
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.layouts.reading import Reading, add_options
from train.eval.metrics import AGGREGATES, Predictions, evaluate_predictions
from train.eval.newest import CHECKPOINTS, newest_checkpoint

if TYPE_CHECKING:
    from flax_unet import UNet

REPORT, PREDICTIONS = "report.json", "predictions.csv"
_AT_LEAST = {"batch_size": 1, "limit": 1, "seed": 0}
_RECORDED = (  # as given
    *("data", "limit", "seed", "skip_bad", "mask_threshold", "real_label"),
    *("batch_size", "dtype", "aggregate"),
)
_NAME = 128  # characters of a device's name: gathered, they must be as long on each process


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    for name, least in _AT_LEAST.items():
        if (value := getattr(args, name)) is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    reading = Reading.of(args)
    # Not before: JAX and Flax take seconds to import.
    from flax_unet.checkpoint import store
    from train import distributed

    keep_compiled()
    distributed.join()
    is_first = distributed.process()[0] == 0  # it speaks and writes for all
    out = args.out if is_first else None
    # What could fail after hours of work is tried before: the place of the results, the files of
    # the checkpoint, the data set.
    with contextlib.nullcontext() if out is None else staged_directory(out) as stage:
        path = args.checkpoint or newest_checkpoint()
        model = store.load(path, dtype=args.dtype)
        origin = store.fingerprint(path) if is_first else {}
        devices = distributed.select_devices(args.devices)
        data = open_dataset(
            args.data,
            args.split,
            seed=args.seed,
            skip_bad=args.skip_bad,
            reading=reading,
        )
        if args.limit is not None:
            data = data.sample(args.limit, args.seed)
        if is_first:
            _introduce(path, model.config, data)

        from train.eval.scoring import score

        predictions, timing = score(model, data, devices, args.batch_size)
        names = distributed.gather(np.array([str(device) for device in devices], f"U{_NAME}"))
        if not is_first:
            return
        figures = evaluate_predictions(predictions, aggregate=args.aggregate, seed=args.seed)
        _print(figures, timing, origin["layout"], model, data)
        if stage is not None:
            result = {
                **figures,
                "configuration": _configuration(args, path, names, model, data),
                "checkpoint": origin,
                "data": {
                    "fingerprint": data.fingerprint,
                    "left_out": data.faults,
                    "notes": data.notes,
                },
                "timing": timing._asdict(),
                "made_by": made_by(),
            }
            _write(stage, result, predictions, model, data)
    if out is not None:
        print(f"\n{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


def _introduce(path: Path, config: UNetConfig, data: Dataset) -> None:
    """Says what is scored on what, before it takes time."""
    print(f"{path} on {data.name}, split {data.split}: {len(data)} frames")
    if data.name.startswith(EMBEDDED):
        print("This data set is made on this machine; figures on it say nothing of DFDC.")
    for note in [*data.notes, *filter(None, [config.pooling_note])]:
        print(f"note: {note}")
    if data.faults:
        print(f"{len(data.faults)} files that cannot be used are left out")


def _configuration(
    args: argparse.Namespace, path: Path, devices: np.ndarray, model: "UNet", data: Dataset
) -> dict[str, Any]:
    """All that it takes to score the same frames again in the same way."""
    from train import distributed

    return {
        **{name: getattr(args, name) for name in _RECORDED},
        "checkpoint": str(path),
        "split": data.split,
        "split_as_given": args.split,
        "frames": len(data),
        "devices": devices.tolist(),
        "processes": distributed.process()[1],
        "image_size": model.config.to_json()["image_size"],
    }


def _print(
    figures: dict[str, Any], timing: Any, layout: str | None, model: "UNet", data: Dataset
) -> None:
    from train.eval import report, reported

    print(report.text(figures))
    if timing.frames:
        rate, waiting = timing.frames / timing.seconds, timing.waiting_for_data / timing.seconds
        print(f"\n{rate:.1f} frames a second after the first batch; {waiting:.1%} waiting for data")
    if reported.is_comparable(layout, model.config, data.table):
        frames = figures["frames"]
        print(f"\n{reported.text(frames['correct'], frames['n'])}")


def _write(
    stage: Path, result: dict[str, Any], predictions: Predictions, model: "UNet", data: Dataset
) -> None:
    """The report's files; plots are of verdicts, which not every checkpoint gives."""
    from train.eval import plots, report
    from train.eval.mistakes import worst

    metadata.write_json(stage / REPORT, result)
    report.write_csv(stage / PREDICTIONS, predictions)
    if predictions.real_probability is not None:
        plots.write_roc(stage / "roc.png", predictions)
        plots.write_precision_recall(stage / "precision_recall.png", predictions)
        plots.write_scores(stage / "scores.png", predictions)
        plots.write_calibration(stage / "calibration.png", predictions)
        plots.write_worst(stage / "worst.png", list(worst(predictions, model, data)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("train.eval"),
        description=__doc__,
        epilog="The classifier's 1 is REAL, the mask's 1 is MANIPULATED; a frame is called REAL "
        "where its probability rounds to 1, so exactly 0.5 is FAKE. In precision, recall and AUC "
        "the positive class is FAKE.",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help=f"default: the newest under {CHECKPOINTS}/; of a training run there, its best",
    )
    parser.add_argument(
        "--data",
        default=EMBEDDED,
        metavar="NAME|PATH",
        help="a folder in the published layout (crops/, masks/, metadata.json, or testing/ and "
        "training/ with these; metadata.json may lie one level above), or "
        f"{EMBEDDED}[:procedural|:avatars|:FOLDER], made on this machine (default: {EMBEDDED})",
    )
    parser.add_argument(
        "--split",
        metavar="NAME|A/B/C",
        help="a split of the data set (default: test, or all of a folder that has none); or per "
        "cent for train/validation/test by source video, such as 80/10/10, of which test is scored",
    )
    parser.add_argument("--devices", default="all", metavar="all|N", help="default: all")
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="frames a step (default: 32)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="score N frames, drawn by --seed")
    parser.add_argument(
        "--seed", type=int, default=0, help="of --limit, --split and the intervals (default: 0)"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        default=AGGREGATES[0],
        help=f"how frames make a video's score (default: {AGGREGATES[0]})",
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="go on without files that cannot be used"
    )
    add_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {REPORT}, {PREDICTIONS} and, of a classifier, plots",
    )
    return parser


if __name__ == "__main__":
    main()
