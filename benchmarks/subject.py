"""What the benchmarks of evaluation run on: a stand-in network, and frames on disk."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from convert import stand_in
from convert.from_torch import convert
from convert.state_dict import write
from flax_unet import PUBLISHED, UNet, load
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.export import export

LAYOUT = "ynet-224"
FULL_WIDTH = PUBLISHED[LAYOUT].base_width


class Subject(NamedTuple):
    """One network as both frameworks take it, and frames to score."""

    model: UNet
    tensors: dict[str, np.ndarray]  # the same weights by PyTorch's names
    data: Dataset
    paths: list[Path]  # of the frames of `data`


def prepare(folder: Path, base_width: int, frames: int) -> Subject:
    """Writes and opens both.

    Args:
        folder: an empty directory.
        base_width: of the network; FULL_WIDTH is the published one, whose stand-in it then is.
        frames: how many; those of the embedded test split, again and again.
    """
    tensors = tensors_of(base_width)
    model = write_model(folder, base_width)
    export(open_dataset(EMBEDDED, "test"), folder / "data")
    stored = open_dataset(str(folder / "data"), None)
    data = stored.take(np.arange(frames) % len(stored))
    paths = [folder / "data" / file for file in data.table.file]
    return Subject(load(model), tensors, data, paths)


def tensors_of(base_width: int) -> dict[str, np.ndarray]:
    """A stand-in's weights by PyTorch's names; of the published one, if it is as wide."""
    if base_width == FULL_WIDTH:
        return stand_in.published(LAYOUT, 0)
    return stand_in.state_dict(dataclasses.replace(PUBLISHED[LAYOUT], base_width=base_width), 0)


def write_model(folder: Path, base_width: int) -> Path:
    """Writes a stand-in as `ckpt.pth` and, converted, as the directory `model`, which it gives."""
    tensors = tensors_of(base_width)
    write({key: torch.from_numpy(array) for key, array in tensors.items()}, folder / "ckpt.pth")
    convert(folder / "ckpt.pth", folder / "model", verify=False)
    return folder / "model"
