"""Logits on disk: one NumPy file, however many faces, and never all of them in memory."""

from pathlib import Path

import numpy as np
import pytest

from flax_unet.media.boxes import Box
from flax_unet.predict.logits import LogitsWriter
from flax_unet.verdict import Verdict

SHAPE = (12, 8, 2)


def verdict(number: int) -> Verdict:
    logits = np.full(SHAPE, number, np.float32)
    return Verdict((8, 12), Box(0, 0, 8, 12), None, None, None, logits)


def test_faces_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "film.logits.npy"
    bytes_of_a_face = 4 * np.prod(SHAPE)
    with LogitsWriter(path) as writer:
        for start in range(0, 10_000, 100):
            writer.write(verdict(number) for number in range(start, start + 100))
            assert path.stat().st_size > (start + 50) * bytes_of_a_face
    assert writer.faces == 10_000
    found = np.load(path)
    assert found.shape == (10_000, *SHAPE)
    np.testing.assert_array_equal(
        found, np.broadcast_to(np.arange(10_000)[:, None, None, None], found.shape)
    )
    assert path.stat().st_size - found.nbytes == 128  # of the header


@pytest.mark.parametrize("faces", [1, 9, 10, 1001])
def test_any_number_of_faces(faces: int, tmp_path: Path) -> None:
    with LogitsWriter(tmp_path / "x.npy") as writer:
        writer.write(verdict(number) for number in range(faces))
    assert np.load(tmp_path / "x.npy")[:, 0, 0, 0].tolist() == list(range(faces))


def test_no_face_no_file(tmp_path: Path) -> None:
    with LogitsWriter(tmp_path / "x.npy") as writer:
        writer.write([Verdict((8, 12), Box(0, 0, 8, 12), 0.5, None, None)])
    assert writer.faces == 0
    assert not list(tmp_path.iterdir())
