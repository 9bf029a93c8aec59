"""Scores a checkpoint on a data set: the published figures, and more with intervals."""

import argparse
import contextlib
import dataclasses
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.nn.config import DTYPES, UNetConfig
from flax_unet.nn.decision import DECISION, POLARITY
from flax_unet.utils.arguments import between_0_and_1, program_name
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError, command, counted, require, users_message
from flax_unet.utils.files import check_space, followed, staged_directory
from train.data.dataset import EMBEDDED, GENERATED, SELF_BLENDED, Dataset, open_dataset
from train.data.layouts.options import FolderOptions, add_options
from train.eval import calibration, cross, groups, trained
from train.eval.predictions import AGGREGATES, Predictions, evaluate_predictions
from train.eval.report import GROUPS, PREDICTIONS, REPORT, text, write_csv, write_groups

if TYPE_CHECKING:
    from flax_unet import UNet

CHECKPOINTS = Path("checkpoints")
_AT_LEAST = {
    **{"batch_size": 1, "limit": 1, "seed": 0, "workers": 0},
    **{"num_processes": 1, "process_id": 0},
}
_RECORDED = (  # options that the report repeats
    *("limit", "seed", "skip_bad", "mask_threshold", "real_label"),
    *("batch_size", "dtype", "aggregate"),
)
_SOURCE = 2**20  # bytes, more than any source.json has
_NAME = 128  # characters of a device's name: all processes gather arrays of one dtype


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = _parser().parse_args(argv)
    for name, least in _AT_LEAST.items():
        if (value := getattr(args, name)) is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    options = FolderOptions.of(args)
    if args.out is not None:
        require("matplotlib")
    # Not at the top: JAX and Flax take seconds to import.
    from flax_unet.checkpoint import store
    from flax_unet.nn.inference import select_devices
    from train import distributed

    keep_compiled()
    distributed.join(args.coordinator, args.num_processes, args.process_id)
    process, processes = distributed.process()
    out = args.out if process == 0 else None  # the first process prints and writes
    names = args.data or [EMBEDDED]
    placed = cross.folders(names)
    if args.calibrate is not None and len(names) > 1:
        raise InputError("--calibrate fits to one data set; give one --data")
    found: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    # What can fail is tried before hours of work: the results' directory, checkpoint and data set.
    with contextlib.nullcontext() if out is None else staged_directory(out) as stage:
        path = args.checkpoint or newest_checkpoint()
        model = store.load(path, dtype=args.dtype)
        origin = store.fingerprint(path) if process == 0 else {}
        if args.calibrate is not None:
            check_space(followed(path), _SOURCE)
        devices = select_devices(args.devices)

        def evaluate(name: str, stage: Path | None) -> dict[str, Any]:
            with distributed.memory_errors(lambda: _memory_advice(args.batch_size)):
                return _evaluate(args, name, options, path, model, origin, devices, stage)

        if len(names) == 1:
            evaluate(names[0], stage)
        for name in names if len(names) > 1 else ():
            own = None if stage is None else stage / placed[name]
            if own is not None:
                own.mkdir()
            try:
                found[name] = evaluate(name, own)
            except Exception as error:  # an hour's figures of the others are worth keeping
                if processes > 1 or isinstance(error, BrokenPipeError):  # the others wait for this
                    raise
                if (message := users_message(error)) is None:
                    traceback.print_exc()
                    message = f"the program failed: {error!r}"
                failed[name] = message
                print(f"error: {name}: {message}\n", file=sys.stderr)
                if own is not None:
                    shutil.rmtree(own)
            else:
                print()
        if len(names) > 1 and process == 0 and found:
            result = cross.table(found, placed, failed)
            print(cross.text(result))
            if stage is not None:
                result |= {"checkpoint": origin, "made_by": made_by()}
                metadata.write_json(stage / REPORT, result)
                cross.write(stage, result)
        if len(failed) == len(names):
            raise InputError("no data set could be scored; the reasons are above")
    if out is not None:
        print(f"\n{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")
    if failed:
        sys.exit(2)


def _memory_advice(batch_size: int) -> str:
    if batch_size == 1:
        return "use devices with more memory"
    return f"give a smaller --batch-size, such as {batch_size // 2}"


