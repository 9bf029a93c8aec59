"""Writes the results of a prediction: masks, overlays, logits, predictions.json and .csv."""

import contextlib
import csv
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.checkpoint.worth import Worth
from flax_unet.media.discover import LeftOut
from flax_unet.media.videos import VideoWriter
from flax_unet.nn.decision import RAW, Decision
from flax_unet.predict import draw
from flax_unet.predict.meaning import meaning
from flax_unet.predict.pipeline import Inspected, InspectedFrame, Options
from flax_unet.predict.results import FileResult, FrameResult, VideoResult
from flax_unet.predict.summary import Summary
from flax_unet.utils.filenames import Names

if TYPE_CHECKING:
    from flax_unet.detector import Detector

JSON, TABLE = "predictions.json", "predictions.csv"
_MASK, _OVERLAY, _FILM = ".mask.png", ".overlay.png", ".overlay.mp4"
_LOGITS, _TIMELINE = ".logits.npy", ".timeline.png"
_UNFINISHED = ".overlay.sound.mp4"
_ENDINGS = (_MASK, _OVERLAY, _FILM, _LOGITS, _TIMELINE, _UNFINISHED)
_HEADER = 128  # bytes of the NumPy file of logits, for any number of faces
_CORNERS = ("left", "top", "right", "bottom")
_COLUMNS = (
    *("level", "file", "kind", "status", "problem", "notes"),
    *("person", "frame", "seconds", "face", *_CORNERS),
    *(*Decision().to_json(), RAW, "manipulated_share", "detection_confidence", "doubts", "frames"),
    "heads_disagree",
)


def file_results(
    inspected: Iterable[Inspected],
    directory: Path | None = None,
    *,
    overlays: bool = True,
    stems: Iterator[str] | None = None,
) -> Iterator[FileResult]:
    """A result for each file of `inspect`, as soon as it is complete.

    The directory gets masks, logits, timelines and, if wanted, overlays; None writes none. Their
    names begin with one of `stems` for each file; None: with its name, or one like it.

    Raises:
        InputError: they cannot be written.
    """
    names = Names()
    for (_, item), group in itertools.groupby(inspected, key=lambda one: (one.number, one.item)):
        stem = names.new(item.path.stem) if stems is None else next(stems)
        is_video = item.kind == "video"
        result = (VideoResult if is_video else FileResult)(item.name, item.kind)
        files = result.files
        frames = _frames(group, result)
        if directory is not None:
            logits, overlay = directory / f"{stem}{_LOGITS}", directory / f"{stem}{_FILM}"
            if not is_video:
                frames = _write_picture(frames, directory, stem, files, overlays=overlays)
            frames = write_logits(frames, logits, files)
            if is_video and overlays:
                frames = _write_video(frames, overlay, result)
        for frame in frames:
            result.size = result.size or frame.image.size
            result.frames.append(FrameResult.of(frame))  # without pixels: videos may be long
        result.conclude()
        if directory is not None and isinstance(result, VideoResult) and result.person:
            files["timeline"] = f"{stem}{_TIMELINE}"
            draw.write_timeline(directory / files["timeline"], result)
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
    frames: Iterable[InspectedFrame], path: Path, result: FileResult
) -> Iterator[InspectedFrame]:
    """Passes frames on; writes them as an overlay video, with the sound, if there is a face."""
    film: VideoWriter | None = None
    shows_faces = False
    with contextlib.ExitStack() as stack:
        for frame in frames:
            if film is None:
                rate, size = frame.frames_a_second or 1.0, frame.image.size
                film = stack.enter_context(VideoWriter(path, size, rate, frame.item.path))
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


def may_be_replaced(directory: Path) -> bool:
    """Whether a directory holds results of a prediction, and nothing else."""
    if not (directory / JSON).is_file() or not (directory / TABLE).is_file():
        return False
    return not others(directory)


def others(directory: Path) -> list[str]:
    """The names in a directory that are not results of a prediction."""
    return sorted(
        entry.name
        for entry in directory.iterdir()
        if not entry.is_file() or not (entry.name in (JSON, TABLE) or entry.name.endswith(_ENDINGS))
    )


def write_predictions(
    directory: Path,
    results: Sequence[FileResult],
    checkpoint_path: Path,
    detector: "Detector",
    options: Options,
    left_out: LeftOut,
) -> None:
    """Writes predictions.json and predictions.csv, beside the files that the results name.

    predictions.json also holds the last name of `checkpoint_path`, what its weights are worth, the
    size of the network's input, and the options of masks and files.

    Raises:
        InputError: a file cannot be written, or the checkpoint is damaged.
    """
    source = metadata.load_source(checkpoint_path)
    calibration, columns = {}, [column for column in _COLUMNS if column != RAW]
    if detector.calibration is not None:
        calibration = {metadata.CALIBRATION: dataclasses.asdict(detector.calibration)}
        columns = _COLUMNS
    written = {
        "checkpoint": checkpoint_path.resolve().name,
        "checkpoint_source": {key: source.get(key) for key in ("file", "sha256", "layout")},
        "worth": Worth.of(source).sentence,
        "image_size": detector.config.to_json()["image_size"],
        "options": {
            "faces": options.mode,
            **options.sampling._asdict(),
            "threshold": detector.threshold,
            **calibration,
            "mask_threshold": detector.mask_threshold,
            "save_logits": detector.keep_logits,
            "dtype": detector.dtype,
        },
        "meaning": meaning(detector.threshold, detector.calibration),
        "summary": Summary.of(Counter(one.outcome for one in results), left_out).to_json(),
        "left_out": left_out.to_json(),
        "files": [result.to_json() for result in results],
        "made_by": made_by(),
    }
    metadata.write_json(directory / JSON, written)
    with (directory / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for result in results:
            table.writerows(_rows(result))


def _rows(result: FileResult) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    One of level `file` with its verdict, one of level `person` for each person in a video, and one
    of level `face` for each face.
    """
    common = {"file": _text(result.file), "kind": result.kind}
    problem, notes = _text(result.problem or ""), _text("; ".join(result.notes))
    status = {"status": result.status, "problem": problem, "notes": notes}
    found = {**result.decision.to_json(), "manipulated_share": result.manipulated_share}
    if isinstance(result, VideoResult):
        found |= {"person": result.person, "frames": result.frames_judged}
        found["heads_disagree"] = result.heads_disagree
    yield {"level": "file", **common, **status, **found}
    for person in result.people if isinstance(result, VideoResult) else ():
        found = person.to_json()
        yield {
            "level": "person",
            **common,
            **{column: found[column] for column in _COLUMNS if column in found},
            "seconds": person.first_seconds,
        }
    for frame in result.frames:
        for number, face in enumerate(frame.faces, start=1):
            position = {"frame": frame.index, "seconds": frame.seconds, "face": number}
            found = face.to_json()
            corners = dict(zip(_CORNERS, found.pop("box"), strict=True))
            found["doubts"] = "; ".join(face.doubts)
            yield {"level": "face", **common, **position, **corners, **found}


def _text(text: str) -> str:
    """A text that spreadsheets do not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
