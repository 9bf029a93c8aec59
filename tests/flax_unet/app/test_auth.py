"""Passwords: the file of them, when they are asked for, and who gets in."""

import base64
import contextlib
import http.client
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flax_unet.app import __main__ as app
from flax_unet.app import auth, page
from flax_unet.utils.errors import InputError
from tests.flax_unet.app.test_queue import StandIn


def passwords(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "passwords"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def test_file_of_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = "\ufeff# who may come\r\n\r\nanna:s3:cret word \r\nŻaneta:zażółć"
    found = auth.read_passwords(passwords(tmp_path, content))
    assert found == {"anna": "s3:cret word ", "Żaneta": "zażółć"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "names no user"),
        ("# nobody\n", "names no user"),
        ("anna:x\nsecret", "line 2: expected user:password"),
        (":secret", "line 1: expected user:password"),
        ("anna:", "line 1: expected user:password"),
        ("anna:x\nanna:secret", "line 2: anna has a password already"),
        ("anna:zażółć".encode("iso-8859-2"), "not a text in UTF-8"),
    ],
)
def test_files_that_are_not_passwords(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        auth.read_passwords(passwords(tmp_path, content))
    assert "secret" not in str(error.value)


@pytest.mark.skipif(os.name != "posix", reason="needs the permissions of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_others_can_read_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    auth.read_passwords(passwords(tmp_path, "anna:secret", mode))
    message = capsys.readouterr().err
    assert "warning: others on this machine can read" in message
    assert "secret" not in message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_addresses_of_this_machine(host: str) -> None:
    assert auth.is_this_machine(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.7", "127.1", "localhost.example"])
def test_other_addresses_need_passwords(host: str, fails: Callable[..., str]) -> None:
    assert not auth.is_this_machine(host)
    message = fails(app.main, "checkpoint", "--host", host)
    assert "--auth-file FILE, or let everyone in by --no-auth" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "proxy",
    [["--allowed-host", "faces.example.org"], ["--root-path", "/faces"], ["--root-path", "/"]],
)
def test_a_proxy_opens_the_page_to_others(
    proxy: list[str], tmp_path: Path, fails: Callable[..., str]
) -> None:
    message = fails(app.main, "checkpoint", *proxy)
    assert f"{' '.join(proxy)} opens the page to others" in message
    assert "--auth-file FILE, or let everyone in by --no-auth" in message
    for chosen in (["--no-auth"], ["--auth-file", str(passwords(tmp_path, "anna:secret"))]):
        assert "opens the page" not in fails(app.main, tmp_path / "none", *proxy, *chosen)


def test_missing_file_of_passwords(tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "none.txt" in fails(app.main, "checkpoint", "--auth-file", tmp_path / "none.txt")


def test_who_gets_in(tmp_path: Path) -> None:
    """No part of the page answers without the name and the password of the same user."""
    users = {"anna": "s3:cret", "Żaneta": "zażółć"}
    paths = (
        "/",
        "/card",
        "/static/page.js",
        "/examples/1_real.jpg",
        f"/sessions/{'0' * 32}/events",
    )

    def status(path: str, given: str | None) -> tuple[int, str | None]:
        """The status and what is asked for; the answer always has the page's protection."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        headers = {} if given is None else {"Authorization": given}
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as answer:
                assert answer.getheader("X-Content-Type-Options") == "nosniff"
                return answer.status, answer.getheader("WWW-Authenticate")

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    place, limits = page.Place("127.0.0.1", 0), page.Limits(2**20)
    with page.serve(StandIn(), tmp_path, place, limits, users) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        for path in paths:
            code, asks = status(path, None)
            assert code == 401
            assert asks is not None
            assert asks.startswith("Basic ")
            assert status(path, basic("anna:s3:cret"))[0] == 200
        assert status("/", basic("Żaneta:zażółć"))[0] == 200
        wrong = ("anna:", "anna:s3", "anna:zażółć", ":s3:cret", "anna:s3:cret ", "")
        refused = [*map(basic, wrong), "Basic", "Basic !", "Basic /w==", "Bearer YTpi"]
        assert {status("/", given)[0] for given in refused} == {401}
