"""Trains from scratch in both frameworks and compares what the networks are worth.

Initial weights and orders are drawn anew by each seed in each framework, so single runs differ;
their means must not. The recipe is the published one, but for a learning rate that lets it finish
on a CPU and falls to 0 at the end, so that runs end settled.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks import train_torch
from convert.from_torch import convert
from convert.state_dict import write
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import store
from flax_unet.utils.errors import command
from flax_unet.utils.files import staged_file
from train.data.dataset import EMBEDDED, open_dataset
from train.fit import __main__ as fit
from train.fit import tracking
from train.fit.validation import evaluate

_SMOOTHED = 25  # steps that the curves average over


def train_flax(workdir: Path, seed: int, args: argparse.Namespace) -> tuple[UNet, np.ndarray]:
    """The network that this project trains, and the two losses of each step."""
    options = {
        "--data": EMBEDDED,
        "--workdir": workdir,
        "--seed": seed,
        "--base-width": args.base_width,
        "--size": args.size,
        "--epochs": args.epochs,
        "--batch-size": args.batch_size,
        "--learning-rate": args.learning_rate,
        "--schedule": "cosine",
        "--log-every": 1,
        "--eval-every": args.epochs,
    }
    fit.main([str(word) for pair in options.items() for word in pair])
    lines = tracking.read(workdir / tracking.METRICS)
    losses = [(line["mask_loss"], line["class_loss"]) for line in lines]
    return store.load(workdir / "last"), np.array(losses)


def train_pytorch(folder: Path, seed: int, args: argparse.Namespace) -> tuple[UNet, np.ndarray]:
    """The same of PyTorch's training, converted."""
    losses: list[tuple[float, float]] = []
    config = UNetConfig(base_width=args.base_width, image_size=args.size)
    model = train_torch.train(
        config,
        open_dataset(EMBEDDED, "train"),
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        seed=seed,
        cosine=True,
        losses=losses,
    )
    folder.mkdir()
    write(dict(model.state_dict()), folder / "ckpt.pth")
    convert(folder / "ckpt.pth", folder / "model", verify=False)
    # A state dict does not tell the size of the pictures that it was trained on.
    return store.build(config, store.load_weights(folder / "model")), np.array(losses)


def write_curves(path: Path, curves: dict[str, list[np.ndarray]]) -> None:
    """Both losses of every run over the steps."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, column, title in zip(
        figure.subplots(1, 2), (0, 1), ("mask loss", "class loss"), strict=True
    ):
        for (name, runs), colour in zip(curves.items(), ("#1f6fb2", "#c8102e"), strict=True):
            for number, losses in enumerate(runs):
                smooth = np.convolve(losses[:, column], np.ones(_SMOOTHED) / _SMOOTHED, "valid")
                axes.semilogy(smooth, color=colour, lw=1, label=None if number else name)
        axes.set(title=f"{title}, mean of {_SMOOTHED} steps", xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    with staged_file(path) as stage:
        figure.savefig(stage, format="png", dpi=120)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.same_result",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each framework")
    parser.add_argument("--base-width", type=int, default=8, help="channels of the first level")
    parser.add_argument("--size", type=int, default=96, help="pixels a side")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the data")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam, at first")
    parser.add_argument("--batch-size", type=int, default=32, help="frames a step")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="PNG file to write")
    args = parser.parse_args(argv)
    test = open_dataset(EMBEDDED, "test")
    figures: dict[str, list[tuple[float, float]]] = {}
    curves: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(args.seeds):
            for name, train in (("PyTorch", train_pytorch), ("Flax", train_flax)):
                model, losses = train(Path(directory) / f"{name}{seed}", seed, args)
                found = evaluate(model, test, jax.local_devices(), args.batch_size)
                worth = found["frames.accuracy"], found["pixels.fake_frames.dice"]
                figures.setdefault(name, []).append(worth)
                curves.setdefault(name, []).append(losses)
    print("| | accuracy of test frames, % | Dice of fake test frames, % |\n| --- | ---: | ---: |")
    for name, runs in figures.items():
        cells = []
        for column in zip(*runs, strict=True):
            each = ", ".join(f"{100 * value:.1f}" for value in column)
            cells.append(f"{100 * statistics.mean(column):.1f} ({each})")
        print(f"| {name} | {' | '.join(cells)} |")
    print(json.dumps(figures))
    if args.curves is not None:
        write_curves(args.curves, curves)


if __name__ == "__main__":
    main()
