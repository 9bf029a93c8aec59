"""What a training run needs, put together from its configuration."""

import contextlib
import dataclasses
import functools
import math
import shlex

import numpy as np

from flax_unet import UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.nn.config import shown_size
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_file
from train import distributed
from train.data.dataset import Dataset, open_dataset, open_splits, split_by_source
from train.data.layouts.options import FolderOptions
from train.data.layouts.tree import SPLITS, WHOLE
from train.data.loader import load_frame
from train.data.sampler import Sampler
from train.data.splits import parse_share, parse_shares
from train.fit import curves, start
from train.fit.checkpoints import OPTIONS, Checkpoints
from train.fit.config import Data, FitConfig, Recipe, network_config
from train.fit.losses import Objective
from train.fit.trainer import Trainer
from train.fit.validation import check_metric
from train.fit.workdir import held

_MASKS_COUNTED = 500  # frames whose pixels tell how common MANIPULATED ones are
_NOTE = """\
This trains the demonstration: a small network, on forged portraits that are made on this machine.
To train the full network on data of your own:
  python -m train.fit --devices all --data FOLDER --split 80/10/10 --workdir checkpoints/NAME"""


def run(config: FitConfig, *, is_demonstration: bool) -> int | None:
    """Trains as configured; the number of the signal that interrupted it, or None.

    Raises:
        InputError: something that the configuration names cannot be used.
    """
    keep_compiled()
    process, processes = distributed.process()
    say = print if process == 0 else lambda *_: None
    workdir, recipe = config.start.workdir, config.recipe
    devices = distributed.select_devices(config.machines.devices)
    network, origin, weights, notes = _start(config)
    check_batch(recipe, network, len(devices), processes)
    train, validation = open_parts(config)
    check_labels(network, train)
    check_watching(config, network, validation)
    seed, keep_last = config.start.seed, recipe.keep_last_batch
    stream = Sampler(train, recipe.batch_size, seed, keep_last_batch=keep_last)
    if not stream.steps_per_epoch:
        raise InputError(
            f"{train.name} has {len(train)} frames to train on, fewer than --batch-size "
            f"{recipe.batch_size}; lower it"
        )
    if stream.last_batch_size < stream.batch_size:
        check_batch(recipe, network, len(devices), processes, last=stream.last_batch_size)
    objective = make_objective(network, recipe, train)
    trainer = Trainer(config, network, origin, weights, stream, validation, objective, devices)
    # Held before anything is resumed, or another run might save more in between.
    with held(workdir) if process == 0 else contextlib.nullcontext():
        resumed = trainer.resume()
        done = int(trainer.state.step)
        same = {name: value for name, value in config.options().items() if name != "process_id"}
        prints = [part.fingerprint for part in (train, validation) if part is not None]
        distributed.agree(f"step {done} of {same} on data of fingerprint {prints}", "start")

        if is_demonstration:
            say(_NOTE)
        say(config)
        for note in [*train.notes, *notes, *filter(None, [network.pooling_note])]:
            say(f"note: {note}")
        say(
            f"{len(train)} frames to train on, {len(validation) if validation else 0} to validate; "
            f"{stream.steps_per_epoch} steps an epoch, {trainer.total_steps} in all, on "
            f"{len(devices) * processes} x {devices[0].device_kind}"
        )
        say(f"{workdir}: goes on after step {done}" if resumed else f"{workdir}: starts")
        if process == 0:
            with staged_file(workdir / OPTIONS) as stage:
                metadata.write_json(stage, config.saved())
        received = trainer.run()
        if process == 0:
            curves.write(workdir)
    last = trainer.checkpoints.path(int(trainer.state.step))
    if received is not None:
        say(f"interrupted; {last} is saved. The same command goes on")
        return received
    best, data = trainer.progress.best, config.data
    say(f"done: {last}")
    if best:
        say(f"best {best['metric']}: {best['value']:.4f}, of step {best['step']}")
    chosen = workdir / ("best" if best else "last")
    split = ["--split", data.split, "--seed", str(config.start.seed)] if data.split else []
    skip = ["--skip-bad"] if data.skip_bad else []
    words = ["--checkpoint", str(chosen), "--data", str(data.data), *split, *skip]
    say(f"Score it:\n  python -m train.eval {shlex.join([*words, *read_as(data).flags()])}")
    return None


