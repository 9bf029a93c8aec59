"""One step of training as a pure function of state and batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
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
    params: Tree
    batch_stats: Tree  # averaged over the devices
    optimizer: optax.OptState
    average: dict[str, Tree] | None  # moving averages of `params` and `batch_stats`

    def for_use(self) -> Tree:
        """Parameters and statistics in one tree: the moving averages, if there are any."""
        used = self.average or {"params": self.params, "batch_stats": self.batch_stats}
        return unflatten_dict(flatten_dict(used["params"]) | flatten_dict(used["batch_stats"]))


class Totals(NamedTuple):
    """Sums over the steps since metrics were last logged."""

    steps: jax.Array  # () int32
    loss: jax.Array
    mask_loss: jax.Array
    class_loss: jax.Array
    not_finite: jax.Array  # () int32: the first step with a NaN or infinite loss, else 0


class Step(NamedTuple):
    """The results of one step."""

    state: TrainState
    totals: Totals
    stop: jax.Array  # () int32: the stop signal that any process received, 0 if none
    gradients: Tree | None = None  # of the mean loss over all devices, before the optimizer


def zero_totals() -> Totals:
    """Before the first step; five separate arrays, since a step donates them."""
    counts = [jnp.zeros((), jnp.int32) for _ in range(2)]
    return Totals(counts[0], jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), counts[1])


def first_state(
    params: Tree,
    batch_stats: Tree,
    optimizer: optax.GradientTransformation,
    *,
    averaged: bool = False,
) -> TrainState:
    """Before the first step of a model from `split`; `averaged`: with moving averages."""
    average = {"params": params, "batch_stats": batch_stats}
    copies = jax.tree.map(jnp.copy, average) if averaged else None
    step = jnp.zeros((), jnp.int32)
    # As one program: by itself it would be one for each shape of its arrays.
    return TrainState(step, params, batch_stats, jax.jit(optimizer.init)(params), copies)


def split(
    model: UNet, *, sync_batch_norm: bool = False, freeze_encoder: bool = False, remat: bool = False
) -> tuple[nnx.GraphDef, Tree, Tree]:
    """A model as its structure in training mode, its parameters and its statistics.

    Args:
        model: it is left in training mode.
        sync_batch_norm: whether BatchNorm normalises over the batch of all devices.
        freeze_encoder: whether the encoder normalises by its running statistics, and keeps them.
        remat: whether the backward pass recomputes each level's maps, to save memory.
    """
    model.train()
    if sync_batch_norm:
        model.set_attributes(BatchNorm, axis_name=AXIS)
    model.set_attributes(DoubleConv, remat=remat)
    if freeze_encoder:
        for level in range(model.config.levels + 1):
            getattr(model, f"down{level}" if level else "inc").eval()
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats)


def make_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    accumulate: int = 1,
    ema: float | None = None,
    give_gradients: bool = False,
) -> Callable[[TrainState, Totals, Batch], Step]:
    """The training step, for `distributed.map_step`.

    Its batch is a device's share: `image` (B, H, W, 3) in 0 to 255, `mask` (B, H, W) with 1 =
    MANIPULATED, `labelled` (B,) whether the mask is known, `is_real` (B,), `stop` (B,) the number
    of a signal, or 0.

    Args:
        graphdef: of the model, from `split`.
        optimizer: of the gradient of the mean loss over the batch of all devices.
        objective: the loss.
        accumulate: parts that the share is computed in, one after the other, to save memory.
        ema: decay of the moving averages. As usual it is smaller at first, at most
            (1 + n) / (10 + n) at step n, so that they forget the initial weights.
        give_gradients: whether the result holds them, at the cost of their memory.
    """

    def gradient(params: Tree, batch_stats: Tree, part: Batch, scale: jax.Array) -> Any:
        def loss(params: Tree) -> tuple[jax.Array, tuple[Tree, jax.Array, jax.Array]]:
            model = nnx.merge(graphdef, params, batch_stats, copy=True)
            wide = jnp.promote_types(model.dtype, jnp.float32)
            output = model(normalised(part["image"], wide))
            of_masks, of_classes = losses(output, part, objective)
            # Unknown masks have weight 0; the others are rescaled.
            mask_loss = (of_masks * part["labelled"] * scale).mean()
            if objective.dice and output.mask_logits is not None:
                labelled = part["labelled"]
                mask_loss += dice_loss(output.mask_logits, part["mask"], labelled, AXIS)
            class_loss = of_classes.mean()
            total = objective.mask_weight * mask_loss + objective.class_weight * class_loss
            now = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            return total, (now, mask_loss, class_loss)

        return jax.grad(loss, has_aux=True)(params)

    def step(state: TrainState, totals: Totals, batch: Batch) -> Step:
        labelled = jax.lax.pmean(batch["labelled"].astype(jnp.float32).mean(), AXIS)
        scale = 1 / jnp.maximum(labelled, jnp.finfo(jnp.float32).tiny)
        results = _in_parts(
            lambda batch_stats, part: gradient(state.params, batch_stats, part, scale),
            state.batch_stats,
            batch,
            accumulate,
        )
        grads, (batch_stats, mask_loss, class_loss) = jax.lax.pmean(results, AXIS)
        # On GPUs a kernel's gradient has another memory layout than the kernel. Without this, XLA
        # converts all parameters and moments to that layout and back, which copies them all.
        grads = jax.lax.optimization_barrier(
            jax.tree.map(lambda x: with_layout_constraint(x, Layout(tuple(range(x.ndim)))), grads)
        )
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        number = state.step + 1
        average = state.average
        if ema is not None:
            decay = jnp.minimum(ema, (1 + number) / (10 + number))
            average = jax.tree.map(
                lambda old, new: (decay * old + (1 - decay) * new).astype(old.dtype),
                average,
                {"params": params, "batch_stats": batch_stats},
            )
        loss = objective.mask_weight * mask_loss + objective.class_weight * class_loss
        first = (totals.not_finite == 0) & ~jnp.isfinite(loss)
        sums = jax.tree.map(jnp.add, totals[:4], (1, loss, mask_loss, class_loss))
        totals = Totals._make([*sums, jnp.where(first, number, totals.not_finite)])
        state = TrainState(number, params, batch_stats, optimizer_state, average)
        stop = jax.lax.pmax(batch["stop"].max(), AXIS)
        return Step(state, totals, stop, grads if give_gradients else None)

    return step


def _in_parts(
    gradient: Callable[[Tree, Batch], Any], batch_stats: Tree, batch: Batch, parts: int
) -> Any:
    """The mean of `gradient` over the parts of a batch; statistics pass from part to part."""
    if parts == 1:
        return gradient(batch_stats, batch)

    def one(carried: Any, part: Batch) -> tuple[Any, None]:
        batch_stats, sums = carried
        grads, (batch_stats, *found) = gradient(batch_stats, part)
        return (batch_stats, jax.tree.map(jnp.add, sums, (grads, found))), None

    shares = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], shares)
    shapes, (_, *rest) = jax.eval_shape(gradient, batch_stats, first)
    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes, rest))
    (batch_stats, sums), _ = jax.lax.scan(one, (batch_stats, sums), shares)
    grads, found = jax.tree.map(lambda x: x / parts, sums)
    return grads, (batch_stats, *found)
