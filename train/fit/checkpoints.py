"""Training on disk: checkpoints that are whole, written while training goes on.

WORKDIR/checkpoints/step_<n>/ is a checkpoint as `flax_unet.checkpoint.metadata` tells of it, plus

  training/      Orbax: what else training needs to go on: the optimizer's state and figures; with
                 a moving average, which is what `weights/` then holds, the weights themselves
  training.json  step, position in the data, random state, best figure, options

`WORKDIR/training.json` holds the options of the run; `WORKDIR/last` and `WORKDIR/best` point to
checkpoints.
"""

import re
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from flax_unet import UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import Tree
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_directory

TRAINING = "training"
OPTIONS = "training.json"  # of a work directory: its options; of a checkpoint: where it stands
_PREFIX, _DAMAGED = "step_", "damaged_"
_STAGED = re.compile(r"\..+\.(json|jsonl|png)\.\w{8}")  # names that `staged_file` gives
_PROGRESS = frozenset({"step", "data_fingerprint", "best", "evaluations_without_gain"})


class Saved(NamedTuple):
    """What a checkpoint holds."""

    weights: Tree  # for use: parameters and statistics, of the moving average if there is one
    unused: Tree  # tensors of the file that training started from, which the original class owns
    training: dict[str, Any]  # a tree of whatever else the state is made of
    progress: dict[str, Any]  # JSON


class Checkpoints:
    """The checkpoints of a work directory. One process writes, all may read."""

    def __init__(self, workdir: Path, keep: int) -> None:
        self.workdir, self._keep = workdir, keep
        self._directory = workdir / "checkpoints"
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future | None = None

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, ascending."""
        found = (path.name.removeprefix(_PREFIX) for path in self._directory.glob(f"{_PREFIX}*"))
        return sorted(int(number) for number in found if number.isdecimal())

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step belongs."""
        return self._directory / f"{_PREFIX}{step:08}"

    def newest(self, expected: dict[str, Any]) -> Saved | None:
        """The newest checkpoint that is whole; damaged ones are passed over, and told of.

        Args:
            expected: shapes and dtypes of `Saved.training`.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self.path(step)
            try:
                progress = _read_progress(path / OPTIONS)
                weights = store.load_weights(path)
                unused = store.load_unused(path)
                training = store.load_tree(path / TRAINING, expected)
            except InputError as error:
                print(f"{path} is passed over: {error}", file=sys.stderr)
                continue
            return Saved(weights, unused, training, progress)
        if steps:
            raise InputError(
                f"every checkpoint under {self._directory} is damaged; restore one, or name "
                "another --workdir"
            )
        return None

    def network(self) -> UNetConfig | None:
        """The network that is trained here, or None if nothing is saved yet.

        Raises:
            InputError: there are checkpoints, and none tells.
        """
        problem = None
        for step in reversed(self.steps()):
            try:
                return metadata.load_config(self.path(step))
            except InputError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return None

    def clean(self, step: int, best: int | None) -> None:
        """Puts the work directory in order before training goes on.

        What a run that was killed left half-written is deleted, damaged checkpoints are set aside,
        so that they do not count among those that are kept, and the links are made anew.

        Args:
            step: of the checkpoint that training goes on from; 0 if there is none.
            best: of the best checkpoint, if there is one.
        """
        for path in self._directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.workdir.glob(".*"):
            if path.is_symlink() or _STAGED.fullmatch(path.name):
                path.unlink()
        for newer in self.steps():
            if newer > step:
                place = self._directory / f"{_DAMAGED}{self.path(newer).name}"
                shutil.rmtree(place, ignore_errors=True)
                self.path(newer).rename(place)
        if step:
            self._point("last", step)
            if best is not None and self.path(best).exists():
                self._point("best", best)

    def check(self) -> None:
        """Raises an InputError if a checkpoint could not be written; does not wait."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def save(self, step: int, config: UNetConfig, source: dict[str, Any], saved: Saved) -> None:
        """Starts writing a checkpoint, once the one before is written.

        Args:
            step: its number.
            config: of the network.
            source: for source.json.
            saved: its content, on the host.

        Raises:
            InputError: the checkpoint before could not be written.
        """
        self.wait()
        self._writing = self._writer.submit(self._write, step, config, source, saved)

    def wait(self) -> None:
        """Waits until everything is on disk.

        Raises:
            InputError: it could not be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, step: int, config: UNetConfig, source: dict[str, Any], saved: Saved) -> None:
        path = self.path(step)
        with staged_directory(path, may_replace=lambda _: True) as stage:
            trees = {
                metadata.WEIGHTS: saved.weights,
                metadata.UNUSED: saved.unused,
                TRAINING: saved.training,
            }
            store.write(stage, config, trees)
            metadata.write_json(stage / metadata.SOURCE, source)
            metadata.write_json(stage / OPTIONS, saved.progress)
        best = saved.progress["best"]
        self._point("last", step)
        if best is not None and best["step"] == step:
            self._point("best", step)
        kept = {*self.steps()[-self._keep :], step, best["step"] if best is not None else step}
        for old in set(self.steps()) - kept:
            hidden = self._directory / f".{self.path(old).name}"
            self.path(old).rename(hidden)  # so that nothing half-deleted looks whole
            shutil.rmtree(hidden, ignore_errors=True)

    def _point(self, name: str, step: int) -> None:
        link = self.workdir / f".{name}"
        link.unlink(missing_ok=True)
        link.symlink_to(self.path(step).relative_to(self.workdir), target_is_directory=True)
        link.replace(self.workdir / name)


def _read_progress(path: Path) -> dict[str, Any]:
    progress = metadata.read_json(path)
    missing = sorted(_PROGRESS - progress.keys())
    best = progress.get("best")
    if best is not None and not (
        isinstance(best, dict) and {"metric", "value", "step"} <= set(best)
    ):
        missing.append("best")
    if missing:
        raise InputError(f"{path} does not tell {', '.join(missing)}")
    return progress
