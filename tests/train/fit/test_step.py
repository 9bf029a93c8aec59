"""A step of training against PyTorch's, and on several devices against one."""

import dataclasses
import functools
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch.nn import functional as F

from benchmarks.train_torch import dice_loss
from benchmarks.training_parity import (
    batches_of,
    compare,
    lesson,
    random_batches,
    train_flax,
    train_torch,
)
from flax_unet import PUBLISHED, UNet, UNetConfig, UNetOutput
from flax_unet.nn import conv
from tests.tolerances import (
    DEVICES_32,
    DEVICES_64,
    ELEMENT,
    LOSS_64,
    STEPS_32,
    WEIGHTS_64,
    assert_close,
)
from train import distributed
from train.data.dataset import SELF_BLENDED
from train.fit import losses as ours
from train.fit.config import RECIPES
from train.fit.losses import Objective, cross_entropy, losses, mask_loss
from train.fit.step import first_state, make_step, split, zero_totals

SIZE = 16
SHALLOW = UNetConfig(base_width=4, levels=1, decoder_levels=1, image_size=SIZE)


@pytest.mark.parametrize("recipe", RECIPES)
def test_follows_pytorch_in_float64(recipe: str) -> None:
    batches = random_batches(50, SIZE, 8, seed=1)
    course = lesson(recipe, SHALLOW, 1e-4, batches, random_batches(1, SIZE, 8, seed=2))
    with jax.enable_x64(True):
        expected = train_torch(course, "float64", seed=1)
        found = train_flax(course, expected.first, "float64")
    apart = compare(found, expected)
    assert apart["losses"] <= LOSS_64
    assert apart["weights"] <= WEIGHTS_64
    assert apart["rates"] <= LOSS_64
    assert (apart["falls"] > 0) == (recipe == "segmentation")
    assert np.mean(expected.losses[-5:]) < np.mean(
        expected.losses[:5]
    )  # there was something to follow


def test_follows_pytorch_on_fresh_forgeries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 faces, each beside a forgery that is another one in the second epoch."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("train.data.synthetic.portraits.COUNT", 20)
    batches = batches_of(
        f"{SELF_BLENDED}:procedural", "train", 8, size=(SIZE, SIZE), batch_size=8, seed=1
    )
    for batch in batches:
        assert batch["is_real"].tolist() == [1, 0] * 4
        assert batch["mask"].any((1, 2)).tolist() == [False, True] * 4
    course = lesson("combined", SHALLOW, 1e-4, batches, [])
    with jax.enable_x64(True):
        expected = train_torch(course, "float64", seed=1)
        found = train_flax(course, expected.first, "float64")
    apart = compare(found, expected)
    assert apart["losses"] <= LOSS_64
    assert apart["weights"] <= WEIGHTS_64


@pytest.fixture
def as_wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gradients have the forms of wide networks on CPUs; nothing that was traced is shared."""
    jax.clear_caches()
    monkeypatch.setattr(conv, "_LEAST_PRODUCTS", 0)
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("as_wide")
def test_first_steps_follow_pytorch_in_float32() -> None:
    """Also with a level that is the classifier's alone."""
    config = dataclasses.replace(
        PUBLISHED["ynet-320"], base_width=2, levels=2, decoder_levels=1, image_size=32
    )
    batches = random_batches(3, 32, 4, seed=2)
    course = lesson("combined", config, 1e-4, batches, [])
    expected = train_torch(course, "float32", seed=2)
    found = train_flax(course, expected.first, "float32")
    assert compare(found, expected)["losses"] <= STEPS_32


