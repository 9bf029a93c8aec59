"""Follows PyTorch's training: both take the same steps from the same weights on the same batches.

In float64 the two stay together to rounding, which shows that the algorithm is the same. In
float32 rounding grows from step to step, as it does between PyTorch and itself on one thread;
the truth that both are held against is PyTorch in float64. (A convolution's bias ahead of a
BatchNorm has no true gradient: what is left is rounding, which Adam turns into steps of the
learning rate. That changes no output, but the running mean moves along.)
"""

import argparse
import dataclasses
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

from benchmarks.contenders import WEIGHT_DECAY
from convert import mapping
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.checkpoint import store
from flax_unet.checkpoint.store import Tree, flat
from flax_unet.nn.config import Size
from flax_unet.nn.inference import compiled
from flax_unet.utils.arguments import image_size
from flax_unet.utils.errors import command
from flax_unet.utils.files import staged_file
from train import distributed
from train.data.dataset import EMBEDDED, open_dataset
from train.data.sampler import Sampler
from train.eval.segmentation import PixelCounts, dice
from train.fit.config import RECIPES, Augmentation, FitConfig
from train.fit.losses import objective_of
from train.fit.optimizer import Plateau, make_optimizer, set_plateau
from train.fit.step import first_state, make_step, split, zero_totals

_NUMBERS = {"float32": torch.float32, "float64": torch.float64}
_EPSILON = 1e-6  # of Dice
_CHECK_EVERY = 2  # steps between evaluations for the plateau

Batches = list[dict[str, Any]]


class Course(NamedTuple):
    """What N steps of training gave."""

    first: Tree  # parameters and statistics before, as `flax_unet.checkpoint.store` has them
    losses: np.ndarray  # (N, 2) float64: of masks, of classes; 0 for a head that there is not
    rates: np.ndarray  # (N,) float64: the learning rate of each step
    weights: Tree  # like `first`, at the end


class Lesson(NamedTuple):
    """What both train: a published recipe, its network, and on what."""

    recipe: str  # a name of train.fit.config.RECIPES
    network: UNetConfig  # the heads that the recipe trains
    learning_rate: float
    batches: Batches  # one a step
    held_out: Batches  # what the plateau's Dice is of


def lesson(
    recipe: str, network: UNetConfig, learning_rate: float, batches: Batches, held_out: Batches
) -> Lesson:
    """The lesson of a recipe, which trains one or both heads of `network`."""
    if recipe == "segmentation":
        network = dataclasses.replace(network, classifier_widths=None)
    if recipe == "classification":
        network = dataclasses.replace(network, decoder_levels=0)
    return Lesson(recipe, network, learning_rate, batches, held_out)


def random_batches(steps: int, size: int, batch_size: int, seed: int) -> Batches:
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


def embedded_batches(part: str, steps: int, size: Size, batch_size: int, seed: int) -> Batches:
    """Batches of a split of what `train.fit` trains on by default, in its order."""
    data = open_dataset(EMBEDDED, part)
    stream = Sampler(data, batch_size, seed)
    return [
        {
            "image": batch.image,
            "mask": batch.mask,
            "is_real": data.table.is_real[batch.position].astype(np.float32),
        }
        for batch in stream.batches(size, Augmentation(), first=0, last=steps)
    ]


