"""A checkpoint's metadata, which is read and written without JAX.

NAME/
  config.json   the architecture (`UNetConfig`)
  source.json   where the weights come from, what wrote them, and what they are worth
  weights/      Orbax: the network's parameters and statistics, float32
  unused/       Orbax: tensors of the source that the network does not use, if there are any
  manifest.json SHA-256 of every file of Orbax, so that damage is found before it is loaded
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_unet.nn.config import UNetConfig, shown_size
from flax_unet.nn.decision import Calibration
from flax_unet.utils.errors import InputError
from flax_unet.utils.files import followed, staged_file

CONFIG, SOURCE, MANIFEST = "config.json", "source.json", "manifest.json"
CALIBRATION = "calibration"  # in SOURCE
_BETWEEN = {"temperature": (0.001, 1000), "threshold": (0, 1)}  # what a calibration's numbers are
CARD, CARD_LIBRARY = "README.md", "flax-unet"  # model card; the library that it names first
WEIGHTS, UNUSED = "weights", "unused"
FORMAT_VERSION = 2
# In this older format classifiers read the whole deepest map at every size.
_WITHOUT_PUBLISHED_POOLS = 1


def is_checkpoint(path: Path) -> bool:
    """Whether `path` looks like the directory of a checkpoint, or names one (`followed`)."""
    path = followed(path)
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_dir()


def may_be_replaced(path: Path) -> bool:
    """Whether `path` holds a checkpoint, perhaps with its model card, and nothing else."""
    ours = {CONFIG, SOURCE, MANIFEST, WEIGHTS, UNUSED}
    others = (entry for entry in path.iterdir() if entry.name not in ours)
    return is_checkpoint(path) and all(_is_card(entry) for entry in others)


def _is_card(path: Path) -> bool:
    start = f'---\nlibrary_name: "{CARD_LIBRARY}"\n'.encode()
    return path.name == CARD and path.is_file() and path.read_bytes().startswith(start)


def load_config(path: str | Path) -> UNetConfig:
    """The architecture of a checkpoint.

    Raises:
        InputError: `path` is not a checkpoint, or its `config.json` is not valid.
    """
    path = followed(Path(path))
    if not is_checkpoint(path):
        raise InputError(_why_no_checkpoint(path))
    fields = read_json(path / CONFIG)
    version = fields.get("format_version")
    if version not in (FORMAT_VERSION, _WITHOUT_PUBLISHED_POOLS):
        raise InputError(
            f"{path / CONFIG}: format_version is {version!r}; this version reads "
            f"{FORMAT_VERSION}. Convert the checkpoint again"
        )
    try:
        config = UNetConfig.from_json(fields["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path / CONFIG} is not valid: {error}") from error
    if version == _WITHOUT_PUBLISHED_POOLS and config.reads_part_of_map:
        source = read_json(path / SOURCE) if (path / SOURCE).exists() else {}
        if "trained" in source:  # converted ones were always meant to be read as the original reads
            raise InputError(
                f"{path} was trained by an earlier version, whose classifier read the whole of its "
                f"deepest map at {shown_size(config.input_size)} pixels. As in the original, it "
                "now reads the first 14 rows and columns. Train it again"
            )
    return config


def trained(source: dict[str, Any]) -> dict[str, Any]:
    """What `source.json` records of the training; empty for a converted checkpoint."""
    found = source.get("trained")
    return found if isinstance(found, dict) else {}


def load_source(path: str | Path) -> dict[str, Any]:
    """What `source.json` records of a checkpoint's origin.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = followed(Path(path)) / SOURCE
    source = read_json(file)
    for name in ("entries", "unused"):
        value = source.get(name, {})
        if not isinstance(value, dict) or (
            name == "entries" and not all(isinstance(entry, dict) for entry in value.values())
        ):
            raise InputError(
                f"{file}: {name} is not an object. Convert or copy the checkpoint again"
            )
    return source


def load_calibration(path: str | Path) -> Calibration | None:
    """The calibration that `train.eval --calibrate` stored with a checkpoint; None: there is none.

    Raises:
        InputError: it is damaged.
    """
    file = followed(Path(path)) / SOURCE
    record = read_json(file).get(CALIBRATION) if file.exists() else None
    if record is None:
        return None
    try:
        return calibration_of(record)
    except ValueError as error:
        raise InputError(
            f"{file}: {error}. Calibrate again (python -m train.eval --checkpoint {path} "
            f"--calibrate), or remove {CALIBRATION} from the file"
        ) from error


def false_alarm_rate(source: Mapping[str, Any]) -> float | None:
    """The share of REAL frames, in (0, 1), for which a checkpoint's threshold was set.

    At most so many of the frames of its calibration are called FAKE. `source` is its `source.json`.
    None: it has no calibration, or the rate is not recorded.
    """
    rate: Any = source
    for key in (CALIBRATION, "false_alarm_rate", "wished"):
        rate = rate.get(key) if isinstance(rate, Mapping) else None
    return rate if isinstance(rate, float) and 0 < rate < 1 else None


def calibration_of(record: Any) -> Calibration:
    """The calibration in a record of `source.json`.

    Raises:
        ValueError: it is damaged.
    """
    found = {}
    for name, (low, high) in _BETWEEN.items():
        value: Any = record.get(name) if isinstance(record, dict) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low < value < high:
            raise ValueError(
                f"{name} of {CALIBRATION} is {repr(value)[:40]}; expected a number between "
                f"{low} and {high}"
            )
        found[name] = float(value)
    return Calibration(**found)


def store_record(path: str | Path, name: str, record: dict[str, Any]) -> None:
    """Stores a record with a checkpoint, as `name` in its `source.json`.

    The file is replaced as a whole: if this fails or is killed, it is as it was before.

    Raises:
        InputError: the file is missing or damaged, or cannot be written.
    """
    file = followed(Path(path)) / SOURCE
    source = read_json(file)
    with staged_file(file) as stage:
        write_json(stage, {**source, name: record})


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON.

    Raises:
        InputError: the disk is full or cannot be written to.
    """
    try:
        path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; convert the checkpoint again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; expected an object")
    return value


def _why_no_checkpoint(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist; name a directory that convert.from_torch wrote"
    if path.is_file():
        return f"{path} is a file; convert it first: python -m convert.from_torch {path}"
    for name in ("best", "last"):  # of a directory that `train.fit` works in
        if is_checkpoint(path / name):
            return f"{path} holds the checkpoints of a training run; name {path / name}"
    return f"{path} is not a checkpoint: it lacks {CONFIG} or {WEIGHTS}/"
