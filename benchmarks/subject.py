"""What benchmarks compute on: a stand-in of ynet-224, drawn faces, a step of training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from flax_unet import PUBLISHED, UNet, UNetConfig
from flax_unet.media.images import resized
from flax_unet.nn.config import Size
from train import distributed
from train.data.synthetic.scene import ProceduralPortraits
from train.fit.config import Recipe
from train.fit.losses import Objective
from train.fit.optimizer import make_optimizer
from train.fit.step import first_state, make_step, split, zero_totals

LAYOUT = "ynet-224"
FULL_WIDTH = PUBLISHED[LAYOUT].base_width
WIDTH = (FULL_WIDTH, "channels of the first level; the full size is 64")  # an option
SEED = 0  # of its weights
_FACES = 16  # drawn, and seen again and again

Frames = dict[str, np.ndarray]


def network(base_width: int = FULL_WIDTH) -> UNetConfig:
    """The published network, or a narrower one."""
    return dataclasses.replace(PUBLISHED[LAYOUT], base_width=base_width)


def write_model(folder: Path, base_width: int, side: int = PUBLISHED[LAYOUT].input_size[0]) -> Path:
    """Writes a stand-in as `ckpt.pth` and, converted, as the directory `model`: its path.

    It is for pictures of `side` pixels.
    """
    from convert.from_torch import convert
    from convert.stand_in import state_dict  # needs PyTorch
    from convert.state_dict import from_numpy, write

    tensors = state_dict(network(base_width), SEED)
    content = {key: from_numpy(array, array.dtype.name) for key, array in tensors.items()}
    write(content, folder / "ckpt.pth")
    convert(folder / "ckpt.pth", folder / "model", verify=False, size=(side, side))
    return folder / "model"


def faces(size: Size, count: int = _FACES) -> Frames:
    """Drawn faces, of which every second one has a brighter square: FAKE, and MANIPULATED there.

    Args:
        size: (height, width) in pixels.
        count: how many; a few, again and again.

    Returns:
        What `train.fit.step` takes: `image` (N, H, W, 3) uint8, `mask` (N, H, W) uint8, `labelled`,
        `is_real` and `stop` (N,).
    """
    drawn = ProceduralPortraits(_FACES, 0)
    image = np.stack([resized(drawn[number][1], size) for number in range(_FACES)])
    mask = np.zeros((_FACES, *size), np.uint8)
    mask[::2, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    frames = {
        "image": np.where(mask[..., None] == 1, 128 + image // 2, image).astype(np.uint8),
        "mask": mask,
        "labelled": np.ones(_FACES, bool),
        "is_real": (np.arange(_FACES) % 2).astype(np.float32),
        "stop": np.zeros(_FACES, np.int32),
    }
    return take(frames, 0, count)


def take(frames: Frames, first: int, count: int) -> Frames:
    """So many frames from number `first` on, again and again if there are fewer."""
    at = np.arange(first, first + count) % len(frames["image"])
    return {name: array[at] for name, array in frames.items()}


def training(
    model: UNet,
    devices: list[distributed.Device],
    recipe: Recipe | None = None,
    objective: Objective | None = None,
    *,
    remat: bool = False,
) -> tuple[Any, Any]:
    """A step of training on devices, by default the published one, and its first state and totals.

    The recipe sets the optimizer and a constant learning rate.
    """
    recipe = recipe or Recipe()
    optimizer = make_optimizer(recipe, lambda _: recipe.learning_rate)
    graphdef, params, batch_stats = split(model, remat=remat)
    step = make_step(graphdef, optimizer, objective or Objective())
    first = first_state(params, batch_stats, optimizer), zero_totals()
    return distributed.map_step(step, devices), first
