"""The options of a training run, in groups, and the configuration that they make."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from flax_unet.checkpoint import metadata
from flax_unet.nn.config import DTYPES, PUBLISHED, UNetConfig
from flax_unet.utils.errors import InputError
from train.data.augment import Augmentation
from train.data.layouts.options import MASK_THRESHOLD, REAL_LABEL, FolderOptions
from train.data.splits import parse_share
from train.options import fields_of, option, plain, unknown_option, valid

DEFAULT_LAYOUT = "ynet-224"


@dataclasses.dataclass(frozen=True)
class Data:
    """What the network is trained and validated on."""

    data: str | None = option(
        None, "folder or name of a data set, as for train.eval (default: the demonstration's)"
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
    self_blend: bool = option(
        False,
        "beside each REAL frame show a forgery of it, which is new in each epoch; the data set's "
        "own fakes, if any, are shown as well",
    )
    skip_bad: bool = option(False, "leave out files that cannot be used, instead of stopping")
    mask_threshold: int | None = option(None, MASK_THRESHOLD, least=1, most=255)
    real_label: str | None = option(None, REAL_LABEL)

    @property
    def shares(self) -> str | None:
        """Per cent for train/validation/test by source video; None where frames are not split so.

        Raises:
            InputError: the share to validate on is not one.
        """
        share = None if self.validation is None else parse_share(self.validation)
        return self.split if share is None else f"{100 - share}/{share}/0"

    @property
    def folder_options(self) -> FolderOptions:
        """How the files of a folder are read."""
        return FolderOptions(self.mask_threshold, self.real_label)


@dataclasses.dataclass(frozen=True)
class Network:
    """The architecture. With --init-from, the checkpoint's is the default."""

    layout: str | None = option(
        None, f"a published network (default: {DEFAULT_LAYOUT})", choices=tuple(PUBLISHED)
    )
    heads: str | None = option(
        None, "heads to train (default: the layout's)", choices=("both", "classifier", "mask")
    )
    base_width: int | None = option(
        None, "channels of the first level (default: the layout's, 64)", least=1, most=2**12
    )
    classifier_widths: tuple[int, ...] | None = option(
        None, "widths of the classifier's hidden layers (default: the layout's)", least=1
    )
    size: int | tuple[int, int] | None = option(
        None, "size of pictures in pixels (default: the layout's, 224 or 320)", least=1, most=2**13
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
    resume: bool | None = option(
        None,
        "--resume: stop with an error unless there is a run to continue. --no-resume: stop with an "
        "error if there is one (default: continue it, if there is one)",
    )
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
        "of the mask head; dice adds 1 - Dice of a batch's pixels, averaged over both classes",
        choices=("cross-entropy", "cross-entropy+dice"),
    )
    mask_loss_weight: float = option(
        0.5, "weight of the mask's loss", least=0, formerly="mask_weight"
    )
    class_loss_weight: float = option(
        0.5, "weight of the classifier's cross-entropy", least=0, formerly="class_weight"
    )
    class_balance: str = option(
        "none",
        "balanced: weigh each class of frames and of pixels by the inverse of its share in the "
        "data, which 500 frames give for pixels",
        choices=("none", "balanced"),
        formerly="class_weights",
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
class Logging:
    """Logs, evaluations and checkpoints."""

    log_every: int = option(10, "steps between lines of metrics.jsonl", least=1)
    eval_every: int = option(
        1,
        "epochs between evaluations; --schedule plateau always evaluates twice an epoch",
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
        None, "HOST:PORT of process 0, with the next two, where JAX recognises no cluster"
    )
    num_processes: int | None = option(None, "number of processes; 1 joins none", least=1)
    process_id: int | None = option(None, "number of this process, from 0", least=0)
    workers: int | None = option(
        None,
        "processes that read and augment pictures, of each process; 0: threads (default: as many "
        "as pay)",
        least=0,
    )


GROUPS = (Data, Network, Start, Recipe, Augmentation, Logging, Machines)
# Options of one start, which a run does not save.
OF_ONE_START = {"workdir", "resume", *fields_of(Machines)}
# Options that may change when a run continues, since they change no step's result.
CHANGEABLE = {"epochs", "steps", "remat", *fields_of(Logging)}
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
        known = fields_of(*GROUPS)
        for name in given:
            if name not in known:
                raise unknown_option(name, known)
        if given.get("data") is None:
            given = {**DEMONSTRATION, **given, "data": DEMONSTRATION["data"]}
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

    def __str__(self) -> str:
        return "\n".join(
            f"{group:13}"
            + ", ".join(f"{k} {plain(v)}" for k, v in vars(values).items() if v is not None)
            for group, values in vars(self).items()
        )


def _filled(group: type, values: Mapping[str, Any]) -> Any:
    return group(**{name: values[name] for name in fields_of(group) if name in values})


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
    changes: dict[str, Any] = {"base_width": network.base_width, "image_size": network.size}
    changes = {name: value for name, value in changes.items() if value is not None}
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
