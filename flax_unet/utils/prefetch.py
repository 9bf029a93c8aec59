"""Runs a generator ahead of its consumer, in a thread."""

import collections
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")


def ahead(
    source: Generator[T | None], limit: int, weight: Callable[[T], int] = lambda _: 1
) -> Generator[T]:
    """The elements of `source`, which a thread prepares ahead of their use.

    What `source` raises is raised here. When this generator is closed, the thread finishes its
    element, closes `source` and ends. Where an element may take long, `source` should yield None
    now and then, which is left out. The thread pauses while the elements that are ready weigh
    `limit` or more.
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
        except BaseException as raised:  # whatever it is, the consumer gets it
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