def run_spread(devices: str, processes: int = 1) -> list[dict[str, Any]]:
    """What `tests.train.fit.spread` prints."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*listening.getsockname())
    command = [sys.executable, "-m", "tests.train.fit.spread", devices]
    several = [[address, str(processes), str(number)] for number in range(processes)]
    children = [
        subprocess.Popen(
            command + (place if processes > 1 else []),
            stdout=subprocess.PIPE,
            text=True,
        )
        for place in several
    ]
    printed = [child.communicate(timeout=300)[0] for child in children]
    assert all(child.returncode == 0 for child in children)
    lines = [line for text in printed for line in text.splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def test_number_of_devices_and_processes_does_not_matter() -> None:
    one_device, *several = run_spread("1,2,4")
    (processes,) = run_spread("2", processes=2)
    assert len(several) == 2
    for found in (*several, processes):
        assert_same_course(found, one_device)
    np.testing.assert_allclose(processes["float32"], one_device["float32"], atol=DEVICES_32, rtol=0)


def assert_same_course(found: dict[str, Any], one_device: dict[str, Any]) -> None:
    np.testing.assert_allclose(found["float64"], one_device["float64"], atol=DEVICES_64, rtol=0)
    for path, gradient in one_device["gradient"].items():
        np.testing.assert_allclose(
            found["gradient"][path], gradient, atol=DEVICES_64, rtol=0, err_msg=path
        )


def test_losses_are_pytorchs() -> None:
    rng = np.random.default_rng(0)
    mask_logits = 5 * rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    mask = rng.integers(0, 2, (3, 4, 5))
    real_logit = 5 * rng.normal(size=3).astype(np.float32)
    is_real = np.array([1, 0, 1], np.float32)
    for weights in ((1.0, 1.0), (0.5, 3.0)):
        expected = F.cross_entropy(
            torch.from_numpy(mask_logits).permute(0, 3, 1, 2),
            torch.from_numpy(mask),
            weight=torch.tensor(weights),
            reduction="none",
        ).mean((1, 2))
        found = mask_loss(jnp.asarray(mask_logits), jnp.asarray(mask), weights)
        assert_close(found, expected, ELEMENT)
        expected = F.binary_cross_entropy_with_logits(
            torch.from_numpy(real_logit),
            torch.from_numpy(is_real),
            weight=torch.tensor(weights)[torch.from_numpy(is_real).long()],
            reduction="none",
        )
        found = cross_entropy(jnp.asarray(real_logit), jnp.asarray(is_real), weights)
        assert_close(found, expected, ELEMENT)


def dice(mask_logits: np.ndarray, mask: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """The Dice loss of a batch that one device has."""
    mapped = jax.pmap(
        functools.partial(ours.dice_loss, axis_name="one"),
        axis_name="one",
        devices=jax.local_devices()[:1],
    )
    return np.asarray(mapped(mask_logits[None], mask[None], labelled[None]))[0]


def test_dice_loss_is_pytorchs() -> None:
    rng = np.random.default_rng(0)
    mask_logits = 5 * rng.normal(size=(4, 8, 5, 2)).astype(np.float32)
    mask = rng.integers(0, 2, (4, 8, 5))
    labelled = np.array([True, False, True, True])
    for of in (mask, np.zeros_like(mask), np.ones_like(mask)):
        in_torch = torch.from_numpy(mask_logits[labelled]).permute(0, 3, 1, 2)
        expected = dice_loss(in_torch, torch.from_numpy(of[labelled]))
        assert_close(dice(mask_logits, of, labelled), expected, ELEMENT)
    # Nothing predicted and nothing labelled of a class is a coefficient of 1; nor is a batch
    # without labels worth anything.
    sure = np.stack((np.full((4, 8, 5), 200.0), np.full((4, 8, 5), -200.0)), -1).astype(np.float32)
    assert_close(dice(sure, np.zeros_like(mask), labelled), np.zeros(()), ELEMENT)
    assert_close(dice(mask_logits, mask, np.zeros(4, bool)), np.zeros(()), ELEMENT)


def test_missing_heads_cost_nothing() -> None:
    batch = {"is_real": jnp.ones(2), "mask": jnp.zeros((2, 4, 4))}
    of_masks, of_classes = losses(UNetOutput(None, jnp.zeros(2)), batch, Objective())
    assert_close(of_masks, np.zeros(2), ELEMENT)
    assert_close(of_classes, np.full(2, np.log(2)), ELEMENT)


def first_step(weights_from: int = 0, **options: Any) -> tuple[Any, Any, Any]:
    """A step of length 1 against the gradient, on one device, and what it starts from."""
    devices = jax.local_devices()[:1]
    of_model = {key: options.pop(key) for key in ("freeze_encoder", "remat") if key in options}
    dtype = jnp.dtype(options.pop("dtype", "float32"))
    model = UNet(SHALLOW, dtype=dtype, rngs=nnx.Rngs(weights_from))
    graphdef, *state = split(model, **of_model)
    weights, statistics = jax.tree.map(lambda x: x.astype(dtype), state)
    optimizer = optax.sgd(1.0)
    step = distributed.map_step(make_step(graphdef, optimizer, Objective(), **options), devices)
    averaged = options.get("ema") is not None
    state = first_state(weights, statistics, optimizer, averaged=averaged)
    return step, *distributed.replicate((state, zero_totals()), devices)


def at_hand(batch: dict[str, Any]) -> Any:
    """The batch on one device, its masks known unless it says otherwise."""
    known = {"labelled": np.ones(len(batch["is_real"]), bool), "stop": np.zeros(8, np.int32)}
    return distributed.shard_batch(known | batch, jax.local_devices()[:1])


def take_step(batch: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    """State and totals after the first step."""
    step, state, totals = first_step(**options)
    state, totals, *_ = step(state, totals, at_hand(batch))
    return distributed.fetch(state), distributed.fetch(totals)


def test_pictures_without_a_mask_count_nothing() -> None:
    (batch,) = random_batches(1, SIZE, 8, seed=3)
    labelled = np.arange(8) < 6
    state, totals = take_step({**batch, "labelled": labelled})
    scrambled = batch["mask"].copy()
    scrambled[6:] = 1 - scrambled[6:]
    other, same = take_step({**batch, "mask": scrambled, "labelled": labelled})
    assert totals.mask_loss == same.mask_loss
    jax.tree.map(np.testing.assert_array_equal, state, other)
    _, without_any = take_step({**batch, "labelled": np.zeros(8, bool)})
    assert without_any.mask_loss == 0


def assert_equal_steps(found: Any, expected: Any) -> None:
    """Asserts that trees of float64 are equal but for the order of sums."""

    def check(x: np.ndarray, y: np.ndarray) -> None:
        np.testing.assert_allclose(x, y, atol=DEVICES_64, rtol=0)

    jax.tree.map(check, found, expected)


def test_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    # With its own statistics each half is a batch to itself, so two halves that are alike.
    (batch,) = random_batches(1, SIZE, 4, seed=4)
    twice = {name: np.concatenate([array, array]) for name, array in batch.items()}
    with jax.enable_x64(True):  # where nothing but the algorithm can differ
        whole, totals = take_step(twice, dtype="float64")
        parts, sums = take_step(twice, accumulate=2, dtype="float64")
    assert_equal_steps((parts.params, sums.loss), (whole.params, totals.loss))


def test_frozen_encoder_keeps_its_statistics() -> None:
    (batch,) = random_batches(1, SIZE, 8, seed=5)
    state, _ = take_step(batch, freeze_encoder=True)
    np.testing.assert_array_equal(state.batch_stats["inc"]["norm1"]["mean"], 0)
    assert np.any(state.batch_stats["up1"]["conv"]["norm1"]["mean"])


def test_rematerialised_step_is_the_same() -> None:
    (batch,) = random_batches(1, SIZE, 8, seed=8)
    with jax.enable_x64(True):
        once = take_step(batch, dtype="float64")
        again = take_step(batch, remat=True, dtype="float64")
    assert_equal_steps(again, once)


def test_optimizer_gets_gradients_in_the_order_of_weights() -> None:
    """On GPUs, where they come in another one, each step copies all weights otherwise."""
    (batch,) = random_batches(1, SIZE, 8, seed=9)
    step, state, totals = first_step()
    program = step.lower(state, totals, at_hand(batch)).as_text()
    assert program.count("LayoutConstraint") == len(jax.tree.leaves(state.params))


def test_gives_its_gradients_when_they_are_asked_for() -> None:
    (batch,) = random_batches(1, SIZE, 8, seed=10)
    step, state, totals = first_step(accumulate=2, give_gradients=True)
    before = distributed.fetch(state.params)
    after = distributed.fetch(step(state, totals, at_hand(batch)))
    expected = jax.tree.map(lambda old, gradient: old - gradient, before, after.gradients)
    jax.tree.map(np.testing.assert_array_equal, after.state.params, expected)
    step, state, totals = first_step()
    assert step(state, totals, at_hand(batch)).gradients is None


def test_moving_average_starts_quickly() -> None:
    (batch,) = random_batches(1, SIZE, 8, seed=6)
    first = nnx.to_pure_dict(nnx.state(UNet(SHALLOW, rngs=nnx.Rngs(0)), nnx.Param))
    state, _ = take_step(batch, ema=0.999)
    decay = 2 / 11  # (1 + 1) / (10 + 1)
    expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, first, state.params)
    jax.tree.map(lambda x, y: assert_close(x, y, ELEMENT), state.average["params"], expected)


def test_step_is_compiled_once(tmp_path: Path) -> None:
    del tmp_path
    devices = jax.local_devices()[:1]
    graphdef, weights, statistics = split(UNet(SHALLOW, rngs=nnx.Rngs(0)))
    optimizer = optax.adam(1e-3)
    traced = []
    inner = make_step(graphdef, optimizer, Objective())

    def counted(*arguments: Any) -> Any:
        traced.append(1)
        return inner(*arguments)

    step = distributed.map_step(counted, devices)
    state = distributed.replicate(first_state(weights, statistics, optimizer), devices)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    counts = []
    for batch in random_batches(4, SIZE, 8, seed=7):
        totals = distributed.replicate(zero_totals(), devices)
        state, totals, *_ = step(state, totals, at_hand(batch))
        counts.append(len(compiled))
    assert len(traced) == 1
    assert counts[0] == counts[-1]
