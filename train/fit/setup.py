"""Sets up a training run from its configuration and runs it."""

import contextlib
import dataclasses
import functools
import math
import shlex

import jax
import numpy as np

from flax_unet import UNetConfig
from flax_unet.checkpoint import metadata, store
from flax_unet.nn.config import shown_size
from flax_unet.nn.inference import select_devices
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import staged_file
from train import distributed
from train.data.dataset import Dataset, open_dataset, open_splits, split_by_source
from train.data.layouts.tree import SPLITS, WHOLE
from train.data.loader import load_frame
from train.data.sampler import Sampler
from train.data.splits import parse_shares
from train.fit.checkpoints import OPTIONS, Checkpoints, held
from train.fit.config import OF_ONE_START, FitConfig, Recipe, network_config
from train.fit.losses import Objective, objective_of
from train.fit.tracking import write_curves
from train.fit.trainer import Trainer
from train.fit.validation import check_metric
from train.fit.weights import initial_weights, origin, worth_after

_MASKS_COUNTED = 500  # frames from which the share of manipulated pixels is estimated
_NOTE = """\
This trains the demonstration: a small network, on forged portraits that are made on this machine.
To train the full network on data of your own:
  python -m train.fit --devices all --data FOLDER --split 80/10/10 --workdir checkpoints/NAME"""


def train(config: FitConfig, *, is_demonstration: bool) -> int | None:
    """Trains as configured. Returns the number of the signal that interrupted it, or None.

    Raises:
        InputError: something that the configuration names cannot be used.
    """
    keep_compiled()
    process, processes = distributed.process()
    say = print if process == 0 else lambda *_: None
    workdir, recipe = config.start.workdir, config.recipe
    devices = select_devices(config.machines.devices)
    total = len(devices) * processes
    # The weights and the origin of a run that is resumed come from its checkpoint, later.
    resumable = Checkpoints(workdir, config.logging.keep).network()
    source = config.start.init_from if resumable is None else None
    network = resumable or network_config(config.network, source)
    layout, unused = origin(network, config.network.layout, source)
    if resumable is None:
        weights, notes = initial_weights(network, config.start.seed, source)
    else:
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), store.abstract_weights(network))
        weights, notes = zeros, []
    check_batch(recipe, network, total)
    data, validation = open_parts(config)
    left_out = unseen(config)  # now: the folder may change while training goes on
    if config.data.self_blend:
        from train.data.synthetic.fresh import with_forgeries  # needs OpenCV

        data = with_forgeries(data)
    check_labels(network, data)
    check_logging(config, network, validation)
    keep_last = recipe.keep_last_batch
    stream = Sampler(data, recipe.batch_size, config.start.seed, keep_last_batch=keep_last)
    if not stream.steps_per_epoch:
        raise InputError(
            f"{data.name} has {len(data)} frames to train on, fewer than --batch-size "
            f"{recipe.batch_size}; lower it"
        )
    if stream.last_batch_size < stream.batch_size:
        check_batch(recipe, network, total, last=stream.last_batch_size)
    objective = objective_of(network, recipe)
    if recipe.class_balance == "balanced":
        objective = _balanced(objective, network, data)
    worth = worth_after(data, source)
    trainer = Trainer(
        config, network, layout, unused, worth, weights, stream, validation, objective, devices
    )
    # The lock comes before resuming: another run could save more in between.
    with held(workdir) if process == 0 else contextlib.nullcontext():
        resumed = trainer.resume()
        if resumable is not None and not resumed:
            raise InputError(f"the checkpoints of {workdir} are gone; start again")
        done = int(trainer.state.step)
        same = {name: value for name, value in config.options().items() if name != "process_id"}
        parts = [part for part in (data, validation) if part is not None]
        prints = [(part.fingerprint, part.made_with) for part in parts]
        distributed.agree(f"step {done} of {same} on data of fingerprint {prints}", "start")

        if is_demonstration:
            say(_NOTE)
        say(config)
        for note in [*data.notes, *notes, *filter(None, [network.pooling_note])]:
            say(f"note: {note}")
        say(
            f"{len(data)} frames to train on, {len(validation) if validation else 0} to validate; "
            f"{stream.steps_per_epoch} steps an epoch, {trainer.total_steps} in all, on "
            f"{total} x {devices[0].device_kind}"
        )
        say(f"{workdir}: goes on after step {done}" if resumed else f"{workdir}: starts")
        if process == 0:
            file = workdir / OPTIONS
            options = {k: v for k, v in config.options().items() if k not in OF_ONE_START}
            if not resumed and file.is_file() and metadata.read_json(file) != options:
                say(f"note: {file}, of a start that saved no checkpoint, is replaced")
            with staged_file(file) as stage:
                metadata.write_json(stage, options)
        received = trainer.train()
        if process == 0:
            write_curves(workdir)
    last = trainer.checkpoints.path(int(trainer.state.step))
    if received is not None:
        say(f"interrupted; {last} is saved. The same command continues")
        return received
    best, chosen = trainer.progress.best, config.data
    say(f"done: {last}")
    if best:
        say(f"best {best['metric']}: {best['value']:.4f}, of step {best['step']}")
    checkpoint = workdir / ("best" if best else "last")
    if left_out is not None:
        words = ["--checkpoint", str(checkpoint), "--data", str(chosen.data), *left_out]
        words += [*(["--skip-bad"] if chosen.skip_bad else []), *chosen.folder_options.flags()]
        say(f"Score it:\n  python -m train.eval {shlex.join(words)}")
    return None


