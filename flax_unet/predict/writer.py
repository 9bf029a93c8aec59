"""The results of a prediction as files: predictions.json and predictions.csv."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flax_unet.checkpoint import metadata
from flax_unet.checkpoint.provenance import made_by
from flax_unet.predict.pipeline import Options
from flax_unet.predict.results import MEANING, Result

if TYPE_CHECKING:
    from flax_unet.detector import Detector

JSON, TABLE = "predictions.json", "predictions.csv"
_FOUND = ("verdict", "real_probability", "fake_probability", "manipulated_share")
_COLUMNS = (
    *("level", "file", "kind", "status", "problem", "notes"),
    *("frame", "seconds", "face", "left", "top", "right", "bottom"),
    *_FOUND,
)


def write(
    directory: Path,
    found: Sequence[Result],
    checkpoint_path: Path,
    detector: "Detector",
    options: Options,
) -> None:
    """Writes both files.

    Args:
        directory: where to; it holds the pictures that the results name.
        found: of `results`.
        checkpoint_path: what judged; its name alone is told.
        detector: its network, with the options of masks.
        options: how files were inspected.

    Raises:
        InputError: a file cannot be written, or the checkpoint is damaged.
    """
    source = metadata.load_source(checkpoint_path)
    written = {
        "checkpoint": checkpoint_path.resolve().name,
        "checkpoint_source": {key: source.get(key) for key in ("file", "sha256", "layout")},
        "image_size": detector.config.to_json()["image_size"],
        "options": {
            "faces": options.mode,
            **options.sampling._asdict(),
            "mask_threshold": detector.mask_threshold,
            "save_logits": detector.keep_logits,
        },
        "meaning": MEANING,
        "files": list(found),
        "made_by": made_by(),
    }
    metadata.write_json(directory / JSON, written)
    with (directory / TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        for result in found:
            table.writerows(_rows(result))


def _rows(result: Result) -> Iterator[dict[str, Any]]:
    """The lines for a file: one of level `file` with its verdict, then one of `face` a face."""
    common = {"file": _text(result["file"]), "kind": result["kind"]}
    problem, notes = result["problem"] or "", "; ".join(result["notes"])
    whole = {name: result.get(name) for name in _FOUND}
    told = {"status": result["status"], "problem": _text(problem), "notes": _text(notes)}
    yield {"level": "file", **common, **told, **whole}
    for frame in result.get("frames", [result]):
        for number, face in enumerate(frame.get("faces", []), start=1):
            place = {"frame": frame.get("frame"), "seconds": frame.get("seconds"), "face": number}
            corners = dict(zip(("left", "top", "right", "bottom"), face["box"], strict=True))
            found = {name: face[name] for name in _FOUND}
            yield {"level": "face", **common, **place, **corners, **found}


def _text(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
