"""Results that are kept while the work goes on, so that the same command can continue it."""

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flax_unet.checkpoint import metadata
from flax_unet.predict.predictions import ARCHIVE, LINES, RUN, is_own, others
from flax_unet.predict.results import Json
from flax_unet.predict.summary import outcome
from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown
from flax_unet.utils.files import kept_directory

_PROGRAM = "flax_unet.predict"


class Journal:
    """The results of a run so far: a line of JSON for each file, in the order of the files."""

    def __init__(self, directory: Path, run: Json) -> None:
        """Begins in an empty directory, or goes on in one of the same `run`.

        `run` is what results depend on, and what may not change before the run is complete.

        Raises:
            InputError: the directory holds something else, or results of another run.
        """
        self.directory = directory
        self.names: list[str] = []  # of the files that are done
        self.outcomes: Counter[str] = Counter()  # of these
        self._lines = directory / LINES
        if strangers := [name for name in others(directory) if name != RUN]:
            raise self._foreign(strangers[0])
        # One that is empty is a new lock, see `journal`.
        if own := sorted(p.name for p in directory.iterdir() if p.name != RUN or p.stat().st_size):
            if RUN not in own:
                raise self._foreign(own[0])
            before = self._before()
            if before.get("program") != _PROGRAM:
                raise self._foreign(RUN)
            self._read()
            if self.names:
                self._compare(before, json.loads(json.dumps(run)))
                return
        for path in directory.iterdir():  # of files that were not done
            if path.name != RUN:  # which says until the end whose directory it is
                path.unlink()
        metadata.write_json(directory / RUN, {"program": _PROGRAM, **run})
        self._lines.touch()

    def _before(self) -> Json:
        """The run so far; this one's program alone, where it ended at once, by a full disk."""
        try:
            return metadata.read_json(self.directory / RUN)
        except InputError:
            if self._lines.exists():  # it is written first
                raise
            return {"program": _PROGRAM}

    def _foreign(self, name: str) -> InputError:
        return InputError(
            f"{self.directory} is where unfinished results go, and holds something else "
            f"({shown(name)}); move it, or name another directory by --out"
        )

    def _compare(self, before: Json, run: Json) -> None:
        for name in run:
            if run[name] != before.get(name):
                if name == ARCHIVE:
                    raise InputError(
                        f"{self.directory} holds the unfinished results of a part of other files. "
                        "Put the files back as they were, or delete the directory"
                    )
                raise InputError(
                    f"{self.directory} holds the unfinished results of another command, whose "
                    f"{name} was {_short(before.get(name))}, not {_short(run[name])}. Give "
                    "that one to go on, or delete the directory"
                )

    def _read(self) -> None:
        """Reads the lines; one that was not written to its end is removed."""
        if not self._lines.exists():
            return
        whole = 0
        with self._lines.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = json.loads(line)
                    self.names.append(entry["file"])
                    self.outcomes[outcome(entry)] += 1
                except (ValueError, KeyError, TypeError) as error:
                    raise InputError(
                        f"{self._lines}, line {len(self.names) + 1}, is damaged; delete "
                        f"{self.directory} and begin again"
                    ) from error
                whole += len(line)
        with self._lines.open("rb+") as file:
            file.truncate(whole)

    def add(self, entry: Json) -> None:
        """Writes the `FileResult.to_json` of the next file.

        Raises:
            InputError: the disk is full or cannot be written to.
        """
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            with self._lines.open("ab") as file:
                file.write(line)
        except OSError as error:
            raise InputError(f"{self._lines} cannot be written: {error.strerror}") from error
        self.names.append(entry["file"])
        self.outcomes[outcome(entry)] += 1

    def entries(self) -> Iterator[Json]:
        """`FileResult.to_json` of all files."""
        with self._lines.open("rb") as file:
            yield from map(json.loads, file)

    def discard(self) -> None:
        """Nothing that is done is worth keeping."""
        self.names.clear()


@contextlib.contextmanager
def journal(out: Path, run: Json, may_replace: Callable[[Path], bool]) -> Iterator[Journal]:
    """The results of a run, in a directory beside `out` that becomes `out` when the block succeeds.

    Where it fails, the directory stays if a file is done; the message, or a line on standard
    error, says so.

    Raises:
        InputError: as for Journal, or `out` exists and may not be replaced.
    """
    found: list[Journal] = []
    if out.name in ("", ".."):  # such as `.`, which moves with its contents
        out = out.resolve()
    before = 0
    try:
        with kept_directory(
            out,
            lock=RUN,
            may_replace=may_replace,
            is_kept=lambda: not found or bool(found[0].names),
            is_own=is_own,
        ) as directory:
            found.append(Journal(directory, run))
            before = len(found[0].names)
            yield found[0]
    except BaseException as error:
        if found and len(found[0].names) > before:
            what = f"{shown(str(found[0].directory))} keeps the results of "
            what += f"{counted(len(found[0].names), 'file')}; the same command goes on with it"
            if isinstance(error, InputError):
                raise InputError(f"{error}. {what}") from error
            print(what, file=sys.stderr)
        raise
    (out / RUN).unlink()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
