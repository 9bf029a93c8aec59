"""Processes that work for this one, and end with it."""

import atexit
import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path

from flax_unet.utils.errors import InputError, ending_signals
from flax_unet.utils.malloc import KEPT_MEMORY

# Where Linux says which control group (of version 2) a process is in, and what these may take.
_GROUP, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def processors() -> int:
    """How many processors this process may use; a container or a batch system may allow few."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(count, _limit())))


def _limit() -> float:
    """How many processors' time a process may take, such as by Docker's --cpus."""
    least = math.inf
    with contextlib.suppress(OSError):
        for line in _GROUP.read_text("utf-8", "surrogateescape").splitlines():
            if not line.startswith("0::/"):
                continue
            group = _GROUPS / line[4:]
            for folder in (group, *group.parents):
                # The topmost group lacks the file; "max" in the place of a number means unlimited.
                with contextlib.suppress(OSError, ValueError):
                    quota, period = map(int, (folder / "cpu.max").read_text("ascii").split())
                    least = min(least, quota / period)
    return least


# Otherwise NumPy and OpenCV each start a thread for every core in every process, and all of them
# wait for each other. OpenBLAS and MKL follow it.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_starting = threading.Lock()


class Worker(SpawnProcess):
    """A process that ends by itself, with its parent, or by `end`; no signal but that reaches it.

    It is spawned: a fork of a process in which JAX has threads may hang.
    """

    def start(self) -> None:
        """Starts the process."""
        with _starting, _blocked_signals(), _environment():
            # Without the caller's script, which a spawned process would run again.
            main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = main
        _alive.add(self)

    def end(self) -> None:
        """Kills the process and waits until it is gone."""
        self.kill()
        self.join()

    def run(self) -> None:
        """Runs in the process, and leaves Ctrl-C to its parent."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Sets what processes that are started here inherit, where it is not set."""
    inherited = _ONE_THREAD | KEPT_MEMORY
    before = {name: os.environ.get(name) for name in inherited}
    os.environ |= {name: before[name] or value for name, value in inherited.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def pool(count: int, start: Callable[[], None], killed: str) -> Iterator[ProcessPoolExecutor]:
    """Processes that run functions. They run `start` first, and end with the block at once.

    Each is a `Worker`.

    Raises:
        InputError: one of them was killed; `killed` is the message.
    """
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(count, _Workers(), start)
    try:
        yield executor
    except BrokenExecutor as error:
        raise InputError(killed) from error
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()  # otherwise they finish what they are at
        executor.shutdown(cancel_futures=True)


class _Workers(SpawnContext):
    """Starts a `Worker` for each process of a pool."""

    Process = Worker


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Blocks signals that ask to end, in a process that is started here from its first moment on.

    A terminal or a batch system sends them to all processes, but the parent still needs this one.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # a later start of it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *ending_signals()])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_alive: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    # Before multiprocessing waits for them.
    for worker in list(_alive):
        worker.kill()
