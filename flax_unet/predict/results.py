"""The results of a prediction: what was found in a face, a frame, a person, a picture, a video."""

import dataclasses
import statistics
from collections.abc import Iterable, Iterator
from typing import Any, Self

from flax_unet.media.discover import Kind
from flax_unet.media.faces import Box
from flax_unet.nn.decision import Decision, heads_disagree
from flax_unet.predict.pipeline import InspectedFrame
from flax_unet.predict.stretch import Stretch, longest_stretch
from flax_unet.utils.errors import counted
from flax_unet.utils.filenames import shown

Json = dict[str, Any]
# Frames in which a person must be seen for the verdict of a video to be theirs: this share of those
# with a face, and so many. What a face finder takes for a face for a moment is seen in fewer.
ENOUGH_SHARE, ENOUGH_FRAMES = 0.1, 3
_SHOWN = 8  # people who are printed
AGGREGATION = (
    "mean over the frames of the person who is FAKE most likely, among those seen in enough frames"
)


class _Judged:
    """What has a verdict and a share of marked pixels."""

    decision: Decision
    manipulated_share: float | None

    @property
    def heads_disagree(self) -> bool | None:
        """Whether the verdict and the share contradict each other; None without both."""
        return heads_disagree(self.decision.is_real, self.manipulated_share)


@dataclasses.dataclass(frozen=True)
class FaceResult(_Judged):
    """A verdict without its masks."""

    box: Box
    decision: Decision
    manipulated_share: float | None
    detection_confidence: float | None = None
    doubts: tuple[str, ...] = ()
    person: int | None = None  # in a video

    def to_json(self) -> Json:
        """An element of `faces` in predictions.json."""
        person = {} if self.person is None else {"person": self.person}
        return {
            **person,
            "box": list(self.box),
            **self.decision.to_json(),
            "manipulated_share": self.manipulated_share,
            "heads_disagree": self.heads_disagree,
            "detection_confidence": self.detection_confidence,
            "doubts": list(self.doubts),
        }


@dataclasses.dataclass(frozen=True)
class FrameResult:
    """The faces of a picture, or of a frame of a video."""

    faces: list[FaceResult]
    too_small: list[Box]
    index: int | None  # in a video
    seconds: float | None

    @classmethod
    def of(cls, frame: InspectedFrame) -> Self:
        """The result of a frame, without its pixels."""
        people = frame.people or [None] * len(frame.verdicts)
        faces = [
            FaceResult(
                verdict.box,
                verdict.decision,
                verdict.manipulated_share,
                face.confidence,
                face.doubts,
                person,
            )
            for verdict, face, person in zip(frame.verdicts, frame.found.faces, people, strict=True)
        ]
        return cls(faces, frame.found.too_small, frame.index, frame.seconds)

    @property
    def decision(self) -> Decision:
        """That of the face with the highest fake probability."""
        return _worst(face.decision for face in self.faces)

    def to_json(self) -> Json:
        """The part that pictures and frames of videos have in common."""
        faces = [face.to_json() for face in self.faces]
        too_small = [list(box) for box in self.too_small]
        return {**self.decision.to_json(), "faces": faces, "too_small": too_small}


@dataclasses.dataclass(frozen=True)
class PersonResult(_Judged):
    """A person in a video: the means over the frames in which they were judged."""

    person: int  # from 1, in the order of appearance
    decision: Decision
    manipulated_share: float | None
    detection_confidence: float | None
    frames: int  # in which they were judged
    first_seconds: float
    last_seconds: float
    seen_in_enough_frames: bool  # for the video's verdict
    suspicious: Stretch | None = None  # in which they look forged, whatever the verdict is

    def to_json(self) -> Json:
        """An element of `people` in predictions.json."""
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("person", "decision", "suspicious")
        }
        found["heads_disagree"] = self.heads_disagree
        begin, end = self.suspicious or (None, None)
        found |= {"suspicious_from": begin, "suspicious_to": end}
        return {"person": self.person, **self.decision.to_json(), **found}


