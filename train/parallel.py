"""Devices and processes: the only file that knows how work is spread."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_unet.errors import InputError

AXIS = "devices"

Device = Any  # jax.Device, which type checkers take for a variable
Tree = Any


def select_devices(wanted: str) -> list[Device]:
    """This process's devices that `--devices` names.

    Args:
        wanted: `all`, or how many.

    Raises:
        InputError: it is neither, or there are not as many.
    """
    devices = jax.local_devices()
    if wanted == "all":
        return devices
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InputError(f"--devices {wanted}: expected all or a number of at least 1")
    if int(wanted) > len(devices):
        raise InputError(
            f"--devices {wanted}: there are {len(devices)} ({devices[0].platform}). "
            "Give a smaller number, or all"
        )
    return devices[: int(wanted)]


def replicate(tree: Tree, devices: list[Device]) -> Tree:
    """A copy of every array on each device."""
    everywhere = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    return jax.device_put(tree, everywhere)


def map_batch(
    function: Callable[[Tree, Tree], Tree], devices: list[Device]
) -> Callable[[Tree, Tree], Tree]:
    """`function(state, batch)` with the batch divided among devices and the state on each.

    Args:
        function: gets a replicated state and a device's share of the batch, and gives a tree of
            arrays whose first axis is the share's.
        devices: of this process. A batch's size must be a multiple of their number.
    """
    count = len(devices)
    mapped = jax.pmap(function, axis_name=AXIS, devices=devices, in_axes=(None, 0))

    def run(state: Tree, batch: Tree) -> Tree:
        shares = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
        return mapped(state, shares)

    return run


def to_host(tree: Tree) -> Tree:
    """The results of `map_batch` as NumPy arrays with the batch's axis first; waits for them."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)


def process() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return jax.process_index(), jax.process_count()


def gather(tree: Tree) -> Tree:
    """The arrays of all processes, concatenated along their first axis; equal on each."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(_gather_array, tree)


def _gather_array(array: np.ndarray) -> np.ndarray:
    # As bytes: on the way through JAX, 64-bit numbers would lose half of theirs.
    content = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(content, tiled=True))
    return np.ascontiguousarray(gathered).view(array.dtype).reshape(-1, *array.shape[1:])
