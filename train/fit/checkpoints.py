"""The work directory of a run: its options, its checkpoints, and the lock that keeps others out.

WORKDIR/checkpoints/step_<n>/ is a checkpoint as described in `flax_unet.checkpoint.metadata`, plus

  training/      Orbax: the optimizer's state and the sums of the log; with a moving average, which
                 `weights/` then holds, also the parameters and statistics themselves
  training.json  step, position in the data, random state, best figure, options

`WORKDIR/training.json` holds the options of the run. `WORKDIR/last` and `WORKDIR/best` are links to
checkpoints, or files with their names where the file system has no links. A checkpoint is written
while training goes on, and appears whole or not at all.
"""

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.serialization import from_state_dict, to_state_dict
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_unet import UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.checkpoint.store import Tree
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import link, locked, staged_directory
from train.fit.step import Totals, TrainState

TRAINING = "training"
OPTIONS = "training.json"  # in a work directory: its options; in a checkpoint: its progress
_PREFIX, _DAMAGED = "step_", "damaged_"
# Names of `staged_file` and `link` while they are written.
_STAGED = re.compile(r"\.(.+\.(json|jsonl|png)|last|best)\.\w{8}")
_BEST = frozenset({"metric", "value", "step"})
_PROGRESS = frozenset({"step", "data_fingerprint", "best", "evaluations_without_gain"})


class Saved(NamedTuple):
    """The content of a checkpoint, on the host."""

    state: TrainState
    totals: Totals
    unused: Tree  # tensors of the file that training started from, which the network does not use
    progress: dict[str, Any]  # JSON


