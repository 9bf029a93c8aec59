"""Trains the PyTorch twin by the published recipe and writes a state dict.

`checkpoints/drawn.pth` was made by `python -m benchmarks.train_torch checkpoints/drawn.pth`.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.contenders import WEIGHT_DECAY
from benchmarks.machine import FIRST, benchmark
from convert import mapping
from convert.carried import attach
from convert.state_dict import write
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.checkpoint.store import Tree
from flax_unet.checkpoint.worth import WORTH
from flax_unet.nn.config import Size
from flax_unet.utils.errors import InputError
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.loader import Batch, batches
from train.fit.weights import worth_after

EPSILON = 1e-6  # of Dice

Frames = dict[str, Any]  # image (B, H, W, 3) and mask (B, H, W) uint8, is_real (B,) float32


def frames_of(batch: Batch, data: Dataset) -> Frames:
    """What both frameworks train on."""
    is_real = data.table.is_real[batch.position].astype(np.float32)
    return {"image": batch.image, "mask": batch.mask, "is_real": is_real}


def image_of(frames: Frames, dtype: torch.dtype) -> torch.Tensor:
    """The pictures (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(frames["image"]).permute(0, 3, 1, 2).to(dtype) / 255


def optimise(
    model: ReferenceUNet,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Frames],
    recipe: str = "combined",
    steps: int | None = None,
) -> Iterator[tuple[float, float]]:
    """PyTorch's training by a published recipe, written from the published facts.

    Args:
        model: in training mode, with the heads that the recipe trains.
        optimizer: of its parameters.
        batches: one a step; every fake has a mask, a real frame without one is untouched.
        recipe: a name of train.fit.config.RECIPES.
        steps: how many, for the progress bar.

    Yields:
        After each step its losses of masks and of classes, 0 for a head that is missing.
    """
    dtype = next(model.parameters()).dtype
    weight = 0.5 if recipe == "combined" else 1.0
    progress = tqdm(batches, total=steps, unit="step", desc="PyTorch")
    for frames in progress:
        mask_logits, real_logit = model(image_of(frames, dtype))
        mask_loss = class_loss = torch.zeros((), dtype=dtype)
        if mask_logits is not None:
            mask = torch.from_numpy(frames["mask"]).long()
            mask_loss = F.cross_entropy(mask_logits, mask)
            if recipe == "segmentation":
                mask_loss = mask_loss + dice_loss(mask_logits, mask)
        if real_logit is not None:
            is_real = torch.from_numpy(frames["is_real"]).to(dtype)
            class_loss = F.binary_cross_entropy_with_logits(real_logit, is_real)
        optimizer.zero_grad()
        (weight * mask_loss + weight * class_loss).backward()
        optimizer.step()
        losses = mask_loss.item(), class_loss.item()
        progress.set_postfix_str("mask {:.3f}, class {:.3f}".format(*losses))
        yield losses


def dice_loss(mask_logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 less the mean over the classes of Dice, each sum over all pixels of the batch.

    Args:
        mask_logits: (B, 2, H, W).
        mask: (B, H, W) int64, 1 = MANIPULATED.
    """
    p = mask_logits.softmax(1)
    t = F.one_hot(mask, 2).permute(0, 3, 1, 2).to(p.dtype)
    both, either = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    return 1 - ((2 * both + EPSILON) / (either + EPSILON)).mean()


def as_tree(model: ReferenceUNet) -> Tree:
    """A copy of its parameters and statistics as `flax_unet.checkpoint.store` has them."""
    rules = {rule.source: rule for rule in mapping.expand(model.config)}
    tensors = {key: model.state_dict()[key].numpy().copy() for key in rules}
    return mapping.to_flax(rules, tensors, tensors["inc.double_conv.0.weight"].dtype.type)


def train(
    data: Dataset,
    *,
    base_width: int,
    size: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    cosine: bool = False,
) -> tuple[ReferenceUNet, np.ndarray]:
    """Trains from scratch with Adam; the model in eval mode, and the losses (N, 2) of its steps.

    Args:
        data: at least a batch; every fake has a mask.
        base_width: channels of the first level; the network has both heads.
        size: pixels a side.
        epochs: passes over the data, each in an order of its own.
        learning_rate: of Adam; the published 1e-5 takes days on a CPU.
        batch_size: frames a step; the last, smaller batch of an epoch is left out.
        seed: of the initial weights and the orders.
        cosine: whether the learning rate falls to 0 at the end.

    Raises:
        InputError: there are too few frames, or a fake has no mask.
    """
    if len(data) < batch_size:
        raise InputError(
            f"{data.name}, split {data.split}, has {len(data)} frames, fewer than a batch of "
            f"{batch_size}; nothing would be learnt. Give a smaller --batch-size"
        )
    without = data.table.file[~data.table.is_real & ~data.table.has_mask]
    if len(without):
        raise InputError(
            f"{data.name}, split {data.split}: {len(without)} fakes have no mask, the first of "
            f"them {without[0]}; they would be learnt as untouched. Add their masks"
        )
    torch.manual_seed(seed)
    config = UNetConfig(base_width=base_width, image_size=size)
    model = ReferenceUNet(config)  # channels last, as the pictures are: twice as fast on a CPU
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    steps = epochs * (len(data) // batch_size)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    frames = _epochs(data, config.input_size, epochs, batch_size, seed)
    losses = []
    for found in optimise(model, optimizer, frames, steps=steps):
        losses.append(found)
        if cosine:
            rate.step()
    return model.eval(), np.array(losses)


def _epochs(data: Dataset, size: Size, epochs: int, batch_size: int, seed: int) -> Iterator[Frames]:
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        epoch = data.take(rng.permutation(len(data))[: len(data) // batch_size * batch_size])
        for batch in batches(epoch, size, batch_size):
            yield frames_of(batch, epoch)


@benchmark(
    data=(EMBEDDED, "data set, as for train.eval"),
    base_width=(8, "channels of the first level"),
    size=(224, "pixels a side"),
    epochs=(5, "passes over the data"),
    learning_rate=(1e-3, "of Adam"),
    batch_size=(32, "frames a step"),
    seed=(0, "of weights and order"),
    out=(None, ".pth file to write", FIRST),
)
def main(*, out: Path, data: str, **settings: Any) -> None:
    """Runs the command line."""
    start = time.perf_counter()
    learnt = open_dataset(data, "train")
    model, _ = train(learnt, **settings)
    source = {WORTH: worth_after(learnt, None).to_json()}
    write(attach(model.state_dict(), source, model.config), out)
    print(f"{out}: {out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
