"""The results of a prediction: what was found in a face, a frame, a picture and a video."""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any, Self

from flax_unet.media.discover import Kind
from flax_unet.media.faces import Box
from flax_unet.nn.decision import DECISION, fake_probability, is_real, label
from flax_unet.predict.pipeline import InspectedFrame

Json = dict[str, Any]
AGGREGATION = "mean over frames of the highest fake_probability among a frame's faces"
MEANING = {
    "real_probability": "probability that the face is REAL (the classifier's class 1)",
    "fake_probability": "1 - real_probability",
    "verdict": DECISION,
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


@dataclasses.dataclass(frozen=True)
class Decision:
    """REAL or FAKE. All is None where no face was judged, or the network has no classifier."""

    real_probability: float | None

    @property
    def fake_probability(self) -> float | None:
        """1 - real_probability."""
        return None if self.real_probability is None else fake_probability(self.real_probability)

    @property
    def verdict(self) -> str | None:
        """`REAL` or `FAKE`."""
        real = self.real_probability
        return None if real is None else label(is_real(real))

    def to_json(self) -> Json:
        """With the keys that `MEANING` explains."""
        names = ("verdict", "real_probability", "fake_probability")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class FaceResult:
    """A verdict without its masks."""

    box: Box
    decision: Decision
    manipulated_share: float | None

    def to_json(self) -> Json:
        """An element of `faces` in predictions.json."""
        share = {"manipulated_share": self.manipulated_share}
        return {"box": list(self.box), **self.decision.to_json(), **share}


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
        faces = [
            FaceResult(verdict.box, Decision(verdict.real_probability), verdict.manipulated_share)
            for verdict in frame.verdicts
        ]
        return cls(faces, frame.found.too_small, frame.index, frame.seconds)

    @property
    def decision(self) -> Decision:
        """That of the face with the highest fake probability."""
        reals = (face.decision.real_probability for face in self.faces)
        return Decision(min((real for real in reals if real is not None), default=None))

    def to_json(self) -> Json:
        """The part that pictures and frames of videos have in common."""
        faces = [face.to_json() for face in self.faces]
        too_small = [list(box) for box in self.too_small]
        return {**self.decision.to_json(), "faces": faces, "too_small": too_small}


@dataclasses.dataclass
class FileResult:
    """What was found in a picture. A file that is neither picture nor video is a failure."""

    file: str
    kind: Kind
    problem: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    size: tuple[int, int] | None = None  # (width, height) of the first frame
    frames: list[FrameResult] = dataclasses.field(default_factory=list)
    files: dict[str, str] = dataclasses.field(default_factory=dict)  # names by kind, such as mask
    decision: Decision = Decision(None)
    manipulated_share: float | None = None  # of a video

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
            if small := len(frame.too_small):
                faces = "a face is" if small == 1 else f"{small} faces are"
                self.notes.append(f"{faces} too small to judge")
            elif not frame.faces:
                self.notes.append("no face found")

    def to_json(self) -> Json:
        """The entry in predictions.json."""
        keys = ("file", "kind", "status", "problem", "notes")
        head = {key: getattr(self, key) for key in keys}
        if self.size is None:
            return head
        width, height = self.size
        return {**head, "width": width, "height": height, **self._found(), **self.files}

    def _found(self) -> Json:
        return self.frames[0].to_json()


class VideoResult(FileResult):
    """What was found in a video."""

    @property
    def frames_judged(self) -> int:
        """How many frames have a face that was judged."""
        return sum(bool(frame.faces) for frame in self.frames)

    def conclude(self) -> None:
        """Derives decision and share as means, and a note on frames without a face to judge."""
        self.decision = Decision(_mean(frame.decision.real_probability for frame in self.frames))
        self.manipulated_share = _mean(face.manipulated_share for face in self.faces)
        if empty := len(self.frames) - self.frames_judged:
            self.notes.append(f"no face to judge in {empty:,} of {len(self.frames):,} frames")

    def _found(self) -> Json:
        return {
            **self.decision.to_json(),
            "manipulated_share": self.manipulated_share,
            "aggregation": AGGREGATION,
            "frames_read": len(self.frames),
            "frames_judged": self.frames_judged,
            "frames": [
                {"frame": frame.index, "seconds": frame.seconds, **frame.to_json()}
                for frame in self.frames
            ],
        }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
