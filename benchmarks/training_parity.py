"""Follows PyTorch's training: both take the same steps from the same weights on the same batches.

In float64 the two stay together to rounding, which shows that the algorithm is the same. In
float32 rounding grows from step to step, as it does between PyTorch and itself on one thread;
the truth that both are held against is PyTorch in float64. (A convolution's bias ahead of a
BatchNorm has no true gradient: what is left is rounding, which Adam turns into steps of the
learning rate. That changes no output, but the running mean moves along.)
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F
from tqdm import tqdm

from convert import remap
from convert.reference import ReferenceUNet
from flax_unet import UNetConfig, checkpoint
from flax_unet.checkpoint import Tree, flat
from flax_unet.errors import command
from flax_unet.files import staged_file
from train import parallel, snapshot
from train.config import Augmentation, Recipe
from train.data.dataset import EMBEDDED, open_dataset
from train.data.training import Stream
from train.losses import Objective
from train.optimizer import make_optimizer
from train.step import first_state, make_step, split, zero_totals

WEIGHT_DECAY = 1e-8
_NUMBERS = {"float32": torch.float32, "float64": torch.float64}


class Course(NamedTuple):
    """What N steps of training gave."""

    first: Tree  # parameters and statistics before, as `flax_unet.checkpoint` has them
    losses: np.ndarray  # (N, 2) float64: of masks, of classes
    weights: Tree  # the same at the end


def random_batches(steps: int, size: int, batch_size: int, seed: int) -> list[dict[str, Any]]:
    """Noise with a brighter square where MANIPULATED: something that can be learnt."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(steps):
        image = rng.integers(0, 200, (batch_size, size, size, 3), np.uint8)
        mask = np.zeros((batch_size, size, size), np.uint8)
        is_real = (np.arange(batch_size) % 2).astype(np.float32)
        for i in np.flatnonzero(is_real == 0):
            top, left = rng.integers(0, size // 2, 2)
            mask[i, top : top + size // 2, left : left + size // 2] = 1
        batches.append({"image": image + 40 * mask[..., None], "mask": mask, "is_real": is_real})
    return batches


def embedded_batches(steps: int, size: int, batch_size: int, seed: int) -> list[dict[str, Any]]:
    """What `train.fit` trains on by default, in its order."""
    data = open_dataset(EMBEDDED, "train")
    stream = Stream(data, batch_size, seed)
    return [
        {
            "image": batch.image,
            "mask": batch.mask,
            "is_real": data.table.is_real[batch.position].astype(np.float32),
        }
        for batch in stream.batches(size, Augmentation(), first=0, last=steps)
    ]


def train_torch(
    config: UNetConfig, batches: list[dict[str, Any]], learning_rate: float, dtype: str, seed: int
) -> Course:
    """PyTorch's training, from weights that are drawn from `seed`."""
    torch.manual_seed(seed)
    model = ReferenceUNet(config).to(_NUMBERS[dtype])
    first = _as_tree(model, config)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=WEIGHT_DECAY)
    losses = []
    for batch in tqdm(batches, unit="step", desc="PyTorch"):
        image = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).to(_NUMBERS[dtype]) / 255
        mask_logits, real_logit = model(image)
        mask_loss = F.cross_entropy(mask_logits, torch.from_numpy(batch["mask"]).long())
        is_real = torch.from_numpy(batch["is_real"]).to(_NUMBERS[dtype])
        class_loss = F.binary_cross_entropy_with_logits(real_logit, is_real)
        optimizer.zero_grad()
        (0.5 * mask_loss + 0.5 * class_loss).backward()
        optimizer.step()
        losses.append((mask_loss.item(), class_loss.item()))
    return Course(first, np.array(losses), _as_tree(model, config))


def train_flax(
    config: UNetConfig,
    weights: Tree,
    batches: list[dict[str, Any]],
    learning_rate: float,
    dtype: str,
) -> Course:
    """The training of `train.fit` from `weights`; float64 needs JAX's 64-bit mode."""
    devices = jax.local_devices()[:1]
    optimizer = make_optimizer(Recipe(learning_rate=learning_rate), lambda _: learning_rate)
    graphdef, params, statistics = split(checkpoint.build(config, weights, dtype=jnp.dtype(dtype)))
    step = parallel.map_step(make_step(graphdef, optimizer, Objective()), devices)
    state = parallel.replicate(first_state(params, statistics, optimizer), devices)
    losses = []
    for batch in tqdm(batches, unit="step", desc="Flax"):
        count = len(batch["is_real"])
        known = {"labelled": np.ones(count, bool), "stop": np.zeros(count, np.int32)}
        totals = parallel.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, parallel.spread(batch | known, devices))
        losses.append((float(totals.mask_loss), float(totals.class_loss)))
    return Course(weights, np.array(losses), snapshot.for_use(parallel.fetch(state)))


def compare(found: Course, expected: Course) -> dict[str, Any]:
    """The largest differences: of losses relatively, of weights and statistics absolutely."""
    ours, theirs = flat(found.weights), flat(expected.weights)
    relative = np.abs(found.losses - expected.losses) / np.abs(expected.losses)
    return {
        "losses": float(relative.max()),
        "weights": max(float(np.abs(ours[path] - theirs[path]).max()) for path in theirs),
        "losses_by_step": relative.max(1).tolist(),
    }


def write_curves(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """The differences of losses over the steps."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, result in results.items():
        axes.semilogy(
            range(1, len(result["losses_by_step"]) + 1), result["losses_by_step"], label=name
        )
    axes.set(xlabel="step", ylabel="largest relative difference of a loss")
    axes.grid(alpha=0.3)
    axes.legend()
    with staged_file(path) as stage:
        figure.savefig(stage, format="png", dpi=120)


def _as_tree(model: ReferenceUNet, config: UNetConfig) -> Tree:
    tensors = {key: tensor.detach().numpy().copy() for key, tensor in model.state_dict().items()}
    dtype = tensors["inc.double_conv.0.weight"].dtype.type
    return remap.to_flax({rule.source: rule for rule in remap.expand(config)}, tensors, dtype)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_parity",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=50, help="of Adam")
    parser.add_argument("--base-width", type=int, default=8, help="64 is the full size")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures a step")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of Adam")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="PNG file to write")
    args = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    config = UNetConfig(base_width=args.base_width, image_size=args.size)
    batches = embedded_batches(args.steps, args.size, args.batch_size, args.seed)
    rate, seed, threads = args.learning_rate, args.seed, torch.get_num_threads()
    torch64 = train_torch(config, batches, rate, "float64", seed)
    torch32 = train_torch(config, batches, rate, "float32", seed)
    torch.set_num_threads(1)
    one_thread = train_torch(config, batches, rate, "float32", seed)
    torch.set_num_threads(threads)
    flax64 = train_flax(config, torch64.first, batches, rate, "float64")
    flax32 = train_flax(config, torch32.first, batches, rate, "float32")
    results = {
        "Flax float64, PyTorch float64": compare(flax64, torch64),
        "Flax float32, PyTorch float32": compare(flax32, torch32),
        "Flax float32, PyTorch float64": compare(flax32, torch64),
        "PyTorch float32, PyTorch float64": compare(torch32, torch64),
        f"PyTorch float32 on 1 thread, on {threads}": compare(one_thread, torch32),
    }
    print(
        "| compared | losses, relative | weights and statistics, absolute |\n| --- | ---: | ---: |"
    )
    for name, result in results.items():
        print(f"| {name} | {result['losses']:.1e} | {result['weights']:.1e} |")
    if args.curves is not None:
        write_curves(args.curves, results)


if __name__ == "__main__":
    main()
