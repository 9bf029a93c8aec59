"""One step of training, pure: what a device computes of its share of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.experimental.layout import Layout, with_layout_constraint

from flax_unet.checkpoint.store import Tree
from flax_unet.nn.layers import BatchNorm, DoubleConv
from flax_unet.nn.unet import UNet, normalised
from train.distributed import AXIS
from train.fit.losses import Objective, dice_loss, losses

Batch = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that changes from step to step; the same on every device."""

    step: jax.Array  # () int32: steps done
    weights: Tree
    statistics: Tree  # BatchNorm's, averaged over the devices
    optimizer: optax.OptState
    average: dict[str, Tree] | None  # moving averages of `weights` and `statistics`


class Totals(NamedTuple):
    """Sums over the steps since figures were last logged."""

    steps: jax.Array  # () int32
    loss: jax.Array
    mask_loss: jax.Array
    class_loss: jax.Array
    not_finite: jax.Array  # () int32: the first step whose loss was not, 0 if there was none


class Step(NamedTuple):
    """What one step gives."""

    state: TrainState
    totals: Totals
    stop: jax.Array  # () int32: the signal that any process was told to stop by, 0 if none
    gradients: Tree | None = None  # of the mean loss over all devices, as the optimizer gets them


def zero_totals() -> Totals:
    """Before the first step; arrays of their own each, since a step uses them up."""
    return Totals(
        steps=jnp.zeros((), jnp.int32),
        loss=jnp.zeros(()),
        mask_loss=jnp.zeros(()),
        class_loss=jnp.zeros(()),
        not_finite=jnp.zeros((), jnp.int32),
    )


def first_state(
    weights: Tree,
    statistics: Tree,
    optimizer: optax.GradientTransformation,
    *,
    averaged: bool = False,
) -> TrainState:
    """Before the first step of a model from `split`; `averaged`: with moving averages."""
    average = None
    if averaged:
        average = jax.tree.map(jnp.copy, {"weights": weights, "statistics": statistics})
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, weights, statistics, optimizer.init(weights), average)


def split(
    model: UNet,
    *,
    sync_batch_norm: bool = False,
    freeze_encoder: bool = False,
    remat: bool = False,
) -> tuple[nnx.GraphDef, Tree, Tree]:
    """A model as its structure in training mode, its weights and its statistics.

    Args:
        model: the structure in eval mode or not; it is left in training mode.
        sync_batch_norm: whether BatchNorm's batch is that of all devices.
        freeze_encoder: whether the encoder normalises by its running statistics, and keeps them.
        remat: whether the gradient computes each level's maps anew, to save memory.
    """
    model.train()
    if sync_batch_norm:
        model.set_attributes(BatchNorm, axis_name=AXIS)
    model.set_attributes(DoubleConv, remat=remat)
    if freeze_encoder:
        for level in range(model.config.levels + 1):
            getattr(model, f"down{level}" if level else "inc").eval()
    graphdef, weights, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(weights), nnx.to_pure_dict(statistics)


