"""Makes what the result holds of a video: all of it, or nothing."""

import contextlib
import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

from flax_unet.media.faces import Box, FaceFinder, opencv
from flax_unet.media.videos import Sampling
from flax_unet.nn.decision import label
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import shown
from train.data.layouts.tree import CROPS, MASKS
from train.prepare import frames, masks
from train.prepare.crops import Crops, Frame, UnlikeError, follow, search, take
from train.prepare.frames import Moment
from train.prepare.layouts.pictures import Pictures
from train.prepare.layouts.record import Video
from train.prepare.plan import Group, Planned

RECORDS, STAGE = "videos", ".stage"  # below the result's folder
FOLDERS = {"train": "training", "validation": "validation", "test": "testing"}
_RECORD = "record.json"
_ORIGINAL = "sha256_of_original"  # in a record; null without one that can be used
_WITH_MASKS = "listed_with_masks"  # in a record: whether its data set had masks of it
METADATA = (  # what metadata.json has of a record
    *("label", "original", "split", "data_set", "method", "compression", "file", "sha256"),
    *("size", "frames_a_second", "masks"),
)
_FIELDS = {  # of a record
    *METADATA,
    *("size_of_boxes", "frames_read", "crops", "bytes", "faces_left_out", "notes", "frames"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides on the crops and masks of a video."""

    sampling: Sampling
    format: str
    mask_threshold: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a video: its record, see `_record`, or the problem."""

    planned: Planned
    record: dict[str, Any] | None = None
    problem: str | None = None
    was_made: bool = False  # by a run before

    def without_frames(self) -> "Outcome":
        """A smaller copy: thousands of them are kept until the end."""
        record = {k: v for k, v in (self.record or {}).items() if k != "frames"}
        return dataclasses.replace(self, record=record or None)


def start() -> None:
    """Prepares a process for work: the others have the other cores."""
    opencv().setNumThreads(1)


def make_group(group: Group, out: Path, options: Options) -> list[Outcome]:
    """Makes the videos of a group, those excepted that were made before.

    Raises:
        OSError: the result cannot be written.
    """
    outcomes: list[Outcome] = []
    original: Outcome | None = None
    for planned in group:
        try:
            record = _read_record(out, planned, original)
            was_made = record is not None
            record = record or _make(planned, original, out, options)
            outcomes.append(Outcome(planned, record, was_made=was_made))
        except InputError as error:
            problem = str(error).removeprefix(f"{planned.video.path} ")
            outcomes.append(Outcome(planned, problem=problem))
        if planned.video.is_real:
            original = outcomes[-1]
    return [outcome.without_frames() for outcome in outcomes]


def _read_record(out: Path, planned: Planned, original: Outcome | None) -> dict[str, Any] | None:
    """The record of a video that was made before.

    None also if it is damaged, if something else is known of the video now, or if it is a fake
    whose original could not be used then, or was another.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        record = json.loads(record_path(out, planned).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not record.keys() >= _FIELDS:
            return None
        record.setdefault(_WITH_MASKS, record["masks"] == "video")  # the first ones lack it
        if record.items() >= _known(planned).items():
            now = _sha256_of(original)
            if now is None or record.get(_ORIGINAL, now) == now:  # the first records have no such
                return record
    return None


def _sha256_of(original: Outcome | None) -> str | None:
    """That of an original's file; None if it cannot be used."""
    return None if original is None or original.record is None else original.record["sha256"]


def is_made(out: Path, planned: Planned) -> bool:
    """Whether a video was made before."""
    return record_path(out, planned).exists()


def record_path(out: Path, planned: Planned) -> Path:
    """The file of a video's record."""
    return out / RECORDS / f"{planned.key}.json"


def folder(out: Path, planned: Planned, part: str) -> Path:
    """The folder of a video's CROPS or MASKS."""
    return out / FOLDERS[planned.split] / part / planned.key


def _make(
    planned: Planned, original: Outcome | None, out: Path, options: Options
) -> dict[str, Any]:
    """Makes a video's crops and masks, and last its record, which means that they are complete.

    Raises:
        InputError: the video cannot be used.
        OSError: the result cannot be written.
    """
    stage = out / STAGE / planned.key
    try:
        crops, originals = _cut(planned, original, out, stage, options)
        source = _mark(planned, crops, originals, stage / MASKS, options)
        record = _record(planned, crops, source) | {_ORIGINAL: _sha256_of(original)}
        text = json.dumps(record, ensure_ascii=False, indent=1)
        (stage / _RECORD).write_text(f"{text}\n", encoding="utf-8")
        for part in (CROPS, MASKS):
            target = folder(out, planned, part)
            shutil.rmtree(target, ignore_errors=True)  # of a run that ended before the record
            if (stage / part).is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                (stage / part).rename(target)
        (stage / _RECORD).replace(record_path(out, planned))
        return json.loads(text)  # as another run will read it
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _cut(
    planned: Planned, original: Outcome | None, out: Path, stage: Path, options: Options
) -> tuple[Crops, Path | None]:
    """The crops of a video, and the folder with the same crops of its original, if it has one."""
    video, note = planned.video, None
    originals = record = None
    if original is not None and (record := original.record) is not None:
        originals = folder(out, original.planned, CROPS)
    elif video.originals:
        note = "its original is missing or cannot be used"
    crops = _begun(video, stage / CROPS, options)
    if video.is_crop:
        crops.notes += filter(None, [note])
        try:
            like = [] if record is None else _frames_of(record)
            take(video.source, crops, options.sampling, like, originals)
            return crops, originals
        except UnlikeError as error:
            crops.notes.append(f"{error}; they are not compared")
            return crops, None
    if original is not None and originals is not None and record is not None:
        try:
            of, size = original.planned.video.source, tuple(record["size_of_boxes"])
            follow(video.source, of, crops, options.sampling, _frames_of(record), size, originals)
            return crops, originals
        except UnlikeError as error:
            note = str(error)
            crops = _begun(video, stage / CROPS, options)
    if note is not None:
        crops.notes.append(f"{note}; faces were found in the fake itself")
    search(video.source, crops, options.sampling, _finder())
    return crops, None


def _begun(video: Video, folder: Path, options: Options) -> Crops:
    """No crops yet, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Crops(folder, options.format, notes=[*video.notes])


@functools.cache
def _finder() -> FaceFinder:
    return FaceFinder()


def _mark(
    planned: Planned, crops: Crops, originals: Path | None, folder: Path, options: Options
) -> str | None:
    """Writes the masks of a video, and gives their source; None without masks."""
    if planned.video.is_real:
        masks.untouched(crops, folder)
        return "untouched"
    if planned.video.mask_video is not None:
        try:
            path = planned.video.mask_video
            source = Pictures.of(path) if path.is_dir() else path
            masks.of_video(crops, planned.video.source, source, folder)
            if folder.is_dir():  # otherwise it has none of the frames
                return "video"
        except InputError as error:
            crops.notes.append(f"its masks: {error}")
            shutil.rmtree(folder, ignore_errors=True)
    if originals is not None:
        masks.by_similarity(crops, originals, options.mask_threshold, folder)
    return "similarity" if folder.is_dir() else None


def _known(planned: Planned) -> dict[str, Any]:
    """What is listed of a video before it is read, and decides on what is made of it."""
    return {
        "label": label(planned.video.is_real),
        "original": [f"{key}.mp4" for key in planned.originals] or None,
        "split": planned.split,
        "data_set": shown(planned.video.data_set),
        "file": shown(planned.video.name),
        _WITH_MASKS: planned.video.mask_video is not None,
    }


def _record(planned: Planned, crops: Crops, masks_by: str | None) -> dict[str, Any]:
    video = planned.video
    return {
        **_known(planned),
        "method": video.method,
        "compression": video.compression,
        "sha256": video.sha256(),
        "size": crops.size,
        "frames_a_second": frames.rate(crops.shown),
        "masks": masks_by,
        "size_of_boxes": crops.scale,
        "frames_read": len(crops.shown),
        "crops": sum(len(frame.faces) for frame in crops.frames),
        "bytes": sum(path.stat().st_size for path in crops.folder.iterdir()),
        "faces_left_out": dict(sorted(crops.left_out.items())),
        "notes": crops.notes,
        "frames": [
            {"number": frame.moment.number, "seconds": frame.moment.seconds, "faces": frame.faces}
            for frame in crops.frames
        ],
    }


def _frames_of(record: dict[str, Any]) -> list[Frame]:
    return [
        Frame(
            Moment(frame["number"], frame["seconds"]),
            {int(person): Box(*box) for person, box in frame["faces"].items()},
        )
        for frame in record["frames"]
    ]
