"""A generator in a thread: the same elements, no further ahead than allowed, never left behind."""

import itertools
import threading
from collections.abc import Generator

import pytest

from flax_unet.utils.prefetch import ahead


def counted(made: list[int], count: int) -> Generator[int]:
    for number in range(count):
        made.append(number)
        yield number


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "ahead"]


def test_same_elements_in_order() -> None:
    assert list(ahead(counted([], 1000), 3)) == list(range(1000))
    assert list(ahead(counted([], 0), 3)) == []
    assert threads() == []


def test_no_further_ahead_than_allowed() -> None:
    made: list[int] = []
    for taken in ahead(counted(made, 200), 3):
        assert len(made) <= taken + 1 + 3


def test_a_heavy_element_waits_alone() -> None:
    made: list[int] = []
    for taken in ahead(counted(made, 50), 10, lambda number: 10):
        assert len(made) <= taken + 2


def test_runs_ahead() -> None:
    """The second element is made although nobody asks for it."""
    second = threading.Event()

    def source() -> Generator[int]:
        yield 1
        second.set()
        yield 2

    numbers = ahead(source(), 2)
    assert next(numbers) == 1
    assert second.wait(timeout=30)
    assert list(numbers) == [2]


def test_errors_come_after_what_was_made_before() -> None:
    def source() -> Generator[int]:
        yield from (1, 2)
        raise KeyError("broken")

    numbers = ahead(source(), 5)
    assert [next(numbers), next(numbers)] == [1, 2]
    with pytest.raises(KeyError, match="broken"):
        next(numbers)
    assert threads() == []


@pytest.mark.parametrize("then", [2, None])  # after None, nothing is ever ready
def test_closed_before_the_end(then: int | None) -> None:
    closed = threading.Event()

    def source() -> Generator[int | None]:
        try:
            yield 1
            yield from itertools.repeat(then)
        finally:
            closed.set()

    numbers = ahead(source(), 2)
    assert next(numbers) == 1
    numbers.close()
    assert closed.is_set()
    assert threads() == []


def test_dropped_before_the_end() -> None:
    closed = threading.Event()

    def source() -> Generator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    numbers = ahead(source(), 2)
    next(numbers)
    del numbers
    assert closed.wait(timeout=30)
    assert threads() == []
