"""What a run tells of itself: JSON lines, TensorBoard, Weights & Biases."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_file

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"


class Tracker:
    """Writes figures as they come. Only one process has one."""

    def __init__(
        self, workdir: Path, step: int, options: dict[str, Any], wandb: str | None
    ) -> None:
        """Opens the logs, and forgets what they hold of steps after `step`.

        Raises:
            InputError: a package is missing or a log cannot be written.
        """
        from tensorboardX import SummaryWriter

        self._files = {name: workdir / name for name in (METRICS, VALIDATION)}
        for path in self._files.values():
            rewind(path, step)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        self._run = None
        if wandb is not None:
            self._run = _start_wandb(workdir, step, options, wandb)

    def log(self, figures: dict[str, Any]) -> None:
        """A logged step: one line of metrics.jsonl."""
        self._write(METRICS, figures, "train")

    def log_validation(self, figures: dict[str, Any]) -> None:
        """An evaluation: `step`, and numbers by the dotted name that they have in report.json."""
        self._write(VALIDATION, figures, "validation")

    def log_masks(self, step: int, sheet: np.ndarray, caption: str) -> None:
        """Pictures with their masks, as `validation.sheet` gives them: (H, W, 3) uint8."""
        self._board.add_image("masks", sheet, step, dataformats="HWC")
        self._board.flush()
        if self._run is not None:
            import wandb  # pyright: ignore[reportMissingImports]

            self._run.log({"masks": wandb.Image(sheet, caption=caption)}, step=step)

    def log_histograms(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """How the values of each array are distributed.

        Values that are not finite have no place in a histogram and are left out; they end training
        at the next step's loss.
        """
        # In float64, for in float32 NumPy finds no bins between values that lie close together.
        finite = {name: array[np.isfinite(array)].astype(float) for name, array in arrays.items()}
        finite = {name: values for name, values in finite.items() if values.size}
        for name, values in finite.items():
            self._board.add_histogram(name, values, step)
        if self._run is not None:
            import wandb  # pyright: ignore[reportMissingImports]

            histograms = {name: wandb.Histogram(values) for name, values in finite.items()}
            self._run.log(histograms, step=step)

    def _write(self, name: str, figures: dict[str, Any], group: str) -> None:
        with self._files[name].open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        scalars = {f"{group}/{k}": v for k, v in figures.items() if k != "step" and v is not None}
        for key, value in scalars.items():
            self._board.add_scalar(key, value, figures["step"])
        if self._run is not None:
            self._run.log(scalars, step=figures["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        self._board.close()
        if self._run is not None:
            self._run.finish()


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; a line that was cut short ends it."""
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
    return found


def rewind(path: Path, step: int) -> None:
    """Takes from a log what was written after `step`: a run that was killed does it again."""
    kept = [figures for figures in read(path) if figures["step"] <= step]
    with staged_file(path) as stage:
        stage.write_text("".join(json.dumps(figures) + "\n" for figures in kept), encoding="utf-8")


def _start_wandb(workdir: Path, step: int, options: dict[str, Any], mode: str) -> Any:
    """Online, the starts of a run go on with one W&B run; offline, each is a W&B run of its own.

    W&B resumes only what its server has. Of two offline starts with one id, `wandb sync` would
    keep the later one alone, and two in the same second would write to the same directory.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    name, own = workdir.name, _wandb_id(workdir)
    if mode == "online":
        start = {"name": name, "id": own, "resume": "allow"}
    else:
        name = f"{name} after step {step}" if step else name
        start = {"name": name, "id": uuid.uuid4().hex, "group": own}
    try:
        return wandb.init(project="flax-unet", dir=workdir, config=options, mode=mode, **start)
    except wandb.Error as error:
        raise InputError(f"--wandb {mode}: {error}") from error


def _wandb_id(workdir: Path) -> str:
    """The same for each start of a run, so that W&B shows them together."""
    path = workdir / "wandb_id"
    if not path.exists():
        with staged_file(path) as stage:
            stage.write_text(uuid.uuid4().hex)
    return path.read_text().strip()
