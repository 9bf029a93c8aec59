"""Trains from scratch in both frameworks and compares what the networks are worth.

Initial weights and orders are drawn anew by each seed in each framework, so single runs differ;
their means must not. The recipe is the published one, but for a learning rate that lets it finish
on a CPU and falls to 0 at the end, so that runs end settled.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import train_torch
from benchmarks.machine import FILE, benchmark, markdown, write_curves
from flax_unet import UNet
from flax_unet.checkpoint import store
from train.data.dataset import EMBEDDED, open_dataset
from train.fit import __main__ as fit
from train.fit import tracking
from train.fit.validation import evaluate
from train.options import flag

_SMOOTHED = 25  # steps that the curves average over


def train_flax(workdir: Path, seed: int, settings: dict[str, Any]) -> tuple[UNet, np.ndarray]:
    """The network that this project trains, and the two losses of each step."""
    chosen = {
        **settings,
        "data": EMBEDDED,
        "workdir": workdir,
        "seed": seed,
        "schedule": "cosine",
        "log_every": 1,
        "eval_every": settings["epochs"],
    }
    fit.main([f"{flag(name)}={value}" for name, value in chosen.items()])
    lines = tracking.read(workdir / tracking.METRICS)
    losses = [(line["mask_loss"], line["class_loss"]) for line in lines]
    return store.load(workdir / "last"), np.array(losses)


def train_pytorch(seed: int, settings: dict[str, Any]) -> tuple[UNet, np.ndarray]:
    """The same of PyTorch's training, converted."""
    data = open_dataset(EMBEDDED, "train")
    model, losses = train_torch.train(data, seed=seed, cosine=True, **settings)
    return store.build(model.config, train_torch.as_tree(model)), losses


@benchmark(
    seeds=(3, "runs of each framework"),
    base_width=(8, "channels of the first level"),
    size=(96, "pixels a side"),
    epochs=(5, "passes over the data"),
    learning_rate=(1e-3, "of Adam, at first"),
    batch_size=(32, "frames a step"),
    curves=(None, "PNG file to write", FILE),
)
def main(*, seeds: int, curves: Path | None, **settings: Any) -> None:
    """Runs the command line."""
    test = open_dataset(EMBEDDED, "test")
    figures: dict[str, list[tuple[float, float]]] = {}
    courses: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as directory:
            trained = {
                "PyTorch": train_pytorch(seed, settings),
                "Flax": train_flax(Path(directory) / "run", seed, settings),
            }
        for name, (model, losses) in trained.items():
            found = evaluate(model, test, jax.local_devices(), settings["batch_size"])
            worth = found["frames.accuracy"], found["pixels.fake_frames.dice"]
            figures.setdefault(name, []).append(worth)
            courses.setdefault(name, []).append(losses)
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
    if curves is not None:
        mean = np.ones(_SMOOTHED) / _SMOOTHED
        panels = {}
        for column, title in enumerate(("mask loss", "class loss")):
            panels[f"{title}, mean of {_SMOOTHED} steps"] = {
                name: [np.convolve(losses[:, column], mean, "valid") for losses in runs]
                for name, runs in courses.items()
            }
        write_curves(curves, panels)


if __name__ == "__main__":
    main()
