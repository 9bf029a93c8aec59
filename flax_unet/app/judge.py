"""One file for the page: judged, its results written, and what of it is shown."""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flax_unet.media.discover import items
from flax_unet.media.faces import FaceFinder, Mode
from flax_unet.media.videos import Sampling
from flax_unet.predict import writer
from flax_unet.predict.pipeline import Frame, Options, inspect
from flax_unet.predict.results import Result, results
from flax_unet.utils.filenames import Names, shown
from flax_unet.verdict import Verdict

MOST_FRAMES = 1000  # of a video; a page is to answer while its visitor waits
MOST_PIXELS = 2e10  # of a video that are decoded, or counted before: 9,600 frames of Full HD
FEW_FRAMES = Sampling(frames=64)
MOST_FACES = 12  # that are shown one by one
_CROP = 160  # pixels a side of a face that is shown

Progress = Callable[[int, int | None], None]  # frames that are done; of how many, if known


class Face(NamedTuple):
    """A face to show."""

    crop: Image.Image
    verdict: Verdict
    seconds: float | None  # in a video


class Report(NamedTuple):
    """What was found in a file."""

    result: Result  # as in predictions.json
    frame: Frame | None  # the picture, or the frame of the video that is FAKE most likely
    faces: list[Face]  # that one first; MOST_FACES at most
    faces_found: int
    files: dict[str, Path]  # archive (of all results), overlay, timeline: those that there are


class Judge:
    """The network and the face finder, loaded once; one thread at a time may use it."""

    def __init__(self, checkpoint: Path, face_model: Path | None = None) -> None:
        """Loads them.

        Raises:
            InputError: the checkpoint or the face model cannot be used.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        from flax_unet.detector import Detector  # needs JAX, which takes seconds to import

        self.checkpoint = checkpoint
        self.detector = Detector.from_checkpoint(checkpoint)
        self._finder = FaceFinder(face_model)

    def __call__(
        self,
        path: Path,
        directory: Path,
        mode: Mode = "auto",
        sampling: Sampling = FEW_FRAMES,
        progress: Progress = lambda done, total: None,
        still_wanted: Callable[[], None] = lambda: None,
    ) -> Report:
        """Judges a picture or a video. What cannot be read is told in the report, not raised.

        Args:
            path: the file.
            directory: an empty one for the results.
            mode: which faces.
            sampling: which frames of a video; of these, the first MOST_FRAMES are judged.
            progress: is told of each frame.
            still_wanted: is asked now and then; what it raises ends the work.
        """
        written = directory / "results"
        written.mkdir()
        seen = _Seen()
        options = Options(mode, self._finder, sampling, MOST_PIXELS, still_wanted)
        frames = inspect(self.detector, items([path]), options)
        with contextlib.closing(frames):
            (result,) = results(seen.watch(frames, progress), written)
        # The visitor's name of the file; where the server keeps it is nobody's business.
        result["file"] = shown(path.name)
        result["problem"] = result["problem"] and result["problem"].replace(
            shown(str(path)), shown(path.name)
        )
        writer.write(written, [result], self.checkpoint, self.detector, options)
        archive = shutil.make_archive(str(directory / Names().new(path.stem)), "zip", written)
        files = {kind: written / result[kind] for kind in ("overlay", "timeline") if kind in result}
        files["archive"] = Path(archive)
        return Report(result, seen.frame, seen.faces, seen.faces_found, files)


class _Seen:
    """What is kept of the frames that go by: no more than is shown."""

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.faces: list[Face] = []
        self.faces_found = 0

    def watch(self, frames: Iterable[Frame], progress: Progress) -> Iterator[Frame]:
        """The frames, MOST_FRAMES at most."""
        done = 0
        for frame in frames:
            if frame.image is not None:
                if done == MOST_FRAMES:
                    note = f"only the first {MOST_FRAMES:,} of the chosen frames were judged"
                    yield Frame(frame.item, frame.number, notes=[note])
                    return
                done += 1
                self._keep(frame, frame.image)
                progress(done, frame.expected and min(frame.expected, MOST_FRAMES))
            yield frame

    def _keep(self, frame: Frame, image: Image.Image) -> None:
        if self.frame is None or _strength(*frame.verdicts) > _strength(*self.frame.verdicts):
            self.frame = frame
        self.faces_found += len(frame.verdicts)
        for verdict in frame.verdicts:
            crop = image.crop(verdict.box)
            crop.thumbnail((_CROP, _CROP))
            self.faces.append(Face(crop, verdict, frame.seconds))
        self.faces.sort(key=lambda face: _strength(face.verdict), reverse=True)
        del self.faces[MOST_FACES:]


def _strength(*verdicts: Verdict) -> tuple[bool, float, float]:
    """Orders frames and faces by how much there is to show of a forgery."""
    fakes = (verdict.fake_probability or 0.0 for verdict in verdicts)
    shares = (verdict.manipulated_share or 0.0 for verdict in verdicts)
    return bool(verdicts), max(fakes, default=0.0), max(shares, default=0.0)
