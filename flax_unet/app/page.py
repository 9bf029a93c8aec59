"""Serves the page: its files, uploads, the state of the queue, and results."""

import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from flax_unet.app import auth, templates
from flax_unet.app.judge import FEW_FRAMES, Choice, Judge
from flax_unet.app.limits import (
    VISITOR_FILES,
    VISITOR_MEGABYTES,
    Allowance,
    Refused,
    megabytes,
)
from flax_unet.app.queue import Queue
from flax_unet.app.shield import Shield
from flax_unet.app.templates import EXAMPLES, STATIC
from flax_unet.media.videos import Sampling
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import Names

_LOOPBACK = ["127.0.0.1", "localhost", "::1", "[::1]"]
_LOOK = 5.0  # seconds between looks for pages that were closed and files that are too old
_SIGN_OF_LIFE = 15.0  # seconds; proxies end connections that are silent for long
_SILENCE = 60.0  # seconds after which an upload of which nothing comes is ended
_PAUSE = 0.1  # seconds between two states that are sent to a page
_LAST_ANSWERS = 3  # seconds that requests have to end once the server does


class Place(NamedTuple):
    """Where the page is."""

    host: str
    port: int
    root_path: str | None = None  # behind a proxy: a path, or a whole address
    allowed_hosts: Sequence[str] = ()  # that requests may name, besides this machine's own

    @property
    def guards(self) -> list[Middleware]:
        """What refuses other sites, and requests by another name.

        Another site may point its own domain at this machine (DNS rebinding). Any name will do if
        the page is open to the network and no names are given.
        """
        names = [name.lower() for name in self.allowed_hosts]
        public = urlsplit(self.root_path or "").hostname
        shield = Middleware(Shield, names=[*names, *([public] if public else [])])
        if not auth.is_this_machine(self.host) and not names:
            return [shield]
        hosts = [*_LOOPBACK, self.host.lower(), *names]
        return [shield, Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]


class Limits(NamedTuple):
    """How much visitors may send."""

    upload: int  # bytes of a file
    files: int = VISITOR_FILES  # of a visitor in an hour
    size: int = VISITOR_MEGABYTES * 2**20  # bytes of a visitor's files in an hour


