"""Optimizers and learning rates, as PyTorch computes them."""

from typing import Any

import jax
import optax

from train.config import Recipe

WEIGHT_DECAY = {"adam": 1e-8, "adamw": 1e-2}  # published; PyTorch's default
_ENCODER = ("inc", "down")


def learning_rate(recipe: Recipe, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of each step, counted from 0."""
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1)),
        "step": lambda: optax.exponential_decay(
            peak, recipe.decay_epochs * steps_per_epoch, recipe.decay_factor, staircase=True
        ),
    }[recipe.schedule]()
    if not warmup:
        return after
    # The first step's rate is above 0: a step of length 0 would be wasted.
    rising = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, after], [warmup])


def make_optimizer(recipe: Recipe, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of a recipe; its input is the gradient averaged over the batch."""
    decay = recipe.weight_decay
    decay = WEIGHT_DECAY[recipe.optimizer] if decay is None else decay
    if recipe.optimizer == "adamw":
        parts: list[optax.GradientTransformation] = [optax.adamw(schedule, weight_decay=decay)]
    else:  # PyTorch's Adam: weight decay is a part of the gradient
        parts = [optax.add_decayed_weights(decay), optax.adam(schedule)]
    if recipe.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(recipe.clip_norm))
    chain = optax.chain(*parts)
    if not recipe.freeze_encoder:
        return chain
    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, _labels)


def _labels(weights: dict[str, Any]) -> dict[str, Any]:
    """Which weights are trained, by the name of their layer."""
    kinds = {name: "frozen" if name.startswith(_ENCODER) else "trained" for name in weights}
    return {name: jax.tree.map(lambda _, kind=kinds[name]: kind, weights[name]) for name in kinds}
