"""Logs of a run: JSON lines, TensorBoard, Weights & Biases, and its curves as a picture."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_file
from train.fit.estimate import span

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"
_CURVES = "curves.png"
_BETWEEN_LINES = 10  # seconds, at least
_LOSSES = {"mask_loss": "mask", "class_loss": "classifier", "loss": "weighted sum"}
_METRICS = {"frames.accuracy": "frame accuracy", "pixels.fake_frames.dice": "Dice of fake frames"}


class Clock:
    """Images a second and the share of time spent waiting for data, between two readings."""

    def __init__(self) -> None:
        self._compilation: tuple[int, float] | None = None
        self._restart()

    def _restart(self) -> None:
        self._start, self._waited = time.perf_counter(), 0.0
        self.images = 0  # since the last reading

    @contextlib.contextmanager
    def waiting(self, is_idle: Callable[[], bool]) -> Iterator[None]:
        """Counts the block's time as waiting for data, unless the devices still work at its end."""
        start = time.perf_counter()
        yield
        if is_idle():
            self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the block's time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def compiled(self) -> None:
        """Leaves out the first step, whose time is mostly compilation."""
        self._compilation = self.images, time.perf_counter() - self._start
        self._restart()

    def read(self) -> tuple[float, float]:
        """Images a second, and the share of time spent waiting, since the last reading."""
        images, seconds = self.images, time.perf_counter() - self._start
        if not images and self._compilation:  # only the first step has run
            images, seconds = self._compilation
        rates = images / seconds, self._waited / seconds
        self._restart()
        return rates


class Lines:
    """Prints how far a run is, for a log file: often at first, then more rarely."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._first, self._start, self._due = 0, 0.0, 0.0

    def start(self, step: int) -> None:
        """Counts the time from the end of this step, the first."""
        self._first, self._start = step, time.perf_counter()

    def print(self, metrics: dict[str, Any]) -> None:
        """Prints a line of some of the metrics, if one is due."""
        now, step = time.perf_counter(), metrics["step"]
        if now < self._due and step < self._total:
            return
        passed = now - self._start
        self._due = now + max(_BETWEEN_LINES, passed / 50)
        parts = [
            f"loss {metrics['loss']:.4f}",
            f"{metrics['images_per_second']:.1f} images a second",
        ]
        if self._first < step < self._total:
            left = passed / (step - self._first) * (self._total - step)
            parts.append(f"{span(left)} left")
        print(f"step {step} of {self._total}: {', '.join(parts)}")


class Tracker:
    """Writes metrics as they come. Only one process has one."""

    def __init__(self, workdir: Path, step: int, options: dict[str, Any], mode: str | None) -> None:
        """Opens the logs, and removes lines of steps after `step`: a killed run repeats them."""
        from tensorboardX import SummaryWriter

        self._workdir = workdir
        for path in (workdir / METRICS, workdir / VALIDATION):
            kept = [json.dumps(line) + "\n" for line in read(path) if line["step"] <= step]
            with staged_file(path) as stage:
                stage.write_text("".join(kept), encoding="utf-8")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        self._run: Any = None
        self._wandb: Any = None
        if mode is not None:
            import wandb  # pyright: ignore[reportMissingImports]

            self._wandb, self._run = wandb, _start_wandb(wandb, workdir, step, options, mode)

    def log(self, file: str, metrics: dict[str, Any]) -> None:
        """Logs `step` and other metrics: one line of METRICS or VALIDATION."""
        with (self._workdir / file).open("a", encoding="utf-8") as log:
            log.write(json.dumps(metrics) + "\n")
        group = "train" if file == METRICS else "validation"
        scalars = {f"{group}/{k}": v for k, v in metrics.items() if k != "step" and v is not None}
        for key, value in scalars.items():
            self._board.add_scalar(key, value, metrics["step"])
        if self._run is not None:
            self._run.log(scalars, step=metrics["step"])

    def log_masks(self, step: int, sheet: np.ndarray, caption: str) -> None:
        """Logs pictures with their masks, from `validation.sheet`: (H, W, 3) uint8."""
        self._board.add_image("masks", sheet, step, dataformats="HWC")
        self._board.flush()
        if self._run is not None:
            image = self._wandb.Image(sheet, caption=caption)
            self._run.log({"masks": image}, step=step)

    def log_histograms(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Logs how the values of each array are distributed, without NaN and infinity."""
        # In float64: in float32 NumPy finds no bins between values that are close together.
        finite = {name: array[np.isfinite(array)].astype(float) for name, array in arrays.items()}
        finite = {name: values for name, values in finite.items() if values.size}
        for name, values in finite.items():
            self._board.add_histogram(name, values, step)
        if self._run is not None:
            histograms = {name: self._wandb.Histogram(array) for name, array in finite.items()}
            self._run.log(histograms, step=step)

    def close(self) -> None:
        """Flushes and closes the logs."""
        self._board.close()
        if self._run is not None:
            self._run.finish()


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that was cut short ends it."""
    found = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    with contextlib.suppress(ValueError):
        for line in lines:
            found.append(json.loads(line))
    return found


def write_curves(workdir: Path) -> None:
    """Draws losses and validation metrics over the steps of a run, beside its logs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    logs = [(left, read(workdir / METRICS), _LOSSES, "training loss (cross-entropy, nats)")]
    logs += [(right, read(workdir / VALIDATION), _METRICS, "validation")]
    end = max([line["step"] for _, lines, *_ in logs for line in lines], default=1)
    for axes, lines, labels, title in logs:
        for name, label in labels.items():
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                marker = {"marker": "o", "ms": 7 if len(points) == 1 else 3}
                label = f"{label}, {points[-1][1]:.4f} at the end"
                axes.plot(*zip(*points, strict=True), **marker, label=label)
        axes.set(title=title, xlabel="step", xlim=(0, 1.04 * end))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_minor_locator(NullLocator())
    left.yaxis.set_major_formatter("{x:g}")
    right.set_ylim(-0.02, 1.02)  # both are shares
    with staged_file(workdir / _CURVES) as stage:
        figure.savefig(stage, format="png", dpi=120)


def _start_wandb(wandb: Any, workdir: Path, step: int, options: dict[str, Any], mode: str) -> Any:
    """Online, all starts of a run continue one W&B run; offline, each is a W&B run of its own.

    W&B resumes only what its server has. Of two offline starts with one id, `wandb sync` would
    keep only the later one, and two in the same second would write to the same directory.
    """
    name, path = workdir.name, workdir / "wandb_id"
    if not path.exists():
        with staged_file(path) as stage:
            stage.write_text(uuid.uuid4().hex)
    group = path.read_text().strip()
    if mode == "online":
        start = {"name": name, "id": group, "resume": "allow"}
    else:
        name = f"{name} after step {step}" if step else name
        start = {"name": name, "id": uuid.uuid4().hex, "group": group}
    try:
        return wandb.init(project="flax-unet", dir=workdir, config=options, mode=mode, **start)
    except wandb.Error as error:
        raise InputError(f"--wandb {mode}: {error}") from error