def train_torch(lesson: Lesson, dtype: str, seed: int) -> Course:
    """PyTorch's training, written from the published facts; weights are drawn from `seed`."""
    torch.manual_seed(seed)
    model = ReferenceUNet(lesson.network).to(_NUMBERS[dtype])
    first = _as_tree(model, lesson.network)
    plateau = None
    options: Any = {"lr": lesson.learning_rate, "weight_decay": WEIGHT_DECAY}
    if lesson.recipe == "segmentation":
        optimizer = torch.optim.RMSprop(model.parameters(), **options, momentum=0.9)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=2)
    else:
        optimizer = torch.optim.Adam(model.parameters(), **options)
    losses, rates = [], []
    for number, batch in enumerate(tqdm(lesson.batches, unit="step", desc="PyTorch"), start=1):
        mask_logits, real_logit = model(_image(batch, dtype))
        mask_loss = class_loss = torch.zeros((), dtype=_NUMBERS[dtype])
        if mask_logits is not None:
            mask = torch.from_numpy(batch["mask"]).long()
            mask_loss = F.cross_entropy(mask_logits, mask)
            if lesson.recipe == "segmentation":
                mask_loss = mask_loss + dice_loss(mask_logits, mask)
        if real_logit is not None:
            is_real = torch.from_numpy(batch["is_real"]).to(_NUMBERS[dtype])
            class_loss = F.binary_cross_entropy(torch.sigmoid(real_logit), is_real)
        weight = 0.5 if lesson.recipe == "combined" else 1.0
        optimizer.zero_grad()
        (weight * mask_loss + weight * class_loss).backward()
        losses.append((mask_loss.item(), class_loss.item()))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if plateau is not None and number % _CHECK_EVERY == 0:
            plateau.step(_torch_dice(model, lesson.held_out, dtype))
    return Course(first, np.array(losses), np.array(rates), _as_tree(model, lesson.network))


def _image(batch: dict[str, Any], dtype: str) -> torch.Tensor:
    return torch.from_numpy(batch["image"]).permute(0, 3, 1, 2).to(_NUMBERS[dtype]) / 255


def dice_loss(mask_logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 less the mean over the classes of Dice, each sum over all pixels of the batch.

    Args:
        mask_logits: (B, 2, H, W).
        mask: (B, H, W) int64, 1 = MANIPULATED.
    """
    p = mask_logits.softmax(1)
    of_classes = []
    for k in range(2):
        t = (mask == k).to(p.dtype)
        both, either = (p[:, k] * t).sum(), p[:, k].sum() + t.sum()
        of_classes.append((2 * both + _EPSILON) / (either + _EPSILON))
    return 1 - torch.stack(of_classes).mean()


def _torch_dice(model: ReferenceUNet, batches: Batches, dtype: str) -> float:
    """The mean over pictures of the Dice of MANIPULATED pixels, in eval mode."""
    model.eval()
    found = []
    with torch.no_grad():
        for batch in batches:
            mask_logits, _ = model(_image(batch, dtype))
            predicted, mask = mask_logits.argmax(1), torch.from_numpy(batch["mask"])
            both = 2 * (predicted * mask).sum((1, 2)).double()
            either = (predicted.sum((1, 2)) + mask.sum((1, 2))).double()
            found.append((both + _EPSILON) / (either + _EPSILON))
    model.train()
    return torch.cat(found).mean().item()


def train_flax(lesson: Lesson, weights: Tree, dtype: str) -> Course:
    """The training of `train.fit` from `weights`; float64 needs JAX's 64-bit mode."""
    devices = jax.local_devices()[:1]
    options = {"learning_rate": lesson.learning_rate, "recipe": lesson.recipe, "data": EMBEDDED}
    recipe = FitConfig.from_options(options).recipe
    optimizer = make_optimizer(recipe, lambda _: lesson.learning_rate)
    model = store.build(lesson.network, weights, dtype=jnp.dtype(dtype))
    graphdef, params, statistics = split(model)
    objective = objective_of(lesson.network, recipe)
    step = distributed.map_step(make_step(graphdef, optimizer, objective), devices)
    state = distributed.replicate(first_state(params, statistics, optimizer), devices)
    plateau = Plateau()
    losses, rates = [], []
    for number, batch in enumerate(tqdm(lesson.batches, unit="step", desc="Flax"), start=1):
        count = len(batch["is_real"])
        known = {"labelled": np.ones(count, bool), "stop": np.zeros(count, np.int32)}
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, distributed.shard_batch(batch | known, devices))
        losses.append((float(totals.mask_loss), float(totals.class_loss)))
        rates.append(lesson.learning_rate * plateau.factor)
        if recipe.schedule == "plateau" and number % _CHECK_EVERY == 0:
            now = distributed.fetch(state).for_use()
            value = _flax_dice(lesson, now, dtype)
            plateau = plateau.after(value, recipe, higher_is_better=True)
            factor = distributed.replicate(np.asarray(plateau.factor, dtype), devices)
            state = state._replace(optimizer=set_plateau(state.optimizer, factor))
    end = distributed.fetch(state).for_use()
    return Course(weights, np.array(losses), np.array(rates), end)


