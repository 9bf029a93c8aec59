"""Joins the processes of a training run, on one machine or on many."""

import os

import jax

from flax_unet.utils.errors import InputError
from train.fit.config import Machines

# What shows that a launcher started several processes; `jax.distributed` finds out the rest.
_SEVERAL = {
    "Slurm": lambda env: int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1,
    "Open MPI": lambda env: int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1,
    "TPU": lambda env: "," in env.get("TPU_WORKER_HOSTNAMES", ""),
    "TPU slices": lambda env: "MEGASCALE_COORDINATOR_ADDRESS" in env,
    "Kubernetes": lambda env: {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= env.keys(),
}


def join(machines: Machines) -> str | None:
    """Connects this process with the others, before JAX is used for anything else.

    Returns:
        What showed that there are others, or None if this process is alone.

    Raises:
        InputError: the options are incomplete, or the others cannot be reached.
    """
    options = {
        "--coordinator": machines.coordinator,
        "--num-processes": machines.num_processes,
        "--process-id": machines.process_id,
    }
    missing = [name for name, value in options.items() if value is None]
    if len(missing) < len(options):
        if missing:
            raise InputError(f"give all of {', '.join(options)}; missing: {', '.join(missing)}")
        found, arguments = "--coordinator", tuple(options.values())
        host, _, port = str(machines.coordinator).rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"--coordinator {machines.coordinator}: expected HOST:PORT")
        if (machines.process_id or 0) >= (machines.num_processes or 0):
            raise InputError(
                f"--process-id {machines.process_id}: expected less than --num-processes, "
                f"{machines.num_processes}"
            )
    else:
        found = next((name for name, several in _SEVERAL.items() if several(os.environ)), None)
        arguments = ()
    if found is not None:
        try:
            jax.distributed.initialize(*arguments)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the processes cannot be joined ({found}): {error}. If JAX does not know the "
                f"cluster, give {', '.join(options)}"
            ) from error
    return found
