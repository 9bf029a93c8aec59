"""The training loop: steps, logs, evaluations, checkpoints, and an orderly end on a signal."""

import collections
import contextlib
import dataclasses
import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import store
from flax_unet.checkpoint.provenance import made_by
from flax_unet.checkpoint.worth import WORTH, Worth
from flax_unet.utils.errors import InputError, ending_signals
from train import distributed
from train.data.dataset import Dataset
from train.data.loader import Batch
from train.data.sampler import Sampler
from train.fit import estimate, validation
from train.fit.checkpoints import Checkpoints, Saved
from train.fit.config import FitConfig
from train.fit.losses import Objective
from train.fit.optimizer import Plateau, learning_rate, make_optimizer, set_plateau
from train.fit.step import Totals, first_state, make_step, split, zero_totals
from train.fit.tracking import METRICS, VALIDATION, Clock, Lines, Tracker

_EPOCHS_BETWEEN_CHECKPOINTS = 2  # as published
# What evaluations must have in common to be compared, in `Progress.best`, and what it is of.
_COMPARED = {"metric": "--best-metric", "data_fingerprint": "the validation data"}


@dataclasses.dataclass
class Progress:
    """The state of a run besides its arrays; saved with each checkpoint."""

    best: dict[str, Any] | None = None  # value and step of the best evaluation, and _COMPARED
    evaluations_without_gain: int = 0
    plateau: Plateau = dataclasses.field(default_factory=Plateau)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list to which Ctrl-C and the like append their number; a second one ends the process."""
    received: list[int] = []
    numbers = [signal.SIGINT, *ending_signals()]
    terminals = [each for each in (1, 2) if os.isatty(each)]

    def note(number: int, _: object) -> None:
        received.append(number)
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        for each in terminals:
            if not os.isatty(each):  # it is lost; writing to it would fail before all is saved
                os.dup2(os.open(os.devnull, os.O_WRONLY), each)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainer:
    """Trains one network on one data set."""

    def __init__(
        self,
        config: FitConfig,
        network: UNetConfig,
        layout: str,
        unused: store.Tree,
        worth: Worth,
        weights: store.Tree,
        stream: Sampler,
        validation_set: Dataset | None,
        objective: Objective,
        devices: list[distributed.Device],
    ) -> None:
        """Prepares the step; nothing is computed yet.

        `layout` is the published one of the file that training starts from, `unused` its tensors
        that the network does not use; `worth` is what the trained weights will be worth. Without a
        validation set nothing is evaluated.
        """
        self.config, self.network, self.stream = config, network, stream
        self.layout, self.unused, self.worth = layout, unused, worth
        self.validation_set, self.devices = validation_set, devices
        recipe = config.recipe
        self.total_steps = recipe.steps or recipe.epochs * stream.steps_per_epoch
        self.rate = learning_rate(recipe, self.total_steps, stream.steps_per_epoch)
        optimizer = make_optimizer(recipe, self.rate)
        graphdef, params, batch_stats = split(
            store.build(network, weights, dtype=config.network.dtype),
            sync_batch_norm=recipe.sync_batch_norm,
            freeze_encoder=recipe.freeze_encoder,
            remat=recipe.remat,
        )
        self.state = first_state(params, batch_stats, optimizer, averaged=recipe.ema is not None)
        self.totals = zero_totals()
        self.progress = Progress()
        self.received: int | None = None  # the stop signal that any process received
        step = make_step(
            graphdef,
            optimizer,
            objective,
            accumulate=recipe.accumulate,
            ema=recipe.ema,
            give_gradients=config.logging.histograms,
        )
        self._step = distributed.map_step(step, devices)
        self.checkpoints = Checkpoints(config.start.workdir, config.logging.keep)
        process, processes = distributed.process()
        self.is_first = process == 0
        self._device_count = len(devices) * processes
        self._needs: estimate.Needs | None = None  # of a step, once it is compiled
        self._tracker: Tracker | None = None  # of the first process, while it trains

    def resume(self) -> bool:
        """Continues from the newest whole checkpoint; whether there was one.

        Raises:
            InputError: all are damaged, the data is not what the run was trained on, or its
                forgeries are made by other code.
        """
        saved = self.checkpoints.newest(self.state, self.totals)
        if saved is None:
            return False
        name, workdir, data = self.config.data.data, self.config.start.workdir, self.stream.dataset
        before, now = saved.progress["data_fingerprint"], data.fingerprint
        anew = f"train on by --init-from {workdir / 'last'} in a new --workdir"
        forged_by = saved.progress.get("made_with")
        # The first runs have none; with forgeries, their fingerprint was of what made these too.
        if before != now and (forged_by is not None or not data.made_with):
            raise InputError(
                f"{name} is not what {workdir} was trained on (fingerprint {now[:12]}, then "
                f"{before[:12]}). Put the data back, or {anew}"
            )
        if (forged_by or "") != data.made_with:
            raise InputError(
                f"the forgeries of {name} are made by another version of this program or its "
                f"packages than in {workdir}. Install that version again, or {anew}"
            )
        self.state, self.totals, self.unused, progress = saved
        self.layout = progress.get("layout", self.layout)  # the first runs have neither this
        resumed = self.checkpoints.path(int(self.state.step))
        self.worth = Worth.of_checkpoint(resumed).measured(None)  # what comes is of other weights
        plateau = Plateau(**progress.get("plateau", {}))  # nor this
        without_gain = progress["evaluations_without_gain"]
        self.progress = Progress(progress["best"], without_gain, plateau)
        if changed := self._changed():
            self.progress.evaluations_without_gain = 0
            self.progress.plateau = Plateau(factor=plateau.factor)
            if self.is_first:
                print(
                    f"note: {' and '.join(changed)} changed since step {progress['step']}, so "
                    "evaluations before it do not count: the next one is the best so far"
                )
        return True

    def _compared(self, data: Dataset) -> dict[str, str]:
        """The values of _COMPARED."""
        metric = self.config.logging.best_metric or validation.default_metric(self.network)
        return {"metric": metric, "data_fingerprint": data.fingerprint}

    def _changed(self) -> list[str]:
        """What differs from the best evaluation, so that it cannot be compared."""
        best, data = self.progress.best, self.validation_set
        if best is None or data is None:
            return []
        now = self._compared(data)  # the first runs have no fingerprint
        return [what for name, what in _COMPARED.items() if best.get(name, now[name]) != now[name]]

    def _save(self, done: int) -> None:
        state, totals = distributed.fetch((self.state, self.totals))
        self._check_finite(totals)
        if not self.is_first:
            return
        options = self.config.options()
        progress = {
            "step": done,
            "samples_seen": self.stream.samples(done),
            "data_fingerprint": self.stream.dataset.fingerprint,
            "made_with": self.stream.dataset.made_with,
            "random_state": {"seed": self.config.start.seed, "step": done},
            "layout": self.layout,
            **dataclasses.asdict(self.progress),
            "configuration": options,
        }
        source = {
            "trained": {name: options[name] for name in ("data", "init_from", "seed")}
            | {"split": self.config.data.shares}
            | {name: progress[name] for name in ("layout", "step", "data_fingerprint")},
            WORTH: self.worth.to_json(),
            "made_by": made_by(),
        }
        self.checkpoints.save(self.network, source, Saved(state, totals, self.unused, progress))

    def _check_finite(self, totals: Totals) -> None:
        if step := int(totals.not_finite):
            self.checkpoints.wait()
            remedy = "Lower --learning-rate, or set --clip-norm 1"
            if steps := self.checkpoints.steps():
                good = self.checkpoints.path(steps[-1])
                remedy += f"; from the last good checkpoint: --init-from {good} --workdir NEW"
            raise InputError(f"the loss of step {step} is not finite; training stops. {remedy}")

    def train(self) -> int | None:
        """Trains to the end. Returns the number of the signal that interrupted it, or None.

        Raises:
            InputError: the loss is not finite, or a checkpoint cannot be written.
        """
        process, processes = distributed.process()
        start = int(self.state.step)
        with distributed.memory_errors(self._memory_advice):
            self.state, self.totals = distributed.replicate((self.state, self.totals), self.devices)
        if self.is_first:
            best = self.progress.best
            self.checkpoints.clean(start, best["step"] if best else None)
            workdir, mode = self.config.start.workdir, self.config.logging.wandb
            self._tracker = Tracker(workdir, start, self.config.options(), mode)
        stream, last = self.stream, self.total_steps
        frames = stream.samples(last) - stream.samples(start)
        wanted, is_forging = self.config.machines.workers, bool(stream.dataset.made_with)
        workers = distributed.readers(wanted, self.devices, frames, is_forging=is_forging)
        if self.is_first and workers:
            print(f"pictures are read by processes: {workers}")
        source = stream.batches(
            self.network.input_size,
            self.config.augmentation,
            first=start,
            last=last,
            process=process,
            processes=processes,
            workers=workers,
        )
        distributed.connect(self.devices)
        with contextlib.ExitStack() as at_end:
            if self._tracker is not None:
                at_end.callback(self._tracker.close)
            signals = at_end.enter_context(stop_signals())
            # After an error too: a process that ends fails to write.
            at_end.callback(self.checkpoints.wait)
            at_end.enter_context(distributed.memory_errors(self._memory_advice))
            if not self._is_out_of_patience():
                at_end.enter_context(contextlib.closing(source))
                self._loop(start, source, signals)
        return self.received if int(self.state.step) < self.total_steps else None

    def _loop(self, start: int, source: Generator[Batch], signals: list[int]) -> None:
        log_every, stream = self.config.logging.log_every, self.stream
        save_every = self.config.logging.save_every
        save_every = save_every or _EPOCHS_BETWEEN_CHECKPOINTS * stream.steps_per_epoch
        in_flight: collections.deque[Any] = collections.deque()  # `Step.stop` of steps under way
        clock, lines = Clock(), Lines(self.total_steps)
        total, initial = (stream.samples(steps) for steps in (self.total_steps, start))
        disable = None if self.is_first else True  # None: where the output is not a terminal
        with tqdm(
            total=total, initial=initial, unit="image", unit_scale=True, disable=disable
        ) as bar:
            for done in range(start + 1, self.total_steps + 1):
                with clock.waiting(lambda: all(stop.is_ready() for stop in in_flight)):
                    batch = next(source)
                arrays = self._arrays(batch, signals[0] if signals else 0)
                shares = distributed.shard_batch(arrays, self.devices)
                if done == start + 1:
                    self._estimate(shares, start)
                self.state, self.totals, stop, gradients = self._step(
                    self.state, self.totals, shares
                )
                in_flight.append(stop)
                # Waiting for the step before keeps the devices busy and the queue short; and all
                # processes see a stop signal at the same step.
                if len(in_flight) > 1:
                    self.received = int(distributed.fetch(in_flight.popleft())) or None
                clock.images += stream.size(done - 1)
                bar.update(stream.size(done - 1))
                if done == start + 1:
                    jax.block_until_ready(stop)
                    clock.compiled()
                    lines.start(done)
                self.checkpoints.wait(only_if_done=True)
                is_last = done == self.total_steps
                if is_logged := done % log_every == 0 or is_last:
                    self._log(done, clock, bar, lines)
                with clock.paused():
                    is_evaluated = is_last or self._is_evaluated(done)
                    gained = is_evaluated and self._evaluate(done, gradients)
                    ends = is_last or self.received is not None
                    if not ends and self._is_out_of_patience():
                        ends = True
                        if not is_logged:
                            self._log(done, clock, bar, lines)
                    if ends or gained or done % save_every == 0:
                        self._save(done)
                if ends:
                    break

    def _is_evaluated(self, done: int) -> bool:
        """Whether an evaluation is due after a step: every few epochs, or twice an epoch."""
        if self.config.recipe.schedule == "plateau":  # the published interval
            return not done % max(len(self.stream.dataset) // (2 * self.stream.batch_size), 1)
        epoch, rest = divmod(done, self.stream.steps_per_epoch)
        return not rest and not epoch % self.config.logging.eval_every

    def _is_out_of_patience(self) -> bool:
        patience = self.config.recipe.early_stopping
        return patience is not None and self.progress.evaluations_without_gain >= patience

    def _arrays(self, batch: Batch, stop: int) -> dict[str, np.ndarray]:
        is_real = self.stream.dataset.table.is_real[batch.position]
        return {
            "image": batch.image,
            "mask": batch.mask,
            # A real frame has nothing to mark, with or without a mask file.
            "labelled": batch.has_mask | is_real,
            "is_real": is_real.astype(np.float32),
            "stop": np.full(len(is_real), stop, np.int32),
        }

    def _estimate(self, shares: Any, start: int) -> None:
        """Compiles the step and prints what it needs."""
        # The first call finds the compiled program.
        program = self._step.lower(self.state, self.totals, shares).compile()
        recipe, stream = self.config.recipe, self.stream
        self._needs = estimate.needs(program, self.devices, recipe)
        if self.is_first:
            steps, left = stream.steps_per_epoch, self.total_steps - start
            for note in estimate.notes(
                self._needs, recipe, self._device_count, steps_per_epoch=steps, steps=left
            ):
                tqdm.write(note)

    def _memory_advice(self) -> str:
        if self.checkpoints.steps():  # the batch is that of the run
            return "continue on devices with more memory, or on a GPU or TPU give --remat"
        return estimate.remedy(self._needs, self.config.recipe, self._device_count)

    def _log(self, done: int, clock: Clock, bar: tqdm, lines: Lines) -> None:
        totals = distributed.fetch(self.totals)
        self._check_finite(totals)
        images_per_second, data_wait = clock.read()
        self.totals = distributed.replicate(zero_totals(), self.devices)
        steps, rate = int(totals.steps), np.asarray(self.rate(done - 1)).item()
        metrics = {
            "step": done,
            "epoch": -(-done // self.stream.steps_per_epoch),
            **{k: float(getattr(totals, k)) / steps for k in ("loss", "mask_loss", "class_loss")},
            "learning_rate": rate * self.progress.plateau.factor,
            "images_per_second": images_per_second,
            "data_wait": data_wait,
        }
        bar.set_postfix_str(
            f"mask {metrics['mask_loss']:.4f}, class {metrics['class_loss']:.4f}, "
            f"lr {metrics['learning_rate']:.1e}, {data_wait:.0%} waiting for data"
        )
        if self._tracker is not None:
            self._tracker.log(METRICS, metrics)
            if bar.disable:  # there is no terminal
                lines.print(metrics)

    def _evaluate(self, done: int, gradients: store.Tree | None) -> bool:
        """Scores the validation set, if there is one, and logs masks and histograms.

        Returns whether the network is the best so far.
        """
        tracker, data, gained = self._tracker, self.validation_set, False
        if data is not None or (tracker is not None and self.network.has_mask_head):
            weights = distributed.fetch(self.state).for_use()
            model = store.build(self.network, weights, dtype=self.config.network.dtype)
            if data is not None:
                gained = self._validate(done, model, data)
            kind, shown = "training" if data is None else "validation", data or self.stream.dataset
            if tracker and (sheet := validation.sheet(model, shown)) is not None:
                tracker.log_masks(done, sheet, f"{kind} frames: {validation.COLUMNS}")
        if tracker is not None and gradients is not None:
            trees = {"weights": self.state.params, "gradients": gradients}
            tracker.log_histograms(done, store.flat(distributed.fetch(trees)))
        return gained

    def _validate(self, done: int, model: UNet, data: Dataset) -> bool:
        """Scores the validation set; whether the network is the best so far."""
        self._check_finite(distributed.fetch(self.totals))
        recipe, progress = self.config.recipe, self.progress
        try:
            workers = self.config.machines.workers
            metrics = validation.evaluate(model, data, self.devices, recipe.batch_size, workers)
        except InputError as error:
            raise InputError(
                f"the network after step {done} cannot be evaluated: {error}"
            ) from error
        compared = self._compared(data)
        metric, best = compared["metric"], None if self._changed() else progress.best
        value = validation.figure(metrics, metric)
        rises = validation.higher_is_better(metric)
        gained = not best or (value > best["value"] if rises else value < best["value"])
        if gained:
            progress.best = {**compared, "value": value, "step": done}
        progress.evaluations_without_gain = 0 if gained else progress.evaluations_without_gain + 1
        if recipe.schedule == "plateau" and self._is_evaluated(done):
            before = progress.plateau.factor
            progress.plateau = progress.plateau.after(value, recipe, higher_is_better=rises)
            if progress.plateau.factor != before:
                now = np.float32(progress.plateau.factor)
                factor = distributed.replicate(now, self.devices)
                optimizer = set_plateau(self.state.optimizer, factor)
                self.state = self.state._replace(optimizer=optimizer)
        if self._tracker is not None:
            tqdm.write(f"step {done}: validation {metric} {value:.4f}{' (best)' * gained}")
            self._tracker.log(VALIDATION, {"step": done, **metrics})
        return gained