def open_parts(config: FitConfig) -> tuple[Dataset, Dataset | None]:
    """The frames to train on, and those to validate on, if any.

    Raises:
        InputError: the data set cannot be used, or lacks the split to validate on.
    """
    name, shares, wanted = str(config.data.data), config.data.shares, config.data.validation
    seed, skip_bad, options = config.start.seed, config.data.skip_bad, config.data.folder_options
    opened = functools.partial(open_dataset, name, seed=seed, skip_bad=skip_bad, options=options)
    if (given := config.data.split) is not None:
        if wanted is not None:
            raise InputError(
                f"--split {given} and --validation {wanted} both say what is validated on; give one"
            )
        validated = parse_shares(given)[1] > 0
        return opened(f"train:{given}"), opened(f"validation:{given}") if validated else None
    stored = open_splits(name, skip_bad=skip_bad, options=options)[0]
    train = opened(WHOLE if "train" not in stored and WHOLE in stored else "train")
    if wanted is None:
        return train, opened("validation") if "validation" in stored else None
    if shares is not None:
        parts = split_by_source(train, parse_shares(shares), seed)
        for part in ("train", "validation"):
            if not len(parts[part]):
                raise InputError(
                    f"--validation {wanted} leaves no source for {part}, since "
                    f"{train.name} has few; give another share"
                )
        return parts["train"], parts["validation"]
    split = SPLITS.get(wanted.lower(), wanted)
    if split == train.split:
        raise InputError(f"--validation {wanted}: these frames are trained on; name other ones")
    if split not in stored:
        raise InputError(
            f"--validation {wanted}: {name} has no such split, only {', '.join(stored)}; name "
            "another, or give a share of the sources that are trained on, such as 10%"
        )
    return train, opened(split)


def unseen(config: FitConfig) -> list[str] | None:
    """The options of train.eval for frames that are not trained on; None if there are none."""
    chosen, seed = config.data, config.start.seed
    name, skip_bad, options = str(chosen.data), chosen.skip_bad, chosen.folder_options
    whole, *others = open_splits(name, skip_bad=skip_bad, options=options)[0].values()
    if others:  # train.eval scores one of them by default
        return []
    if (shares := chosen.shares) is not None:
        parts = split_by_source(whole, parse_shares(shares), seed)
        for part in ("test", "validation"):
            if len(parts[part]):
                return ["--split", f"{part}:{shares}", "--seed", str(seed)]
    return None


def check_batch(
    recipe: Recipe, network: UNetConfig, total: int, *, last: int | None = None
) -> None:
    """Raises an InputError unless a batch can be divided among devices, and in parts on each.

    `total` are the devices of all processes; `last` are the pictures of the last, smaller batch of
    an epoch, to check it instead.
    """
    batch, what = recipe.batch_size, f"--batch-size {recipe.batch_size}"
    if last is not None:
        batch = last
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
            f"{what} leaves BatchNorm one value a channel at {shown_size(network.input_size)} "
            "pixels; make it or --size larger, or set --sync-batch-norm"
        )


def check_logging(config: FitConfig, network: UNetConfig, validation: Dataset | None) -> None:
    """Raises an InputError if an option needs validation frames that are missing."""
    if validation is not None:
        check_metric(config.logging.best_metric, network, validation)
        return
    schedule = config.recipe.schedule
    for name, value in {
        "--best-metric": config.logging.best_metric,
        "--early-stopping": config.recipe.early_stopping,
        "--schedule": schedule if schedule == "plateau" else None,
    }.items():
        if value is not None:
            raise InputError(
                f"{name} {value}: there are no frames to validate on; give --split 80/10/10, "
                "or --validation test or 10%" + ", or --schedule constant" * (name == "--schedule")
            )


def check_labels(network: UNetConfig, train: Dataset) -> None:
    """Raises an InputError if a head of the network has nothing to learn."""
    if network.has_mask_head and not (train.table.has_mask & ~train.table.is_real).any():
        raise InputError(
            f"{train.name} has no masks of FAKE frames to train the mask head by; add them to "
            "masks/, or train the classifier alone by --heads classifier"
        )
    if network.has_classifier and len(np.unique(train.table.is_real)) < 2:
        raise InputError(
            f"{train.name} has frames of one label alone, so there is nothing to classify; add "
            "the others, or train the mask head alone by --heads mask"
        )


def _balanced(objective: Objective, network: UNetConfig, train: Dataset) -> Objective:
    """The same loss with classes weighted by the inverse of their shares in the data."""
    frame_classes = _class_weights(float(train.table.is_real.mean()))
    objective = dataclasses.replace(objective, frame_classes=frame_classes)
    if network.has_mask_head:
        labelled = train.take(np.flatnonzero(train.table.has_mask | train.table.is_real))
        sample = labelled.sample(_MASKS_COUNTED, 0)
        size = network.input_size
        marked = [load_frame(sample, row, size).mask.mean() for row in range(len(sample))]
        mask_classes = _class_weights(float(np.mean(marked)))
        objective = dataclasses.replace(objective, mask_classes=mask_classes)
    return objective


def _class_weights(share: float) -> tuple[float, float]:
    """Weights of the classes 0 and 1, of mean 1 over the data, if `share` of it is 1."""
    return (0.5 / (1 - share), 0.5 / share) if 0 < share < 1 else (1.0, 1.0)
