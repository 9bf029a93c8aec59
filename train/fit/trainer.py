"""A training run, from its start to its end or its interruption."""

import collections
import dataclasses
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from flax_unet import UNet, UNetConfig
from flax_unet.checkpoint import store
from flax_unet.checkpoint.provenance import made_by
from flax_unet.utils.errors import InputError
from train import distributed
from train.data.dataset import Dataset
from train.data.loader import Batch
from train.data.sampler import Sampler
from train.fit import snapshot, validation
from train.fit.checkpoints import Checkpoints
from train.fit.clock import Clock
from train.fit.config import FitConfig
from train.fit.losses import Objective
from train.fit.optimizer import Plateau, learning_rate, make_optimizer, set_plateau
from train.fit.start import Origin
from train.fit.step import Totals, first_state, make_step, split, zero_totals
from train.fit.stopping import StopSignals
from train.fit.tracking import Tracker

_EPOCHS_BETWEEN_CHECKPOINTS = 2  # as published
_FLAT = dataclasses.asdict(Plateau())


@dataclasses.dataclass
class Progress:
    """Where a run stands, besides its arrays; saved with each checkpoint."""

    best: dict[str, Any] | None = None  # metric, value and step of the best evaluation
    evaluations_without_gain: int = 0
    plateau: dict[str, Any] = dataclasses.field(default_factory=_FLAT.copy)  # `Plateau` as JSON


