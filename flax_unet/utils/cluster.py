"""A Ray cluster whose machines share folders: reached, and asked for what its tasks return."""

import contextlib
import logging
import os
import platform
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from flax_unet.utils.errors import InputError, counted

_AUTO = "auto"
_ADDRESS = re.compile(r"(?:ray://)?([^\s/]+):(\d+)")
_PATIENCE = 10  # seconds
_START, _PAUSE = 300.0, 1.0  # seconds in which a machine starts, and between two looks
_SETTINGS = {  # which Ray reads as it is imported
    "RAY_USAGE_STATS_ENABLED": "0",  # it would report to its makers
    "RAY_task_oom_retries": "1",  # for lack of memory, it would try a task again for ever
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # it would print on standard output what happens to tasks
}
_UNIMPORTED = "failed to import on the worker"  # as Ray says it of a task's function


class LostError(InputError):
    """The process or the machine of a task ended."""


@contextlib.contextmanager
def connected(address: str, workers: int | None) -> Iterator[None]:
    """A connection to a cluster, which is printed on standard error.

    `address` is such as `10.0.0.1:6379`, of a cluster that this machine belongs to. `auto` finds
    it, or else starts one of this machine alone, of `workers` processes, None for one a core.

    Raises:
        InputError: it cannot be reached, or has no core for a while.
    """
    if address != _AUTO and not _is_address(address):
        raise InputError(
            f"--ray {address}: this is not an address; give HOST:PORT, such as 10.0.0.1:6379, "
            "ray://HOST:PORT or auto"
        )
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.exceptions import RayError

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        place = _running() if address == _AUTO else address
        with _kept_signal():
            if place is None:
                ray.init("local", num_cpus=workers, include_dashboard=False, **quiet)
            else:
                _reach(place)
                ray.init(address, **quiet)  # by `auto` Ray also uses this machine's token
    except OSError as error:
        raise InputError(
            f"--ray {address}: the cluster cannot be reached: {error}. Does `ray start --head` run "
            "there, and is this its port?"
        ) from error
    except (RayError, ValueError, RuntimeError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".:")
        raise InputError(
            f"--ray {address}: the cluster cannot be reached: {reason}. With HOST:PORT, this "
            "machine must belong to it: ray start --address HOST:PORT. If the cluster has a token, "
            "set RAY_AUTH_MODE=token and copy ~/.ray/auth_token from its first machine"
        ) from error
    try:
        found = "a new cluster of this machine" if place is None else f"the cluster at {place}"
        _wait_for_cores(address)
        print(f"Ray: {found}, {counted(cores(), 'core')}", file=sys.stderr)
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _kept_signal() -> Iterator[None]:
    """Keeps the handler of SIGTERM, which Ray replaces: the command would end with status 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def cores() -> int:
    """The cores of the connected cluster. Machines may join and leave."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def _wait_for_cores(address: str) -> None:
    """Waits for the first machine that does tasks, which may start after the one of the command.

    Raises:
        InputError: none comes.
    """
    end = time.monotonic() + _START
    if not cores():
        print(f"Ray: waiting up to {_START:.0f} s for a machine with cores", file=sys.stderr)
    while not cores():
        if time.monotonic() > end:
            raise InputError(
                f"--ray {address}: no machine of the cluster has a core for tasks; start one, or "
                "give this one some (ray start --num-cpus)"
            )
        time.sleep(_PAUSE)


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    return found is not None and int(found[2]) < 2**16


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


def returned(task: Any) -> Any:
    """What a finished task returned.

    Raises:
        InputError: a machine lacks a package.
        LostError: its process or machine ended, each time that Ray tried it.
        Exception: whatever ended the task.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(task)
    except RayTaskError as error:
        cause = str(error.cause).strip()
        if isinstance(error.cause, ImportError) or _UNIMPORTED in cause:
            reason = cause.rpartition("\n")[2]
            raise InputError(
                f"a machine of the cluster lacks a package: {reason}; install the same on all "
                "machines"
            ) from error
        raise error.cause from error
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise LostError(f"a task of the cluster was lost: {reason}; run this again") from error


class Origin(NamedTuple):
    """Where a command runs, whose tasks other machines do."""

    directory: Path  # that paths are relative to
    versions: tuple[tuple[str, str | None], ...]  # of what decides about the result, by name

    @classmethod
    def here(cls, versions: Mapping[str, str | None]) -> Self:
        """This machine."""
        return cls(Path.cwd(), tuple(versions.items()))

    def enter(self, versions: Mapping[str, str | None], paths: Iterable[Path]) -> None:
        """Prepares a process of a machine that has these versions for a task.

        Raises:
            InputError: the machine does not see one of the paths, or has other versions.
        """
        machine = platform.node()
        for path in paths:
            if not os.path.exists(self.directory / path):  # noqa: PTH110 (pathlib's raises on odd names)
                raise InputError(
                    f"{machine} does not see {self.directory / path}; all machines must share it"
                )
        for name, version in self.versions:
            if (there := versions.get(name)) != version:
                raise InputError(
                    f"{machine} has {name} {there or '(none)'}, and the machine of the command "
                    f"{version or '(none)'}; install the same on all machines"
                )
        if self.directory.is_dir():  # otherwise all paths are absolute
            os.chdir(self.directory)
