"""Judges one file for the page, writes its results and keeps what the page shows."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from flax_unet.checkpoint import metadata
from flax_unet.media.discover import LeftOut, items
from flax_unet.media.faces import Face as FoundFace
from flax_unet.media.faces import FaceFinder, Mode
from flax_unet.media.videos import Sampling
from flax_unet.predict import writer
from flax_unet.predict.pipeline import FileNote, Inspected, InspectedFrame, Options, inspect, lots
from flax_unet.predict.predictions import head_of, write_predictions
from flax_unet.predict.results import FileResult
from flax_unet.predict.summary import Summary, outcome
from flax_unet.utils.filenames import Names, shown
from flax_unet.utils.files import followed
from flax_unet.verdict import Verdict

MOST_FRAMES = 1000  # of a video are judged: the visitor waits
MOST_AT_ONCE = 100  # faces of a picture or frame are judged, the largest
MOST_JUDGED = 5000  # faces of a video, after which no further frame is judged
MOST_PIXELS = 2e10  # of a video are decoded: 9,600 frames of Full HD
FEW_FRAMES = Sampling(frames=64)
MOST_FACES = 12  # are shown
_CROP = 240  # pixels a side of a shown face, at most

Progress = Callable[[int, int | None], None]  # frames done; of how many, if known


class Face(NamedTuple):
    """A face to show."""

    crop: Image.Image
    verdict: Verdict
    found: FoundFace  # with what makes it doubtful
    seconds: float | None  # in a video
    person: int | None  # in a video


class Choice(NamedTuple):
    """How a visitor wants a file to be judged."""

    mode: Mode = "auto"
    sampling: Sampling = FEW_FRAMES


class Report(NamedTuple):
    """What the page shows of a file."""

    result: FileResult
    frame: InspectedFrame | None  # the picture, or the most suspicious frame of the video
    faces: list[Face]  # the most suspicious first; MOST_FACES at most
    faces_found: int
    people: dict[int, Face]  # of a video: the most suspicious face of each person
    frames_a_second: float | None  # of the frames of a video that were judged
    files: dict[str, Path]  # those that exist among: archive (of all results), overlay, timeline
    end: float | None = None  # of a video judged in part, at its beginning: where, in seconds


class Judge:
    """The network and the face finder, loaded once; one thread at a time may use it."""

    def __init__(
        self, checkpoint: Path, face_model: Path | None = None, threshold: float | None = None
    ) -> None:
        """Loads both; see `Detector` for `threshold`.

        Raises:
            InputError: the checkpoint or the face model cannot be used.
            ModuleNotFoundError: the extra `media` is not installed.
        """
        from flax_unet.detector import Detector  # needs JAX, which takes seconds to import
        from flax_unet.face_network import network_for

        self.checkpoint = checkpoint
        self.detector = Detector.from_checkpoint(checkpoint, threshold=threshold)
        self._finder = FaceFinder(network_for(self.detector.devices[0], face_model))
        # For visitors.
        self.worth, self.card = self.detector.worth, _card(checkpoint)

    def __call__(
        self,
        path: Path,
        directory: Path,
        mode: Mode = "auto",
        sampling: Sampling = FEW_FRAMES,
        progress: Progress = lambda done, total: None,
        check_wanted: Callable[[], None] = lambda: None,
    ) -> Report:
        """Judges a picture or a video. A problem with the file is in the report, not raised.

        The results go to `directory`, an empty one. Of a video, the first MOST_FRAMES of the chosen
        frames are judged, or fewer if they have MOST_JUDGED faces. `progress` is called after each
        of them, and `check_wanted` often; an exception that it raises ends the work.
        """
        written = directory / "results"
        written.mkdir()
        seen = _Seen()
        options = Options(
            mode,
            self._finder,
            sampling,
            video_pixels=MOST_PIXELS,
            most_faces=MOST_AT_ONCE,
            check_wanted=check_wanted,
        )
        inspected = inspect(self.detector, lots(items([path]), 1), options)
        with contextlib.closing(inspected):
            watched = seen.watch(inspected, progress)
            (result,) = writer.file_results(watched, written, check_wanted=check_wanted)
        # The name that the visitor gave: the server's directory stays private.
        result.file = shown(path.name)
        if result.problem is not None:
            result.problem = result.problem.replace(shown(str(path)), result.file)
        entry, left_out = result.to_json(), LeftOut()
        write_predictions(
            written,
            [entry],
            head_of(self.checkpoint, self.detector, options),
            Summary.of(Counter([outcome(entry)]), left_out).to_json(),
            left_out.to_json(),
        )
        archive = shutil.make_archive(str(directory / Names().new(path.stem)), "zip", written)
        files = {kind: written / name for kind, name in result.files.items()}
        files["archive"] = Path(archive)
        found = (seen.frame, seen.faces, seen.faces_found, seen.people, seen.rate)
        return Report(result, *found, files, seen.end)


def _card(checkpoint: Path) -> str | None:
    """The model card's text; None if the checkpoint has none."""
    path = followed(checkpoint) / metadata.CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


