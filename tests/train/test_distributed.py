"""Clusters that the environment describes in part, and the options above it."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from flax_unet import InputError
from train import distributed

SLURM = {
    **{"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"},
    **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "2"},
}
OPEN_MPI = {
    **{"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9", "OMPI_COMM_WORLD_SIZE": "2"},
    **{"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
}
ADDRESS = "node1:1234"
CLUSTERS = (
    "SLURM_",
    "OMPI_",
    "TPU_",
    "MEGASCALE_",
    "KUBERNETES_",
    "JOB_C",
    "COORD",
    "JAX_COORD",
    "JAX_LOCAL",
)

# Ends where JAX would look for the others.
VISIBLE = """
import jax
from jax._src import distributed as of_jax
from train import distributed

def connect(*_, **__):
    print(jax.config.values["jax_cuda_visible_devices"])
    raise SystemExit

of_jax._jax.get_distributed_runtime_service = connect
distributed.join()
"""


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments that JAX gets to join processes, in an environment without a cluster."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: calls.append((a, k)))
    for name in filter(lambda name: name.startswith(CLUSTERS), list(os.environ)):
        monkeypatch.delenv(name)
    return calls


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({k: v for k, v in SLURM.items() if k != "SLURM_PROCID"}, "Slurm: .* lacks SLURM_PROCID;"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "lacks SLURM_JOB_ID, SLURM_STEP_NODELIST, SLURM_NTASKS,"),
        # As Open MPI 5 sets them.
        (
            dict.fromkeys(("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), "2"),
            "Open MPI: .* lacks OMPI_MCA_orte_hnp_uri, OMPI_COMM_WORLD_LOCAL_RANK;",
        ),
        ({"JAX_COORDINATOR_ADDRESS": ADDRESS}, "JAX_COORDINATOR_ADDRESS: .* the number of proc"),
        ({"COORDINATOR_ADDRESS": ADDRESS}, "COORDINATOR_ADDRESS: .* the number of processes"),
    ],
)
def test_cluster_that_is_half_described(
    environment: dict[str, str], named: str, joined: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=named) as error:
        distributed.join()
    assert "give --coordinator, --num-processes, --process-id, or --num-processes 1" in str(
        error.value
    )
    assert not joined
    distributed.join(num_processes=1)
    assert not joined
    distributed.join(ADDRESS, 2, 1)
    ((given, options),) = joined
    assert (given, options["cluster_detection_method"]) == ((ADDRESS, 2, 1), "deactivate")


def test_cluster_that_is_described(
    joined: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    distributed.join()
    for name, value in {"OMPI_COMM_WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "many"}.items():
        monkeypatch.setenv(name, value)
    distributed.join()
    assert not joined
    assert capsys.readouterr().err == ""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    distributed.join()
    distributed.join(ADDRESS, 2, 1)
    assert [call[0] for call in joined] == [(None, None, None), (ADDRESS, 2, 1)]
    assert [call[1]["cluster_detection_method"] for call in joined] == [None, None]


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        (SLURM | {"SLURM_STEP_NUM_NODES": "2"}, "all"),
        (SLURM | {"SLURM_STEP_NUM_NODES": "2", "JAX_LOCAL_DEVICE_IDS": "2,3"}, "2,3"),
        (SLURM | {"SLURM_STEP_NUM_NODES": "1"}, "0"),  # two processes on one host
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "all"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, "0"),
    ],
)
def test_devices_of_a_launchers_process(environment: dict[str, str], devices: str) -> None:
    """JAX itself says which it would use: all, unless other processes on the host need theirs."""
    process = subprocess.run(
        [sys.executable, "-c", VISIBLE],
        env={k: v for k, v in os.environ.items() if not k.startswith(CLUSTERS)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.stdout.split() == [devices], process.stderr


def test_task_that_srun_did_not_start(
    joined: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "4")
    distributed.join()
    assert not joined
    assert "Slurm allots 4 tasks, but srun did not start this process" in capsys.readouterr().err


def test_readers_are_as_many_as_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, cpus = ([SimpleNamespace(platform=name)] * 2 for name in ("gpu", "cpu"))

    def found(processors: int, devices: Any, frames: int = 10_000, **work: bool) -> int:
        monkeypatch.setattr(distributed, "processors", lambda: processors)
        return distributed.readers(None, devices, frames, **work)

    # One processor is left for the rest, and more than 16 a GPU have nothing to do.
    assert [found(count, gpus) for count in (1, 2, 3, 16, 64)] == [0, 0, 2, 15, 32]
    assert [found(count, cpus) for count in (1, 2, 4, 8, 64)] == [0, 0, 0, 2, 16]
    # Forging takes longer: 1,600 frames a second, of which a process makes 42 at worst.
    counts = [found(count, gpus[:1], is_forging=True) for count in (16, 39, 64)]
    assert counts == [15, 38, 40]
    assert counts[-1] >= 1600 / 42
    assert found(16, gpus, frames=300) == 0  # they would start for longer than they read
    assert distributed.readers(0, gpus, 10_000) == 0
    assert distributed.readers(5, cpus, 1) == 5
    monkeypatch.setattr(distributed, "_sharing", lambda: 4)  # processes of one host
    assert found(64, gpus[:1]) == 15