class Trainer:
    """Trains one network on one data set."""

    def __init__(
        self,
        config: FitConfig,
        network: UNetConfig,
        origin: Origin,
        weights: store.Tree,
        stream: Sampler,
        validation_set: Dataset | None,
        objective: Objective,
        devices: list[distributed.Device],
    ) -> None:
        """Prepares the step; nothing is computed yet.

        Args:
            config: the run.
            network: what is trained.
            origin: what each checkpoint keeps of the file that it started from.
            weights: its first parameters and statistics.
            stream: of the training pictures.
            validation_set: evaluated each `eval_every` epochs, or twice an epoch for a plateau;
                never if None.
            objective: the loss.
            devices: of this process.
        """
        self.config, self.network, self.stream = config, network, stream
        self.origin = origin
        self.validation_set, self.devices = validation_set, devices
        recipe = config.recipe
        self.total_steps = recipe.steps or recipe.epochs * stream.steps_per_epoch
        self.rate = learning_rate(recipe, self.total_steps, stream.steps_per_epoch)
        optimizer = make_optimizer(recipe, self.rate)
        graphdef, weights, statistics = split(
            store.build(network, weights, dtype=config.network.dtype),
            sync_batch_norm=recipe.sync_batch_norm,
            freeze_encoder=recipe.freeze_encoder,
            remat=recipe.remat,
        )
        self.state = first_state(weights, statistics, optimizer, averaged=recipe.ema is not None)
        self.totals = zero_totals()
        self.progress = Progress()
        self.received: int | None = None  # the signal that any process was told to stop by
        self._step = distributed.map_step(
            make_step(
                graphdef,
                optimizer,
                objective,
                accumulate=recipe.accumulate,
                ema=recipe.ema,
                give_gradients=config.watching.histograms,
            ),
            devices,
        )
        self.checkpoints = Checkpoints(config.start.workdir, config.watching.keep)
        self.is_first = distributed.process()[0] == 0

    # Saving and resuming

    def resume(self) -> bool:
        """Goes on from the newest checkpoint that is whole; whether there was one."""
        saved = self.checkpoints.newest(snapshot.expected(self.state, self.totals))
        if saved is None:
            return False
        before, now = saved.progress["data_fingerprint"], self.stream.dataset.fingerprint
        if before != now:
            raise InputError(
                f"{self.config.data.data} is not what {self.config.start.workdir} was trained on "
                f"(fingerprint {now[:12]}, then {before[:12]}). Put the data back, or train on by "
                f"--init-from {self.config.start.workdir / 'last'} in a new --workdir"
            )
        self.state, self.totals = snapshot.restore(saved, self.state, self.totals)
        layout = saved.progress.get("layout", self.origin.layout)
        self.origin = Origin(layout, saved.unused)
        kept = vars(self.progress)
        self.progress = Progress(**{name: saved.progress.get(name, kept[name]) for name in kept})
        return True

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
            "random_state": {"seed": self.config.start.seed, "step": done},
            "layout": self.origin.layout,
            **vars(self.progress),
            "configuration": options,
        }
        source = {
            "trained": {name: options[name] for name in ("data", "split", "init_from", "seed")}
            | {name: progress[name] for name in ("layout", "step", "data_fingerprint")},
            "made_by": made_by(),
        }
        saved = snapshot.take(state, totals, self.origin.unused, progress)
        self.checkpoints.save(done, self.network, source, saved)

    def _check_finite(self, totals: Totals) -> None:
        if step := int(totals.not_finite):
            self.checkpoints.wait()
            steps = self.checkpoints.steps()
            remedy = "Lower --learning-rate, or set --clip-norm 1"
            if steps:
                good = self.checkpoints.path(steps[-1])
                remedy = (
                    f"The last good checkpoint: {good}. Go on from it with a lower --learning-rate "
                    f"or --clip-norm 1: --init-from {good} --workdir NEW"
                )
            raise InputError(f"the loss of step {step} is not finite; training stops. {remedy}")

    # The loop

    def run(self) -> int | None:
        """Trains to the end; the number of the signal that interrupted it, or None.

        Raises:
            InputError: the loss is not finite, or a checkpoint cannot be written.
        """
        process, processes = distributed.process()
        start = int(self.state.step)
        self.state, self.totals = distributed.replicate((self.state, self.totals), self.devices)
        tracker = None
        if self.is_first:
            best = self.progress.best
            self.checkpoints.clean(start, best["step"] if best else None)
            workdir, watching = self.config.start.workdir, self.config.watching
            tracker = Tracker(workdir, start, self.config.options(), watching.wandb)
        source = self.stream.batches(
            self.network.input_size,
            self.config.augmentation,
            first=start,
            last=self.total_steps,
            process=process,
            processes=processes,
        )
        distributed.meet()
        try:
            with StopSignals() as signals:
                if not self._is_out_of_patience():
                    self._loop(start, source, signals, tracker)
            self.checkpoints.wait()
        finally:
            if tracker is not None:
                tracker.close()
        return self.received if int(self.state.step) < self.total_steps else None

    def _loop(self, start: int, source: Any, signals: StopSignals, tracker: Tracker | None) -> None:
        watching = self.config.watching
        save_every = watching.save_every
        save_every = save_every or _EPOCHS_BETWEEN_CHECKPOINTS * self.stream.steps_per_epoch
        told: collections.deque[Any] = collections.deque()  # of the steps under way: to stop?
        clock = Clock()
        bar = tqdm(
            total=self.stream.samples(self.total_steps),
            initial=self.stream.samples(start),
            unit="image",
            unit_scale=True,
            disable=None if self.is_first else True,
        )
        with bar:
            for done in range(start + 1, self.total_steps + 1):
                with clock.waiting():
                    batch = next(source)
                shares = distributed.spread(self._arrays(batch, signals.received), self.devices)
                self.state, self.totals, stop, gradients = self._step(
                    self.state, self.totals, shares
                )
                told.append(stop)
                # Waiting for the step before keeps the devices busy and the queue short; and all
                # processes learn at the same step that one of them was told to stop.
                if len(told) > 1:
                    self.received = int(distributed.fetch(told.popleft())) or None
                images = self.stream.size(done - 1)
                clock.count(images)
                bar.update(images)
                if done == start + 1:
                    jax.block_until_ready(stop)
                    clock.compiled()
                self.checkpoints.check()
                ends = done == self.total_steps or self.received is not None
                if done % watching.log_every == 0 or done == self.total_steps:
                    self._log(done, clock, bar, tracker)
                with clock.paused():
                    gained = False
                    if done == self.total_steps or self._is_evaluated(done):
                        gained = self._evaluate(done, gradients, tracker)
                    if self._is_out_of_patience() and not ends:
                        ends = True
                        if done % watching.log_every:
                            self._log(done, clock, bar, tracker)
                    if ends or gained or done % save_every == 0:
                        self._save(done)
                if ends:
                    break

    def _is_evaluated(self, done: int) -> bool:
        """Whether an evaluation is due after a step: each few epochs, or as a plateau's are."""
        if self.config.recipe.schedule == "plateau":  # the published interval
            return not done % max(len(self.stream.dataset) // (2 * self.stream.batch_size), 1)
        epoch, rest = divmod(done, self.stream.steps_per_epoch)
        return not rest and not epoch % self.config.watching.eval_every

    def _is_out_of_patience(self) -> bool:
        patience = self.config.recipe.early_stopping
        return patience is not None and self.progress.evaluations_without_gain >= patience

    def _arrays(self, batch: Batch, signal: int | None) -> dict[str, np.ndarray]:
        table = self.stream.dataset.table
        is_real = table.is_real[batch.position]
        return {
            "image": batch.image,
            "mask": batch.mask,
            # A real frame has nothing to mark, whether or not there is a file that says so.
            "labelled": batch.has_mask | is_real,
            "is_real": is_real.astype(np.float32),
            "stop": np.full(len(is_real), signal or 0, np.int32),
        }

    def _log(self, done: int, clock: Clock, bar: tqdm, tracker: Tracker | None) -> None:
        totals = distributed.fetch(self.totals)
        self._check_finite(totals)
        images_per_second, data_wait = clock.read()
        self.totals = distributed.replicate(zero_totals(), self.devices)
        figures = {
            "step": done,
            "epoch": -(-done // self.stream.steps_per_epoch),
            **{
                name: float(getattr(totals, name)) / int(totals.steps)
                for name in ("loss", "mask_loss", "class_loss")
            },
            "learning_rate": np.asarray(self.rate(done - 1)).item()
            * self.progress.plateau["factor"],
            "images_per_second": images_per_second,
            "data_wait": data_wait,
        }
        bar.set_postfix_str(
            f"mask {figures['mask_loss']:.4f}, class {figures['class_loss']:.4f}, "
            f"lr {figures['learning_rate']:.1e}, {data_wait:.0%} waiting for data"
        )
        if tracker is not None:
            tracker.log(figures)

    def _evaluate(self, done: int, gradients: store.Tree | None, tracker: Tracker | None) -> bool:
        """Scores the validation set, if there is one, and logs what the network marks.

        Args:
            done: steps.
            gradients: of the last step; None: no histograms are wanted.
            tracker: None on all processes but the first.

        Returns:
            Whether the network is the best so far.
        """
        if self.validation_set is None and tracker is None:
            return False
        if self.validation_set is not None:
            self._check_finite(distributed.fetch(self.totals))
        model = store.build(
            self.network,
            snapshot.for_use(distributed.fetch(self.state)),
            dtype=self.config.network.dtype,
        )
        kind, frames, gained = "training", self.stream.dataset, False
        if self.validation_set is not None:
            kind, frames = "validation", self.validation_set
            gained = self._validate(done, model, frames, tracker)
        if tracker is None:
            return gained
        sheet = validation.sheet(model, frames)
        if sheet is not None:
            tracker.log_masks(done, sheet, f"{kind} frames: {validation.COLUMNS}")
        if gradients is not None:
            trees = {"weights": self.state.weights, "gradients": gradients}
            tracker.log_histograms(done, store.flat(distributed.fetch(trees)))
        return gained

    def _validate(self, done: int, model: UNet, frames: Dataset, tracker: Tracker | None) -> bool:
        """Scores the validation set; whether the network is the best so far."""
        batch_size = self.config.recipe.batch_size
        try:
            figures = validation.evaluate(model, frames, self.devices, batch_size)
        except InputError as error:
            raise InputError(
                f"the network after step {done} cannot be evaluated: {error}"
            ) from error
        metric = self.config.watching.best_metric or validation.default_metric(self.network)
        value = validation.figure(figures, metric)
        best = self.progress.best
        if best and best["metric"] != metric:  # another one was asked for since
            self.progress.evaluations_without_gain = 0
            self.progress.plateau |= {"best": None, "bad": 0}
            best = None
        gained = validation.is_better(metric, value, best["value"] if best else None)
        if gained:
            self.progress.best = {"metric": metric, "value": value, "step": done}
        without = 0 if gained else self.progress.evaluations_without_gain + 1
        self.progress.evaluations_without_gain = without
        if self.config.recipe.schedule == "plateau" and self._is_evaluated(done):
            self._lower_rate(value, rises=validation.higher_is_better(metric))
        if tracker is not None:
            tqdm.write(f"step {done}: validation {metric} {value:.4f}{' (best)' * gained}")
            tracker.log_validation({"step": done, **figures})
        return gained

    def _lower_rate(self, value: float, *, rises: bool) -> None:
        """Lowers the learning rate if its plateau has lasted too long with this evaluation."""
        before = Plateau(**self.progress.plateau)
        after = before.after(value, self.config.recipe, higher_is_better=rises)
        self.progress.plateau = dataclasses.asdict(after)
        if after.factor != before.factor:
            factor = distributed.replicate(np.float32(after.factor), self.devices)
            optimizer = set_plateau(self.state.optimizer, factor)
            self.state = self.state._replace(optimizer=optimizer)
