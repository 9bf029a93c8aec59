"""Writes what is drawn of a file: masks, overlays, logits, timelines."""

import contextlib
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from flax_unet.media.videos import VideoWriter
from flax_unet.predict import draw
from flax_unet.predict.pipeline import Inspected, InspectedFrame
from flax_unet.predict.results import FileResult, FrameResult, VideoResult
from flax_unet.utils.filenames import Names

_MASK, _OVERLAY, _FILM = ".mask.png", ".overlay.png", ".overlay.mp4"
_LOGITS, _TIMELINE, _CLOSE_UP = ".logits.npy", ".timeline.png", ".closeup.jpg"
_UNFINISHED = ".overlay.sound.mp4"
_ENDINGS = (_MASK, _OVERLAY, _FILM, _LOGITS, _TIMELINE, _CLOSE_UP, _UNFINISHED)
_HEADER = 128  # bytes of the NumPy file of logits, for any number of faces


def file_results(
    inspected: Iterable[Inspected],
    directory: Path | None = None,
    *,
    overlays: bool = True,
    stems: Iterator[str] | None = None,
    check_wanted: Callable[[], None] = lambda: None,
) -> Iterator[FileResult]:
    """A result for each file of `inspect`, as soon as it is complete.

    The directory gets masks, logits, timelines, close-ups and, if wanted, overlays; None writes
    none. Their names begin with one of `stems` for each file; None: with its name, or one like it.
    While sound is added to an overlay, `check_wanted` is called often; an exception that it raises
    ends the work.

    Raises:
        InputError: they cannot be written.
    """
    names = Names()
    for (_, item), group in itertools.groupby(inspected, key=lambda one: (one.number, one.item)):
        stem = names.new(item.path.stem) if stems is None else next(stems)
        is_video = item.kind == "video"
        result = (VideoResult if is_video else FileResult)(item.name, item.kind)
        files, close_ups = result.files, _CloseUps()
        frames = _frames(group, result)
        if directory is not None:
            logits, overlay = directory / f"{stem}{_LOGITS}", directory / f"{stem}{_FILM}"
            if not is_video:
                frames = _write_picture(frames, directory, stem, files, overlays=overlays)
            frames = write_logits(frames, logits, files)
            if is_video and overlays:
                frames = _write_video(frames, overlay, result, check_wanted)
            if is_video:
                frames = close_ups.of(frames)
        for frame in frames:
            result.size = result.size or frame.image.size
            result.frames.append(FrameResult.of(frame))  # without pixels: videos may be long
        result.conclude()
        if directory is not None and isinstance(result, VideoResult) and result.person:
            files["timeline"] = f"{stem}{_TIMELINE}"
            draw.write_timeline(directory / files["timeline"], result)
            files["close_up"] = f"{stem}{_CLOSE_UP}"
            (directory / files["close_up"]).write_bytes(close_ups[result.person])
        yield result


def _frames(inspected: Iterable[Inspected], result: FileResult) -> Iterator[InspectedFrame]:
    """The frames of a file; its notes and its problem go to `result`."""
    for one in inspected:
        if isinstance(one, InspectedFrame):
            yield one
        elif one.is_problem:
            result.problem = one.text
        else:
            result.notes.append(one.text)


def _write_picture(
    frames: Iterable[InspectedFrame],
    directory: Path,
    stem: str,
    files: dict[str, str],
    *,
    overlays: bool,
) -> Iterator[InspectedFrame]:
    """Passes a picture on; writes its mask and overlay if there is a face."""
    for frame in frames:
        yield frame
        if not (frame.verdicts or frame.found.too_small):
            continue
        pictures = {"mask": draw.union(frame.verdicts, frame.image.size)}
        if overlays:
            pictures["overlay"] = _overlay(frame)
        for kind, picture in pictures.items():
            if picture is not None:
                files[kind] = stem + (_MASK if kind == "mask" else _OVERLAY)
                # A third of the time of Pillow's own level, for a quarter more bytes.
                picture.save(directory / files[kind], compress_level=1)


def _write_video(
    frames: Iterable[InspectedFrame],
    path: Path,
    result: FileResult,
    check_wanted: Callable[[], None],
) -> Iterator[InspectedFrame]:
    """Passes frames on; writes them as an overlay video, with the sound, if there is a face."""
    film: VideoWriter | None = None
    shows_faces = False
    with contextlib.ExitStack() as stack:
        for frame in frames:
            if film is None:
                rate, size = frame.frames_a_second or 1.0, frame.image.size
                film = VideoWriter(path, size, rate, frame.item.path, check_wanted)
                stack.enter_context(film)
            film.write(_overlay(frame), frame.seconds)
            shows_faces |= bool(frame.verdicts or frame.found.too_small)
            yield frame
    if film is None:
        return
    if shows_faces:
        result.files["overlay"] = path.name
        result.notes += film.notes
    else:
        path.unlink()  # it shows no more than the video does


class _CloseUps:
    """The most suspicious face of each person in a video, as JPEG, since there may be many."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[float, bytes]] = {}

    def of(self, frames: Iterable[InspectedFrame]) -> Iterator[InspectedFrame]:
        """Passes frames on, and looks at them."""
        for frame in frames:
            for person, verdict in zip(frame.people, frame.verdicts, strict=True):
                fake = verdict.decision.fake_probability
                if fake is not None and fake > self._found.get(person, (-1.0,))[0]:
                    file = io.BytesIO()
                    draw.close_up(frame.image, verdict).save(file, "JPEG")
                    self._found[person] = fake, file.getvalue()
            yield frame

    def __getitem__(self, person: int) -> bytes:
        """The face of a person."""
        return self._found[person][1]


def write_logits(
    frames: Iterable[InspectedFrame], path: Path, files: dict[str, str]
) -> Iterator[InspectedFrame]:
    """Passes frames on; writes the logits of all faces, (faces, H, W, 2) float32, if there are any.

    They are written face by face, so that those of a long video need no memory.
    """
    shape: list[int] = []
    file: IO[bytes] | None = None
    with contextlib.ExitStack() as stack:
        for frame in frames:
            for verdict in frame.verdicts:
                if (logits := verdict.mask_logits) is None:
                    continue
                if file is None:
                    file = stack.enter_context(path.open("wb"))
                    file.write(bytes(_HEADER))  # filled in when the number of faces is known
                    shape = [0, *logits.shape]
                file.write(logits.astype("<f4").tobytes())
                shape[0] += 1
            yield frame
        if file is not None:
            file.seek(0)
            header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(file, header)
            files["logits"] = path.name


def _overlay(frame: InspectedFrame) -> Image.Image:
    return draw.overlay(frame.image, frame.verdicts, frame.found.too_small, frame.people)


def remove_results(directory: Path, stem: str) -> None:
    """Removes what was written of a file so far."""
    for ending in _ENDINGS:
        (directory / f"{stem}{ending}").unlink(missing_ok=True)


def is_result(name: str) -> bool:
    """Whether a file's name is one that is given here."""
    return name.endswith(_ENDINGS)
