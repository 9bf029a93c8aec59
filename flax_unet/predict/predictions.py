"""Writes predictions.json and predictions.csv, from the entries of files, and summary.csv."""

import csv
import dataclasses
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.checkpoint.worth import Worth
from flax_unet.nn.decision import RAW, Decision
from flax_unet.predict.findings import Findings
from flax_unet.predict.meaning import meaning
from flax_unet.predict.pipeline import Options
from flax_unet.predict.plan import WHOLE, Shard
from flax_unet.predict.report import REPORT
from flax_unet.predict.results import Json
from flax_unet.predict.summary import Summary
from flax_unet.predict.writer import is_result
from flax_unet.utils.errors import InputError

if TYPE_CHECKING:
    from flax_unet.detector import Detector

JSON, TABLE, LINES = "predictions.json", "predictions.csv", "predictions.jsonl"
SUMMARY = "summary.csv"
RUN = "run.json"  # while results are unfinished
ARCHIVE = "archive"  # the key of `plan.fingerprint`
WEIGHTS = "weights_sha256"  # of `store.fingerprint`
NAMES = (JSON, TABLE, LINES, SUMMARY, REPORT, RUN)
_FILES = ' "files": ['  # begins the line of JSON behind which files follow
_FORMULA = tuple("=+-@\t\r\n")  # how a formula begins; spreadsheets skip blanks
_CORNERS = ("left", "top", "right", "bottom")
_DECISION = (*Decision().to_json(), RAW)
_COLUMNS = (
    *("level", "file", "kind", "status", "problem", "notes"),
    *("person", "frame", "seconds", "face", *_CORNERS),
    *(*_DECISION, "manipulated_share", "detection_confidence", "doubts", "frames"),
    *("heads_disagree", "suspicious_from", "suspicious_to"),
)


def may_be_replaced(directory: Path) -> bool:
    """Whether a directory holds results of a prediction, and nothing else."""
    if not (directory / JSON).is_file() or not (directory / TABLE).is_file():
        return False
    return not others(directory)


def are_results(names: Collection[str]) -> bool:
    """Whether a folder with these names in it holds results, perhaps unfinished ones."""
    return LINES in names and (RUN in names or JSON in names)


def is_own(name: str) -> bool:
    """Whether a file's name is one that this command gives."""
    return name in NAMES or is_result(name)


def others(directory: Path) -> list[str]:
    """The names in a directory that are not results of a prediction."""
    return sorted(
        entry.name for entry in directory.iterdir() if not entry.is_file() or not is_own(entry.name)
    )


def options_of(detector: "Detector", options: Options) -> Json:
    """What verdicts, masks and the choice of faces and frames depend on, besides the weights."""
    calibration = {}
    if detector.calibration is not None:
        calibration = {metadata.CALIBRATION: dataclasses.asdict(detector.calibration)}
    return {
        "faces": options.mode,
        **options.sampling._asdict(),
        "threshold": detector.threshold,
        **calibration,
        "mask_threshold": detector.mask_threshold,
        "save_logits": detector.keep_logits,
        "dtype": detector.dtype,
    }


def head_of(
    checkpoint_path: Path,
    detector: "Detector",
    options: Options,
    shard: Shard = WHOLE,
    asked: Mapping[str, Any] = MappingProxyType({}),
) -> Json:
    """What predictions.json says of all files together.

    That is the last name of `checkpoint_path`, what its weights are worth, the size of the
    network's input, the options of masks and files, the rate of false alarms for which the
    checkpoint's threshold was set, the part of the work, what else was `asked`, and what they were
    made by.

    Raises:
        InputError: the checkpoint is damaged.
    """
    source = metadata.load_source(checkpoint_path)
    worth = Worth.of(source)
    return {
        "checkpoint": checkpoint_path.resolve().name,
        "checkpoint_source": {key: source.get(key) for key in ("file", "sha256", "layout")},
        "worth": worth.sentence,
        "worth_in_short": worth.in_short,
        "image_size": detector.config.to_json()["image_size"],
        "options": options_of(detector, options),
        "false_alarm_rate": metadata.false_alarm_rate(source),
        "shard": str(shard),
        **asked,
        "meaning": meaning(detector.threshold, detector.calibration),
        "made_by": made_by(),
    }


