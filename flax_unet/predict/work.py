"""Reads lots of files, wherever the network is, and gives out lots to those who do."""

import collections
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from tqdm import tqdm

from flax_unet.judge import Judge
from flax_unet.media.faces import FaceFinder, Mode, OpenCV, opencv
from flax_unet.media.images import MAX_PIXELS
from flax_unet.media.videos import Sampling
from flax_unet.media.worker import PassingError
from flax_unet.nn.config import Size
from flax_unet.nn.decision import Calibration
from flax_unet.predict.pipeline import FileNote, Options, inspect
from flax_unet.predict.plan import Lot, Plan, Planned
from flax_unet.predict.results import FileResult
from flax_unet.predict.writer import file_results, remove_results
from flax_unet.utils.errors import users_message
from flax_unet.utils.filenames import shown

if TYPE_CHECKING:
    from flax_unet.detector import Detector

PATIENCE = 300.0  # seconds that reading may take without a sign of life
_WAITING = 20_000  # frames of results that wait for an earlier one, and these results, together


class Network(NamedTuple):
    """What a detector is made of, on any machine."""

    checkpoint: Path
    dtype: str
    threshold: float | None = None
    mask_threshold: float | None = None
    keep_logits: bool = False

    def load(self, devices: str = "all", batch_size: int | None = None) -> "Detector":
        """The detector, on devices of this machine (see `select_devices`).

        Raises:
            InputError: the checkpoint is missing or damaged, or a device is missing.
        """
        from flax_unet.detector import Detector  # needs JAX, which takes seconds to import
        from flax_unet.nn.inference import select_devices

        return Detector.from_checkpoint(
            self.checkpoint,
            dtype=self.dtype,
            devices=select_devices(devices),
            threshold=self.threshold,
            mask_threshold=self.mask_threshold,
            keep_logits=self.keep_logits,
            batch_size=batch_size,
        )


class Setup(NamedTuple):
    """How files are read, and what is written of them."""

    size: Size  # of crops
    batch_size: int
    threshold: float
    calibration: Calibration | None
    mode: Mode = "auto"
    finds: bool = True  # faces where files are read, through OpenCV; otherwise, by a device
    face_model: Path | None = None
    sampling: Sampling = Sampling()
    picture_pixels: int = MAX_PIXELS
    more_pixels: str | None = None
    threads: int = 0  # see `Options`
    directory: Path | None = None  # for what is written besides the results
    overlays: bool = True


class Failure(NamedTuple):
    """What ended the work at a lot, and may do so again."""

    reason: str  # a predicate, of a file
    details: str = ""  # for standard error

    @classmethod
    def of(cls, error: Exception) -> Self:
        """That of a defect, or of too little memory."""
        text = shown("".join(traceback.format_exception_only(error)).strip())
        reason = f"made the process that read it fail ({text}); replace or remove it"
        return cls(reason, traceback.format_exc())


class NetworkError(Exception):
    """The network failed, which no file is to blame for."""


class Distant(Judge):
    """Judges by a network in another process, which may also find faces."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup.size, setup.threshold, setup.calibration, setup.batch_size)

    def find(self, picture: np.ndarray) -> np.ndarray:
        """A FaceNetwork on a device."""
        raise NotImplementedError

    def beat(self) -> None:
        """Called often: this process gets on."""
        raise NotImplementedError


def reader(setup: Setup, judge: Distant) -> Callable[[Lot], Iterator[FileResult | Failure]]:
    """Prepares this process; the function reads a lot and writes what is drawn of its files.

    A Failure is the last result of its lot.

    Raises:
        InputError: the model of faces cannot be used; later as for `file_results`.
        NetworkError: the judge did.
    """
    finder = None
    if setup.mode != "none":
        opencv().setNumThreads(1)  # the others have the other cores
        finder = FaceFinder(OpenCV(setup.face_model) if setup.finds else judge.find)
    options = Options(
        setup.mode,
        finder,
        setup.sampling,
        setup.picture_pixels,
        setup.more_pixels,
        threads=setup.threads,
        raises_passing=True,
        check_wanted=judge.beat,
    )

    def read(lot: Lot) -> Iterator[FileResult | Failure]:
        inspected = inspect(judge, [[file.item for file in lot]], options)
        stems = iter([file.stem for file in lot])
        try:
            yield from file_results(
                inspected,
                setup.directory,
                overlays=setup.overlays,
                stems=stems,
                check_wanted=judge.beat,
            )
        except PassingError as error:
            yield Failure(str(error))
        except Exception as error:
            if isinstance(error, NetworkError) or users_message(error) is not None:
                raise
            yield Failure.of(error)

    return read


class Queue:
    """Which lots are to be read, and the results that are to be yielded."""

    def __init__(self, plan: Plan) -> None:
        self._lots = iter(plan)
        self._again: collections.deque[Lot] = collections.deque()
        self._tried: set[int] = set()  # files, by number, of lots at which the work ended
        self._open: collections.deque[Planned] = collections.deque()  # not yielded, in order
        self._done: dict[int, FileResult] = {}  # by number
        self._waiting = 0  # frames of these, and these

    def next(self) -> Lot:
        """The next lot; an empty one if there is none, or many results wait for an earlier one."""
        if self._again:
            return self._again.popleft()
        if self._waiting >= _WAITING:
            return []
        lot = list(next(self._lots, []))
        self._open.extend(lot)
        return lot

    def add(self, results: Mapping[int, FileResult]) -> None:
        """Takes results of files, by their numbers."""
        self._done |= results
        self._waiting += sum(map(_weight, results.values()))

    def lost(self, lot: Lot, setup: Setup, failure: Failure) -> None:
        """Takes note of a failure at a lot, of which no result was added.

        It is tried again as it is, since verdicts depend on their batch in the last bits; after
        another failure, each of its files by itself.
        """
        if setup.directory is not None:
            for file in lot:
                remove_results(setup.directory, file.stem)
        if lot[0].number not in self._tried:
            self._tried.update(file.number for file in lot)
            self._again.append(lot)
        elif len(lot) > 1:
            self._again.extend([file] for file in lot)
        else:
            self._failed(lot[0], failure)

    def _failed(self, file: Planned, failure: Failure) -> None:
        name = shown(file.item.name)
        if failure.details:
            details = "\n".join(map(shown, failure.details.splitlines()))
            tqdm.write(f"{name}: {details}", sys.stderr)
        text = f"{name} {failure.reason}"
        (result,) = file_results([FileNote(file.item, 0, text, is_problem=True)])
        self.add({file.number: result})

    def results(self) -> Generator[FileResult]:
        """What is done and not waiting for an earlier file."""
        while self._open and self._open[0].number in self._done:
            result = self._done.pop(self._open.popleft().number)
            self._waiting -= _weight(result)
            yield result


def _weight(result: FileResult) -> int:
    return 1 + len(result.frames)
