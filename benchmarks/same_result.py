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

from benchmarks import train_torch
from benchmarks.machine import FILE, markdown, options, write_curves
from convert.from_torch import convert
from convert.state_dict import write
from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import store
from flax_unet.utils.errors import command
from train.data.dataset import EMBEDDED, open_dataset
from train.fit import __main__ as fit
from train.fit import tracking
from train.fit.validation import evaluate

_SMOOTHED = 25  # steps that the curves average over


def train_flax(workdir: Path, seed: int, args: argparse.Namespace) -> tuple[UNet, np.ndarray]:
    """The network that this project trains, and the two losses of each step."""
    chosen = {
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
    fit.main([str(word) for pair in chosen.items() for word in pair])
    lines = tracking.read(workdir / tracking.METRICS)
    losses = [(line["mask_loss"], line["class_loss"]) for line in lines]
    return store.load(workdir / "last"), np.array(losses)


def train_pytorch(folder: Path, seed: int, args: argparse.Namespace) -> tuple[UNet, np.ndarray]:
    """The same of PyTorch's training, converted."""
    config = UNetConfig(base_width=args.base_width, image_size=args.size)
    model, losses = train_torch.train(
        config,
        open_dataset(EMBEDDED, "train"),
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        seed=seed,
        cosine=True,
    )
    folder.mkdir()
    write(dict(model.state_dict()), folder / "ckpt.pth")
    convert(folder / "ckpt.pth", folder / "model", verify=False)
    # A state dict does not hold the size of the pictures that it was trained on.
    return store.build(config, store.load_weights(folder / "model")), losses


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = options(
        "same_result",
        __doc__,
        seeds=(3, "runs of each framework"),
        base_width=(8, "channels of the first level"),
        size=(96, "pixels a side"),
        epochs=(5, "passes over the data"),
        learning_rate=(1e-3, "of Adam, at first"),
        batch_size=(32, "frames a step"),
        curves=(None, "PNG file to write", FILE),
    ).parse_args(argv)
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
    rows = []
    for name, runs in figures.items():
        cells = [name]
        for column in zip(*runs, strict=True):
            each = ", ".join(f"{100 * value:.1f}" for value in column)
            cells.append(f"{100 * statistics.mean(column):.1f} ({each})")
        rows.append(cells)
    header = ["", "accuracy of test frames, %", "Dice of fake test frames, %"]
    print("\n".join(markdown(header, rows)))
    print(json.dumps(figures))
    if args.curves is not None:
        mean = np.ones(_SMOOTHED) / _SMOOTHED
        write_curves(
            args.curves,
            {
                f"{title}, mean of {_SMOOTHED} steps": {
                    name: [np.convolve(losses[:, column], mean, "valid") for losses in runs]
                    for name, runs in curves.items()
                }
                for column, title in enumerate(("mask loss", "class loss"))
            },
        )


if __name__ == "__main__":
    main()
