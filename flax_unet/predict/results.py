"""What was found in each file, as JSON values, and the pictures and videos that show it."""

import contextlib
import itertools
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from flax_unet.media.videos import VideoWriter
from flax_unet.nn.decision import is_real
from flax_unet.predict.draw import framed, overlay, union
from flax_unet.predict.logits import LogitsWriter
from flax_unet.predict.pipeline import Frame
from flax_unet.utils.filenames import Names

Result = dict[str, Any]
AGGREGATION = "mean over frames of the highest fake_probability among a frame's faces"
MEANING = {
    "real_probability": "probability that the face is REAL (the classifier's class 1)",
    "fake_probability": "1 - real_probability",
    "verdict": "REAL where real_probability > 0.5, else FAKE; exactly 0.5 is FAKE",
    "verdict of a picture": "that of the face with the highest fake_probability",
    "verdict of a video": f"of the {AGGREGATION}",
    "manipulated_share": "share of the box's pixels marked MANIPULATED (the mask's class 1)",
    "manipulated_share of a video": "mean over the faces of its frames",
    "box": "left, top, right, bottom in pixels of the file's picture, the last two not included",
    "too_small": "faces that were found and are too small to judge",
    "mask": "palette PNG at the picture's size; index 1 = MANIPULATED, 0 = untouched",
    "mask_threshold": "a pixel is marked MANIPULATED where its probability of that is above it; "
    "null: where MANIPULATED (the mask's class 1) is the likelier class",
    "logits": "NumPy file, (faces, H, W, 2) float32: the mask head's output on the network's grid, "
    "which covers a face's box; class 0 untouched, class 1 MANIPULATED; faces in the order of "
    "`faces`, of a video frame by frame",
}


def results(frames: Iterable[Frame], directory: Path | None) -> Iterator[Result]:
    """A result for each file, as soon as it is complete.

    Args:
        frames: of `inspect`.
        directory: where masks, logits, overlays and timelines go; None writes none.

    Raises:
        InputError: they cannot be written.
    """
    names = Names()
    for _, group in itertools.groupby(frames, key=lambda frame: frame.number):
        first = next(group)
        stem = names.new(first.item.path.stem)
        make = _video if first.item.kind == "video" else _picture
        yield make(itertools.chain([first], group), directory, stem)  # noqa: B031


def _picture(frames: Iterator[Frame], directory: Path | None, stem: str) -> Result:
    (frame,) = frames
    result = _head(frame, [*frame.notes, *_unjudged(frame)])
    if frame.image is None:
        return result
    result |= {"width": frame.image.width, "height": frame.image.height, **_found(frame)}
    if directory is not None and (frame.verdicts or frame.found.too_small):
        pictures = zip(("mask", "overlay"), _drawn(frame, frame.image), strict=True)
        for kind, picture in pictures:
            if picture is not None:
                result[kind] = f"{stem}.{kind}.png"
                # A third of the time of Pillow's own level, for a quarter more bytes.
                picture.save(directory / result[kind], compress_level=1)
        with LogitsWriter(directory / f"{stem}.logits.npy") as logits:
            logits.write(frame.verdicts)
        if logits.faces:
            result["logits"] = logits.path.name
    return result


def _video(frames: Iterator[Frame], directory: Path | None, stem: str) -> Result:
    result: Result = {}
    told: list[Result] = []  # of each frame; a video may have any number, so no picture is kept
    size: tuple[int, int] | None = None
    film: VideoWriter | None = None
    logits: LogitsWriter | None = None
    with contextlib.ExitStack() as stack:
        if directory is not None:
            logits = stack.enter_context(LogitsWriter(directory / f"{stem}.logits.npy"))
        for frame in frames:
            result = _head(frame, [*result.get("notes", []), *frame.notes])
            if frame.image is None:
                continue
            told.append({"frame": frame.index, "seconds": frame.seconds, **_found(frame)})
            size = size or frame.image.size
            if directory is not None:
                if film is None:
                    path, rate = directory / f"{stem}.overlay.webm", frame.frames_a_second
                    film = stack.enter_context(VideoWriter(path, size, rate or 1.0))
                film.write(_drawn(frame, frame.image)[1])
            if logits is not None:
                logits.write(frame.verdicts)
    if size is None:
        return result
    result |= {"width": size[0], "height": size[1], **_summary(told)}
    if len(told) > (judged := result["frames_judged"]):
        result["notes"].append(
            f"no face to judge in {len(told) - judged:,} of {len(told):,} frames"
        )
    if logits is not None and logits.faces:
        result["logits"] = logits.path.name
    if film is not None and not any(frame["faces"] or frame["too_small"] for frame in told):
        film.path.unlink()  # it shows nothing that the video does not
    elif directory is not None and film is not None:
        result["overlay"] = film.path.name
        if result["verdict"] is not None:
            from flax_unet.predict.timeline import write_timeline

            result["timeline"] = f"{stem}.timeline.png"
            write_timeline(directory / result["timeline"], result)
    return result


def _summary(frames: list[Result]) -> Result:
    """What the frames of a video say of it."""
    judged = [frame for frame in frames if frame["faces"]]
    reals = [frame["real_probability"] for frame in judged]
    shares = [face["manipulated_share"] for frame in judged for face in frame["faces"]]
    return {
        **_called(_mean(reals)),
        "manipulated_share": _mean(shares),
        "aggregation": AGGREGATION,
        "frames_read": len(frames),
        "frames_judged": len(judged),
        "frames": frames,
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _head(frame: Frame, notes: list[str]) -> Result:
    return {
        "file": frame.item.name,
        "kind": frame.item.kind,
        "status": "ok" if frame.problem is None else "failed",
        "problem": frame.problem,
        "notes": notes,
    }


def _found(frame: Frame) -> Result:
    """The faces of a frame, and its verdict: that of the one which is FAKE most likely."""
    reals = [v.real_probability for v in frame.verdicts if v.real_probability is not None]
    faces = [
        {
            "box": list(verdict.box),
            **_called(verdict.real_probability),
            "manipulated_share": verdict.manipulated_share,
        }
        for verdict in frame.verdicts
    ]
    small = [list(box) for box in frame.found.too_small]
    return {**_called(min(reals, default=None)), "faces": faces, "too_small": small}


def _called(real: float | None) -> Result:
    return {
        "verdict": None if real is None else ("REAL" if is_real(real) else "FAKE"),
        "real_probability": real,
        "fake_probability": None if real is None else 1 - real,
    }


def _unjudged(frame: Frame) -> list[str]:
    """What of a picture was not judged, for people."""
    small = len(frame.found.too_small)
    if frame.image is None or (frame.verdicts and not small):
        return []
    if not small:
        return ["no face found"]
    return [
        "a face is too small to judge" if small == 1 else f"{small} faces are too small to judge"
    ]


def _drawn(frame: Frame, image: Image.Image) -> tuple[Image.Image | None, Image.Image]:
    """The mask of all faces, and the picture with it and the verdicts."""
    mask = union(frame.verdicts, image.size)
    picture = image if mask is None else overlay(image, mask)
    return mask, framed(picture, frame.verdicts, frame.found.too_small)
