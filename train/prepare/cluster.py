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

from flax_unet.utils.errors import InputError, counted
from train.prepare import result, work
from train.prepare.plan import Group
from train.prepare.work import Options, Outcome

_WAITING = 4  # groups a core, so that none is idle
_AUTO = "auto"
_ADDRESS = re.compile(r"(?:ray://)?([^\s/]+):(\d+)")
_PATIENCE = 10  # seconds


@contextlib.contextmanager
def connected(address: str, workers: int | None) -> Iterator[None]:
    """A connection to a cluster, which is printed.

    `address` is such as `10.0.0.1:6379`, or `auto` for the cluster that this machine belongs to, or
    else for a new one of this machine alone, of `workers` processes, None for one a core.

    Raises:
        InputError: it cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        place = _running() if address == _AUTO else address
        if place is None:
            ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
        else:
            _reach(place)
            ray.init(address, **quiet)  # by `auto` Ray also uses this machine's token
    except (OSError, OverflowError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"--ray {address}: the cluster cannot be reached: {reason}. If it asks for a token, as "
            "those of `ray start` do, set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its "
            "first machine"
        ) from error
    try:
        found = "a new cluster of this machine" if place is None else f"the cluster at {place}"
        print(f"Ray: {found}, {counted(_cores(), 'core')}")
        yield
    finally:
        ray.shutdown()


def _cores() -> int:
    """The cores of the connected cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


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
    at_a_time = workers or _WAITING * _cores()
    here = Path.cwd(), result.versions()
    running: list[Any] = []
    try:
        for group in groups:
            running.append(make.remote(group, out, options, *here))
            if len(running) >= at_a_time:
                done, running = ray.wait(running)
                yield _outcome(done[0])
        while running:
            done, running = ray.wait(running)
            yield _outcome(done[0])
    finally:
        if running:  # they must not write any more
            ray.shutdown()


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
        if isinstance(error.cause, ImportError):
            reason = f"a machine of the cluster lacks a package: {error.cause}; install the same"
            raise InputError(f"{reason} on all machines") from error
        raise error.cause from error
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"a task of the cluster was lost: {reason}; run this again") from error


def _make_group(
    group: Group, out: Path, options: Options, directory: Path, versions: dict[str, str | None]
) -> list[Outcome]:
    """`work.make_group` on a machine of the cluster; paths are relative to `directory`."""
    folders = {(directory / one.video.path).parent for one in group}
    check_machine(directory / out, tuple(versions.items()), tuple(sorted(folders)))
    if directory.is_dir():  # otherwise all paths are absolute
        os.chdir(directory)
    work.start()
    return work.make_group(group, out, options)


@functools.lru_cache(maxsize=64)
def check_machine(
    out: Path, versions: tuple[tuple[str, str | None], ...], folders: tuple[Path, ...]
) -> None:
    """Checks that this machine can make the same as the one that asks for it.

    Raises:
        InputError: it does not see `out` or one of `folders`, or has packages of other versions.
    """
    machine, here = platform.node(), result.versions()
    unseen = [folder for folder in folders if not folder.is_dir()]
    if not (out / result.SETTINGS).is_file():
        unseen.insert(0, out)
    if unseen:
        raise InputError(f"{machine} does not see {unseen[0]}; all machines must share it")
    for name, version in versions:
        if here[name] != version:
            raise InputError(f"{machine} has {name} {here[name]}; install {version}, as elsewhere")