def make_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    accumulate: int = 1,
    ema: float | None = None,
    give_gradients: bool = False,
) -> Callable[[TrainState, Totals, Batch], Step]:
    """The function of one step, to be spread over devices with the axis `parallel.AXIS`.

    Its batch is a device's share: `image` (B, H, W, 3) in 0 to 255, `mask` (B, H, W) with 1 =
    MANIPULATED, `labelled` (B,) whether the mask is known, `is_real` (B,), `stop` (B,) a signal's
    number, or 0.

    Args:
        graphdef: of the model, from `split`.
        optimizer: gets the gradient of the mean loss over the batch of all devices.
        objective: the loss.
        accumulate: parts that the share is computed in, one after the other, to save memory.
        ema: decay of the moving averages. As usual it is smaller at first, at most
            (1 + n) / (10 + n) at step n, so that they forget the initial weights.
        give_gradients: whether the result holds them, at the cost of their memory.
    """

    def gradient(weights: Tree, statistics: Tree, part: Batch, scale: jax.Array) -> Any:
        def loss(weights: Tree) -> tuple[jax.Array, tuple[Tree, jax.Array, jax.Array]]:
            model = nnx.merge(graphdef, weights, statistics, copy=True)
            wide = jnp.promote_types(model.dtype, jnp.float32)
            output = model(normalised(part["image"], wide))
            of_masks, of_classes = losses(output, part, objective)
            # Masks that are not known count nothing, and the others so much the more.
            mask_loss = (of_masks * part["labelled"] * scale).mean()
            if objective.dice and output.mask_logits is not None:
                labelled = part["labelled"]
                mask_loss += dice_loss(output.mask_logits, part["mask"], labelled, AXIS)
            class_loss = of_classes.mean()
            total = objective.mask_weight * mask_loss + objective.class_weight * class_loss
            statistics_now = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            return total, (statistics_now, mask_loss, class_loss)

        return jax.grad(loss, has_aux=True)(weights)

    def step(state: TrainState, totals: Totals, batch: Batch) -> Step:
        labelled = jax.lax.pmean(batch["labelled"].astype(jnp.float32).mean(), AXIS)
        scale = 1 / jnp.maximum(labelled, jnp.finfo(jnp.float32).tiny)
        grads, (statistics, mask_loss, class_loss) = _in_parts(
            lambda statistics, part: gradient(state.weights, statistics, part, scale),
            state.statistics,
            batch,
            accumulate,
        )
        grads, statistics, mask_loss, class_loss = jax.lax.pmean(
            (grads, statistics, mask_loss, class_loss), AXIS
        )
        grads = _as_weights_lie(grads)
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.weights)
        weights: Any = optax.apply_updates(state.weights, updates)
        number = state.step + 1
        average = state.average
        if ema is not None:
            decay = jnp.minimum(ema, (1 + number) / (10 + number))
            average = jax.tree.map(
                lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype),
                average,
                {"weights": weights, "statistics": statistics},
            )
        loss = objective.mask_weight * mask_loss + objective.class_weight * class_loss
        first = (totals.not_finite == 0) & ~jnp.isfinite(loss)
        totals = Totals(
            totals.steps + 1,
            totals.loss + loss,
            totals.mask_loss + mask_loss,
            totals.class_loss + class_loss,
            jnp.where(first, number, totals.not_finite),
        )
        state = TrainState(number, weights, statistics, optimizer_state, average)
        stop = jax.lax.pmax(batch["stop"].max(), AXIS)
        return Step(state, totals, stop, grads if give_gradients else None)

    return step


def _as_weights_lie(grads: Tree) -> Tree:
    """The same gradients, in the weights' order in memory before the optimizer goes on.

    On GPUs a kernel's gradient comes in another order. Left alone, XLA takes all weights and
    moments into that one and back in each step, which costs copies of them all.
    """
    return jax.lax.optimization_barrier(
        jax.tree.map(lambda x: with_layout_constraint(x, Layout(tuple(range(x.ndim)))), grads)
    )


def _in_parts(
    gradient: Callable[[Tree, Batch], Any], statistics: Tree, batch: Batch, parts: int
) -> Any:
    """The mean of what `gradient` gives of the parts of a batch, statistics passed on."""
    if parts == 1:
        return gradient(statistics, batch)

    def one(carried: Any, part: Batch) -> tuple[Any, None]:
        statistics, sums = carried
        grads, (statistics, *found) = gradient(statistics, part)
        return (statistics, jax.tree.map(jnp.add, sums, (grads, found))), None

    shares = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], shares)
    shapes, (_, *rest) = jax.eval_shape(gradient, statistics, first)
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes, rest))
    (statistics, sums), _ = jax.lax.scan(one, (statistics, sums), shares)
    grads, found = jax.tree.map(lambda x: x / parts, sums)
    return grads, (statistics, *found)
