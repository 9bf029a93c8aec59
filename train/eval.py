"""Scores a checkpoint on a data set, as the published evaluation does and beyond."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from flax_unet import PUBLISHED, checkpoint
from flax_unet.errors import InputError, command
from flax_unet.files import staged_directory
from flax_unet.provenance import made_by
from train import parallel
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.metrics import AGGREGATES

CHECKPOINTS = Path("checkpoints")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
REPORT, PREDICTIONS = "report.json", "predictions.csv"
REPORTED = (  # by the original project, of its own weights on 5,001 frames of DFDC
    "deployment's README: 94.35 %",
    "Tesla V100, float32: 4707 of 5001 = 94.12 %, 88.55 frames a second",
    "Tesla T4: 4707 of 5001 = 94.12 %, 51.11 frames a second",
    "Xeon E5-2698: 4707 of 5001 = 94.12 %, 5.41 frames a second",
    "VCK5000 FPGA, int8: 4651 of 5001 = 93.00 %, 316.80 frames a second",
)
_WORST = 12  # mistakes on the sheet


def newest_checkpoint() -> Path:
    """The checkpoint under `checkpoints/` that was written last.

    Raises:
        InputError: there is none.
    """
    found = [path.parent for path in CHECKPOINTS.glob(f"*/{checkpoint.CONFIG}")]
    found = [path for path in found if checkpoint.is_checkpoint(path)]
    if not found:
        raise InputError(
            f"there is no checkpoint under {CHECKPOINTS}/; convert one: "
            "python -m convert.from_torch ckpt.pth, or name one by --checkpoint"
        )
    return max(found, key=lambda path: (path / checkpoint.CONFIG).stat().st_mtime_ns)


def evaluate(
    path: Path,
    data: Dataset,
    *,
    devices: str = "all",
    batch_size: int = 32,
    dtype: str = "float32",
    aggregate: str = "mean_probability",
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any] | None:
    """Scores the checkpoint `path` on `data`, and prints and writes the figures.

    Args:
        path: a checkpoint directory.
        data: what to score it on.
        devices: `all` or how many of this process.
        batch_size: frames a step on all devices.
        dtype: what the convolutions compute in, a key of DTYPES.
        aggregate: how a video's frames make its score; see `train.metrics`.
        seed: of the bootstrap.
        out: a new directory for the report, the predictions and the pictures; None writes none.

    Returns:
        What `report.json` holds; None on all processes but the first.

    Raises:
        InputError: the checkpoint or the devices cannot be used, or `out` cannot be written.
    """
    from train import metrics, report
    from train.scoring import score

    chosen = parallel.select_devices(devices)
    model = checkpoint.load(path, dtype=DTYPES[dtype])
    predictions, timing = score(model, data, chosen, batch_size)
    process, processes = parallel.process()
    if process != 0:
        return None
    figures = metrics.evaluate_predictions(predictions, aggregate=aggregate, seed=seed)
    print(report.text(figures))
    source = checkpoint.load_source(path)
    result = {
        **figures,
        "configuration": {
            "checkpoint": str(path),
            "data": data.name,
            "split": data.split,
            "frames": len(data),
            "devices": [str(device) for device in chosen],
            "processes": processes,
            "batch_size": batch_size,
            "dtype": dtype,
            "aggregate": aggregate,
            "image_size": model.config.image_size,
            "seed": seed,
        },
        "checkpoint": {key: source.get(key) for key in ("file", "sha256", "layout")},
        "data": {"fingerprint": data.directory.name, "left_out": data.faults, "notes": data.notes},
        "timing": timing._asdict(),
        "made_by": made_by(),
    }
    if timing.frames:
        rate, waiting = timing.frames / timing.seconds, timing.waiting_for_data / timing.seconds
        print(f"\n{rate:.1f} frames a second after the first batch; {waiting:.1%} waiting for data")
    if out is not None:
        with staged_directory(out) as stage:
            _write(stage, result, predictions, model, data)
        print(f"{out}: {REPORT}, {PREDICTIONS} and plots")
    return result


def _write(
    stage: Path, result: dict[str, Any], predictions: Any, model: Any, data: Dataset
) -> None:
    """The report's files."""
    from train import plots, report

    checkpoint.write_json(stage / REPORT, result)
    report.write_csv(stage / PREDICTIONS, predictions)
    if predictions.real_probability is not None:
        plots.write_roc(stage / "roc.png", predictions)
        plots.write_precision_recall(stage / "precision_recall.png", predictions)
        plots.write_scores(stage / "scores.png", predictions)
        plots.write_calibration(stage / "calibration.png", predictions)
        plots.write_worst(stage / "worst.png", list(_worst(predictions, model, data)))


