"""Makes groups of videos as tasks of a Ray cluster, whose machines share the folders."""

import contextlib
import functools
import logging
import os
import platform
import re
import socket
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from flax_unet.utils.errors import InputError
from train.prepare import result, work
from train.prepare.plan import Group
from train.prepare.work import Options, Outcome

_WAITING = 4  # groups a core, so that none is idle
_AUTO = "auto"
_ADDRESS = re.compile(r"(?:ray://)?([^\s/]+):(\d+)")
_PATIENCE = 10  # seconds


@contextlib.contextmanager
def connected(address: str, workers: int | None) -> Iterator[None]:
    """A connection to a cluster.

    `address` is such as `10.0.0.1:6379`, or `auto` for the cluster that this machine belongs to, or
    else for a new one of this machine alone, of `workers` processes, None for one a core.

    Raises:
        InputError: it cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        place = _running() if address == _AUTO else address
        if place is None:
            ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            _reach(place)
            ray.init(place, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"--ray {address}: the cluster cannot be reached: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _running() -> str | None:
    """The address of the cluster that this machine belongs to, if there is one.

    Ray notes it in a file, which a cluster that was killed leaves behind.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster")
    with contextlib.suppress(OSError):
        address = note.read_text(encoding="utf-8").strip()
        _reach(address)
        return address
    return None


def _reach(address: str) -> None:
    """Raises an OSError if nothing listens at an address. Ray itself would try for minutes."""
    if host_and_port := _ADDRESS.fullmatch(address):
        host, port = host_and_port.groups()
        socket.create_connection((host, int(port)), _PATIENCE).close()


def outcomes(
    groups: Sequence[Group], out: Path, options: Options, workers: int | None
) -> Generator[list[Outcome]]:
    """What became of each group, as they are finished. Each is a task of the connected cluster.

    `workers` are tasks at a time, None for one a core. All machines see the paths.

    Raises:
        InputError: a machine of the cluster cannot do the work.
        OSError: the result cannot be written.
    """
    import ray

    make = ray.remote(num_cpus=1)(_make_group)
    at_a_time = workers or _WAITING * max(1, int(ray.cluster_resources().get("CPU", 1)))
    here = Path.cwd(), result.versions()
    running: list[Any] = []
    for group in groups:
        running.append(make.remote(group, out, options, *here))
        if len(running) >= at_a_time:
            done, running = ray.wait(running)
            yield _outcome(done[0])
    while running:
        done, running = ray.wait(running)
        yield _outcome(done[0])


def _outcome(task: Any) -> list[Outcome]:
    """What a finished task returned.

    Raises:
        InputError: a machine cannot do the work, or its process was killed again and again.
        OSError: the result cannot be written.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(task)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"a task of the cluster was lost: {reason}; run this again") from error


def _make_group(
    group: Group, out: Path, options: Options, directory: Path, versions: dict[str, str | None]
) -> list[Outcome]:
    """`work.make_group` on a machine of the cluster; paths are relative to `directory`."""
    check_machine(directory / out, directory, tuple(versions.items()))
    work.start()
    return work.make_group(group, out, options)


@functools.cache
def check_machine(out: Path, directory: Path, versions: tuple[tuple[str, str | None], ...]) -> None:
    """Prepares a process for work in `directory`.

    Raises:
        InputError: this machine does not see `out`, or has other packages than `versions`.
    """
    machine = platform.node()
    if not (out / result.SETTINGS).is_file():
        raise InputError(f"{machine} does not see {out}; all machines must share it")
    if directory.is_dir():
        os.chdir(directory)
    for name, version in versions:
        if (here := result.versions()[name]) != version:
            raise InputError(f"{machine} has {name} {here}; install {version}, as elsewhere")
