"""The mask head's output for the faces of a file, as a NumPy file."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

import numpy as np

from flax_unet.verdict import Verdict


class LogitsWriter:
    """Writes (faces, H, W, 2) float32, face by face; leaving its context finishes the file.

    Without a face there is no file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faces = 0  # written
        self._shape: tuple[int, ...] = ()
        self._file: IO[bytes] | None = None

    def write(self, verdicts: Iterable[Verdict]) -> None:
        """Adds the logits of those that have them."""
        for verdict in verdicts:
            if verdict.mask_logits is None:
                continue
            if self._file is None:
                self._shape = verdict.mask_logits.shape
                self._file = self.path.open("wb")
                self._file.write(self._header())
            self._file.write(verdict.mask_logits.astype("<f4").tobytes())
            self.faces += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        with self._file:
            if kind is None:  # the header says how many faces there are
                self._file.seek(0)
                self._file.write(self._header())

    def _header(self) -> bytes:
        """As long for any number of faces: NumPy leaves room for the first axis to grow."""
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.faces, *self._shape)}
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, header)
        return buffer.getvalue()
