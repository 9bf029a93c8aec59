"""What a run tells of itself: JSON lines, TensorBoard, Weights & Biases."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet.errors import InputError
from flax_unet.files import staged_file

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
            self._run = _start_wandb(workdir, options, wandb)

    def log(self, figures: dict[str, Any]) -> None:
        """A logged step: one line of metrics.jsonl."""
        self._write(METRICS, figures, "train")

    def log_validation(self, figures: dict[str, Any], sheet: np.ndarray | None) -> None:
        """An evaluation: `step` and its figures by name; and pictures with their masks.

        Args:
            figures: numbers by the dotted name that they have in report.json.
            sheet: (H, W, 3) uint8.
        """
        self._write(VALIDATION, figures, "validation")
        if sheet is not None:
            self._board.add_image("masks", sheet, figures["step"], dataformats="HWC")
            self._board.flush()

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


def _start_wandb(workdir: Path, options: dict[str, Any], mode: str) -> Any:
    import wandb  # pyright: ignore[reportMissingImports]

    try:
        return wandb.init(
            project="flax-unet",
            name=workdir.name,
            dir=workdir,
            config=options,
            mode=mode,
            id=_wandb_id(workdir),
            resume="allow",
        )
    except wandb.Error as error:
        raise InputError(f"--wandb {mode}: {error}") from error


def _wandb_id(workdir: Path) -> str:
    """The same for each start of a run, so that they make one history."""
    path = workdir / "wandb_id"
    if not path.exists():
        with staged_file(path) as stage:
            stage.write_text(uuid.uuid4().hex)
    return path.read_text().strip()
