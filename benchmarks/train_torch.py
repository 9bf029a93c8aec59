"""Trains the PyTorch twin by the published recipe and writes a state dict.

`checkpoints/demo.pth` was made by `python -m benchmarks.train_torch checkpoints/demo.pth`.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.contenders import WEIGHT_DECAY
from convert.state_dict import write
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.nn.config import Size
from flax_unet.utils.errors import InputError, command
from train.data.dataset import EMBEDDED, Dataset, open_dataset
from train.data.loader import Batch, batches


def train(
    config: UNetConfig,
    data: Dataset,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    cosine: bool = False,
    losses: list[tuple[float, float]] | None = None,
) -> ReferenceUNet:
    """Trains from scratch: Adam, 0.5 cross-entropy of the mask + 0.5 of the class, as published.

    Args:
        config: a network with both heads.
        data: at least a batch; every fake has a mask, a real frame without one is untouched.
        epochs: passes over the data, each in an order of its own.
        learning_rate: of Adam; the published 1e-5 takes days on a CPU.
        batch_size: frames a step; the last, smaller batch of an epoch is left out.
        seed: of the initial weights and the orders.
        cosine: whether the learning rate falls to 0 at the end.
        losses: gets the mask's and the class's of each step.

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
    rng = np.random.default_rng(seed)
    model = ReferenceUNet(config)  # channels last, as the pictures are: twice as fast on a CPU
    model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    steps = len(data) // batch_size
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    for epoch in range(epochs):
        order = data.take(rng.permutation(len(data))[: steps * batch_size])
        progress = tqdm(_epoch(order, config.input_size, batch_size), total=steps, unit="step")
        for image, mask, is_real in progress:
            mask_logits, real_logit = model(image)
            mask_loss = F.cross_entropy(mask_logits, mask)
            class_loss = F.binary_cross_entropy_with_logits(real_logit, is_real)
            optimizer.zero_grad()
            (0.5 * mask_loss + 0.5 * class_loss).backward()
            optimizer.step()
            if cosine:
                rate.step()
            if losses is not None:
                losses.append((mask_loss.item(), class_loss.item()))
            progress.set_description(
                f"epoch {epoch + 1}/{epochs}  mask {mask_loss.item():.3f}  "
                f"class {class_loss.item():.3f}"
            )
    return model.eval()


def _epoch(
    data: Dataset, size: Size, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    for batch in batches(data, size, batch_size):
        yield _to_torch(batch, data)


def _to_torch(batch: Batch, data: Dataset) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image = torch.from_numpy(batch.image).permute(0, 3, 1, 2).float() / 255
    is_real = torch.from_numpy(data.table.is_real[batch.position].astype(np.float32))
    return image, torch.from_numpy(batch.mask).long(), is_real


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_torch",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", type=Path, help=".pth file to write")
    parser.add_argument("--data", default=EMBEDDED, help="data set, as for train.eval")
    parser.add_argument("--base-width", type=int, default=8, help="channels of the first level")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the data")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of Adam")
    parser.add_argument("--batch-size", type=int, default=32, help="frames a step")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    args = parser.parse_args(argv)
    config = UNetConfig(base_width=args.base_width, image_size=args.size)
    start = time.perf_counter()
    model = train(
        config,
        open_dataset(args.data, "train"),
        epochs=args.epochs,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    write(dict(model.state_dict()), args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