@dataclasses.dataclass
class FileResult(_Judged):
    """What was found in a picture. A file that is neither picture nor video is a failure."""

    file: str
    kind: Kind
    problem: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None  # (width, height) of the first frame
    frames: list[FrameResult] = dataclasses.field(default_factory=list)
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # names by kind, such as mask
    decision: Decision = dataclasses.field(default_factory=Decision)
    manipulated_share: float | None = None  # see `meaning`
    worth: str | None = None  # of the weights: a sentence for people, set by `predict_files`

    @property
    def status(self) -> str:
        """`ok` or `failed`. A video that is cut short has failed, yet it has frames."""
        return "ok" if self.problem is None else "failed"

    @property
    def faces(self) -> list[FaceResult]:
        """The faces that were judged, of all frames."""
        return [face for frame in self.frames for face in frame.faces]

    def conclude(self) -> None:
        """Derives the rest from the frames, which are complete; notes what was not judged."""
        for frame in self.frames:
            self.decision = frame.decision
            shares = [one.manipulated_share for one in frame.faces if one.decision is self.decision]
            self.manipulated_share = _mean(shares or [f.manipulated_share for f in frame.faces])
            if small := len(frame.too_small):
                faces = "a face is" if small == 1 else f"{small} faces are"
                self.notes.append(f"{faces} too small to judge")
            elif not frame.faces:
                self.notes.append("no face found")
            self.notes += _doubtful(frame.faces)

    def __str__(self) -> str:
        parts, name = [], shown(self.file)
        if self.problem is not None:
            parts.append("failed: " + self.problem.removeprefix(f"{name} "))
        lines = [f"{name}:  {'  '.join([*parts, *self._words()]) or 'no face to judge'}"]
        return "\n  ".join([*lines, *self._details(), *(f"note: {note}" for note in self.notes)])

    def _words(self) -> Iterator[str]:
        faces = self.faces
        yield from _in_words(faces[0] if len(faces) == 1 else self)
        if len(faces) > 1:
            yield counted(len(faces), "face")

    def _details(self) -> Iterator[str]:
        """A line for each of several faces."""
        if len(self.faces) > 1:
            for face in self.faces:
                yield f"face at {tuple(face.box)}:  {'  '.join(_in_words(face))}"

    def to_json(self) -> Json:
        """The entry in predictions.json."""
        keys = ("file", "kind", "status", "problem", "notes")
        head = {key: getattr(self, key) for key in keys}
        if self.size is None:
            return head
        width, height = self.size
        return {**head, "width": width, "height": height, **self._found(), **self.files}

    def _found(self) -> Json:
        of_file = {
            "manipulated_share": self.manipulated_share,
            "heads_disagree": self.heads_disagree,
        }
        return {**self.frames[0].to_json(), **of_file}


