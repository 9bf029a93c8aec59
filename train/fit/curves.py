"""Losses and validation figures over the steps of a run, as one picture."""

from pathlib import Path

from flax_unet.utils.files import staged_file
from train.fit.tracking import METRICS, VALIDATION, read

CURVES = "curves.png"
_LOSSES = {"mask_loss": "mask", "class_loss": "classifier", "loss": "sum, as weighted"}
_FIGURES = {"frames.accuracy": "frame accuracy", "pixels.fake_frames.dice": "Dice of fake frames"}


def write(workdir: Path) -> None:
    """Writes the curves of the run in a work directory, beside its logs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, lines, names, title in (
        (left, read(workdir / METRICS), _LOSSES, "training loss (cross-entropy, nats)"),
        (right, read(workdir / VALIDATION), _FIGURES, "validation"),
    ):
        for name, label in names.items():
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), ".-", ms=3, label=label)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    left.set_yscale("log")
    with staged_file(workdir / CURVES) as stage:
        figure.savefig(stage, format="png", dpi=120)
