"""Devices and processes of training and evaluation: their choice, copies, shares and exchanges.

Inference is spread over a process's devices in `flax_unet.nn.inference`.
"""

import contextlib
import functools
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_unet.utils.errors import InputError
from flax_unet.utils.processes import processors

AXIS = "devices"
_READERS = 16  # processes that read pictures for one accelerator, at most
_FORGERS = 40  # the same, where they forge them too: an H100 trains on what 29 to 38 make
_PART_FOR_READING = 4  # one in so many processors reads, where the network itself runs on them
_WORTH_A_START = 2000  # frames, which threads read in about 4 s and processes start in 1
_PATIENCE = 3600  # seconds that processes wait for each other
_OPTIONS = ("--coordinator", "--num-processes", "--process-id")
_REMEDY = f"give {', '.join(_OPTIONS)}, or --num-processes 1 alone to work without the others"
_Environment = Mapping[str, str]


def _several(env: _Environment, variable: str) -> bool:
    return (text := env.get(variable, "")).isdecimal() and int(text) > 1


# What shows that a launcher started several processes, and the variables by which JAX joins them.
_LAUNCHERS: dict[str, tuple[Callable[[_Environment], bool], tuple[str, ...]]] = {
    "Slurm": (
        lambda env: _several(env, "SLURM_STEP_NUM_TASKS"),
        ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    ),
    "Open MPI": (
        lambda env: _several(env, "OMPI_COMM_WORLD_SIZE"),
        ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ),
    "TPU": (lambda env: "," in env.get("TPU_WORKER_HOSTNAMES", ""), ()),
    "TPU slices": (lambda env: "MEGASCALE_COORDINATOR_ADDRESS" in env, ()),
    "Kubernetes": (
        lambda env: {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= env.keys(),
        (),
    ),
    # These name process 0 alone; no variable has the rest.
    **{
        name: (lambda env, name=name: name in env, ("the number of processes and of this one",))
        for name in ("JAX_COORDINATOR_ADDRESS", "COORDINATOR_ADDRESS")
    },
}


def _is_alone(env: _Environment) -> bool:
    """Whether a launcher started one process on each host."""
    tasks = env.get("SLURM_STEP_NUM_TASKS")
    of_slurm = tasks is not None and tasks == env.get("SLURM_STEP_NUM_NODES")
    return of_slurm or env.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"


Device = Any  # jax.Device, which type checkers take for a variable
Tree = Any


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connects this process with the others, if there are any, before JAX is used.

    Without arguments it joins the processes of a cluster that JAX recognises. `coordinator` is the
    HOST:PORT of process 0, and `process_id` counts from 0. One process needs neither.

    Raises:
        InputError: the options or the environment's description of a cluster are incomplete, or
            the others cannot be reached.
    """
    given = (coordinator, num_processes, process_id)
    if given == (None, 1, None):
        return
    launchers = (name for name, (several, _) in _LAUNCHERS.items() if several(os.environ))
    found = next(launchers, None)
    lacking = [name for name in _LAUNCHERS[found][1] if name not in os.environ] if found else []
    if coordinator is None or num_processes is None or process_id is None:
        missing = [name for name, value in zip(_OPTIONS, given, strict=True) if value is None]
        if len(missing) < len(_OPTIONS):
            raise InputError(f"give all of {', '.join(_OPTIONS)}; missing: {', '.join(missing)}")
        if lacking:
            raise InputError(
                f"{found}: the environment describes several processes, but lacks "
                f"{', '.join(lacking)}; {_REMEDY}"
            )
        if found is None:
            if _several(os.environ, "SLURM_NTASKS") and "SLURM_STEP_NUM_TASKS" not in os.environ:
                print(
                    f"note: Slurm allots {os.environ['SLURM_NTASKS']} tasks, but srun did not "
                    "start this process, so it works alone",
                    file=sys.stderr,
                )
            return
    else:
        found = "--coordinator"
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"--coordinator {coordinator}: expected HOST:PORT")
        if process_id >= num_processes:
            raise InputError(
                f"--process-id {process_id}: expected less than --num-processes, {num_processes}"
            )
    detection = "deactivate" if lacking else None  # it would fail for what is lacking
    # JAX gives a process of a launcher one device, as if each device had one. [] is all.
    is_alone = _is_alone(os.environ) and "JAX_LOCAL_DEVICE_IDS" not in os.environ
    try:
        jax.distributed.initialize(
            *(coordinator, num_processes, process_id),
            local_device_ids=[] if is_alone else None,
            cluster_detection_method=detection,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes cannot be joined ({found}): {error}. If JAX does not recognise the "
            f"cluster, {_REMEDY}"
        ) from error


def replicate(tree: Tree, devices: list[Device]) -> Tree:
    """A copy of every array on each device."""
    return jax.device_put(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def map_step(function: Callable[[Tree, Tree, Tree], Tree], devices: list[Device]) -> Any:
    """`function(state, totals, batch)` on every device of every process, in step.

    The batch, from `shard_batch`, is divided among the devices; everything else is the same on
    each, the results too. `state` and `totals`, from `replicate`, are donated. The function
    averages over the axis AXIS whatever differs among devices. `devices` are this process's; those
    with the same numbers are used on each.
    """
    return jax.pmap(
        function,
        axis_name=AXIS,
        devices=_of_all_processes(devices),
        in_axes=(None, None, 0),
        out_axes=None,
        donate_argnums=(0, 1),
    )


def _of_all_processes(devices: list[Device]) -> list[Device]:
    """The devices with the same numbers on every process, by process."""
    if jax.process_count() == 1:
        return devices  # possibly only descriptions: programs compile for absent devices
    numbers = [jax.local_devices().index(device) for device in devices]
    everywhere = [jax.local_devices(process_index=i) for i in range(jax.process_count())]
    return [of_one[number] for of_one in everywhere for number in numbers]


def shard_batch(batch: Tree, devices: list[Device]) -> Tree:
    """This process's share of a batch, in equal parts on its devices: an axis of devices first."""
    parts = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    return jax.tree.map(
        lambda x: jax.device_put(x.reshape(len(devices), -1, *x.shape[1:]), parts), batch
    )


def fetch(tree: Tree) -> Tree:
    """A copy on the host of arrays that are the same on every device; waits for them."""
    # A copy: on a CPU, NumPy otherwise shares memory that the next step overwrites.
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


def readers(
    wanted: int | None, devices: list[Device], frames: int, *, is_forging: bool = False
) -> int:
    """How many processes read pictures for this process's devices; 0: threads of this one do.

    It is the number that is `wanted`, if any. `frames` are how many all processes read, and
    `is_forging` is whether forgeries are made as they are read.
    """
    if wanted is not None:
        return wanted
    available = processors() // _sharing()
    if devices[0].platform == "cpu":
        count = available // _PART_FOR_READING
    else:
        most = _FORGERS if is_forging else _READERS
        count = min(available - 1, most * len(devices))
    return count if count > 1 and frames >= _WORTH_A_START * process()[1] else 0


@functools.cache
def _sharing() -> int:
    """How many processes of this run use the same processors; batch systems may give each its own.

    All processes must call it.
    """
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    digest = hashlib.sha256(f"{socket.gethostname()} {sorted(mine)}".encode()).digest()
    own = np.frombuffer(digest, np.uint8)[None]
    return int((gather(own) == own).all(1).sum())


def barrier() -> None:
    """Waits until every process is here: one may pack a data set while the others are ahead."""
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(key="barrier", timeout_ms=1000 * _PATIENCE)


def connect(devices: list[Device]) -> None:
    """Waits until every process is here, then exchanges a number among their devices.

    On CPUs the first exchange among a group of devices sets up its connections and gives up after
    half a minute. The first one of a training step would come after its compilation, for which a
    busy machine may need longer than another. `devices` are those of `map_step`.
    """
    barrier()
    if jax.process_count() > 1:
        total = jax.pmap(lambda x: jax.lax.psum(x, AXIS), AXIS, devices=_of_all_processes(devices))
        total(shard_batch(np.ones(len(devices), np.float32), devices)).block_until_ready()


def gather(tree: Tree) -> Tree:
    """The arrays of all processes, concatenated along their first axis; equal on each."""
    if jax.process_count() == 1:
        return tree

    def one(array: np.ndarray) -> np.ndarray:
        # As bytes: JAX would convert 64-bit numbers to 32 bits.
        content = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
        gathered = np.asarray(multihost_utils.process_allgather(content, tiled=True))
        return np.ascontiguousarray(gathered).view(array.dtype).reshape(-1, *array.shape[1:])

    barrier()
    return jax.tree.map(one, tree)


@contextlib.contextmanager
def memory_errors(advice: Callable[[], str]) -> Iterator[None]:
    """Turns an error of exhausted memory into an InputError; `advice()` is what to do."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = str(error).partition("\n")[0]
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in text:
            raise
        reason = text.removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".") or "out of memory"
        raise InputError(f"the memory is exhausted ({reason:.200}): {advice()}") from error
