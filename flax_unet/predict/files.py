"""Judges files from Python, as the command does."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, get_args

from flax_unet.detector import Detector
from flax_unet.face_network import network_for
from flax_unet.media.discover import LeftOut, items
from flax_unet.media.faces import FaceFinder, Mode
from flax_unet.media.images import MAX_PIXELS
from flax_unet.media.videos import Sampling
from flax_unet.predict.pipeline import Options, inspect, lots
from flax_unet.predict.predictions import are_results
from flax_unet.predict.results import FileResult, VideoResult
from flax_unet.predict.writer import file_results
from flax_unet.utils.errors import InputError

Checkpoint = Detector | str | Path


def predict_files(
    paths: Iterable[str | Path],
    checkpoint: Checkpoint,
    *,
    faces: Mode = "auto",
    every: int = 1,
    frames: int | None = None,
    keyframes: bool = False,
    max_pixels: int = MAX_PIXELS,
    left_out: LeftOut | None = None,
) -> Generator[FileResult]:
    """Finds and judges the faces in pictures and videos.

    Args:
        paths: files, and folders of them.
        checkpoint: the directory of one, or a Detector, which is loaded once for many calls.
        faces: `auto` cuts out each face, or judges the whole picture if one face fills it; `crop`
            always cuts; `none` judges every picture as the crop of one face.
        every: each N-th frame of a video is judged.
        frames: this many evenly spaced frames of a video are judged instead.
        keyframes: the keyframes of a video alone are judged, which is fast.
        max_pixels: larger pictures are refused; JPEG is reduced to this size instead.
        left_out: counts what is left out of folders: files that are not pictures or videos, and
            folders of results.

    Yields:
        A result for each file, in order, as soon as it is complete: a VideoResult of a video. Its
        `problem` is None, or says why the file could not be judged, or not to its end. Its `worth`
        is a sentence on what the weights were trained and measured on.

    Raises:
        InputError: the checkpoint is missing or damaged.
        ValueError: an argument is out of its range.
        ModuleNotFoundError: the extra `media` is not installed; pictures with `faces="none"` need
            it only if they are HEIF.
    """
    if isinstance(paths, str | Path):
        raise ValueError("this is one path; pass a list of paths, or call predict_file")
    if faces not in get_args(Mode):
        raise ValueError(f"faces is {faces!r}; expected one of {', '.join(get_args(Mode))}")
    for name, value in {"every": every, "frames": frames, "max_pixels": max_pixels}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if (every > 1) + (frames is not None) + keyframes > 1:
        raise ValueError("every, frames and keyframes exclude each other; give one")
    detector = (
        checkpoint if isinstance(checkpoint, Detector) else Detector.from_checkpoint(checkpoint)
    )
    finder = None
    if faces != "none":
        finder = FaceFinder(network_for(detector.devices[0]))
    sampling = Sampling(every, frames, keyframes)
    options = Options(faces, finder, sampling, max_pixels, "raise max_pixels")
    found = lots(items(map(Path, paths), left_out, are_results), detector.batch_size)
    for result in file_results(inspect(detector, found, options)):
        result.worth = detector.worth.sentence
        yield result


def predict_file(
    path: str | Path,
    checkpoint: Checkpoint,
    *,
    faces: Mode = "auto",
    every: int = 1,
    frames: int | None = None,
    keyframes: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> FileResult | VideoResult:
    """The result of one picture or video; the arguments are those of `predict_files`.

    Raises:
        InputError, ValueError, ModuleNotFoundError: as `predict_files`, or `path` is a folder.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a directory; name a file, or call predict_files")
    sampling: dict[str, Any] = {"every": every, "frames": frames, "keyframes": keyframes}
    (result,) = predict_files([path], checkpoint, faces=faces, max_pixels=max_pixels, **sampling)
    return result