@dataclasses.dataclass
class VideoResult(FileResult):
    """What was found in a video: the verdict is that of a person."""

    people: list[PersonResult] = dataclasses.field(default_factory=list)
    person: int | None = None  # whose verdict it is

    @property
    def frames_judged(self) -> int:
        """How many frames have a face that was judged."""
        return sum(bool(frame.faces) for frame in self.frames)

    def conclude(self) -> None:
        """Derives people, verdict and share; notes frames without a face to judge."""
        self.people = list(_people(self.frames, self.frames_judged))
        enough = [one for one in self.people if one.seen_in_enough_frames]
        self.manipulated_share = _mean(face.manipulated_share for face in self.faces)
        self.decision = _worst(one.decision for one in enough)
        for one in enough:
            if one.decision is self.decision:
                self.person, self.manipulated_share = one.person, one.manipulated_share
        if empty := len(self.frames) - self.frames_judged:
            self.notes.append(f"no face to judge in {empty:,} of {len(self.frames):,} frames")
        if few := len(self.people) - len(enough):
            people = "a person is" if few == 1 else f"{few:,} people are"
            self.notes.append(f"{people} seen in too few frames for the verdict")
        self.notes += _doubtful(self.faces)

    def _words(self) -> Iterator[str]:
        one = None if self.person is None else self.people[self.person - 1]
        yield from _in_words(self, one and one.suspicious)
        if len(self.people) > 1 and one is not None:
            mean = f"mean of {counted(one.frames, 'frame')}"
            yield f"person {one.person} of {len(self.people)}, {mean}"
        elif self.frames_judged:
            yield f"mean of {counted(self.frames_judged, 'frame')}"

    def _details(self) -> Iterator[str]:
        """A line for each of several people, of many for those seen most."""
        if len(self.people) < 2:
            return
        by_frames = sorted(self.people, key=lambda one: (one.person != self.person, -one.frames))
        for one in sorted(by_frames[:_SHOWN], key=lambda one: one.person):
            seconds = f"{one.first_seconds:.1f} to {one.last_seconds:.1f} s"
            words = [*_in_words(one, one.suspicious), counted(one.frames, "frame")]
            yield f"person {one.person}, {seconds}:  {'  '.join(words)}"
        if more := len(by_frames[_SHOWN:]):
            yield f"{more:,} more people, seen in fewer frames"

    def _found(self) -> Json:
        return {
            **self.decision.to_json(),
            "manipulated_share": self.manipulated_share,
            "heads_disagree": self.heads_disagree,
            "aggregation": AGGREGATION,
            "person": self.person,
            "people": [person.to_json() for person in self.people],
            "frames_read": len(self.frames),
            "frames_judged": self.frames_judged,
            "frames": [
                {"frame": frame.index, "seconds": frame.seconds, **frame.to_json()}
                for frame in self.frames
            ],
        }


def _people(frames: Iterable[FrameResult], judged: int) -> Iterator[PersonResult]:
    """The people in a video of whose frames so many have a face that was judged."""
    seen: dict[int, list[tuple[float, FaceResult]]] = {}
    for frame in frames:
        for face in frame.faces:
            seen.setdefault(face.person or 1, []).append((frame.seconds or 0.0, face))
    most = max(map(len, seen.values()), default=0)
    enough = min(max(ENOUGH_SHARE * judged, ENOUGH_FRAMES), most)
    for number in sorted(seen):
        seconds, faces = zip(*seen[number], strict=True)
        is_fake = [face.decision.is_real is False for face in faces]
        yield PersonResult(
            person=number,
            decision=Decision(
                _mean(face.decision.real_probability for face in faces),
                faces[0].decision.threshold,
                _mean(face.decision.raw_real_probability for face in faces),
            ),
            manipulated_share=_mean(face.manipulated_share for face in faces),
            detection_confidence=_mean(face.detection_confidence for face in faces),
            frames=len(faces),
            first_seconds=min(seconds),
            last_seconds=max(seconds),
            seen_in_enough_frames=len(faces) >= enough,
            suspicious=longest_stretch(seconds, is_fake),
        )


def _worst(decisions: Iterable[Decision]) -> Decision:
    """The one with the highest fake probability."""
    known = [one for one in decisions if one.real_probability is not None]
    return min(known, key=lambda one: one.real_probability or 0.0, default=Decision())


def _doubtful(faces: Iterable[FaceResult]) -> Iterator[str]:
    """A note on doubtful faces."""
    doubts = [doubt for face in faces for doubt in face.doubts]
    for doubt in dict.fromkeys(doubts):
        number = doubts.count(doubt)
        yield f"{counted(number, 'face')} {'is' if number == 1 else 'are'} {_DOUBTS[doubt]}"


_DOUBTS = {
    "blurred": "blurred: less certain",
    "cut off": "cut off by the edge: less certain",
    "uncertain": "found with little confidence: may not be a face",
}


def _in_words(result: _Judged, suspicious: Stretch | None = None) -> Iterator[str]:
    if result.decision.verdict is not None:
        yield str(result.decision)
    if result.decision.is_real and suspicious is not None:
        yield f"but FAKE from {suspicious.begin:.1f} to {suspicious.end:.1f} s"
    if result.manipulated_share is not None:
        share = f"{result.manipulated_share:.2%} of the pixels marked manipulated"
        yield f"{share}: the heads disagree" if result.heads_disagree else share


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
