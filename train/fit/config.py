"""What a training run is made of, and how a file or a command line fills it in."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from flax_unet.checkpoint import metadata
from flax_unet.nn.config import DTYPES, PUBLISHED, UNetConfig
from flax_unet.utils.errors import InputError
from train.data.layouts.options import MASK_THRESHOLD, REAL_LABEL
from train.fit.options import option, plain, valid

DEFAULT_LAYOUT = "ynet-224"


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learnt from."""

    data: str | None = option(
        None, "data set, named as for train.eval; without it, the demonstration is trained"
    )
    split: str | None = option(
        None,
        "per cent for train/validation/test by source video, such as 80/10/10, for a folder that "
        "has no splits; give train.eval the same, and the same --seed",
    )
    validation: str | None = option(
        None,
        "what to validate on where --split is not given: a split of the data set, such as test, or "
        "a share of the sources that are trained on, such as 10% (default: the data set's split "
        "validation, if it has one)",
    )
    skip_bad: bool = option(False, "go on without files that cannot be used")
    mask_threshold: int | None = option(None, MASK_THRESHOLD, least=1, most=255)
    real_label: str | None = option(None, REAL_LABEL)


@dataclasses.dataclass(frozen=True)
class Network:
    """The network; what is not given is the checkpoint's that training starts from, if any."""

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
        None, "hidden layers of the classifier, such as 512 or 1024,512 (default: the layout's)"
    )
    size: int | tuple[int, int] | None = option(
        None,
        "pixels a side, or height x width, such as 320x224 (default: the layout's, 224 or 320)",
        most=2**13,
    )
    dtype: str = option(
        "float32",
        "what convolutions compute in; weights and statistics stay float32",
        choices=DTYPES,
    )