def _evaluate(
    args: argparse.Namespace,
    name: str,
    options: FolderOptions,
    path: Path,
    model: "UNet",
    origin: dict[str, Any],
    devices: list[Any],
    stage: Path | None,
) -> dict[str, Any]:
    """Scores a data set, prints its figures and writes them to `stage`, if given.

    Returns:
        The figures; only the first process has them.
    """
    from train import distributed
    from train.eval import robustness
    from train.eval.scoring import score

    process, processes = distributed.process()
    data = open_dataset(
        name,
        args.split,
        part="test" if args.calibrate is None else calibration.SPLIT,
        seed=args.seed,
        skip_bad=args.skip_bad,
        options=options,
    )
    seen = trained.overlap(metadata.load_source(path), data, args.split, args.seed)
    if seen is not None:
        if args.calibrate is not None and args.split is None:
            raise InputError(f"--calibrate: {seen}")
        data = dataclasses.replace(data, notes=[*data.notes, seen])
    if args.limit is not None:
        data = data.sample(args.limit, args.seed)
    stored = None
    if args.calibrate is not None:
        calibration.check(path, model.config, data, args.calibrate, args.split)
    elif model.config.has_classifier:
        stored = metadata.load_calibration(path)
    if process == 0:
        _introduce(path, model.config, data)
    predictions, timing = score(model, data, devices, args.batch_size, args.workers)
    names = distributed.gather(np.array([str(device) for device in devices], f"U{_NAME}"))
    figures: dict[str, Any] = {}
    if process == 0:
        figures = evaluate_predictions(predictions, aggregate=args.aggregate, seed=args.seed)
        figures |= groups.evaluate(predictions, data.traits, args.aggregate)
        fitted = None
        if args.calibrate is not None:
            stored, fitted = calibration.fit(predictions, args.calibrate)
        if stored is not None:
            changed = calibration.evaluate(predictions, stored, args.aggregate, args.seed)
            figures[calibration.NAME] = changed | (fitted or {})
        print(text(figures))
        if fitted is not None:
            given = {key: getattr(args, key) for key in ("limit", "seed", "dtype", "split")}
            print(f"\n{calibration.store(path, fitted, data, given)}")
        if timing.frames:
            rate, waiting = timing.frames / timing.seconds, timing.waiting_for_data / timing.seconds
            print(f"\n{rate:.1f} frames a second after the first batch", end="; ")
            print(f"{waiting:.1%} waiting for data")
    if args.robustness:
        if process == 0:
            print(f"\n{robustness.estimate(len(data), timing)}")
        perturbed = robustness.run(model, data, devices, args.batch_size, args.seed, args.workers)
        if process == 0:
            figures |= robustness.evaluate(predictions, perturbed, args.seed, stored)
            print(f"\n{robustness.text(figures[robustness.NAME])}")
    if process != 0 or stage is None:
        return figures
    configuration = {
        **{name: getattr(args, name) for name in _RECORDED},
        "data": name,
        "checkpoint": str(path),
        "split": data.split,
        "split_as_given": args.split,
        "frames": len(data),
        "devices": names.tolist(),
        "processes": processes,
        "image_size": model.config.to_json()["image_size"],
    }
    result = {
        **figures,
        "configuration": configuration,
        "checkpoint": origin,
        "data": {
            "fingerprint": data.fingerprint,
            "left_out": data.faults,
            "notes": data.notes,
            "trained_on": seen,
        },
        "timing": timing._asdict(),
        "made_by": made_by(),
    }
    _write(stage, result, predictions, model, data)
    if args.robustness:
        robustness.write(stage, figures[robustness.NAME])
    return figures


def newest_checkpoint() -> Path:
    """The checkpoint under `checkpoints/` that was written last; of a training run, its best.

    Raises:
        InputError: it has none.
    """
    # Directories that a killed command left half-written start with a dot.
    runs = [path for path in CHECKPOINTS.glob("*") if not path.name.startswith(".")]
    candidates = ((run, run / "best", run / "last") for run in runs)
    found = [next(filter(metadata.is_checkpoint, paths), None) for paths in candidates]
    if not any(found):
        raise InputError(
            f"no checkpoint under {CHECKPOINTS}/; convert one: "
            "python -m convert.from_torch ckpt.pth, or name one by --checkpoint"
        )
    written = {path: followed(path) / metadata.CONFIG for path in filter(None, found)}
    return max(written, key=lambda path: written[path].stat().st_mtime_ns)


