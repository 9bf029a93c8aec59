"""The options of a training run, in groups, and the configuration that they make."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from flax_unet.checkpoint import metadata
from flax_unet.nn.config import DTYPES, PUBLISHED, UNetConfig
from flax_unet.utils.errors import InputError
from train.data.layouts import reading
from train.fit.options import fields_of, option, plain, unknown_option, valid

DEFAULT_LAYOUT = "ynet-224"


@dataclasses.dataclass(frozen=True)
class Data:
    """What the network is trained and validated on."""

    data: str | None = option(
        None,
        "a folder or the name of a data set, as for train.eval; without it, the demonstration is "
        "trained",
    )
    split: str | None = option(
        None,
        "per cent for train/validation/test by source video, such as 80/10/10, for a folder "
        "without splits; give train.eval the same --split and --seed",
    )
    validation: str | None = option(
        None,
        "what to validate on without --split: a split of the data set, such as test, or a share of "
        "the training sources, such as 10% (default: the data set's split validation, if any)",
    )
    skip_bad: bool = option(False, "leave out files that cannot be used, instead of stopping")
    mask_threshold: int | None = option(None, reading.MASK_THRESHOLD, least=1, most=255)
    real_label: str | None = option(None, reading.REAL_LABEL)


@dataclasses.dataclass(frozen=True)
class Network:
    """The architecture. With --init-from, the checkpoint's is the default."""

    layout: str | None = option(
        None, f"a published network (default: {DEFAULT_LAYOUT})", choices=tuple(PUBLISHED)
    )
    heads: str | None = option(
        None,
        "which heads to train (default: the layout's)",
        choices=("both", "classifier", "mask"),
    )
    base_width: int | None = option(
        None, "channels of the first level (default: the layout's, 64)", least=1, most=2**12
    )
    classifier_widths: tuple[int, ...] | None = option(
        None, "widths of the classifier's hidden layers (default: the layout's)", least=1
    )
    size: int | tuple[int, int] | None = option(
        None,
        "pictures are resized to this height and width, in pixels (default: the layout's, 224 or "
        "320)",
        least=1,
        most=2**13,
    )
    dtype: str = option(
        "float32", "of convolutions; weights and statistics are always float32", choices=DTYPES
    )


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training starts: the work directory's newest checkpoint, --init-from, or scratch."""

    workdir: Path = option(
        Path("checkpoints/fit"),
        "directory of the run; if it holds one, that run continues with its own options",
    )
    resume: bool = option(False, "stop with an error unless there is a run to continue")
    init_from: Path | None = option(
        None, "checkpoint whose weights to start from; a head that it lacks starts fresh"
    )
    seed: int = option(0, "of initial weights, order, splits and augmentation", least=0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Loss, optimizer and schedule. --recipe chooses the defaults of the other options."""

    recipe: str | None = option(
        None,
        "a published one. combined: both heads, Adam. segmentation: the mask head alone, RMSprop, "
        "cross-entropy and Dice, plateau, batches of 16, 100 epochs. classification: the "
        "classifier alone, Adam (default: the one of the network's heads)",
        choices=("combined", "segmentation", "classification"),
    )
    epochs: int = option(35, "passes over the data", least=1)
    steps: int | None = option(None, "steps, instead of epochs", least=1)
    batch_size: int = option(64, "pictures a step, on all devices of all processes", least=1)
    optimizer: str = option(
        "adam",
        "adam and rmsprop (momentum 0.9) add the weight decay to the gradient (L2), adamw "
        "decouples it",
        choices=("adam", "adamw", "rmsprop"),
    )
    learning_rate: float = option(1e-5, "peak learning rate", least=0)
    weight_decay: float | None = option(
        None, "default: 1e-8 for adam and rmsprop, as published, 1e-2 for adamw", least=0
    )
    schedule: str = option(
        "constant",
        "of the learning rate. cosine: falls to 0 at the end. step: falls by --decay-factor every "
        "--decay-epochs. plateau: falls by --decay-factor when --best-metric, evaluated twice an "
        "epoch, has not improved by 0.01 % in three evaluations",
        choices=("constant", "cosine", "step", "plateau"),
    )
    warmup_steps: int = option(0, "steps over which the learning rate rises from 0", least=0)
    decay_epochs: int = option(10, "epochs between falls of the step schedule", least=1)
    decay_factor: float = option(0.1, "factor of each fall", above=0, most=1)
    keep_last_batch: bool = option(
        False,
        "train on the last, smaller batch of each epoch too, as the original does; the devices "
        "must divide it. Otherwise its pictures are left out, other ones in each epoch",
    )
    clip_norm: float | None = option(None, "largest norm of the gradient", above=0)
    accumulate: int = option(
        1, "parts in which each device computes its share of a batch, to save memory", least=1
    )
    remat: bool = option(
        False,
        "recompute each level's maps for the gradient: the same result with about half the memory "
        "besides the weights' on accelerators, and a third more work",
    )
    mask_loss: str = option(
        "cross-entropy",
        "of the mask head; dice adds 1 - Dice, averaged over both classes, of all pixels of a "
        "batch",
        choices=("cross-entropy", "cross-entropy+dice"),
    )
    mask_loss_weight: float = option(0.5, "weight of the mask's loss", least=0)
    class_loss_weight: float = option(0.5, "weight of the classifier's cross-entropy", least=0)
    class_balance: str = option(
        "none",
        "balanced: weigh each class of frames and of pixels by the inverse of its share in the "
        "data, which 500 frames give for pixels",
        choices=("none", "balanced"),
    )
    ema: float | None = option(
        None, "decay of a moving average of the weights, which is then saved", least=0, most=1
    )
    freeze_encoder: bool = option(False, "do not train the encoder, nor update its statistics")
    sync_batch_norm: bool = option(
        False, "BatchNorm over the batch of all devices, instead of each device's share"
    )
    early_stopping: int | None = option(
        None, "stop after this many evaluations without a better --best-metric", least=1
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The share of pictures, from 0 to 1, to which each change is made at random."""

    flip: float = option(0.0, "mirror left to right", least=0, most=1)
    jpeg: float = option(0.0, "compress as JPEG of quality 30 to 95", least=0, most=1)
    blur: float = option(0.0, "blur with a radius up to 2 pixels", least=0, most=1)
    noise: float = option(0.0, "add noise of a deviation up to 10 of 255", least=0, most=1)
    colour: float = option(
        0.0, "change brightness, contrast and saturation by up to 30 %", least=0, most=1
    )
    cut_out: float = option(
        0.0,
        "cover a rectangle of up to half the side in grey; its pixels count as untouched",
        least=0,
        most=1,
    )


@dataclasses.dataclass(frozen=True)
class Logging:
    """Logs, evaluations and checkpoints."""

    log_every: int = option(10, "steps between lines of metrics.jsonl", least=1)
    eval_every: int = option(
        1,
        "epochs between evaluations; not used by --schedule plateau, which evaluates twice an "
        "epoch",
        least=1,
    )
    save_every: int | None = option(
        None, "steps between checkpoints (default: two epochs, as published)", least=1
    )
    keep: int = option(3, "newest checkpoints to keep, besides the best one", least=1)
    best_metric: str | None = option(
        None,
        "metric of report.json that chooses the best checkpoint (default: frames.accuracy, or "
        "pixels.dice without a classifier)",
    )
    wandb: str | None = option(
        None,
        "also log to Weights & Biases: to its server, or into the work directory",
        choices=("online", "offline"),
    )
    histograms: bool = option(
        False, "also log histograms of weights and gradients, whenever an evaluation is due"
    )


@dataclasses.dataclass(frozen=True)
class Machines:
    """Devices and processes; docs/scaling.md has examples."""

    devices: str = option("all", "of each process: all, how many, or which, such as 0,2")
    coordinator: str | None = option(
        None, "HOST:PORT of process 0, where JAX does not recognise the cluster by itself"
    )
    num_processes: int | None = option(None, "number of processes, with --coordinator", least=1)
    process_id: int | None = option(
        None, "which process this is, from 0, with --coordinator", least=0
    )


GROUPS = (Data, Network, Start, Recipe, Augmentation, Logging, Machines)
RENAMED = {  # options that runs before had under another name
    "mask_weight": "mask_loss_weight",
    "class_weight": "class_loss_weight",
    "class_weights": "class_balance",
}
# Options of one start, which a run does not keep.
_OF_ONE_START = {"workdir", "resume", *fields_of((Machines,))}
# Options that may change when a run continues, since they change no step's result.
CHANGEABLE = {"epochs", "steps", "remat", *fields_of((Logging,))}
RECIPES: dict[str, dict[str, Any]] = {  # where the published ones differ from the fields' defaults
    "combined": {"heads": "both"},
    "segmentation": {
        "heads": "mask",
        "optimizer": "rmsprop",
        "mask_loss": "cross-entropy+dice",
        "mask_loss_weight": 1.0,
        "schedule": "plateau",
        "batch_size": 16,
        "epochs": 100,
    },
    "classification": {"heads": "classifier", "class_loss_weight": 1.0},
}
DEMONSTRATION: dict[str, Any] = {  # what is trained without --data
    "data": "forged_portraits",
    "base_width": 8,
    "size": 96,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "batch_size": 32,
    "epochs": 5,
}


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """A training run, resolved."""

    data: Data
    network: Network
    start: Start
    recipe: Recipe
    augmentation: Augmentation
    logging: Logging
    machines: Machines

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> Self:
        """The configuration of options by name; missing ones have their defaults.

        Raises:
            InputError: a name is unknown (the nearest one is named), a value is out of range, or
                options contradict each other.
        """
        known = fields_of(GROUPS)
        for name in given:
            if name not in known:
                raise unknown_option(name, known, RENAMED)
        if given.get("data") is None:
            given = {**DEMONSTRATION, **{k: v for k, v in given.items() if k != "data"}}
        values = {name: valid(known[name], value) for name, value in given.items()}
        if values.get("recipe") is None:
            values["recipe"] = _recipe_of(_filled(Network, values), values.get("init_from"))
        values = {**RECIPES[values["recipe"]], **values}
        groups: Any = (_filled(group, values) for group in GROUPS)
        return cls(*groups)

    def options(self) -> dict[str, Any]:
        """All options by name, as JSON values."""
        return {
            name: plain(value)
            for group in vars(self).values()
            for name, value in vars(group).items()
        }

    def saved(self) -> dict[str, Any]:
        """The options that a run keeps: all but those of one start."""
        return {k: v for k, v in self.options().items() if k not in _OF_ONE_START}

    def __str__(self) -> str:
        lines = (
            f"{group:13}"
            + ", ".join(f"{k} {plain(v)}" for k, v in vars(values).items() if v is not None)
            for group, values in vars(self).items()
        )
        return "\n".join(lines)


def _filled(group: type, values: Mapping[str, Any]) -> Any:
    return group(**{name: values[name] for name in fields_of((group,)) if name in values})


def _recipe_of(network: Network, start: Path | None) -> str:
    """The published recipe for the network's heads."""
    config = network_config(network, start)
    if not config.has_classifier:
        return "segmentation"
    return "combined" if config.has_mask_head else "classification"


def network_config(network: Network, start: Path | None) -> UNetConfig:
    """The architecture from the options and the checkpoint `start`.

    Raises:
        InputError: the options contradict each other, or `start` is not a checkpoint.
    """
    config = PUBLISHED[network.layout or DEFAULT_LAYOUT]
    if start is not None and network.layout is None:
        config = metadata.load_config(start)
    changes: dict[str, object] = {}
    if network.base_width is not None:
        changes["base_width"] = network.base_width
    if network.size is not None:
        changes["image_size"] = network.size
    decoder, widths = config.decoder_levels, config.classifier_widths
    if network.heads in ("both", "mask"):
        decoder = decoder or min(config.levels, UNetConfig.decoder_levels)
    if network.heads in ("both", "classifier") and widths is None:
        widths = UNetConfig.classifier_widths
    if network.heads == "classifier":
        decoder = 0
    if network.heads == "mask":  # without the levels that only the classifier uses
        widths, changes["levels"] = None, decoder
    if network.classifier_widths is not None:
        if widths is None:
            raise InputError("--classifier-widths: the network has no classifier; see --heads")
        widths = network.classifier_widths
    changes |= {"decoder_levels": decoder, "classifier_widths": widths}
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        raise InputError(f"the network cannot be built: {error}") from error
