"""The state of training as it is stored, and back."""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_unet.checkpoint.store import Tree
from train.fit.checkpoints import Saved
from train.fit.step import Totals, TrainState


def take(state: TrainState, totals: Totals, unused: Tree, progress: dict[str, Any]) -> Saved:
    """What a checkpoint holds of a state; `unused` and `progress` are kept as they are."""
    return Saved(for_use(state), unused, _rest(state, totals), progress)


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


def pack(tree: Any) -> dict[str, Any]:
    """Any tree of arrays as nested dictionaries, which is what is stored."""
    packed: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        place = packed
        *parents, name = map(_name, path)
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = leaf
    return packed


def unpack(packed: dict[str, Any], like: Any) -> Any:
    """The inverse of `pack`: the leaves of `packed` in the structure of `like`."""

    def leaf(path: tuple[Any, ...], _: Any) -> np.ndarray:
        found: Any = packed
        for part in path:
            found = found[_name(part)]
        return found

    return jax.tree_util.tree_map_with_path(leaf, like)


def _name(key: Any) -> str:
    """A step of a path into a tree: a key, an index or a field's name."""
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))
