"""Faces that are followed are those that a full search of each frame finds."""

import pytest
from PIL import Image

from flax_unet.media.faces import Face, FaceFinder
from flax_unet.media.follow import Follower
from tests.flax_unet.samples import group

SIZE = (1400, 800)
SMALL, LARGE = (100, 80, 70), (700, 150, 500)  # left, top, width of a portrait


class Counting(FaceFinder):
    """Counts full searches."""

    searches = 0

    def __call__(self, image: Image.Image, *, of_video: bool = False) -> list[Face]:
        self.searches += 1
        return super().__call__(image, of_video=of_video)


@pytest.fixture
def finder() -> Counting:
    finder = Counting()
    finder.searches = 0
    return finder


def moved(place: tuple[int, int, int], by: int) -> tuple[int, int, int]:
    left, top, width = place
    return left + by, top, width


def assert_same(found: list[Face], expected: list[Face]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.box.overlap(other.box) > 0.8
        for (x, y), (u, v) in zip(one.landmarks, other.landmarks, strict=True):
            assert max(abs(x - u), abs(y - v)) < 0.1 * other.box.height


def test_moving_faces_are_found_with_a_search_every_two_seconds(finder: Counting) -> None:
    follow = Follower(finder)
    for number in range(20):
        frame = group(moved(SMALL, 6 * number), moved(LARGE, -4 * number), size=SIZE)
        assert_same(follow(frame, number / 5), FaceFinder()(frame, of_video=True))
    assert finder.searches == 2


def test_a_cut_is_searched(finder: Counting) -> None:
    follow = Follower(finder)
    assert len(follow(group(SMALL, size=SIZE), 0.0)) == 1
    after = group(moved(SMALL, 900), size=SIZE)
    assert_same(follow(after, 0.1), FaceFinder()(after, of_video=True))
    assert finder.searches == 2
    assert follow(Image.new("RGB", SIZE), 0.2) == []


def test_faces_that_appear(finder: Counting) -> None:
    follow = Follower(finder)
    assert len(follow(group(SMALL, size=SIZE), 0.0)) == 1
    assert len(follow(group(SMALL, LARGE, size=SIZE), 0.1)) == 2  # large ones at once
    three = group(SMALL, LARGE, moved(SMALL, 300), size=SIZE)
    assert len(follow(three, 1.9)) == 2
    assert len(follow(three, 2.0)) == 3  # small ones within two seconds


@pytest.mark.parametrize("seconds", [5.0, -1.0])
def test_frames_far_apart_are_searched(seconds: float, finder: Counting) -> None:
    follow = Follower(finder)
    follow(group(SMALL, size=SIZE), 0.0)
    assert len(follow(group(SMALL, moved(SMALL, 400), size=SIZE), seconds)) == 2
    assert finder.searches == 2
