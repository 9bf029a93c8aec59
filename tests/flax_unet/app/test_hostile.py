"""What hostile visitors and other sites may try."""

import asyncio
import contextlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from flax_unet.app import page, templates
from tests.flax_unet.app.test_queue import Connection, StandIn

NAMES = (
    "../../../etc/passwd.png",
    "/etc/passwd",
    "..\\..\\windows.jpg",
    ".hidden",
    "..",
    "",
    "a\x00b.png",
    "line\nbreak.png",
    "<img src=x onerror=alert(1)>.png",
    "ż" * 300 + ".jpeg",
    "photo." + "x" * 300,
    "report.html",
    "\udcff.png".encode(errors="surrogateescape").decode("latin-1"),
)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    judge, place = StandIn(), page.Place("127.0.0.1", 0)
    with page.serve(judge, tmp_path / "served", place, page.Limits(2**20)) as url:
        yield int(url.rstrip("/").rpartition(":")[2])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_uploads(port: int, folder: Path, name: str) -> None:
    """Each file lands in a folder of its own, under a name that any file system takes."""
    with Connection(port, 1) as one:
        one.state()
        assert one.send(quote(name), 65536)[0] == 201
        (shown,) = one.state()["files"]
    assert shown["name"].isprintable()
    found = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert len(found) == 1
    assert found[0].parent.name == "upload"
    assert found[0].parents[2] == folder
    assert len(found[0].name.encode()) <= 255
    assert not set(found[0].name) & set('<>:"/\\|?*\0\n')
    assert found[0].suffix == Path(name).suffix[:121] or len(name) < 9


def asked(port: int, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(connection):
        connection.request(method, path, headers=named)
        with connection.getresponse() as answer:
            answer.read()
            return answer


def test_other_sites_pages(port: int) -> None:
    """They may link here, and nothing else."""
    home = f"/sessions/{'0' * 32}"
    upload, leave = f"{home}/files?name=a", f"{home}/leave"
    for site in ("cross-site", "same-site"):
        foreign = {"Sec_Fetch_Site": site}
        assert asked(port, "GET", "/", **foreign, Sec_Fetch_Mode="navigate").status == 200
        assert asked(port, "GET", "/card", **foreign, Sec_Fetch_Mode="navigate").status == 200
        for mode in ("no-cors", "cors", "navigate"):
            for method, path in (
                ("GET", f"{home}/events"),
                ("POST", upload),
                ("POST", leave),
                ("POST", "/"),
            ):
                assert asked(port, method, path, **foreign, Sec_Fetch_Mode=mode).status == 403
    own = f"127.0.0.1:{port}"
    for origin in ("http://evil.example", f"http://{own}0", "http://127.0.0.1", "null", "http://["):
        refused = asked(port, "POST", leave, Origin=origin)
        assert refused.status == 403
        assert refused.getheader("X-Content-Type-Options") == "nosniff"
    assert asked(port, "POST", leave, Origin=f"http://{own}").status == 204
    assert asked(port, "POST", leave).status == 204  # from a program
    answer = asked(port, "GET", "/")
    policy = answer.getheader("Content-Security-Policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Cache-Control") == "no-store"


@pytest.mark.parametrize(
    "query", ["mode=all", "way=index", "count=0", "count=-1", "count=1e9", "count=9999999"]
)
def test_options_that_are_none(port: int, query: str) -> None:
    with Connection(port, 1) as one:
        one.state()
        status, said = one.send(f"a.jpg&{query}", 65536)
    assert status == 409
    assert said == "Set how many frames to judge: a whole number from 1."


@pytest.mark.parametrize("key", ["0" * 31, "g" * 32, "..%2f" * 8, "0" * 4000])
def test_keys_that_are_none(port: int, key: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/sessions/{key}/events")
        with connection.getresponse() as answer:
            assert answer.status == 404 or b"event: refused" in answer.read()
    assert asked(port, "POST", f"/sessions/{key}/files?name=a").status in (404, 409)


def test_name_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's own, also where the command names it by a dot, on one line."""
    odd = tmp_path / "a\nmodel"
    odd.mkdir()
    monkeypatch.chdir(odd)
    judge = StandIn()
    judge.checkpoint = Path()
    assert "a\\nmodel" in templates.page(judge, 2**20, "")


@pytest.mark.parametrize(
    ("place", "own"),
    [
        (page.Place("127.0.0.2", 0), "127.0.0.2"),
        (page.Place("127.0.0.1", 0), "127.0.0.1"),
        (page.Place("LOCALHOST", 0), "LOCALHOST"),
        (page.Place("::1", 0), "[::1]"),
        (page.Place("0.0.0.0", 0, allowed_hosts=["Faces.example"]), "faces.EXAMPLE"),
    ],
)
def test_names_of_this_machine(place: page.Place, own: str) -> None:
    """The page answers by these, with any port, and by no others; all answers are protected."""
    app = Starlette(routes=[Route("/", lambda _: Response())], middleware=place.guards)
    for host, status in ((own, 200), ("localhost", 200), ("[::1]", 200), ("evil.example", 400)):
        for port in ("", ":7860"):
            found, headers = answered(app, "GET", {"Host": host + port})
            assert found == status, host
            assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://faces.example", 200),
        ("https://public.example:8443", 200),
        ("https://a.many.example", 200),
        ("https://many.example", 403),
        ("https://evil.example", 403),
    ],
)
def test_origins_behind_a_proxy(origin: str, status: int) -> None:
    """One that changes Host: the names that the command was given are the page's own."""
    names = ["faces.example", "*.many.example"]
    place = page.Place("127.0.0.1", 0, "https://public.example:8443/faces", names)
    routes = [Route("/", lambda _: Response(), methods=["POST"])]
    app = Starlette(routes=routes, middleware=place.guards)
    assert answered(app, "POST", {"Host": "127.0.0.1:7860", "Origin": origin})[0] == status
    own = {"Host": "127.0.0.1:7860", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert answered(app, "POST", own)[0] == 200


def answered(app: Starlette, method: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    """The status and the headers of the answer to a request for /."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "query_string": b"", "headers": raw}
    with ThreadPoolExecutor(1) as thread:  # in this one, Playwright's tests leave a loop running
        thread.submit(asyncio.run, app(scope, receive, send)).result()
    return sent[0]["status"], {name.decode(): of.decode() for name, of in sent[0]["headers"]}