def _worst(predictions: Any, model: Any, data: Dataset) -> Iterator[tuple]:
    """The frames that were most surely called wrong, with their masks."""
    from flax_unet.model import compiled
    from train.data.pipeline import decode

    error = np.abs(predictions.real_probability - predictions.is_real)
    wrong = (predictions.real_probability > 0.5) != predictions.is_real
    forward = compiled(model)
    for row in np.argsort(-error, kind="stable")[: min(_WORST, int(wrong.sum()))]:
        record = data.record(int(row))
        frame = decode(record["image"], record["mask"], model.config.image_size)
        output = forward(frame.image[None].astype(np.float32) / 255)
        found = None if output.is_manipulated is None else np.asarray(output.is_manipulated[0])
        label = "REAL" if predictions.is_real[row] else "FAKE"
        title = f"{data.table.file[row]}\n{label}, real {predictions.real_probability[row]:.3f}"
        yield title, frame.image, frame.mask if frame.has_mask else None, found


def _is_published(data: Dataset, path: Path) -> bool:
    """Whether the published results are worth printing beside these."""
    layout = str(checkpoint.load_source(path).get("layout"))
    return layout in PUBLISHED and not data.name.startswith(EMBEDDED)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.eval",
        description=__doc__,
        epilog="The classifier's 1 is REAL, the mask's 1 is MANIPULATED; a frame is called REAL "
        "where its probability rounds to 1, so exactly 0.5 is FAKE. In precision, recall and AUC "
        "the positive class is FAKE.",
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="default: the newest under checkpoints/"
    )
    parser.add_argument(
        "--data",
        default=EMBEDDED,
        metavar="NAME|PATH",
        help="a folder in the published layout (crops/, masks/, metadata.json), or "
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"new directory for {REPORT}, {PREDICTIONS} and plots",
    )
    args = parser.parse_args(argv)
    for name in ("batch_size", "limit"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    if args.out is not None and args.out.exists():  # before hours of work, not after
        raise InputError(f"{args.out} exists already; name a new directory by --out")
    path = args.checkpoint or newest_checkpoint()
    checkpoint.load_config(path)
    data = open_dataset(args.data, args.split, seed=args.seed, skip_bad=args.skip_bad)
    if args.limit is not None:
        data = data.sample(args.limit, args.seed)
    say = print if parallel.process()[0] == 0 else lambda *_: None
    say(f"{path} on {data.name}, split {data.split}: {len(data)} frames")
    if data.name.startswith(EMBEDDED):
        say("This data set is made on this machine; figures on it say nothing of DFDC.")
    for note in data.notes:
        say(f"note: {note}")
    if data.faults:
        say(f"{len(data.faults)} files that cannot be used are left out")
    evaluate(
        path,
        data,
        devices=args.devices,
        batch_size=args.batch_size,
        dtype=args.dtype,
        aggregate=args.aggregate,
        seed=args.seed,
        out=args.out,
    )
    if _is_published(data, path):
        say("\nReported elsewhere, of the published weights on DFDC:")
        for line in REPORTED:
            say(f"  {line}")


if __name__ == "__main__":
    main()
