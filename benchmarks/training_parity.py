"""Follows PyTorch's training: both take the same steps from the same weights on the same batches.

In float64 the two stay together to rounding, which shows that the algorithm is the same. In
float32 rounding grows from step to step, as it does between PyTorch and itself on one thread;
the truth that both are held against is PyTorch in float64. (A convolution's bias ahead of a
BatchNorm has no true gradient: what is left is rounding, which Adam turns into steps of the
learning rate. That changes no output, but the running mean moves along.)
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.contenders import WEIGHT_DECAY
from benchmarks.machine import FILE, benchmark, markdown, write_curves
from benchmarks.subject import training
from benchmarks.train_torch import EPSILON, as_tree, frames_of, image_of, optimise
from convert.torch_unet import ReferenceUNet
from flax_unet import UNetConfig
from flax_unet.checkpoint import store
from flax_unet.checkpoint.store import Tree, flat
from flax_unet.nn.config import Size
from flax_unet.nn.inference import compiled
from flax_unet.utils.arguments import image_size
from train import distributed
from train.data.augment import Augmentation
from train.data.dataset import EMBEDDED, open_dataset
from train.data.sampler import Sampler
from train.eval.segmentation import PixelCounts, dice
from train.fit.config import RECIPES, FitConfig
from train.fit.losses import objective_of
from train.fit.optimizer import Plateau, set_plateau
from train.fit.step import zero_totals

_NUMBERS = {"float32": torch.float32, "float64": torch.float64}
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


def batches_of(
    data: str, part: str, steps: int, *, size: Size, batch_size: int, seed: int
) -> Batches:
    """Batches of a split of a data set, in the order of `train.fit`."""
    frames = open_dataset(data, part)
    stream = Sampler(frames, batch_size, seed).batches(size, Augmentation(), first=0, last=steps)
    return [frames_of(batch, frames) for batch in stream]


def train_torch(lesson: Lesson, dtype: str, seed: int) -> Course:
    """PyTorch's training; weights are drawn from `seed`."""
    torch.manual_seed(seed)
    model = ReferenceUNet(lesson.network).to(_NUMBERS[dtype])
    first = as_tree(model)
    settings: Any = {"lr": lesson.learning_rate, "weight_decay": WEIGHT_DECAY}
    if lesson.recipe == "segmentation":
        optimizer = torch.optim.RMSprop(model.parameters(), **settings, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), **settings)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=2)
    losses, rates = [], []
    steps = optimise(model, optimizer, lesson.batches, lesson.recipe)
    for number, found in enumerate(steps, start=1):
        losses.append(found)
        rates.append(optimizer.param_groups[0]["lr"])
        if lesson.recipe == "segmentation" and number % _CHECK_EVERY == 0:
            plateau.step(_torch_dice(model, lesson.held_out, dtype))
    return Course(first, np.array(losses), np.array(rates), as_tree(model))


def _torch_dice(model: ReferenceUNet, batches: Batches, dtype: str) -> float:
    """The mean over pictures of the Dice of MANIPULATED pixels, in eval mode."""
    model.eval()
    found = []
    with torch.no_grad():
        for batch in batches:
            mask_logits, _ = model(image_of(batch, _NUMBERS[dtype]))
            predicted, mask = mask_logits.argmax(1), torch.from_numpy(batch["mask"])
            both = 2 * (predicted * mask).sum((1, 2)).double()
            either = (predicted.sum((1, 2)) + mask.sum((1, 2))).double()
            found.append((both + EPSILON) / (either + EPSILON))
    model.train()
    return torch.cat(found).mean().item()


def train_flax(lesson: Lesson, weights: Tree, dtype: str) -> Course:
    """The training of `train.fit` from `weights`; float64 needs JAX's 64-bit mode."""
    devices = jax.local_devices()[:1]
    chosen = {"learning_rate": lesson.learning_rate, "recipe": lesson.recipe, "data": EMBEDDED}
    recipe = FitConfig.from_options(chosen).recipe
    model = store.build(lesson.network, weights, dtype=jnp.dtype(dtype))
    step, (state, _) = training(model, devices, recipe, objective_of(lesson.network, recipe))
    state = distributed.replicate(state, devices)
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


def comparisons(lessons: dict[str, Lesson], seed: int) -> Iterator[tuple[str, Course, Course]]:
    """Two trainings at a time and what they are, by recipe in float64, then in float32."""
    for recipe, course in lessons.items():
        expected = train_torch(course, "float64", seed)
        found = train_flax(course, expected.first, "float64")
        yield f"{recipe}: Flax float64, PyTorch float64", found, expected
    course, threads = lessons["combined"], torch.get_num_threads()
    torch64, torch32 = (train_torch(course, dtype, seed) for dtype in ("float64", "float32"))
    torch.set_num_threads(1)
    one_thread = train_torch(course, "float32", seed)
    torch.set_num_threads(threads)
    flax32 = train_flax(course, torch32.first, "float32")
    yield "combined: Flax float32, PyTorch float32", flax32, torch32
    yield "combined: Flax float32, PyTorch float64", flax32, torch64
    yield "combined: PyTorch float32, PyTorch float64", torch32, torch64
    yield f"combined: PyTorch float32 on 1 thread, on {threads}", one_thread, torch32


@benchmark(
    data=(EMBEDDED, "data set, as for train.eval; its split train is trained on"),
    steps=(50, "of each training"),
    base_width=(8, "channels of the first level; the full size is 64"),
    size=("64", "height x width in pixels, or one number", {"type": image_size}),
    batch_size=(8, "pictures a step"),
    learning_rate=(1e-4, "at first"),
    seed=(0, "of weights and order"),
    curves=(None, "PNG file to write", FILE),
)
def main(
    *,
    data: str,
    steps: int,
    base_width: int,
    learning_rate: float,
    curves: Path | None,
    **shape: Any,
) -> None:
    """Runs the command line."""
    jax.config.update("jax_enable_x64", True)
    batches = batches_of(data, "train", steps, **shape)
    held_out = batches_of(data, "validation", 1, **shape)
    network = UNetConfig(base_width=base_width, image_size=shape["size"])
    lessons = {
        recipe: lesson(recipe, network, learning_rate, batches, held_out) for recipe in RECIPES
    }
    apart_by_step = {}
    header = ["compared", "losses, relative", "weights and statistics, absolute"]
    print("\n".join(markdown([*header, "falls of the learning rate"], [])))
    for name, found, expected in comparisons(lessons, shape["seed"]):
        apart = compare(found, expected)
        falls = f"{apart['falls']} in both" if apart["rates"] < 1e-12 else "others"
        cells = (name, f"{apart['losses']:.1e}", f"{apart['weights']:.1e}", falls)
        print(f"| {' | '.join(cells)} |", flush=True)
        apart_by_step[name] = [apart["losses_by_step"]]
    if curves is not None:
        write_curves(curves, {"largest relative difference of a loss": apart_by_step})


if __name__ == "__main__":
    main()
