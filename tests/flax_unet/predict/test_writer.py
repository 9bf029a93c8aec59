"""What is drawn and stored of frames, without all of them in memory.

Logits are one NumPy file, however many faces there are. The close-up of a video is of the person
whose verdict it has, where they are FAKE most likely.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_unet.media.discover import Item
from flax_unet.media.faces import Box, Face, Found
from flax_unet.predict.pipeline import InspectedFrame
from flax_unet.predict.results import VideoResult
from flax_unet.predict.writer import file_results, write_logits
from flax_unet.verdict import Verdict
from tests.flax_unet.samples import numbered, write_video

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


# Of each frame, the probabilities of FAKE of person 1, on the left, and of person 2. A third one,
# on a poster, is seen once.
FAKES = [(0.2, 0.5), (0.3, 0.9), (0.1, 0.9), (0.95, 0.4)]


def film(path: Path) -> Iterator[InspectedFrame]:
    for number, fakes in enumerate(FAKES):
        image = Image.new("RGB", (400, 200))
        boxes = [Box(40 + 180 * person, 40, 160 + 180 * person, 160) for person in range(2)]
        for person, box in enumerate(boxes):
            image.paste((50 + 50 * number, 200 * person, 0), box)
        people = [1, 2]
        if number == 0:
            boxes, people, fakes = [*boxes, Box(0, 0, 20, 20)], [1, 2, 3], (*fakes, 0.99)
        verdicts = [
            Verdict(image.size, box, 1 - fake) for box, fake in zip(boxes, fakes, strict=True)
        ]
        found = Found([Face(box) for box in boxes], [])
        item = Item(path, "video")
        yield InspectedFrame(
            item, 0, image, found, people, number, number / 2, 2.0, len(FAKES), verdicts
        )


def test_the_close_up_is_of_the_most_suspicious_face(tmp_path: Path) -> None:
    path = write_video(tmp_path / "x.avi", numbered(3))  # whose sound the overlay would have
    (result,) = file_results(film(path), tmp_path)
    assert isinstance(result, VideoResult)
    assert result.person == 2
    with Image.open(tmp_path / result.to_json()["close_up"]) as close_up:
        assert close_up.size == (180, 180)
        red, green, _ = np.asarray(close_up)[90, 90].astype(int)
    assert abs(red - 100) < 20  # of the first frame with 0.9
    assert abs(green - 200) < 20


def test_without_overlays_there_is_a_close_up(tmp_path: Path) -> None:
    (result,) = file_results(film(Path("x.avi")), tmp_path, overlays=False)
    assert result.files == {"timeline": "x.timeline.png", "close_up": "x.closeup.jpg"}
    assert {path.name for path in tmp_path.glob("x*")} == {*result.files.values()}
