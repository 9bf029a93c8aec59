"""The state of training as it is stored, and back."""

from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_unet.checkpoint import Tree
from train.checkpointing import Saved, pack, unpack
from train.step import Totals, TrainState


def take(state: TrainState, totals: Totals, progress: dict[str, Any]) -> Saved:
    """What a checkpoint holds of a state."""
    return Saved(for_use(state), _rest(state, totals), progress)


def expected(state: TrainState, totals: Totals) -> Tree:
    """Shapes and dtypes of `Saved.training`."""
    return jax.eval_shape(_rest, state, totals)


def restore(saved: Saved, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
    """The inverse of `take`; `state` and `totals` give the structure."""
    used = _divided(saved.weights, state.statistics)
    packed, average = dict(saved.training["state"]), None
    if state.average is None:
        packed |= used
    else:
        average = used
    restored = unpack(packed, state._replace(average=None))._replace(average=average)
    return restored, unpack(saved.training["totals"], totals)


def for_use(state: TrainState) -> Tree:
    """Parameters and statistics in one tree: the moving averages, if there are any."""
    used = state.average or {"weights": state.weights, "statistics": state.statistics}
    return unflatten_dict(flatten_dict(used["weights"]) | flatten_dict(used["statistics"]))


def _rest(state: TrainState, totals: Totals) -> dict[str, Any]:
    """What `for_use` leaves out."""
    packed = pack(state._replace(average=None))
    if state.average is None:
        del packed["weights"], packed["statistics"]
    return {"state": packed, "totals": pack(totals)}


def _divided(weights: Tree, statistics: Tree) -> dict[str, Tree]:
    """The inverse of `for_use`."""
    leaves, of_statistics = flatten_dict(weights), flatten_dict(statistics).keys()
    return {
        "weights": unflatten_dict({k: v for k, v in leaves.items() if k not in of_statistics}),
        "statistics": unflatten_dict({k: v for k, v in leaves.items() if k in of_statistics}),
    }