class _Seen:
    """Keeps what the page shows of the frames that pass."""

    def __init__(self) -> None:
        self.frame: InspectedFrame | None = None
        self.faces: list[Face] = []
        self.faces_found = 0
        self.people: dict[int, Face] = {}
        self.rate: float | None = None
        self.end: float | None = None
        self._seconds: float | None = None  # of the last frame

    def watch(self, inspected: Iterable[Inspected], progress: Progress) -> Iterator[Inspected]:
        """Passes everything on, up to MOST_FRAMES frames or MOST_JUDGED faces."""
        done, is_crowded = 0, False
        for one in inspected:
            if isinstance(one, InspectedFrame):
                if done == MOST_FRAMES or self.faces_found >= MOST_JUDGED:
                    note = f"only the first {done:,} of the chosen frames were judged"
                    if done < MOST_FRAMES:
                        note += f": they have {self.faces_found:,} faces"
                    self.end = self._seconds
                    yield FileNote(one.item, one.number, note, is_part=True)
                    return
                if len(one.verdicts) == MOST_AT_ONCE and not is_crowded:
                    is_crowded = True
                    where = "frame" if one.item.kind == "video" else "picture"
                    note = f"at most {MOST_AT_ONCE} faces of a {where} are judged, the largest"
                    yield FileNote(one.item, one.number, note)
                done += 1
                self._keep(one)
                progress(done, one.expected and min(one.expected, MOST_FRAMES))
            elif one.is_part:
                self.end = self._seconds
            yield one

    def _keep(self, frame: InspectedFrame) -> None:
        if self.frame is None or _strength(*frame.verdicts) > _strength(*self.frame.verdicts):
            self.frame = frame
        self.faces_found += len(frame.verdicts)
        self.rate, self._seconds = frame.frames_a_second, frame.seconds
        people = frame.people or [None] * len(frame.verdicts)
        for verdict, found, person in zip(frame.verdicts, frame.found.faces, people, strict=True):
            crop = frame.image.crop(verdict.box)
            crop.thumbnail((_CROP, _CROP))
            face = Face(crop, verdict, found, frame.seconds, person)
            self.faces.append(face)
            if person is not None:
                before = self.people.setdefault(person, face)
                self.people[person] = max(before, face, key=lambda one: _strength(one.verdict))
        self.faces.sort(key=lambda face: _strength(face.verdict), reverse=True)
        del self.faces[MOST_FACES:]


def _strength(*verdicts: Verdict) -> tuple[bool, float, float]:
    """Orders frames and faces by how suspicious they are."""
    fakes = (verdict.fake_probability or 0.0 for verdict in verdicts)
    shares = (verdict.manipulated_share or 0.0 for verdict in verdicts)
    return bool(verdicts), max(fakes, default=0.0), max(shares, default=0.0)