def write_predictions(
    directory: Path, entries: Iterable[Json], head: Json, summary: Json, left_out: list[Json]
) -> None:
    """Writes predictions.json and predictions.csv, beside the files that the entries name.

    Entries are of `FileResult.to_json`, and the others of `head_of`, `Summary.to_json` and
    `LeftOut.to_json`.

    Raises:
        InputError: a file cannot be written.
    """
    columns = [name for name in _COLUMNS if name != RAW or RAW in head["meaning"]]
    head = {**head, "summary": summary, "left_out": left_out}
    try:
        with (
            (directory / JSON).open("w", encoding="utf-8") as file,
            (directory / TABLE).open("w", encoding="utf-8", newline="") as of_table,
        ):
            table = csv.DictWriter(of_table, columns)
            table.writeheader()
            # One by one: those of an archive are too many for the memory.
            file.write(json.dumps(head, indent=1, allow_nan=False).removesuffix("\n}"))
            file.write(f",\n{_FILES}")
            separator = "\n  "
            for entry in entries:
                file.write(separator + json.dumps(entry, allow_nan=False))
                separator = ",\n  "
                table.writerows(_rows(entry))
            file.write("\n ]\n}\n")
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror}") from error


def write_summary(directory: Path, found: Findings, summary: Summary) -> None:
    """Writes summary.csv, whose rows are counts of files.

    Those of the kind `files` are of `Summary`, of `fake_probability` the bars of the report's
    histogram, and of `failed` the reasons, with N for each number.

    Raises:
        InputError: it cannot be written.
    """
    bins = zip(itertools.pairwise(found.edges), found.bins, strict=True)
    failed = sorted(found.reasons.items(), key=lambda one: -one[1][0])
    rows = [
        *(("files", name, count) for name, count in summary.to_json().items()),
        *(("fake_probability", f"{low:.6g} to {high:.6g}", n) for (low, high), n in bins),
        *(("failed", _text(reason), count) for reason, (count, _) in failed),
    ]
    try:
        with (directory / SUMMARY).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("kind", "name", "count"), *rows])
    except OSError as error:
        raise InputError(f"{directory / SUMMARY} cannot be written: {error.strerror}") from error


def read_head(directory: Path) -> Json:
    """What stands before the files in the predictions.json of a directory.

    Raises:
        InputError: it cannot be read, or is not as `write_predictions` wrote it.
    """
    lines: list[str] = []
    try:
        with (directory / JSON).open(encoding="utf-8") as file:
            for line in file:
                if line.startswith(_FILES):
                    head = json.loads("".join([*lines, _FILES, "]}"]))
                    del head["files"]
                    return head
                lines.append(line)
    except OSError as error:
        raise InputError(f"{directory / JSON} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{directory / JSON} is damaged; make it again") from error
    raise InputError(f"{directory / JSON} was written by another version; make it again")


def _rows(entry: Json) -> Iterator[dict[str, Any]]:
    """The rows of a file.

    One of level `file` with its verdict, one of level `person` for each person in a video, and one
    of level `face` for each face.
    """
    common = {"file": _text(entry["file"]), "kind": entry["kind"]}
    problem, notes = _text(entry["problem"] or ""), _text("; ".join(entry["notes"]))
    found = _some(entry, *_DECISION)
    found |= _some(entry, "manipulated_share", "heads_disagree", "person")
    if entry["kind"] == "video":
        found["frames"] = entry.get("frames_judged", 0)
        found |= longest_suspicious(entry.get("people", ()))
    status = {"status": entry["status"], "problem": problem, "notes": notes}
    yield {"level": "file", **common, **status, **found}
    for person in entry.get("people", ()):
        found = {**_some(person, *_COLUMNS), "seconds": person["first_seconds"]}
        yield {"level": "person", **common, **found}
    for frame in entry.get("frames", [entry]):
        position = _some(frame, "frame", "seconds")
        for number, face in enumerate(frame.get("faces", ()), start=1):
            corners = dict(zip(_CORNERS, face["box"], strict=True))
            found = {**_some(face, *_COLUMNS), "doubts": "; ".join(face["doubts"])}
            yield {"level": "face", **common, **position, "face": number, **corners, **found}


def longest_suspicious(people: Iterable[Json]) -> Json:
    """`suspicious_from` and `suspicious_to` of the person for whom they are farthest apart.

    `people` come from `PersonResult.to_json`. Empty if nobody looks forged for long.
    """
    stretches = [
        {key: person[key] for key in ("suspicious_from", "suspicious_to")}
        for person in people
        if person["suspicious_from"] is not None
    ]
    return max(stretches, key=lambda one: one["suspicious_to"] - one["suspicious_from"], default={})


def _some(entry: Json, *keys: str) -> dict[str, Any]:
    return {key: entry[key] for key in keys if key in entry}


def _text(text: str) -> str:
    """A text that spreadsheets do not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
