"""Optimizers and learning rates, computed as PyTorch does."""

import dataclasses
from typing import Any, Self

import jax
import optax

from train.fit.config import Recipe

WEIGHT_DECAY = {"adam": 1e-8, "rmsprop": 1e-8, "adamw": 1e-2}  # published twice; PyTorch's default
_MOMENTUM = 0.9  # of RMSprop, as published
_ENCODER = ("inc", "down")
_PATIENCE = 2  # evaluations without gain before the learning rate falls
_THRESHOLD = 1e-4  # smallest relative gain, PyTorch's
_LEAST_FALL = 1e-8  # smallest fall of the learning rate, PyTorch's
_FACTOR = "step_size"  # the parameter of `optax.scale`


def learning_rate(recipe: Recipe, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of each step, counted from 0."""
    peak, warmup = recipe.learning_rate, recipe.warmup_steps
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "plateau": lambda: optax.constant_schedule(peak),  # `Plateau` lowers it
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


@dataclasses.dataclass(frozen=True)
class Plateau:
    """The state of PyTorch's `ReduceLROnPlateau` with the published patience of 2."""

    best: float | None = None  # of the metric
    bad: int = 0  # evaluations since `best`
    factor: float = 1.0  # of the learning rate

    def after(self, value: float, recipe: Recipe, *, higher_is_better: bool) -> Self:
        """The state after another evaluation, with `value` of the metric."""
        if self.best is None or (
            value > self.best * (1 + _THRESHOLD)
            if higher_is_better
            else value < self.best * (1 - _THRESHOLD)
        ):
            return dataclasses.replace(self, best=value, bad=0)
        if self.bad < _PATIENCE:
            return dataclasses.replace(self, bad=self.bad + 1)
        lower = self.factor * recipe.decay_factor
        falls = recipe.learning_rate * (self.factor - lower) > _LEAST_FALL
        return dataclasses.replace(self, bad=0, factor=lower if falls else self.factor)


def set_plateau(state: optax.OptState, factor: jax.Array) -> optax.OptState:
    """The state of an optimizer of the schedule `plateau` with another factor ().

    The factor has the dtype of the weights and is on the devices of the state.
    """
    return optax.tree.set(state, **{_FACTOR: factor})


def make_optimizer(recipe: Recipe, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of a recipe, for the gradient of the mean loss over the batch."""
    decay = recipe.weight_decay
    decay = WEIGHT_DECAY[recipe.optimizer] if decay is None else decay
    in_gradient = optax.add_decayed_weights(decay)  # as in PyTorch's Adam and RMSprop
    parts: list[optax.GradientTransformation] = {
        "adam": [in_gradient, optax.adam(schedule)],
        "adamw": [optax.adamw(schedule, weight_decay=decay)],
        "rmsprop": [
            in_gradient,
            optax.scale_by_rms(decay=0.99, eps=1e-8, eps_in_sqrt=False),
            optax.trace(_MOMENTUM),  # in PyTorch's, the momentum comes before the learning rate
            optax.scale_by_learning_rate(schedule),
        ],
    }[recipe.optimizer]
    if recipe.schedule == "plateau":
        parts.append(optax.inject_hyperparams(optax.scale)(**{_FACTOR: 1.0}))
    if recipe.clip_norm is not None:
        parts.insert(0, optax.clip_by_global_norm(recipe.clip_norm))
    chain = optax.chain(*parts)
    if not recipe.freeze_encoder:
        return chain

    def labels(params: dict[str, Any]) -> dict[str, str]:  # by layer
        return {name: "frozen" if name.startswith(_ENCODER) else "trained" for name in params}

    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)