def _start(config: FitConfig) -> tuple[UNetConfig, start.Origin, store.Tree, list[str]]:
    """The network, its origin, its weights before the first step, and notes on them."""
    workdir, source, seed = config.start.workdir, config.start.init_from, config.start.seed
    network = Checkpoints(workdir, config.watching.keep).network()
    layout = config.network.layout
    if network is not None:  # its weights and its origin come later
        weights, _ = start.initial_weights(network, seed, None)
        return network, start.origin(network, layout, None), weights, []
    network = network_config(config.network, source)
    origin = start.origin(network, layout, source)
    return network, origin, *start.initial_weights(network, seed, source)


def open_parts(config: FitConfig) -> tuple[Dataset, Dataset | None]:
    """The frames to train on and those to validate on, if there are any.

    Raises:
        InputError: the data set cannot be used, or has nothing of what is to be validated on.
    """
    name, shares, wanted = str(config.data.data), config.data.split, config.data.validation
    seed, skip_bad, options = config.start.seed, config.data.skip_bad, read_as(config.data)
    opened = functools.partial(open_dataset, name, seed=seed, skip_bad=skip_bad, options=options)
    if shares is not None:
        if wanted is not None:
            raise InputError(
                f"--split {shares} and --validation {wanted} both say what is validated on; give "
                "one"
            )
        validated = parse_shares(shares)[1] > 0
        return opened(f"train:{shares}"), opened(f"validation:{shares}") if validated else None
    stored = open_splits(name, skip_bad=skip_bad, options=options)[0]
    train = opened(WHOLE if "train" not in stored and WHOLE in stored else "train")
    if wanted is None:
        return train, opened("validation") if "validation" in stored else None
    if share := parse_share(wanted):
        parts = split_by_source(train, (100 - share, share, 0), seed)
        for part in ("train", "validation"):
            if not len(parts[part]):
                raise InputError(
                    f"--validation {wanted} leaves no source for {part}, since "
                    f"{train.name} has few; give another share"
                )
        return parts["train"], parts["validation"]
    split = SPLITS.get(wanted, wanted)
    if split == train.split:
        raise InputError(f"--validation {wanted}: these frames are trained on; name other ones")
    if split not in stored:
        raise InputError(
            f"--validation {wanted}: {name} has no such split, only {', '.join(stored)}; name "
            "another, or give a share of the sources that are trained on, such as 10%"
        )
    return train, opened(split)


def read_as(data: Data) -> FolderOptions:
    """What the options say of a folder's files."""
    return FolderOptions(data.mask_threshold, data.real_label)


def check_batch(
    recipe: Recipe, network: UNetConfig, devices: int, processes: int, *, last: int | None = None
) -> None:
    """Raises an InputError unless a batch can be divided.

    Args:
        recipe: its batch size and how it is computed.
        network: what is trained.
        devices: of each process.
        processes: how many there are.
        last: pictures of the last, smaller batch of an epoch, to check that one instead.
    """
    total, batch = devices * processes, recipe.batch_size if last is None else last
    what = f"--batch-size {batch}"
    if last is not None:
        what = f"--keep-last-batch: the last batch of an epoch, which has {last} pictures,"
    unit = total * recipe.accumulate
    if batch % unit:
        below, above = batch // unit * unit, -(-batch // unit) * unit
        near = f"{below} and {above} do" if below else f"{above} does"
        near = near if last is None else "choose another --batch-size, or leave that batch out"
        parts = f" in {recipe.accumulate} parts each" * (recipe.accumulate > 1)
        raise InputError(f"{what} cannot be divided among {total} devices{parts}; {near}")
    values = batch // recipe.accumulate // (1 if recipe.sync_batch_norm else total)
    if values * math.prod(network.input_size) // network.stride**2 < 2:
        raise InputError(
            f"{what} leaves BatchNorm one value a channel at "
            f"{shown_size(network.input_size)} pixels; make it or --size larger, or set "
            "--sync-batch-norm"
        )


