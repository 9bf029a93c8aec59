"""The queue: visitors are served in turn, and hold no memory while they wait."""

import concurrent.futures
import contextlib
import gc
import http.client
import json
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from flax_unet.app import page
from flax_unet.app.judge import FEW_FRAMES, Choice, Judge, Progress, Report
from flax_unet.app.limits import Refused
from flax_unet.app.queue import KEPT, Queue
from flax_unet.checkpoint.worth import RANDOM
from flax_unet.media.faces import Mode
from flax_unet.media.videos import Sampling
from flax_unet.predict.results import FileResult
from tests.flax_unet.app.screenshots import EXAMPLES, film
from tests.flax_unet.samples import small_checkpoint

VISITORS, FILES, SIZE = 20, 2, 4_000_000
MOST_GROWN = 3 * 2**24  # bytes in two rounds: 20 MB in practice, 77 MB if all reports were kept


class StandIn(Judge):
    """In place of the network: judges a file when the test says so."""

    def __init__(self) -> None:
        self.checkpoint, self.worth, self.card = Path("stand-in"), RANDOM, None
        self.judged: list[str] = []  # the names of files, in order
        self.at_once = self.most_at_once = 0
        self.may_go_on = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.fails = False

    def __call__(
        self,
        path: Path,
        directory: Path,
        mode: Mode = "auto",
        sampling: Sampling = FEW_FRAMES,
        progress: Progress = lambda done, total: None,
        check_wanted: Callable[[], None] = lambda: None,
    ) -> Report:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.judged.append(path.name)
        progress(3, 5)
        self.begun.release()
        try:
            while not self.may_go_on.acquire(timeout=0.05):
                check_wanted()
            check_wanted()
            if self.fails:
                raise RuntimeError("secret")
        finally:
            self.at_once -= 1
        problem = f"{path.name} is not a picture of a known format"
        return Report(FileResult(path.name, "picture", problem), None, [], 0, {}, None, {})


