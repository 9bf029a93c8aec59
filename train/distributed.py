"""Devices and processes: the only file that knows how work is spread."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_unet.utils.errors import InputError

AXIS = "devices"
_PATIENCE = 3600  # seconds that processes wait for each other

Device = Any  # jax.Device, which type checkers take for a variable
Tree = Any


def select_devices(wanted: str) -> list[Device]:
    """This process's devices that `--devices` names.

    Args:
        wanted: `all`, how many, or which by number: `0,2`.

    Raises:
        InputError: it is none of these, or there are not as many.
    """
    devices = jax.local_devices()
    if wanted == "all":
        return devices
    numbers = [number for number in wanted.split(",") if number]
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise InputError(f"--devices {wanted}: expected all, how many, or which: 0,2")
    chosen = [int(number) for number in numbers]
    if "," not in wanted:
        chosen = list(range(chosen[0]))
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(
            f"--devices {wanted}: expected at least one device, and none twice. One number alone "
            "says how many; device 0 is named 0,"
        )
    if max(chosen) >= len(devices):
        raise InputError(
            f"--devices {wanted}: there are {len(devices)} ({devices[0].platform}), 0 to "
            f"{len(devices) - 1}. Name fewer, or all"
        )
    return [devices[number] for number in chosen]


def replicate(tree: Tree, devices: list[Device]) -> Tree:
    """A copy of every array on each device."""
    everywhere = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    return jax.device_put(tree, everywhere)


def map_step(
    function: Callable[[Tree, Tree, Tree], Tree], devices: list[Device]
) -> Callable[[Tree, Tree, Tree], Tree]:
    """`function(state, totals, batch)` on every device of every process, in step.

    The batch, from `spread`, is divided among the devices; everything else is the same on each,
    the results too. `state` and `totals`, from `replicate`, are used up.

    Args:
        function: averages over the axis AXIS whatever differs among devices.
        devices: of this process, in the same places on each.
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        devices=_of_all_processes(devices),
        in_axes=(None, None, 0),
        out_axes=None,
        donate_argnums=(0, 1),
    )


def spread(batch: Tree, devices: list[Device]) -> Tree:
    """This process's share of a batch, in equal parts on its devices: an axis of devices first."""
    parts = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: jax.device_put(x.reshape(len(devices), -1, *x.shape[1:]), parts), batch
    )


def _of_all_processes(devices: list[Device]) -> list[Device]:
    """The devices in the same places on every process, by process."""
    if jax.process_count() == 1:
        return devices  # maybe only described: programs compile for what is not there
    places = [jax.local_devices().index(device) for device in devices]
    return [
        jax.local_devices(process_index=process)[place]
        for process in range(jax.process_count())
        for place in places
    ]


def fetch(tree: Tree) -> Tree:
    """A copy on the host of arrays that are the same on every device; waits for them."""
    # A copy: on a CPU, NumPy would else share memory that the next step uses up.
    return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data), tree)


def agree(value: str, what: str) -> None:
    """Raises an InputError unless `value` is the same on every process."""
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)[None]
    if len(np.unique(gather(digest), axis=0)) > 1:
        raise InputError(
            f"the processes do not have the same {what}; here it is {value}. They must be started "
            "with the same options and see the same files"
        )


def process() -> tuple[int, int]:
    """Which process this is, and how many there are."""
    return jax.process_index(), jax.process_count()


def gather(tree: Tree) -> Tree:
    """The arrays of all processes, concatenated along their first axis; equal on each."""
    if jax.process_count() == 1:
        return tree
    meet()
    return jax.tree.map(_gather_array, tree)


def meet() -> None:
    """Waits until every process is here.

    Processes part while one packs a data set or compiles. By themselves, those that exchange
    something for the first time wait half a minute for each other on a CPU.
    """
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(key="meet", timeout_ms=1000 * _PATIENCE)


def _gather_array(array: np.ndarray) -> np.ndarray:
    # As bytes: on the way through JAX, 64-bit numbers would lose half of theirs.
    content = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(content, tiled=True))
    return np.ascontiguousarray(gathered).view(array.dtype).reshape(-1, *array.shape[1:])