def _introduce(path: Path, config: UNetConfig, data: Dataset) -> None:
    """Prints what is scored, before it takes time."""
    print(f"{path} on {data.name}, split {data.split}: {counted(len(data), 'frame')}")
    if data.name.startswith(GENERATED):
        print("This data set is generated on this machine; its figures do not hold for DFDC.")
    for note in [*data.notes, *filter(None, [config.pooling_note])]:
        print(f"note: {note}")
    if data.faults:
        print(f"left out: {counted(len(data.faults), 'file')} that cannot be used")


def _write(
    stage: Path, result: dict[str, Any], predictions: Predictions, model: "UNet", data: Dataset
) -> None:
    """Writes the report's files; plots only for a classifier."""
    from train.eval import plots
    from train.eval.classification import Verdicts

    metadata.write_json(stage / REPORT, result)
    write_csv(stage / PREDICTIONS, predictions)
    if groups.NAME in result:
        write_groups(stage / GROUPS, result[groups.NAME])
    if predictions.real_probability is not None:
        verdicts = Verdicts(predictions.is_real, predictions.real_probability)
        plots.write_roc(stage / "roc.png", verdicts)
        plots.write_precision_recall(stage / "precision_recall.png", verdicts)
        plots.write_scores(stage / "scores.png", verdicts)
        plots.write_calibration(stage / "calibration.png", verdicts)
        plots.write_worst(stage / "worst.png", list(plots.worst(verdicts, model, data)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("train.eval"),
        description=__doc__,
        epilog=f"{POLARITY} Decision: {DECISION}. In precision, recall and AUC the positive class "
        "is FAKE.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help=f"default: the newest under {CHECKPOINTS}/ (of a training run, its best)",
    )
    add(
        "--data",
        action="append",
        metavar="NAME|PATH",
        help="a folder in the published layout (crops/, masks/, metadata.json, or testing/ and "
        "training/ with these; metadata.json may lie one level above), or the generated "
        f"{EMBEDDED} or {SELF_BLENDED}[:procedural|:avatars|:FOLDER] (default: {EMBEDDED}). "
        "Given several times: each is scored, and a table has a row for each and the average",
    )
    add(
        "--split",
        metavar="NAME|A/B/C",
        help="a split of the data set (default: test, or with --calibrate validation; where test "
        "is missing validation, or the whole folder if it has no splits); or percentages for "
        "train/validation/test by source video, such as 80/10/10, with the --seed of training: "
        "test is scored, or with --calibrate validation",
    )
    add("--devices", default="all", metavar="all|N", help="of each process (default: all)")
    add("--batch-size", type=int, default=32, metavar="N", help="frames per step (default: 32)")
    add("--limit", type=int, metavar="N", help="score N frames, drawn at random with --seed")
    add("--seed", type=int, default=0, help="of --limit, --split and the intervals (default: 0)")
    add("--dtype", choices=DTYPES, default="float32", help="of convolutions (default: float32)")
    aggregate = f"how frames are combined into a video's score (default: {AGGREGATES[0]})"
    add("--aggregate", choices=AGGREGATES, default=AGGREGATES[0], help=aggregate)
    text = "score the frames with eight kinds of damage, at five severities each, too"
    add("--robustness", action="store_true", help=text)
    add(
        "--calibrate",
        nargs="?",
        const=0.05,
        type=between_0_and_1,
        metavar="RATE",
        help="fit a temperature, and the threshold with this rate of false alarms (the share of "
        "REAL frames called FAKE; default: 0.05), to the validation split or the one that --split "
        "names, and store both in the checkpoint's source.json: predict, the page and Detector "
        "use them",
    )
    add("--skip-bad", action="store_true", help="leave out files that cannot be used")
    add_options(parser)
    where = "HOST:PORT of process 0, with the next two, where JAX recognises no cluster"
    add("--coordinator", metavar="HOST:PORT", help=where)
    add("--num-processes", type=int, metavar="N", help="number of processes; 1 joins none")
    add("--process-id", type=int, metavar="N", help="number of this process, from 0")
    text = "processes that read pictures, of each process; 0: threads (default: as many as pay)"
    add("--workers", type=int, metavar="N", help=text)
    files = f"{REPORT}, {PREDICTIONS} and, for a classifier, plots and {GROUPS} (figures by data "
    files += "set, compression and method, where metadata.json has them)"
    add("--out", type=Path, metavar="DIR", help=f"new directory for {files}")
    return parser


if __name__ == "__main__":
    main()
