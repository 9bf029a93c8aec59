"""The stretch in which a person looks forged, of frames whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest

from flax_unet.predict.stretch import NEAR, Stretch, longest_stretch


def found(count: int, rate: float, is_fake: Callable[[int], bool]) -> Stretch | None:
    """That of so many frames, so many a second, FAKE where the number of the frame says so."""
    return longest_stretch(
        [number / rate for number in range(count)], [*map(is_fake, range(count))]
    )


RATES = (1, 4, 32, 64)


@pytest.mark.parametrize("rate", RATES)
def test_its_borders_are_exact_at_any_rate(rate: int) -> None:
    assert found(10 * rate, rate, lambda frame: 4 * rate <= frame <= 8 * rate) == (4, 8)
    assert found(10 * rate, rate, lambda frame: frame <= 5 * rate) == (0, 5)
    assert found(10 * rate, rate, lambda frame: frame >= 5 * rate) == (5, 10 - 1 / rate)
    assert found(10 * rate, rate, lambda frame: True) == (0, 10 - 1 / rate)


@pytest.mark.parametrize("rate", RATES)
def test_single_frames_neither_make_nor_end_one(rate: int) -> None:
    middle, inside = 5 * rate, range(2 * rate, 8 * rate + 1)
    assert found(10 * rate, rate, lambda frame: frame == middle) is None
    assert found(10 * rate, rate, lambda frame: frame in inside and frame != middle) == (2, 8)


@pytest.mark.parametrize(
    ("is_fake", "expected"),
    [
        (lambda frame: False, None),
        (lambda frame: frame % 2 == 1, None),  # every other frame
        (lambda frame: frame % 5 == 0, None),
        (lambda frame: 8 <= frame <= 15, None),  # 7/8 s
        (lambda frame: 8 <= frame <= 16, (1, 2)),
        (lambda frame: frame < 16 or frame >= 40, (5, 7.875)),  # the longer of two
        (lambda frame: not 24 <= frame < 40, (0, 2.875)),  # 24 frames each: the first
    ],
)
def test_eight_seconds(is_fake: Callable[[int], bool], expected: tuple[float, float]) -> None:
    assert found(64, 8, is_fake) == expected


def test_the_longest_in_seconds_of_those_that_count() -> None:
    """Many frames in half a second do not hide few in four."""
    dense, wide = [number / 20 for number in range(12)], [2 + number / 2 for number in range(9)]
    times = [*dense, 1.2, 1.3, 1.4, *wide]
    assert longest_stretch(times, [*[True] * 12, *[False] * 3, *[True] * 9]) == (2, 6)


def test_it_does_not_bridge_an_absence() -> None:
    here, back = [number / 10 for number in range(11)], [60 + number / 10 for number in range(21)]
    assert longest_stretch([*here, *back], [True] * 32) == (60, 62)
    assert longest_stretch(here[:6] + back[:6], [True] * 12) is None
    # Time between frames that are judged now and then is not an absence.
    assert longest_stretch([20.0 * number for number in range(5)], [True] * 5) == (0, 80)


def test_a_share_of_the_frames() -> None:
    assert found(100, 1, lambda frame: 20 <= frame < 29) is None
    assert found(100, 1, lambda frame: 20 <= frame < 30) == (20, 29)


def test_few_frames() -> None:
    """Of a long video that is judged now and then, two in a row are chance."""
    assert found(20, 0.1, lambda frame: 5 <= frame < 7) is None
    assert found(20, 0.1, lambda frame: 5 <= frame < 8) == (50, 70)
    assert found(2, 1, lambda frame: True) is None
    assert longest_stretch([], []) is None


def test_it_is_the_majority_of_the_frames_near() -> None:
    """By its definition, frame by frame, at uneven times."""
    generator = np.random.default_rng(0)
    for share in (0.3, 0.6, 0.8):
        for count in (5, 40, 200):
            seconds = np.cumsum(generator.choice([1 / 32, 1 / 8, 1], count)).tolist()
            is_fake = (generator.random(count) < share).tolist()
            within = []
            for at in range(count):
                near = [
                    is_fake[other]
                    for other in range(count)
                    if abs(seconds[other] - seconds[at]) <= NEAR or abs(other - at) <= 1
                ]
                within.append(2 * sum(near) > len(near))
            stretch = longest_stretch(seconds, is_fake)
            if stretch is None:
                continue
            first, last = (seconds.index(time) for time in stretch)
            assert all(within[first : last + 1])
            assert not any(within[max(first - 1, 0) : first] + within[last + 1 : last + 2])