@contextlib.contextmanager
def serve(
    judge: Judge,
    folder: Path,
    place: Place,
    limits: Limits,
    users: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Serves the page until the block ends.

    `folder` is an empty directory for uploads and results; `users` maps the names of those who may
    use the page to their passwords, and is None where everyone may.

    Yields:
        The page's address on this machine.

    Raises:
        InputError: listening on the address fails.
    """
    queue = Queue(judge, folder)
    guards = [*place.guards, *([] if users is None else [auth.guard(dict(users))])]
    app = build(judge, queue, limits, place.root_path or "", guards)
    try:
        family, *_, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {place.host}:{place.port}; name another --host or --port"
        ) from error
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_ANSWERS,
    )
    server = uvicorn.Server(config)
    with listening:
        threads = [
            threading.Thread(target=server.run, args=([listening],), name="page"),
            threading.Thread(target=queue.run, name="judge"),
        ]
        for thread in threads:
            thread.start()
        try:
            host = f"[{place.host}]" if ":" in place.host else place.host
            yield f"http://{host}:{listening.getsockname()[1]}/"
        finally:
            queue.close()
            server.should_exit = True
            for thread in threads:
                thread.join()


def build(
    judge: Judge,
    queue: Queue,
    limits: Limits,
    root_path: str = "",
    guards: Sequence[Middleware] = (),
) -> Starlette:
    """The page as an application."""
    allowance = Allowance(limits.files, limits.size)
    page = templates.page(judge, limits.upload, root_path)
    card = templates.card(judge, root_path)

    async def upload(request: Request) -> Response:
        session, name = request.path_params["key"], request.query_params.get("name", "")
        choice, visitor = _choice(request), _visitor(request)
        too_large = Refused(
            f"This page takes files of {megabytes(limits.upload)} at most. Make this one smaller."
        )
        with queue.arriving(session) as upload:
            counted = allowance.begin(visitor)
            if int(request.headers.get("Content-Length") or 0) > limits.upload:
                raise too_large
            path = upload.folder / "upload" / _file_name(name)
            path.parent.mkdir()
            written = 0
            with path.open("wb") as file:
                async for chunk in _content(request):
                    written += len(chunk)
                    allowance.add(visitor, counted, len(chunk))  # also what is refused next
                    if written > limits.upload:
                        raise too_large
                    if not upload.is_wanted:
                        break
                    file.write(chunk)
            job = queue.add(upload, path, choice)
        return PlainTextResponse(job.key, 201)

    async def events(request: Request) -> Response:
        session, visitor = request.path_params["key"], _visitor(request)
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(changed.set)

        async def states() -> AsyncIterator[str]:
            try:
                with queue.visit(session, visitor, wake):
                    while not queue.is_closed:
                        changed.clear()
                        yield f"data: {json.dumps(queue.state(session))}\n\n"
                        await asyncio.sleep(_PAUSE)
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(changed.wait(), _SIGN_OF_LIFE)
            except Refused as error:
                yield f"event: refused\ndata: {error}\n\n"

        return StreamingResponse(states(), media_type="text/event-stream")

    async def again(request: Request) -> Response:
        choice = _choice(request)
        allowance.begin(_visitor(request))  # it is work, whether or not the file is sent again
        queue.again(**request.path_params, choice=choice)
        return Response(status_code=204)

    async def remove(request: Request) -> Response:
        await asyncio.to_thread(queue.remove, **request.path_params)
        return Response(status_code=204)

    async def leave(request: Request) -> Response:
        await asyncio.to_thread(queue.leave, request.path_params["key"])
        return Response(status_code=204)

    async def result(request: Request) -> Response:
        path = queue.file(**request.path_params)
        if path is None or not path.is_file():
            return PlainTextResponse("This result has no such file.", 404)
        name = None if path.suffix in (".html", ".mp4") else path.name
        return FileResponse(path, filename=name)

    async def refused(_: Request, error: Exception) -> Response:
        return PlainTextResponse(str(error), 409)

    async def full(_: Request, error: Exception) -> Response:
        print(f"error: {error}", file=sys.stderr)
        return PlainTextResponse("The disk is full. Try again later.", 507)

    async def left(_: Request, __: Exception) -> Response:
        return Response(status_code=400)  # nobody reads it

    @contextlib.asynccontextmanager
    async def tidy(_: Starlette) -> AsyncIterator[None]:
        async def look() -> None:
            while True:
                await asyncio.sleep(_LOOK)
                await asyncio.to_thread(queue.expire)

        task = asyncio.create_task(look())
        yield
        task.cancel()

    session, job = "/sessions/{key}", "/sessions/{key}/files/{job_key}"
    return Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse(page)),
            Route("/card", lambda _: HTMLResponse(card)),
            Route(f"{session}/events", events),
            Route(f"{session}/leave", leave, methods=["POST"]),
            Route(f"{session}/files", upload, methods=["POST"]),
            Route(job, remove, methods=["DELETE"]),
            Route(f"{job}/again", again, methods=["POST"]),
            Route(f"{job}/{{kind}}", result),
            Mount("/static", StaticFiles(directory=STATIC)),
            Mount("/examples", StaticFiles(directory=EXAMPLES)),
        ],
        middleware=guards,
        exception_handlers={Refused: refused, OSError: full, ClientDisconnect: left},
        lifespan=tidy,
    )


async def _content(request: Request) -> AsyncIterator[bytes]:
    """The content of an upload, piece by piece.

    Raises:
        Refused: nothing came for _SILENCE seconds. Whoever vanishes may not end the connection.
    """
    pieces = aiter(request.stream())
    try:
        while (piece := await asyncio.wait_for(anext(pieces, None), _SILENCE)) is not None:
            yield piece
    except TimeoutError as error:
        raise Refused(
            f"Nothing of this file came for {_SILENCE:g} seconds. Add it again."
        ) from error


def _visitor(request: Request) -> str:
    """Who a limit counts for: a user, or without passwords an address."""
    if "user" in request.scope:
        return request.user.display_name
    return request.client.host if request.client else ""


def _choice(request: Request) -> Choice:
    """How a file is to be judged, by the request's parameters.

    Raises:
        Refused: a parameter is not one that the page sends.
    """
    asked = request.query_params
    mode, way, count = (
        asked.get(name, usual)
        for name, usual in (("mode", "auto"), ("way", "frames"), ("count", str(FEW_FRAMES.frames)))
    )
    if (
        mode not in ("auto", "crop", "none")
        or way not in ("frames", "every")
        or not (count.isdecimal() and len(count) < 7 and int(count))
    ):
        raise Refused("Set how many frames to judge: a whole number from 1.")
    return Choice(mode, Sampling(**{way: int(count)}))  # pyright: ignore[reportArgumentType]


def _file_name(given: str) -> str:
    """A name for an upload that every file system takes, with the suffix that was given."""
    stem, suffix = os.path.splitext(given)  # noqa: PTH122 (it may be no path at all)
    return ".".join([Names().new(stem), *([Names().new(suffix)] if suffix else [])])