class Checkpoints:
    """The checkpoints of a work directory. One process writes, all may read."""

    def __init__(self, workdir: Path, keep: int) -> None:
        self.workdir, self._keep = workdir, keep
        self._directory = workdir / "checkpoints"
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future | None = None

    def steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        found = (path.name.removeprefix(_PREFIX) for path in self._directory.glob(f"{_PREFIX}*"))
        return sorted(int(number) for number in found if number.isdecimal())

    def path(self, step: int) -> Path:
        """The directory of a step's checkpoint."""
        return self._directory / f"{_PREFIX}{step:08}"

    def newest(self, state: TrainState, totals: Totals) -> Saved | None:
        """The newest whole checkpoint, in the structure, shapes and dtypes of `state` and `totals`.

        Damaged ones are skipped with a message.

        Raises:
            InputError: there are checkpoints, and all are damaged.
        """
        expected, steps = jax.eval_shape(_training, state, totals), self.steps()
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
            state = _restored(state, weights, training["state"])
            return Saved(state, Totals(**training["totals"]), unused, progress)
        if steps:
            raise InputError(
                f"every checkpoint under {self._directory} is damaged; restore one, or name "
                "another --workdir"
            )
        return None

    def network(self) -> UNetConfig | None:
        """The network that is trained here, or None if nothing is saved yet.

        Raises:
            InputError: there are checkpoints, and none has a readable configuration.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                return metadata.load_config(self.path(step))
            except InputError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        return None

    def clean(self, step: int, best: int | None) -> None:
        """Tidies the work directory before training continues from `step`, 0 for none.

        Deletes what a killed run left half-written, moves damaged checkpoints aside so that `keep`
        does not count them, and links `last` and `best`, a step, again.
        """
        for path in self._directory.glob(".*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.workdir.glob(".*"):
            if path.is_symlink() or _STAGED.fullmatch(path.name):
                path.unlink()
        for path in (self.workdir / "last", self.workdir / "best"):
            if path.is_dir() and not path.is_symlink():  # copied by what follows links
                shutil.rmtree(path)
        for newer in self.steps():
            if newer > step:
                aside = self._directory / f"{_DAMAGED}{self.path(newer).name}"
                shutil.rmtree(aside, ignore_errors=True)
                self.path(newer).rename(aside)
        if step:
            link(self.workdir / "last", self.path(step))
            if best is not None and self.path(best).exists():
                link(self.workdir / "best", self.path(best))

    def save(self, config: UNetConfig, source: dict[str, Any], saved: Saved) -> None:
        """Starts writing a checkpoint, once the one before is written. `source` is source.json.

        Raises:
            InputError: the checkpoint before could not be written.
        """
        self.wait()
        self._writing = self._writer.submit(self._write, config, source, saved)

    def wait(self, *, only_if_done: bool = False) -> None:
        """Waits until everything is on disk, or only checks what has been written so far.

        Raises:
            InputError: it could not be written.
        """
        if self._writing is not None and (self._writing.done() or not only_if_done):
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, config: UNetConfig, source: dict[str, Any], saved: Saved) -> None:
        step, best = saved.progress["step"], saved.progress["best"]
        trees = {
            metadata.WEIGHTS: saved.state.for_use(),
            metadata.UNUSED: saved.unused,
            TRAINING: _training(saved.state, saved.totals),
        }
        with staged_directory(self.path(step), may_replace=lambda _: True) as stage:
            store.write(stage, config, trees)
            metadata.write_json(stage / metadata.SOURCE, source)
            metadata.write_json(stage / OPTIONS, saved.progress)
        link(self.workdir / "last", self.path(step))
        if best is not None and best["step"] == step:
            link(self.workdir / "best", self.path(step))
        kept = {*self.steps()[-self._keep :], step, best["step"] if best is not None else step}
        for old in {*self.steps()} - kept:
            hidden = self._directory / f".{self.path(old).name}"
            self.path(old).rename(hidden)  # so that nothing half-deleted looks whole
            shutil.rmtree(hidden, ignore_errors=True)


def _training(state: TrainState, totals: Totals) -> dict[str, Any]:
    """What `training/` holds: nested dictionaries without empty ones."""
    # The names on disk are those of the first runs.
    stored = {"step": state.step, "optimizer": to_state_dict(state.optimizer)}
    if state.average is not None:
        stored |= {"weights": state.params, "statistics": state.batch_stats}
    return unflatten_dict(flatten_dict({"state": stored, "totals": totals._asdict()}))


def _restored(like: TrainState, weights: Tree, stored: dict[str, Any]) -> TrainState:
    """The state of a checkpoint in the structure of `like`."""
    leaves, stats = flatten_dict(weights), flatten_dict(like.batch_stats).keys()
    used = {
        "params": unflatten_dict({k: v for k, v in leaves.items() if k not in stats}),
        "batch_stats": unflatten_dict({k: v for k, v in leaves.items() if k in stats}),
    }
    empty = flatten_dict(to_state_dict(like.optimizer), keep_empty_nodes=True)
    optimizer = unflatten_dict(empty | flatten_dict(stored["optimizer"]))
    optimizer = from_state_dict(like.optimizer, optimizer)
    if like.average is None:
        return TrainState(stored["step"], **used, optimizer=optimizer, average=None)
    params, batch_stats = stored["weights"], stored["statistics"]
    return TrainState(stored["step"], params, batch_stats, optimizer, average=used)


def _read_progress(path: Path) -> dict[str, Any]:
    progress = metadata.read_json(path)
    missing, best = sorted(_PROGRESS - progress.keys()), progress.get("best")
    if best is not None and not (isinstance(best, dict) and best.keys() >= _BEST):
        missing.append("best")
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}")
    return progress


def load_options(workdir: Path) -> dict[str, Any] | None:
    """The options of the run in a work directory; None if it is empty or missing.

    Raises:
        InputError: they cannot be read, or the directory holds something else.
    """
    if (workdir / OPTIONS).is_file():
        return metadata.read_json(workdir / OPTIONS)
    # A run that was killed as it started leaves its options half-written.
    paths = workdir.iterdir() if workdir.is_dir() else [workdir] * workdir.exists()
    if not all(path.name.startswith(f".{OPTIONS}.") for path in paths):
        raise InputError(
            f"{workdir} exists and holds no training; name a new directory by --workdir"
        )
    return None


@contextlib.contextmanager
def held(workdir: Path) -> Iterator[None]:
    """Makes a work directory, if need be, and keeps other runs out of it.

    Raises:
        InputError: another run is in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir) as alone:
        if alone is False:  # None: some network file systems have no locks
            raise InputError(
                f"{workdir} is in use by another run; wait for its end, or name another --workdir"
            )
        yield