def check_watching(config: FitConfig, network: UNetConfig, validation: Dataset | None) -> None:
    """Raises an InputError if what is asked for needs frames or packages that there are not."""
    watching = config.watching
    if watching.wandb is not None:
        import wandb  # noqa: F401 # pyright: ignore[reportMissingImports]
    if validation is not None:
        check_metric(watching.best_metric, network, validation)
        return
    plateau = config.recipe.schedule == "plateau"
    asked = {
        "--best-metric": watching.best_metric,
        "--early-stopping": config.recipe.early_stopping,
        "--schedule": "plateau" if plateau else None,
    }
    for name, value in asked.items():
        if value is not None:
            raise InputError(
                f"{name} {value}: there are no frames to validate on; give --split 80/10/10, "
                "or --validation test or 10%" + ", or --schedule constant" * (name == "--schedule")
            )


def check_labels(network: UNetConfig, train: Dataset) -> None:
    """Raises an InputError if a head of the network has nothing to learn."""
    if network.has_mask_head and not train.table.has_mask.any():
        raise InputError(
            f"{train.name} has no masks to train the mask head by; add masks/, or train the "
            "classifier alone by --heads classifier"
        )
    if network.has_classifier and len(np.unique(train.table.is_real)) < 2:
        raise InputError(
            f"{train.name} has frames of one label alone, so there is nothing to classify; add "
            "the others, or train the mask head alone by --heads mask"
        )


def objective_of(network: UNetConfig, recipe: Recipe) -> Objective:
    """The loss, with classes that weigh alike.

    Raises:
        InputError: the recipe's loss cannot be computed, or there is none.
    """
    dice = recipe.mask_loss == "cross-entropy+dice" and network.has_mask_head
    if dice and recipe.accumulate > 1:
        raise InputError(
            f"--accumulate {recipe.accumulate}: the Dice loss is of all pixels of a batch and "
            "cannot be computed in parts; leave it out, or give --mask-loss cross-entropy"
        )
    objective = Objective(recipe.mask_weight, recipe.class_weight, dice=dice)
    used = objective.mask_weight * network.has_mask_head
    used += objective.class_weight * network.has_classifier
    if not used:
        raise InputError("--mask-weight and --class-weight leave no loss; raise one")
    return objective


def make_objective(network: UNetConfig, recipe: Recipe, train: Dataset) -> Objective:
    """The loss; with balanced classes, weighed by how common each is in the data.

    Raises:
        InputError: as `objective_of`.
    """
    objective = objective_of(network, recipe)
    if recipe.class_weights == "none":
        return objective
    mask_classes = objective.mask_classes
    if network.has_mask_head:
        labelled = train.take(np.flatnonzero(train.table.has_mask | train.table.is_real))
        sample = labelled.sample(_MASKS_COUNTED, 0)
        size = network.input_size
        marked = [load_frame(sample, row, size).mask.mean() for row in range(len(sample))]
        mask_classes = _balanced(float(np.mean(marked)))
    frame_classes = _balanced(float(train.table.is_real.mean()))
    return dataclasses.replace(objective, mask_classes=mask_classes, frame_classes=frame_classes)


def _balanced(share: float) -> tuple[float, float]:
    """Weights of the classes 0 and 1, whose mean over the data is 1, if `share` of it is 1."""
    if not 0 < share < 1:
        return 1.0, 1.0
    return 0.5 / (1 - share), 0.5 / share
