"""Faces: those that are there, large or small, with their margin, and nothing else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flax_unet.face_network import OnDevice
from flax_unet.media.faces import (
    MARGIN,
    MIN_FACE,
    Box,
    Face,
    FaceFinder,
    FaceNetwork,
    Found,
    OpenCV,
    find,
    installed_model,
)
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import CLIP_FRAMES, SHARED, group, needs_shared, noise, photo

NETWORKS = [OpenCV, lambda model: OnDevice(jax.local_devices()[0], model)]
PHOTO = photo()
FACE = Box(183, 120, 353, 333)  # in it, by eye give or take a few pixels


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def assert_near(found: Box, expected: Box) -> None:
    off = np.abs(np.subtract(found, expected)).max()
    assert off <= 0.2 * expected.width, f"{found}, expected about {expected}"


@pytest.mark.parametrize("scale", [0.25, 1, 2, 6])
@pytest.mark.parametrize("of_video", [False, True])
def test_one_face_of_any_size(scale: float, of_video: bool, finder: FaceFinder) -> None:
    """A close-up of thousands of pixels too, which YuNet does not find as it is."""
    size = (round(scale * PHOTO.width), round(scale * PHOTO.height))
    (face,) = finder(PHOTO.resize(size), of_video=of_video)
    assert_near(face.box, Box(*(round(scale * corner) for corner in FACE)))


def test_many_faces(finder: FaceFinder) -> None:
    places = [(50, 40, 500), (700, 60, 250), (1100, 100, 120), (1400, 300, 80), (1000, 700, 90)]
    found = find(finder, group(*places), "auto")
    assert found.too_small == []
    assert len(found.boxes) == len(places)
    assert [box.area for box in found.boxes] == sorted((b.area for b in found.boxes), reverse=True)
    for (left, top, width), box in zip(
        sorted(places, key=lambda place: -place[2]), found.boxes, strict=True
    ):
        middle = (left + width / 2, top + width * 0.62)
        assert box.left < middle[0] < box.right
        assert box.top < middle[1] < box.bottom
        assert box == box.within((1600, 1000))


def test_margin(finder: FaceFinder) -> None:
    (face,) = finder(PHOTO)
    (box,) = find(finder, PHOTO, "crop").boxes
    assert box == face.box.grown(MARGIN)
    assert box.width == face.box.width + 2 * round(face.box.width / 3)


def test_a_face_that_fills_the_picture(finder: FaceFinder) -> None:
    crop = PHOTO.crop(FACE.grown(0.2))
    assert find(finder, crop, "auto").boxes == [Box(0, 0, *crop.size)]
    (box,) = find(finder, PHOTO, "auto").boxes
    assert box.area < 0.5 * 512 * 600


def test_two_faces_fill_no_picture(finder: FaceFinder) -> None:
    crop = PHOTO.crop(FACE.grown(0.2))
    both = Image.new("RGB", (2 * crop.width, crop.height))
    both.paste(crop, (0, 0))
    both.paste(crop, (crop.width, 0))
    assert len(find(finder, both, "auto").boxes) == 2


def test_tiny_faces_are_reported(finder: FaceFinder) -> None:
    found = find(finder, group((100, 100, 200), (700, 300, 40), size=(900, 600)), "auto")
    assert len(found.boxes) == 1
    (tiny,) = found.too_small
    assert min(tiny.width, tiny.height) < MIN_FACE
    assert 690 < tiny.left < tiny.right < 755


def test_what_counts_of_a_face_is_what_is_seen_of_it() -> None:
    def finder(_: Image.Image, *, of_video: bool = False) -> list[Face]:
        boxes = (Box(-160, 10, 39, 210), Box(-160, 10, 40, 210), Box(-50, -50, -10, -10))
        return [Face(box, 0.9) for box in boxes]

    found = find(finder, Image.new("RGB", (300, 300)), "crop")  # pyright: ignore[reportArgumentType]
    assert found.boxes == [Box(0, 0, 107, 277)]
    assert found.too_small == [Box(0, 10, 39, 210)]


def test_no_face(finder: FaceFinder) -> None:
    for image in (noise(), noise(1500, 1100), Image.new("RGB", (1, 1)), Image.new("L", (3000, 1))):
        for mode in ("auto", "crop"):
            assert find(finder, image, mode) == Found([], [])


def test_none_takes_the_picture_as_it_is(finder: FaceFinder) -> None:
    for some in (finder, None):
        assert find(some, PHOTO, "none") == Found([Face(Box(0, 0, 512, 600))], [])


def test_modes_of_pictures(finder: FaceFinder) -> None:
    (expected,) = finder(PHOTO)
    assert finder(PHOTO.convert("RGBA")) == [expected]
    (grey,) = finder(PHOTO.convert("L"))
    assert_near(grey.box, expected.box)


@needs_shared
@pytest.mark.parametrize("number", CLIP_FRAMES)
def test_faces_of_the_clip_fill_its_frames(number: int, finder: FaceFinder) -> None:
    with Image.open(SHARED / f"face_swap_frame_{number:03d}.png") as image:
        found = find(finder, image, "auto")
        assert (found.boxes, found.too_small) == ([Box(0, 0, 256, 256)], [])
        assert len(find(finder, image, "crop").boxes) == 1


@pytest.mark.parametrize("network", NETWORKS)
def test_model_of_ones_own(network: Callable[[Path], FaceNetwork], tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"\xff.onnx")
    shutil.copy(installed_model(), name)
    assert len(FaceFinder(network(name))(PHOTO)) == 1


@pytest.mark.parametrize("network", NETWORKS)
def test_models_that_are_none(network: Callable[[Path], FaceNetwork], tmp_path: Path) -> None:
    whole = installed_model().read_bytes()
    contents = {
        "text": b"this is not a model",
        "cut": whole[: len(whole) // 2],
        "noise": np.random.default_rng(0).bytes(10_000),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} is not a YuNet model"):
            network(tmp_path / name)
    recognises = installed_model().with_name("face_recognition_sface_2021dec_int8bq.onnx")
    with pytest.raises(InputError, match=r"sface.* is not a YuNet model"):
        network(recognises)
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="is empty"):
        network(tmp_path / "empty")
    with pytest.raises(InputError, match="is a directory"):
        network(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        network(tmp_path / "missing")


corners = st.integers(-200, 200)
boxes = st.builds(
    lambda left, top, width, height: Box(left, top, left + width, top + height),
    *(corners, corners, st.integers(1, 200), st.integers(1, 200)),
)


@given(boxes, st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_parts_of_a_picture(box: Box, size: tuple[int, int]) -> None:
    part = box.within(size)
    assert part == part.within(size)
    pixels = np.zeros((size[1], size[0]), bool)
    rows, columns = (np.arange(side) for side in reversed(size))
    inside = ((rows >= box.top) & (rows < box.bottom))[:, None] & (
        (columns >= box.left) & (columns < box.right)
    )
    pixels[part.top : part.bottom, part.left : part.right] = True
    np.testing.assert_array_equal(pixels, inside)
    assert part.area == inside.sum()


@given(boxes, boxes)
def test_overlap(one: Box, other: Box) -> None:
    def pixels(box: Box) -> np.ndarray:
        canvas = np.zeros((600, 600), bool)
        canvas[box.top + 200 : box.bottom + 200, box.left + 200 : box.right + 200] = True
        return canvas

    both = (pixels(one) & pixels(other)).sum()
    assert one.overlap(other) == both / min(one.area, other.area) == other.overlap(one)


def test_margins_are_the_same_on_both_sides() -> None:
    assert Box(10, 20, 40, 80).grown(1 / 3) == Box(0, 0, 50, 100)
    assert Box(10, 20, 11, 21).grown(1 / 3) == Box(10, 20, 11, 21)