@dataclasses.dataclass(frozen=True)
class Start:
    """Where training starts: a work directory that exists, else --init-from, else scratch."""

    workdir: Path = option(
        Path("checkpoints/fit"),
        "directory of the run; where one exists, its training goes on with its own settings",
    )
    resume: bool = option(False, "insist on going on: it is an error if there is nothing to")
    init_from: Path | None = option(
        None, "checkpoint whose weights to start from; a head that it lacks starts fresh"
    )
    seed: int = option(0, "of weights, order, splits and augmentation", least=0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the weights change. --recipe sets the defaults of the others to the published ones."""

    recipe: str | None = option(
        None,
        "the published one of combined training; of segmentation (mask head alone: RMSprop, "
        "cross-entropy and Dice, plateau, batches of 16, 100 epochs); or of classification "
        "(classifier alone: its cross-entropy) (default: by the heads of the network)",
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
    learning_rate: float = option(1e-5, "of the optimizer", least=0)
    weight_decay: float | None = option(
        None, "default: 1e-8 for adam and rmsprop, as published, 1e-2 for adamw", least=0
    )
    schedule: str = option(
        "constant",
        "of the learning rate: cosine falls to 0 at the end, step by --decay-factor; plateau falls "
        "by --decay-factor when --best-metric, evaluated twice an epoch, has not got better by a "
        "ten-thousandth of itself for three evaluations",
        choices=("constant", "cosine", "step", "plateau"),
    )
    warmup_steps: int = option(0, "steps over which the learning rate rises from 0", least=0)
    decay_epochs: int = option(10, "epochs between falls of the step schedule", least=1)
    decay_factor: float = option(0.1, "what each fall multiplies by", above=0, most=1)
    keep_last_batch: bool = option(
        False,
        "train on the last, smaller batch of each epoch too, as the original does; it must divide "
        "among the devices. Otherwise its pictures, other ones in each epoch, are left out",
    )
    clip_norm: float | None = option(None, "largest norm of the gradient", above=0)
    accumulate: int = option(
        1, "parts that a device's share of a batch is computed in, one after the other", least=1
    )
    remat: bool = option(
        False,
        "compute each level anew for the gradient rather than keep its maps: the same result, and "
        "on accelerators half the memory beside the weights', for a third more work",
    )
    mask_loss: str = option(
        "cross-entropy",
        "of the mask; dice adds 1 - Dice, averaged over both classes, of all pixels of a batch",
        choices=("cross-entropy", "cross-entropy+dice"),
    )
    mask_weight: float = option(0.5, "weight of the mask's loss", least=0)
    class_weight: float = option(0.5, "weight of the classifier's cross-entropy", least=0)
    class_weights: str = option(
        "none",
        "balanced: classes weigh alike, however many frames (pixels, of 500 frames) each has; a "
        "picture's loss does not depend on the others of its batch, as PyTorch's `weight` does",
        choices=("none", "balanced"),
    )
    ema: float | None = option(
        None, "decay of a moving average of the weights, which is then saved", least=0, most=1
    )
    freeze_encoder: bool = option(False, "keep the encoder's weights and statistics")
    sync_batch_norm: bool = option(
        False, "BatchNorm over the batch of all devices, not of each alone"
    )
    early_stopping: int | None = option(
        None, "evaluations without gain in --best-metric before training stops", least=1
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Share of the pictures that each change is made to; deterministic by picture and epoch."""

    flip: float = option(0.0, "mirrored left to right", least=0, most=1)
    jpeg: float = option(0.0, "stored as JPEG of quality 30 to 95", least=0, most=1)
    blur: float = option(0.0, "blurred with a radius up to 2 pixels", least=0, most=1)
    noise: float = option(0.0, "noise of a deviation up to 10 of 255", least=0, most=1)
    colour: float = option(
        0.0, "brightness, contrast and saturation changed by up to 30 %", least=0, most=1
    )
    cut_out: float = option(
        0.0,
        "a grey rectangle of up to half the side; its pixels count as untouched",
        least=0,
        most=1,
    )


@dataclasses.dataclass(frozen=True)
class Watching:
    """What is told and kept."""

    log_every: int = option(10, "steps between logged figures", least=1)
    eval_every: int = option(
        1,
        "epochs between evaluations of the validation split; not with --schedule plateau, which "
        "evaluates twice an epoch",
        least=1,
    )
    save_every: int | None = option(
        None, "steps between checkpoints (default: every second epoch, as published)", least=1
    )
    keep: int = option(3, "checkpoints that are kept, besides the best one", least=1)
    best_metric: str | None = option(
        None,
        "figure of report.json that tells the best checkpoint (default: frames.accuracy, or "
        "pixels.dice without a classifier)",
    )
    wandb: str | None = option(
        None,
        "log to Weights & Biases too, on its server or in the work directory",
        choices=("online", "offline"),
    )
    histograms: bool = option(
        False,
        "log histograms of weights and gradients too, at each evaluation or where one would be",
    )


@dataclasses.dataclass(frozen=True)
class Machines:
    """What computes."""

    devices: str = option("all", "all, how many, or which: 0,2 (of each process)")
    coordinator: str | None = option(
        None, "HOST:PORT of process 0; a cluster that JAX knows is found without it"
    )
    num_processes: int | None = option(None, "with --coordinator", least=1)
    process_id: int | None = option(None, "with --coordinator, from 0", least=0)


GROUPS = (Data, Network, Start, Recipe, Augmentation, Watching, Machines)
# What each start of a run says anew.
OF_ONE_START = {"workdir", "resume"} | {field.name for field in dataclasses.fields(Machines)}
# What may change when a run goes on: how far it goes, what it remembers, but no step's result.
CHANGEABLE = {"epochs", "steps", "remat"} | {field.name for field in dataclasses.fields(Watching)}
RECIPES: dict[str, dict[str, Any]] = {  # where the published ones differ from the fields' defaults
    "combined": {"heads": "both"},
    "segmentation": {
        "heads": "mask",
        "optimizer": "rmsprop",
        "mask_loss": "cross-entropy+dice",
        "mask_weight": 1.0,
        "schedule": "plateau",
        "batch_size": 16,
        "epochs": 100,
    },
    "classification": {"heads": "classifier", "class_weight": 1.0},
}
DEMONSTRATION: dict[str, Any] = {  # what is trained when no data set is named
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
    watching: Watching
    machines: Machines

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> Self:
        """The configuration of options by name; those that are not given have their defaults.

        Raises:
            InputError: a name is unknown (the nearest one is named), a value is out of range, or
                options contradict each other.
        """
        known = options()
        for name in given:
            if name not in known:
                raise InputError(f"{name} is no option{_nearest(name, known)}")
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
            for group in dataclasses.fields(self)
            for name, value in vars(getattr(self, group.name)).items()
        }

    def saved(self) -> dict[str, Any]:
        """The options that a run keeps: all but those of one start."""
        return {k: v for k, v in self.options().items() if k not in OF_ONE_START}

    def __str__(self) -> str:
        groups = {field.name: vars(getattr(self, field.name)) for field in dataclasses.fields(self)}
        lines = (
            f"{name:13}" + ", ".join(f"{k} {plain(v)}" for k, v in values.items() if v is not None)
            for name, values in groups.items()
        )
        return "\n".join(lines)


def _filled(group: type, values: Mapping[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(group)}
    return group(**{name: value for name, value in values.items() if name in names})


def _recipe_of(network: Network, start: Path | None) -> str:
    """The published recipe of a network with these heads."""
    config = network_config(network, start)
    if not config.has_classifier:
        return "segmentation"
    return "combined" if config.has_mask_head else "classification"


def network_config(network: Network, start: Path | None) -> UNetConfig:
    """The architecture that options and the checkpoint `start` add up to.

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
    if network.heads == "mask":  # what only the classifier reads goes with it
        widths, changes["levels"] = None, decoder
    if network.classifier_widths is not None:
        if widths is None:
            raise InputError("--classifier-widths: the network has no classifier; see --heads")
        widths = network.classifier_widths
    changes |= {"decoder_levels": decoder, "classifier_widths": widths}
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        raise InputError(f"there is no such network: {error}") from error


def options() -> dict[str, dataclasses.Field]:
    """Every option by name, in order."""
    return {field.name: field for group in GROUPS for field in dataclasses.fields(group)}


def read_file(path: Path) -> dict[str, Any]:
    """The options that a YAML or JSON file gives.

    Raises:
        InputError: the file cannot be read, or holds no options.
    """
    import yaml  # a step of training needs no files

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no options; expected lines such as `batch_size: 32`")
    content = {str(name).replace("-", "_"): value for name, value in content.items()}
    for name in content:
        if name not in options():
            raise InputError(f"{path}: {name} is no option{_nearest(name, options())}")
    return content


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
