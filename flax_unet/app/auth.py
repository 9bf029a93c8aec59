"""Passwords of the page's visitors: a file of them, and the check of each request (HTTP Basic)."""

import base64
import hashlib
import hmac
import ipaddress
import os
import stat
import sys
from pathlib import Path

from starlette.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    SimpleUser,
)
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response

from flax_unet.utils.errors import InputError

_ASK = {"WWW-Authenticate": 'Basic realm="Real or forged?", charset="UTF-8"'}
_READABLE = stat.S_IRGRP | stat.S_IROTH


def is_this_machine(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may stand for any address
        return False


def read_passwords(path: Path) -> dict[str, str]:
    """The users of a file and their passwords.

    Each line is `user:password`; the first colon separates them, and a password may hold more, as
    well as spaces. Empty lines and lines that begin with # are skipped. The text is UTF-8. A
    warning is printed if other users of this machine may read the file.

    Raises:
        InputError: a line is not of this form, a user has two, or there are none.
        OSError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text in UTF-8; save it as such") from error
    users: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, password = line.partition(":")
        if not user.strip() or not password:
            raise InputError(f"{path}, line {number}: expected user:password, both not empty")
        if user in users:
            raise InputError(f"{path}, line {number}: {user} has a password already; remove one")
        users[user] = password
    if not users:
        raise InputError(f"{path} names no user; write a line user:password for each")
    if os.name == "posix" and path.stat().st_mode & _READABLE:
        print(
            f"warning: others on this machine can read the passwords in {path}: chmod 600 {path}",
            file=sys.stderr,
        )
    return users


class _Passwords(AuthenticationBackend):
    def __init__(self, users: dict[str, str]) -> None:
        self._expected = {_digest(f"{user}:{password}"): user for user, password in users.items()}

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser]:
        scheme, _, encoded = conn.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded if scheme.lower() == "basic" else "").decode()
        except ValueError:  # also of the encoding
            given = ""
        digest, user = _digest(given), None
        # All of them, each in the same time: how long it takes says nothing about a password.
        for expected, name in self._expected.items():
            if hmac.compare_digest(digest, expected):
                user = name
        if user is None:
            raise AuthenticationError
        return AuthCredentials(), SimpleUser(user)


def guard(users: dict[str, str]) -> Middleware:
    """Refuses requests without the name and password of one of the users."""
    return Middleware(AuthenticationMiddleware, backend=_Passwords(users), on_error=_ask)


def _ask(_: HTTPConnection, __: Exception) -> Response:
    return PlainTextResponse("This page asks for a name and a password.", 401, _ASK)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
