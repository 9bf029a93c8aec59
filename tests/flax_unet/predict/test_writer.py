"""Logits on disk: one NumPy file, however many faces, and never all of them in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.discover import Item
from flax_unet.media.faces import Box, Face, Found
from flax_unet.predict.pipeline import InspectedFrame
from flax_unet.predict.writer import write_logits
from flax_unet.verdict import Verdict

SHAPE = (12, 8, 2)


def frame(*logits: np.ndarray | None) -> InspectedFrame:
    box = Box(0, 0, 8, 12)
    verdicts = [Verdict((8, 12), box, 0.5, None, None, values) for values in logits]
    found = Found([Face(box)] * len(verdicts), [])
    item = Item(Path("x.avi"), "video")
    return InspectedFrame(item, 0, Image.new("RGB", (8, 12)), found, verdicts=verdicts)


def frames(count: int, faces: int = 1) -> Iterator[InspectedFrame]:
    for start in range(0, count, faces):
        yield frame(*(np.full(SHAPE, start + face, np.float32) for face in range(faces)))


def test_faces_are_written_as_they_come(tmp_path: Path) -> None:
    path, files = tmp_path / "film.logits.npy", {}
    bytes_of_a_face = 4 * np.prod(SHAPE)
    for number, _ in enumerate(write_logits(frames(10_000, faces=100), path, files)):
        assert path.stat().st_size > (100 * number + 50) * bytes_of_a_face
    assert files == {"logits": path.name}
    found = np.load(path)
    assert found.shape == (10_000, *SHAPE)
    np.testing.assert_array_equal(
        found, np.broadcast_to(np.arange(10_000)[:, None, None, None], found.shape)
    )
    assert path.stat().st_size - found.nbytes == 128  # of the header


@pytest.mark.parametrize("faces", [1, 9, 10, 1001])
def test_any_number_of_faces(faces: int, tmp_path: Path) -> None:
    assert len(list(write_logits(frames(faces), tmp_path / "x.npy", {}))) == faces
    assert np.load(tmp_path / "x.npy")[:, 0, 0, 0].tolist() == list(range(faces))


def test_no_face_no_file(tmp_path: Path) -> None:
    files: dict[str, str] = {}
    assert len(list(write_logits(iter([frame(None)]), tmp_path / "x.npy", files))) == 1
    assert files == {}
    assert not list(tmp_path.iterdir())
