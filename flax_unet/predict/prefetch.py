"""A generator that runs ahead in a thread of its own."""

import collections
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")


def ahead(
    source: Generator[T | None], limit: int, weight: Callable[[T], int] = lambda _: 1
) -> Generator[T]:
    """The elements of `source`, prepared by a thread before they are asked for.

    What `source` raises is raised here. When this generator is closed, the thread closes `source`
    and ends, but not before the element that it works on: where that may take long, `source`
    should now and then give None, which is left out.

    Args:
        source: the generator.
        limit: the thread pauses while what is ready weighs so much or more.
        weight: of an element.
    """
    ready: collections.deque[T] = collections.deque()
    changed = threading.Condition()
    error: BaseException | None = None
    ended = closed = False

    def run() -> None:
        nonlocal error, ended
        try:
            with contextlib.closing(source):
                for element in source:
                    with changed:
                        if element is not None:
                            ready.append(element)
                            changed.notify_all()
                        changed.wait_for(lambda: closed or sum(map(weight, ready)) < limit)
                        if closed:
                            break
        except BaseException as raised:  # whatever it is, it belongs to who asked
            error = raised
        with changed:
            ended = True
            changed.notify_all()

    thread = threading.Thread(target=run, name=ahead.__qualname__, daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: ready or ended)
                if not ready:
                    break
                element = ready.popleft()
                changed.notify_all()
            yield element
        if error is not None:
            raise error
    finally:
        with changed:
            closed = True
            changed.notify_all()
        thread.join()