class Visitor(NamedTuple):
    """An open page, and what it was told last."""

    queue: Queue
    folder: Path
    key: str

    def send(self, name: str) -> str:
        with self.queue.arriving(self.key) as upload:
            file = upload.folder / name
            file.write_bytes(b"content")
            return self.queue.add(upload, file, Choice()).key

    def files(self) -> list[dict[str, Any]]:
        return self.queue.state(self.key)["files"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def judge() -> StandIn:
    return StandIn()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(judge: StandIn, tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    queue = Queue(judge, tmp_path, clock)
    thread = threading.Thread(target=queue.run)
    thread.start()
    yield queue
    queue.close()
    thread.join()


@pytest.fixture
def visitors(queue: Queue, tmp_path: Path) -> Iterator[list[Visitor]]:
    with contextlib.ExitStack() as pages:
        yield [opened(pages, queue, tmp_path, number, f"visitor {number}") for number in range(3)]


def opened(
    pages: contextlib.ExitStack, queue: Queue, folder: Path, number: int, visitor: str
) -> Visitor:
    """A page that a visitor opens."""
    key = f"{number:032x}"
    pages.enter_context(queue.visit(key, visitor, int))
    return Visitor(queue, folder, key)


def until(queue: Queue, key: str, holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Waits until the files of a page are as described."""
    changed = threading.Event()
    with queue.visit(key, "", changed.set):
        while not holds(queue.state(key)["files"]):
            assert changed.wait(30)
            changed.clear()


def all_done(files: list[dict[str, Any]]) -> bool:
    return all(file["state"] == "done" for file in files)


def test_visitors_are_served_in_turn(judge: StandIn, visitors: list[Visitor]) -> None:
    """One file of each, although the first sent all of theirs before the others came."""
    first, second, third = visitors
    for name in ("a1", "a2", "a3"):
        first.send(name)
    judge.begun.acquire()
    for name in ("b1", "b2"):
        second.send(name)
    third.send("c1")
    assert [file["before"] for file in first.files()] == [None, 3, 5]
    assert [file["before"] for file in second.files()] == [1, 4]
    assert [file["before"] for file in third.files()] == [2]
    assert first.queue.state(first.key)["waiting"] == 5
    assert (first.files()[0]["done"], first.files()[0]["total"]) == (3, 5)
    for _ in range(6):
        judge.may_go_on.release()
    for one in visitors:
        until(one.queue, one.key, all_done)
    assert judge.judged == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_turns_are_those_of_visitors(judge: StandIn, queue: Queue, tmp_path: Path) -> None:
    """Who opens three pages has no more of them."""
    with contextlib.ExitStack() as pages:
        many = [opened(pages, queue, tmp_path, number, "anna") for number in range(3)]
        other = opened(pages, queue, tmp_path, 3, "ben")
        for number, one in enumerate(many):
            one.send(f"a{number}")
        judge.begun.acquire()
        for name in ("b0", "b1"):
            other.send(name)
        for _ in range(5):
            judge.may_go_on.release()
        for one in (*many, other):
            until(queue, one.key, all_done)
    assert judge.judged == ["a0", "b0", "a1", "b1", "a2"]


def test_pages_of_one_visitor_do_not_keep_others_out(queue: Queue, tmp_path: Path) -> None:
    """Those that stay open are limited; those that were closed and are empty do not count."""
    for number in range(600):
        with queue.visit(f"{number:032x}", "anna", int):
            pass
    with contextlib.ExitStack() as pages:
        filled = opened(pages, queue, tmp_path, 1000, "anna")
        filled.send("kept")
        pages.pop_all().close()
        for number in range(1001, 1050):
            opened(pages, queue, tmp_path, number, "anna")
        with pytest.raises(Refused, match="50 of these pages are open by your name or address"):
            opened(pages, queue, tmp_path, 1050, "anna")
        assert [file["name"] for file in filled.files()] == ["kept"]
        opened(pages, queue, tmp_path, 1051, "ben")
        queue.leave(f"{1001:032x}")
        opened(pages, queue, tmp_path, 1050, "anna")


def test_pages_of_all_visitors(queue: Queue, tmp_path: Path) -> None:
    """Too many are refused, unless some were left without a file."""
    with contextlib.ExitStack() as pages:
        for number in range(499):
            opened(pages, queue, tmp_path, number, f"visitor {number}")
        with queue.visit(f"{499:032x}", "anna", int), pytest.raises(Refused, match="Too many"):
            opened(pages, queue, tmp_path, 500, "ben")
        opened(pages, queue, tmp_path, 500, "ben")


def test_files_are_cancelled(judge: StandIn, visitors: list[Visitor], tmp_path: Path) -> None:
    """One that waits, and the one that is being judged; their files are deleted."""
    first, second, _ = visitors
    running, waiting = first.send("a1"), first.send("a2")
    judge.begun.acquire()
    second.send("b1")
    first.queue.remove(first.key, waiting)
    first.queue.remove(first.key, running)
    assert first.files() == []
    judge.may_go_on.release()
    judge.may_go_on.release()
    until(second.queue, second.key, all_done)
    assert judge.judged == ["a1", "b1"]
    assert [path.name for path in tmp_path.glob("*/*")] == ["b1", "report.html"]
    with pytest.raises(Refused, match="was deleted"):
        first.queue.remove(first.key, running)
    with pytest.raises(Refused, match="was deleted"):
        second.queue.file(first.key, second.files()[0]["key"], "report")  # another's


def test_what_is_deleted_when(
    queue: Queue, judge: StandIn, clock: Clock, visitors: list[Visitor], tmp_path: Path
) -> None:
    judge.may_go_on.release()
    open_page = visitors[0]
    open_page.send("old")
    until(queue, open_page.key, all_done)
    with queue.visit("f" * 32, "", int):
        left = Visitor(queue, tmp_path, "f" * 32)
        left.send("left")
        judge.begun.acquire()
    judge.begun.acquire()
    clock.now = 290
    queue.expire()
    assert len(list(tmp_path.iterdir())) == 2  # the connection may come back
    clock.now = 310
    queue.expire()
    judge.may_go_on.release()
    open_page.send("new")
    judge.begun.acquire()
    judge.may_go_on.release()
    until(queue, open_page.key, all_done)
    assert sorted(path.name for path in tmp_path.glob("*/[no]*")) == ["new", "old"]
    with pytest.raises(Refused, match="was closed"):
        left.send("late")
    clock.now = KEPT + 1
    queue.expire()
    assert [file["name"] for file in open_page.files()] == ["new"]
    queue.leave(open_page.key)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused, match="was closed"):
        open_page.send("late")


def test_what_is_being_sent_is_deleted(
    queue: Queue, clock: Clock, visitors: list[Visitor], tmp_path: Path
) -> None:
    """With its page, or after the time for which files are kept, though it never ends."""
    closed, open_page, _ = visitors
    with queue.arriving(closed.key), queue.arriving(open_page.key) as slow:
        (slow.folder / "part").write_bytes(b"content")
        queue.leave(closed.key)
        assert list(tmp_path.iterdir()) == [slow.folder]
        clock.now = KEPT + 1
        queue.expire()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(Refused):
            queue.add(slow, slow.folder / "part", Choice())
    assert open_page.files() == []


def test_an_error_in_the_program_is_not_shown(
    queue: Queue, judge: StandIn, visitors: list[Visitor], capsys: pytest.CaptureFixture[str]
) -> None:
    judge.fails = True
    judge.may_go_on.release()
    key = visitors[0].send("a1")
    until(queue, visitors[0].key, all_done)
    report = queue.file(visitors[0].key, key, "report")
    assert report is not None
    assert "secret" not in report.read_text()
    assert "an error in the program" in report.read_text()
    assert "RuntimeError: secret" in capsys.readouterr().err


def test_a_report_that_cannot_be_written(
    queue: Queue, judge: StandIn, visitors: list[Visitor], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file counts as failed, and the next one is judged."""
    first, second, _ = visitors
    key = first.send("a1")
    judge.begun.acquire()
    (folder,) = first.folder.iterdir()
    (folder / "report.html").mkdir()
    judge.may_go_on.release()
    until(queue, first.key, all_done)
    (failed,) = first.files()
    assert (failed["kind"], failed["files"]) == ("failed", [])
    assert failed["headline"] == "This file could not be judged."
    assert queue.file(first.key, key, "report") is None
    assert "IsADirectoryError" in capsys.readouterr().err
    judge.may_go_on.release()
    second.send("b1")
    until(queue, second.key, all_done)
    assert judge.judged == ["a1", "b1"]


def test_no_old_result_while_a_file_is_judged_again(
    queue: Queue, judge: StandIn, visitors: list[Visitor]
) -> None:
    one = visitors[0]
    judge.may_go_on.release()
    key = one.send("a1")
    judge.begun.acquire()
    until(queue, one.key, all_done)
    assert one.files()[0]["files"] == ["report"]
    queue.again(one.key, key, Choice("none"))
    judge.begun.acquire()
    assert queue.file(one.key, key, "report") is None
    judge.may_go_on.release()
    until(queue, one.key, all_done)
    assert queue.file(one.key, key, "report") is not None


class Connection:
    """A page of the served application, opened through a proxy by a visitor of its own."""

    def __init__(self, port: int, number: int) -> None:
        self.home, self.port = f"/sessions/{number:032x}", port
        self._events = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._visitor = {"X-Forwarded-For": f"192.0.2.{number}"}
        self._events.request("GET", f"{self.home}/events", headers=self._visitor)
        self._states = self._events.getresponse()

    def state(self) -> dict[str, Any]:
        """The next one."""
        while not (line := self._states.readline()).startswith(b"data: "):
            assert line
        return json.loads(line.removeprefix(b"data: "))

    def send(self, name: str, size: int) -> tuple[int, str]:
        """The status and the text of the answer to an upload of zeros, sent piece by piece."""
        return self.post(name, (bytes(65536) for _ in range(size // 65536)))

    def post(self, name: str, pieces: Iterable[bytes]) -> tuple[int, str]:
        """The same of an upload of such pieces."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        path = f"{self.home}/files?name={name}"
        with contextlib.closing(connection):
            connection.request("POST", path, pieces, self._visitor, encode_chunked=True)
            with connection.getresponse() as answer:
                return answer.status, answer.read().decode()

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """The status and the text of the answer to a request below this page's address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, f"{self.home}/{path}", headers=self._visitor)
            with connection.getresponse() as answer:
                return answer.status, answer.read().decode()

    def close(self) -> None:
        self._states.close()
        self._events.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_twenty_visitors_at_once(judge: StandIn, tmp_path: Path) -> None:
    """All send files at the same time; memory stays far below what they send."""
    place, limits = page.Place("127.0.0.1", 0), page.Limits(SIZE)
    with (
        page.serve(judge, tmp_path, place, limits) as url,
        contextlib.ExitStack() as connections,
    ):
        port = int(url.rstrip("/").rpartition(":")[2])
        pages = [connections.enter_context(Connection(port, number)) for number in range(VISITORS)]
        for one in pages:
            assert one.state() == {"waiting": 0, "files": []}
        statuses: list[int] = []

        def visit(number: int) -> None:
            for file in range(FILES):
                statuses.append(pages[number].send(f"v{number}-{file}.jpg", SIZE)[0])

        tracemalloc.start()
        visits = [threading.Thread(target=visit, args=(number,)) for number in range(VISITORS)]
        for thread in visits:
            thread.start()
        for thread in visits:
            thread.join()
        peak = tracemalloc.get_traced_memory()[1]
        for _ in range(VISITORS * FILES):
            judge.may_go_on.release()
        for one in pages:
            while not all_done((state := one.state())["files"]) or len(state["files"]) < FILES:
                pass
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert statuses == [201] * VISITORS * FILES
    assert sorted(judge.judged) == sorted(
        f"v{number}-{file}.jpg" for number in range(VISITORS) for file in range(FILES)
    )
    assert judge.most_at_once == 1
    # In each round, one file of each visitor; the first may be judged before all have come.
    assert len({name.partition("-")[0] for name in judge.judged[: VISITORS + 1]}) >= VISITORS - 1
    sent = VISITORS * FILES * SIZE
    assert peak < sent / 8
    assert after < sent / 30


def held() -> int:
    """Bytes of memory that this process and those that it has started hold."""
    gc.collect()
    process = psutil.Process()
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


@pytest.mark.slow
def test_memory_does_not_grow_with_visitors(tmp_path: Path) -> None:
    """Of twenty visitors at once with a picture each, and one with a video, round after round."""
    picture = (EXAMPLES / "3_both.jpg").read_bytes()
    video = film(tmp_path / "film.mp4").read_bytes()
    judge, found = Judge(small_checkpoint(tmp_path)), []
    (tmp_path / "served").mkdir()
    place, limits = page.Place("127.0.0.1", 0), page.Limits(2**24)

    def visit(one: Connection, content: bytes, name: str) -> None:
        assert one.post(name, [content])[0] == 201
        while not all_done(files := one.state()["files"]) or not files:
            pass
        assert files[0]["kind"] != "failed"
        assert one.ask("GET", f"files/{files[0]['key']}/report")[0] == 200
        assert one.ask("POST", "leave")[0] == 204

    with page.serve(judge, tmp_path / "served", place, limits) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        for turn in range(3):
            with (
                contextlib.ExitStack() as connections,
                concurrent.futures.ThreadPoolExecutor(VISITORS + 1) as visitors,
            ):
                visits = []
                for number in range(VISITORS + 1):
                    key = turn * (VISITORS + 1) + number
                    one = connections.enter_context(Connection(port, key))
                    content, name = (picture, "a.jpg") if number else (video, "a.mp4")
                    visits.append(visitors.submit(visit, one, content, name))
                for ended in visits:
                    ended.result()
            found.append(held())
        assert not list((tmp_path / "served").iterdir())
    assert found[-1] - found[0] < MOST_GROWN


def test_limits_of_uploads(judge: StandIn, tmp_path: Path) -> None:
    """Files that are too large or too many are refused, and nothing of them is kept."""
    limits = page.Limits(upload=2**18, files=3, size=2**19)
    with page.serve(judge, tmp_path, page.Place("127.0.0.1", 0), limits) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        with Connection(port, 1) as one:
            one.state()
            status, said = one.send("large", 2**18 + 65536)
            assert status == 409
            assert said == "This page takes files of 0.25 MB at most. Make this one smaller."
            assert one.send("small", 2**17)[0] == 201
            status, said = one.send("over", 2**18)
            assert status == 409
            assert said.startswith("This page takes 0.5 MB an hour from each visitor")
            status, said = one.send("fourth", 65536)
            assert status == 409
            assert said.startswith("This page takes 3 files an hour from each visitor")
            assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("proxy", "status"), [("192.0.2.9", 409), ("192.0.2.9, 127.0.0.1", 201)])
def test_visitors_behind_a_proxy(
    proxy: str, status: int, judge: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told apart if the environment names the proxy."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxy)
    limits = page.Limits(upload=2**18, files=1)
    with page.serve(judge, tmp_path, page.Place("127.0.0.1", 0), limits) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        with Connection(port, 1) as one, Connection(port, 2) as other:
            one.state()
            other.state()
            assert one.send("a.jpg", 65536)[0] == 201
            assert other.send("b.jpg", 65536)[0] == status


def test_judging_again_counts(judge: StandIn, tmp_path: Path) -> None:
    """As another file of the visitor; a file that was deleted is not found."""
    limits = page.Limits(upload=2**18, files=2)
    with page.serve(judge, tmp_path, page.Place("127.0.0.1", 0), limits) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        with Connection(port, 1) as one:
            one.state()
            for _ in range(2):
                judge.may_go_on.release()
            _, key = one.send("a.jpg", 65536)
            while not ((files := one.state()["files"]) and all_done(files)):
                pass
            assert one.ask("GET", f"files/{key}/report")[0] == 200
            assert one.ask("POST", f"files/{key}/again")[0] == 204
            while not all_done(one.state()["files"]):
                pass
            status, said = one.ask("POST", f"files/{key}/again")
            assert status == 409
            assert said.startswith("This page takes 2 files an hour from each visitor")
            next(tmp_path.glob("*/report.html")).unlink()
            assert one.ask("GET", f"files/{key}/report")[0] == 404
            assert one.ask("GET", f"files/{key}/overlay")[0] == 404


@contextlib.contextmanager
def stalled(one: Connection) -> Iterator[socket.socket]:
    """An upload of 9 bytes of which one has been written; the connection stays open."""
    with socket.create_connection(("127.0.0.1", one.port), timeout=60) as sender:
        request = f"POST {one.home}/files?name=a HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        sender.sendall(f"{request}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n".encode())
        await_answer(sender, b"100 Continue\r\n\r\n")  # the upload waits for its content
        sender.sendall(b"1")
        yield sender


def await_answer(sender: socket.socket, text: bytes) -> None:
    """Reads until the text has come, and no further."""
    answer = b""
    while text not in answer:
        byte = sender.recv(1)
        assert byte, answer
        answer += byte


def test_a_stalled_upload_does_not_keep_the_server(judge: StandIn, tmp_path: Path) -> None:
    place, limits = page.Place("127.0.0.1", 0), page.Limits(2**18)
    with (
        contextlib.ExitStack() as connections,
        page.serve(judge, tmp_path, place, limits) as url,
    ):
        port = int(url.rstrip("/").rpartition(":")[2])
        one = connections.enter_context(Connection(port, 1))
        one.state()
        connections.enter_context(stalled(one))
    assert list(tmp_path.iterdir()) == []


def test_a_sender_that_vanishes_leaves_nothing(
    judge: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not its page stays open; the connection does."""
    place, limits = page.Place("127.0.0.1", 0), page.Limits(2**18)
    with page.serve(judge, tmp_path, place, limits) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        with Connection(port, 1) as one:
            one.state()
            with stalled(one) as sender:
                assert one.ask("POST", "leave")[0] == 204
                assert list(tmp_path.iterdir()) == []
                sender.sendall(b"2")
                await_answer(sender, b"This page was closed")
        monkeypatch.setattr(page, "_SILENCE", 1.0)
        with Connection(port, 2) as one:
            one.state()
            with stalled(one) as sender:
                await_answer(sender, b"Nothing of this file came for 1 seconds")
                assert list(tmp_path.iterdir()) == []
