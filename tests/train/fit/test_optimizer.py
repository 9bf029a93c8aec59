"""Optimizers against PyTorch's, learning rates against their formulas."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tests.tolerances import ELEMENT, assert_close
from train.fit.config import Recipe
from train.fit.optimizer import Plateau, learning_rate, make_optimizer, set_plateau

STEPS = 12
apply: Any = optax.apply_updates


def follow(recipe: Recipe, optimizer: torch.optim.Optimizer, values: list[torch.Tensor]) -> None:
    """Gives both the same gradients and compares the weights after each step."""
    rng = np.random.default_rng(0)
    ours = make_optimizer(recipe, learning_rate(recipe, STEPS, 4))
    weights: Any = {"outc": {str(i): value.numpy().copy() for i, value in enumerate(values)}}
    state = ours.init(weights)
    for _ in range(STEPS):
        grads = [rng.normal(size=value.shape).astype(np.float32) for value in values]
        for value, grad in zip(values, grads, strict=True):
            value.grad = torch.from_numpy(grad.copy())
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(values, recipe.clip_norm)
        optimizer.step()
        tree = {"outc": {str(i): grad for i, grad in enumerate(grads)}}
        updates, state = ours.update(tree, state, weights)
        weights = apply(weights, updates)
        for i, value in enumerate(values):
            assert_close(weights["outc"][str(i)], value.detach(), ELEMENT)


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop"])
def test_follows_pytorch(name: str, clip_norm: float | None) -> None:
    torch.manual_seed(0)
    values = [torch.randn(3, 4), torch.randn(5)]
    kinds: dict[str, Any] = {  # AdamW's default decay is ours
        "adam": (torch.optim.Adam, {"weight_decay": 0.3}),
        "adamw": (torch.optim.AdamW, {}),
        "rmsprop": (torch.optim.RMSprop, {"weight_decay": 0.3, "momentum": 0.9}),
    }
    kind, more = kinds[name]
    decay = more.get("weight_decay")
    recipe = Recipe(optimizer=name, learning_rate=0.01, weight_decay=decay, clip_norm=clip_norm)
    follow(recipe, kind(values, 0.01, **more), values)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("peak", [1e-2, 1e-5])
def test_plateau_decides_as_pytorch(mode: Any, peak: float) -> None:
    """Over figures that rise by more and by less than counts, stand still, and fall."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.choice([0.0, 1e-6, 1e-2, -1e-2, 3e-5], 200)) + 0.5
    optimizer = torch.optim.RMSprop([torch.zeros(1, requires_grad=True)], peak)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, patience=2)
    recipe = Recipe(learning_rate=peak, schedule="plateau")
    plateau, found, expected = Plateau(), [], []
    for value in values:
        theirs.step(value)
        plateau = plateau.after(float(value), recipe, higher_is_better=mode == "max")
        expected.append(optimizer.param_groups[0]["lr"])
        found.append(peak * plateau.factor)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(set(expected)) > 2
    assert expected[-1] == pytest.approx(1e-8, rel=0.2)  # lower it does not go


def test_plateau_lowers_every_update() -> None:
    recipe = Recipe(optimizer="rmsprop", schedule="plateau", learning_rate=0.1)
    ours = make_optimizer(recipe, learning_rate(recipe, STEPS, 4))
    weights: Any = {"outc": {"w": np.ones(3, np.float32)}}
    grads = jax.tree.map(np.ones_like, weights)
    state = ours.init(weights)
    whole: Any = ours.update(grads, state, weights)[0]
    lower: Any = ours.update(grads, set_plateau(state, jnp.float32(0.01)), weights)[0]
    assert_close(lower["outc"]["w"], 0.01 * whole["outc"]["w"], ELEMENT)


def test_published_weight_decay_is_the_default() -> None:
    torch.manual_seed(0)
    values = [1e6 * torch.randn(3, 4)]
    follow(Recipe(), torch.optim.Adam(values, 1e-5, weight_decay=1e-8), values)


def test_frozen_encoder_stays() -> None:
    recipe = Recipe(freeze_encoder=True, learning_rate=1.0, optimizer="adamw")
    ours = make_optimizer(recipe, learning_rate(recipe, STEPS, 4))
    weights: Any = {name: {"w": np.ones(2)} for name in ("inc", "down1", "up1", "classifier")}
    grads = jax.tree.map(np.ones_like, weights)
    updates: Any = ours.update(grads, ours.init(weights), weights)[0]
    changed = {name for name, tree in updates.items() if np.any(tree["w"])}
    assert changed == {"up1", "classifier"}


def rates(recipe: Recipe, steps: int) -> list[float]:
    schedule = learning_rate(recipe, steps, 5)
    return [float(np.asarray(schedule(step))) for step in range(steps)]


def test_schedules() -> None:
    recipe = Recipe(learning_rate=0.1, decay_epochs=2, decay_factor=0.5)
    assert rates(recipe, 3) == pytest.approx([0.1] * 3)
    cosine = [0.05 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    found = rates(dataclasses.replace(recipe, schedule="cosine"), 20)
    assert found == pytest.approx(cosine, rel=ELEMENT, abs=1e-8)
    falling = [0.1 * 0.5 ** (step // 10) for step in range(25)]
    found = rates(dataclasses.replace(recipe, schedule="step"), 25)
    assert found == pytest.approx(falling, rel=ELEMENT)


def test_warm_up_rises_to_the_peak() -> None:
    found = rates(Recipe(learning_rate=0.1, warmup_steps=5, schedule="cosine"), 25)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1], rel=ELEMENT)
    assert found[5] == pytest.approx(0.1, rel=ELEMENT)
    assert found[-1] < 0.002
    assert rates(Recipe(learning_rate=0.1, warmup_steps=1), 3) == pytest.approx([0.1] * 3)
