"""A video's probability over time, as a plot."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def write_timeline(path: Path, result: dict[str, Any]) -> None:
    """Plots the fake probability of each frame of a video, with gaps where no face was judged.

    Args:
        path: PNG file to write.
        result: of `results`, with at least one frame that has a verdict.
    """
    seconds = [frame["seconds"] for frame in result["frames"]]
    fake = [frame["fake_probability"] for frame in result["frames"]]
    values = np.array([np.nan if value is None else value for value in fake], float)
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(0.5, 1, color="#d71432", alpha=0.08, lw=0)
    axes.plot(seconds, values, color="#d71432", lw=1, marker=".", ms=3)
    axes.axhline(0.5, color="grey", lw=0.8, ls="--")
    mean = result["fake_probability"]
    axes.set(
        xlabel="seconds",
        ylabel="probability of FAKE",
        ylim=(-0.02, 1.02),
        title=f"{result['verdict']}: mean probability of FAKE {mean:.3f}",
    )
    axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=110)