def _flax_dice(lesson: Lesson, weights: Tree, dtype: str) -> float:
    """The same figure as `_torch_dice`, as `train.eval` computes it."""
    forward = compiled(store.build(lesson.network, weights, dtype=jnp.dtype(dtype)))
    found = []
    for batch in lesson.held_out:
        marked = np.asarray(forward(batch["image"].astype(dtype) / 255).is_manipulated)
        wanted = batch["mask"] == 1
        pixels = (marked & wanted, marked & ~wanted, ~marked & wanted, ~marked & ~wanted)
        found.append(dice(PixelCounts(*(each.sum((1, 2)) for each in pixels))))
    return float(np.concatenate(found).mean())


def compare(found: Course, expected: Course) -> dict[str, Any]:
    """The largest differences, and how often the learning rate fell.

    Those of losses and of learning rates are relative, those of weights and statistics absolute.
    """
    ours, theirs = flat(found.weights), flat(expected.weights)
    apart, size = np.abs(found.losses - expected.losses), np.abs(expected.losses)
    relative = np.divide(apart, size, out=apart.copy(), where=size > 0)
    return {
        "losses": float(relative.max()),
        "weights": max(float(np.abs(ours[path] - theirs[path]).max()) for path in theirs),
        "rates": float(np.abs(found.rates / expected.rates - 1).max()),
        "falls": int(np.count_nonzero(np.diff(expected.rates))),
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
    return mapping.to_flax({rule.source: rule for rule in mapping.expand(config)}, tensors, dtype)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_parity",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=50, help="of each training")
    parser.add_argument("--base-width", type=int, default=8, help="64 is the full size")
    parser.add_argument(
        "--size", type=image_size, default="64", help="height x width in pixels, or one number"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="pictures a step")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="at first")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="PNG file to write")
    args = parser.parse_args(argv)
    jax.config.update("jax_enable_x64", True)
    seed, shape = args.seed, (args.size, args.batch_size, args.seed)
    batches = embedded_batches("train", args.steps, *shape)
    held_out = embedded_batches("validation", 1, *shape)
    network = UNetConfig(base_width=args.base_width, image_size=args.size)
    lessons = {
        recipe: lesson(recipe, network, args.learning_rate, batches, held_out) for recipe in RECIPES
    }
    results: dict[str, dict[str, Any]] = {}
    print(
        "| compared | losses, relative | weights and statistics, absolute | falls of the learning "
        "rate |\n| --- | ---: | ---: | ---: |"
    )
    for recipe, course in lessons.items():
        expected = train_torch(course, "float64", seed)
        found = train_flax(course, expected.first, "float64")
        _print(results, f"{recipe}: Flax float64, PyTorch float64", found, expected)
    course, threads = lessons["combined"], torch.get_num_threads()
    torch64, torch32 = (train_torch(course, dtype, seed) for dtype in ("float64", "float32"))
    torch.set_num_threads(1)
    one_thread = train_torch(course, "float32", seed)
    torch.set_num_threads(threads)
    flax32 = train_flax(course, torch32.first, "float32")
    for name, found, expected in (
        ("Flax float32, PyTorch float32", flax32, torch32),
        ("Flax float32, PyTorch float64", flax32, torch64),
        ("PyTorch float32, PyTorch float64", torch32, torch64),
        (f"PyTorch float32 on 1 thread, on {threads}", one_thread, torch32),
    ):
        _print(results, f"combined: {name}", found, expected)
    if args.curves is not None:
        write_curves(args.curves, results)


def _print(results: dict[str, dict[str, Any]], name: str, found: Course, expected: Course) -> None:
    """Compares two trainings, keeps the result under a name, and prints its line."""
    result = results[name] = compare(found, expected)
    falls = f"{result['falls']} in both" if result["rates"] < 1e-12 else "others"
    print(f"| {name} | {result['losses']:.1e} | {result['weights']:.1e} | {falls} |", flush=True)


if __name__ == "__main__":
    main()
