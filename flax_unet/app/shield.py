"""Protects the page in browsers: from other sites, and from what it might be made to load."""

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The page loads nothing from elsewhere, runs no script but its own, and is in no other
# page's frame.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Shield:
    """Sends the headers, and refuses what other sites' pages request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                new = [(name.lower().encode(), of.encode()) for name, of in _HEADERS.items()]
                message["headers"] = [*message["headers"], *new]
            await send(message)

        headers = dict(scope.get("headers", ()))
        is_foreign = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        if is_foreign and headers.get(b"sec-fetch-mode") != b"navigate":
            refused = PlainTextResponse("Another site's page may not use this one.", 403)
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send_with_headers)
